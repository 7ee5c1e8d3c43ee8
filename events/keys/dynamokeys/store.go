package dynamokeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	ddb "parley/events/dynamodb"
	"parley/events/keys"
)

// Store stores users' data keys in a DynamoDB table. It implements [keys.Store]; make one with [New].
type Store struct {
	db    *dynamodb.Client
	table string
}

var _ keys.Store = (*Store)(nil)

// New returns the store in a table, see [CreateTable]. Unless cfg has a retryer of its own, a call is
// attempted 6 times within about a second.
func New(cfg aws.Config, table string) *Store {
	return &Store{ddb.NewClient(cfg), table}
}

// Load implements [keys.Store]. It fails if a stored item is damaged.
func (s *Store) Load(ctx context.Context, user string) (keys.Keys, error) {
	var got keys.Keys
	err := s.each(ctx, user, func(it item) error {
		if textOf(it, attrKey) == erased {
			got.Erased = true
			return nil
		}
		key, err := keyOf(it)
		got.Wrapped = append(got.Wrapped, key)
		return err
	})
	if err != nil {
		return keys.Keys{}, failed("load keys", err)
	}
	return got, nil
}

// each calls do with each item of a user, in the order of their sort keys.
func (s *Store) each(ctx context.Context, user string, do func(item) error) error {
	if err := checkUser(user); err != nil {
		return err
	}
	in := &dynamodb.QueryInput{
		TableName:                 &s.table,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    aws.String("#user = :user"),
		ExpressionAttributeNames:  map[string]string{"#user": attrUser},
		ExpressionAttributeValues: item{":user": text(user)},
	}
	for {
		out, err := s.db.Query(ctx, in)
		if err != nil {
			return err
		}
		for _, it := range out.Items {
			if err := do(it); err != nil {
				return err
			}
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			return nil
		}
	}
}

// Add implements [keys.Store].
func (s *Store) Add(ctx context.Context, user string, key keys.Wrapped) error {
	erased, err := s.add(ctx, user, key)
	switch {
	case err != nil:
		return failed("add a key", err)
	case erased:
		return fmt.Errorf("add a key: %w", keys.ErrErased)
	default:
		return nil
	}
}

// add stores a key, and then reports whether the user was erased.
func (s *Store) add(ctx context.Context, user string, key keys.Wrapped) (isErased bool, err error) {
	if err := s.put(ctx, user, itemOf(user, key)); err != nil {
		return false, err
	}
	out, err := s.db.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &s.table, Key: primary(user, erased), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return false, err
	}
	return len(out.Item) > 0, nil
}

// put stores an item. It is idempotent.
func (s *Store) put(ctx context.Context, user string, it item) error {
	if err := checkUser(user); err != nil {
		return err
	}
	_, err := s.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: it})
	return err
}

// Erase implements [keys.Store]. It also deletes damaged items.
func (s *Store) Erase(ctx context.Context, user string) error {
	if err := s.erase(ctx, user); err != nil {
		return failed("destroy keys", err)
	}
	return nil
}

func (s *Store) erase(ctx context.Context, user string) error {
	if err := s.put(ctx, user, primary(user, erased)); err != nil {
		return err
	}
	return s.each(ctx, user, func(it item) error {
		sort := textOf(it, attrKey)
		if sort == erased {
			return nil
		}
		_, err := s.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table, Key: primary(user, sort)})
		return err
	})
}

// Users implements [keys.Store]. It reads the whole table, page after page of 1 MB.
func (s *Store) Users(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := &dynamodb.ScanInput{
			TableName:                &s.table,
			ConsistentRead:           aws.Bool(true),
			ProjectionExpression:     aws.String("#user"),
			ExpressionAttributeNames: map[string]string{"#user": attrUser},
		}
		for last := ""; ; {
			out, err := s.db.Scan(ctx, in)
			if err != nil {
				yield("", failed("list users with keys", err))
				return
			}
			for _, it := range out.Items {
				user := textOf(it, attrUser)
				if user == last {
					continue // a scan returns the items of a partition key together
				}
				if last = user; !yield(user, nil) {
					return
				}
			}
			if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
				return
			}
		}
	}
}

// The attributes of items. Two are reserved words: expressions need placeholders for them.
const (
	attrUser    = "user"
	attrKey     = "key"
	attrWrapped = "wrapped"
)

// erased is the sort key of the item that records the erasure. No key id has this form.
const erased = "erased"

type item = map[string]types.AttributeValue

var (
	errUser    = errors.New("user name must be UTF-8 and not empty")
	errDamaged = errors.New("stored item is damaged")
)

// checkUser rejects names that DynamoDB cannot store, or that the SDK would turn into another key.
func checkUser(user string) error {
	if user == "" || !utf8.ValidString(user) {
		return errUser
	}
	return nil
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// primary returns the primary key of an item of a user.
func primary(user, sort string) item { return item{attrUser: text(user), attrKey: text(sort)} }

func itemOf(user string, key keys.Wrapped) item {
	it := primary(user, key.ID.String())
	it[attrWrapped] = &types.AttributeValueMemberB{Value: key.Bytes}
	return it
}

// textOf returns an attribute of the primary key, "" if it is not a string.
func textOf(it item, attribute string) string {
	s, is := it[attribute].(*types.AttributeValueMemberS)
	if !is {
		return ""
	}
	return s.Value
}

// keyOf reverses itemOf.
func keyOf(it item) (keys.Wrapped, error) {
	id, err := keys.ParseID(textOf(it, attrKey))
	wrapped, is := it[attrWrapped].(*types.AttributeValueMemberB)
	if err != nil || !is {
		return keys.Wrapped{}, errDamaged
	}
	return keys.Wrapped{ID: id, Bytes: wrapped.Value}, nil
}

// CreateTable creates the table of keys if it does not exist, billed by request, and waits until it is
// active. It fails if the table exists with another key schema. It is for infra/local and for tests:
// on AWS the template creates the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	if _, err := ddb.Create(ctx, ddb.NewClient(cfg), ddb.Keyed(table, attrUser, attrKey)); err != nil {
		return fmt.Errorf("create the table of keys: %w", err)
	}
	return nil
}

// failure is the error of a call.
type failure struct{ ddb.Failure }

// Is matches the error of package events for a call that may succeed later.
func (f failure) Is(target error) bool {
	switch target {
	case events.ErrThrottled:
		return f.Throttled()
	case events.ErrUnavailable:
		return !f.Throttled() && f.Passing()
	default:
		return false
	}
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, failure{ddb.Failure{Err: err}})
}
