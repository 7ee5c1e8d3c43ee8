package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	ddb "parley/events/dynamodb"
	"parley/projections"
)

// parallel bounds the calls that one Save makes side by side. A call takes DynamoDB about 5 ms,
// so 32 of them save 6,000 views a second: more than the 1,000 writes a second that a partition
// key takes, and more than a Lambda function folds. Each needs a connection.
const parallel = 32

// Views keeps views in a DynamoDB table. It implements [projections.Views]; make one with [New].
type Views struct {
	db    *dynamodb.Client
	table string
}

var _ projections.Views = (*Views)(nil)

// New returns the views that a table holds, see [CreateTable]. Unless cfg has a retryer of its
// own, a call is tried 6 times within about a second. The HTTP client of cfg should keep 32 idle
// connections to a host: the SDK's own keeps 10 and opens the others anew for each call.
func New(cfg aws.Config, table string) *Views {
	return &Views{ddb.NewClient(cfg), table}
}

// Save implements [projections.Views]. Each view is saved by a call of its own, all of them side
// by side. It may report a conflict with itself, see the package's notes on failures. Where it
// fails for load, what was refused was not saved.
func (v *Views) Save(ctx context.Context, views ...projections.View) error {
	if err := checkSave(ctx, views); err != nil {
		return fmt.Errorf("save views: %w", err)
	}
	return v.each(ctx, "save views", views, v.put)
}

// checkSave finds out before anything is saved what must not be.
func checkSave(ctx context.Context, views []projections.View) error {
	given := make(map[projections.Key]bool, len(views))
	for _, view := range views {
		if err := checkKey(view.Key); err != nil {
			return err
		}
		if given[view.Key] {
			return errors.New("a key was given twice")
		}
		given[view.Key] = true
	}
	return ctx.Err()
}

// put saves one view if its version is the stored one.
func (v *Views) put(ctx context.Context, view projections.View) error {
	in := &dynamodb.PutItemInput{
		TableName:                aws.String(v.table),
		Item:                     itemOf(view),
		ConditionExpression:      aws.String("#version = :version"),
		ExpressionAttributeNames: map[string]string{"#version": attrVersion},
	}
	if view.Version == 0 {
		in.ConditionExpression = aws.String("attribute_not_exists(#version)")
	} else {
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":version": number(view.Version)}
	}
	_, err := v.db.PutItem(ctx, in)
	return err
}

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// Delete implements [projections.Views]. Each view is deleted by a call of its own, all of them
// side by side. It costs what saving the view costs.
func (v *Views) Delete(ctx context.Context, views ...projections.View) error {
	if err := checkSave(ctx, views); err != nil {
		return fmt.Errorf("delete views: %w", err)
	}
	return v.each(ctx, "delete views", views, v.remove)
}

// each does something to each view under the condition of its version, side by side.
func (v *Views) each(ctx context.Context, what string, views []projections.View, do func(context.Context, projections.View) error) error {
	var mu sync.Mutex
	var conflict projections.ConflictError
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, view := range views {
		group.Go(func() error {
			err := do(ctx, view)
			if errors.As(err, new(*types.ConditionalCheckFailedException)) {
				mu.Lock()
				defer mu.Unlock()
				conflict.Keys = append(conflict.Keys, view.Key)
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return failed(what, err)
	}
	if len(conflict.Keys) > 0 {
		return &conflict
	}
	return nil
}

// remove deletes one view if its version is the stored one, or there is none.
func (v *Views) remove(ctx context.Context, view projections.View) error {
	_, err := v.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:                 aws.String(v.table),
		Key:                       keyOf(view.Key),
		ConditionExpression:       aws.String("attribute_not_exists(#version) OR #version = :version"),
		ExpressionAttributeNames:  map[string]string{"#version": attrVersion},
		ExpressionAttributeValues: item{":version": number(view.Version)},
	})
	return err
}

// failure is the error of a call.
type failure struct{ ddb.Failure }

// Is reports that a call was given up that may succeed later, as unavailable, and that the table cannot
// hold an item, as refused.
func (f failure) Is(target error) bool {
	switch target {
	case projections.ErrUnavailable:
		return f.Passing()
	case projections.ErrRefused:
		var answer smithy.APIError
		return errors.As(f.Err, &answer) && answer.ErrorCode() == "ValidationException"
	default:
		return false
	}
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, failure{ddb.Failure{Err: err}})
}

// CreateTable makes the table of views where it is not there yet, billed by request and without a
// stream, and waits until it can be used. It fails if there is a table of the name that has other
// keys. On AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	if _, err := ddb.Create(ctx, ddb.NewClient(cfg), ddb.Keyed(table, attrPartition, attrSort)); err != nil {
		return fmt.Errorf("create the table of views %q: %w", table, err)
	}
	return nil
}
