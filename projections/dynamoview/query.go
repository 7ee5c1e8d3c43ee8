package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"parley/projections"
)

// Query implements [projections.Views]. It reads page after page of 1 MB, and what is saved
// meanwhile may show in a later one. It fails if a stored item is damaged.
func (v *Views) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	if err := checkQuery(ctx, partition, r); err != nil {
		return nil, fmt.Errorf("query views: %w", err)
	}
	if r.Before != "" && r.From >= r.Before {
		return nil, nil
	}
	views, err := v.pages(ctx, v.queryOf(partition, r), r)
	if err != nil {
		return nil, failed("query views", err)
	}
	return views, nil
}

func checkQuery(ctx context.Context, partition string, r projections.Range) error {
	if r.Limit < 1 {
		return errors.New("the limit must be above 0")
	}
	if partition == "" || !utf8.ValidString(partition) || !utf8.ValidString(r.From) || !utf8.ValidString(r.Before) {
		return errKey
	}
	return ctx.Err()
}

// queryOf asks for the views within a range. A sort key takes one condition, and the one with
// two bounds includes both: the view at Before may come too.
func (v *Views) queryOf(partition string, r projections.Range) *dynamodb.QueryInput {
	condition := "#partition = :partition"
	names := map[string]string{"#partition": attrPartition}
	values := item{":partition": text(partition)}
	if r.From != "" || r.Before != "" {
		names["#sort"] = attrSort
	}
	if r.From != "" {
		values[":from"] = text(r.From)
	}
	if r.Before != "" {
		values[":before"] = text(r.Before)
	}
	switch {
	case r.From != "" && r.Before != "":
		condition += " AND #sort BETWEEN :from AND :before"
	case r.From != "":
		condition += " AND #sort >= :from"
	case r.Before != "":
		condition += " AND #sort < :before"
	}
	return &dynamodb.QueryInput{
		TableName:                 aws.String(v.table),
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    aws.String(condition),
		ExpressionAttributeNames:  names,
		ExpressionAttributeValues: values,
		ScanIndexForward:          aws.Bool(!r.Reverse),
	}
}

// pages asks as often as it takes for so many views as r wants.
func (v *Views) pages(ctx context.Context, in *dynamodb.QueryInput, r projections.Range) ([]projections.View, error) {
	var views []projections.View
	for {
		in.Limit = limitOf(r.Limit - len(views))
		out, err := v.db.Query(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, it := range out.Items {
			view, err := viewOf(it)
			if err != nil {
				return nil, err
			}
			if view.Key.Sort != r.Before {
				views = append(views, view)
			}
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 || len(views) >= r.Limit {
			return views, nil
		}
	}
}

func limitOf(n int) *int32 { return aws.Int32(int32(min(n, math.MaxInt32))) }
