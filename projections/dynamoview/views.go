package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamotable"
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
	return &Views{dynamotable.NewClient(cfg), table}
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
