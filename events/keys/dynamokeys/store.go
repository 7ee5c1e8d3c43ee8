package dynamokeys

import (
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"parley/events/dynamotable"
	"parley/events/keys"
)

// Store keeps users' data keys in a DynamoDB table. It implements [keys.Store]; make one with [New].
type Store struct {
	db    *dynamodb.Client
	table string
}

var _ keys.Store = (*Store)(nil)

// New returns the keys that a table holds, see [CreateTable]. Unless cfg has a retryer of its own, a
// call is tried 6 times within about a second.
func New(cfg aws.Config, table string) *Store {
	return &Store{dynamotable.NewClient(cfg), table}
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

// each does something with each item of a user, in the order of their sort keys.
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
	marked, err := s.add(ctx, user, key)
	switch {
	case err != nil:
		return failed("add a key", err)
	case marked:
		return fmt.Errorf("add a key: %w", keys.ErrErased)
	default:
		return nil
	}
}

// add stores a key, and then reports whether the user was erased.
func (s *Store) add(ctx context.Context, user string, key keys.Wrapped) (marked bool, err error) {
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

// put stores an item. What is stored already is stored once more as it is.
func (s *Store) put(ctx context.Context, user string, it item) error {
	if err := checkUser(user); err != nil {
		return err
	}
	_, err := s.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: it})
	return err
}

// Erase implements [keys.Store]. It deletes what is damaged, too.
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
					continue // a scan brings what has one partition key together
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
