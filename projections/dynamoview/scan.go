package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/projections"
)

// Scan implements [projections.Views]. A call is one page of DynamoDB's: up to 1 MB of the table,
// from which it picks, and which costs 128 read units at 1 MB, whatever it picks. It fails if a
// stored item is damaged.
func (v *Views) Scan(ctx context.Context, prefixes []string, after projections.Key, limit int) ([]projections.View, projections.Key, error) {
	if limit < 1 {
		return nil, projections.Key{}, errors.New("scan views: the limit must be above 0")
	}
	if err := ctx.Err(); err != nil {
		return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
	}
	out, err := v.db.Scan(ctx, v.scanOf(prefixes, after, limit))
	if err != nil {
		return nil, projections.Key{}, failed("scan views", err)
	}
	views := make([]projections.View, len(out.Items))
	for i, it := range out.Items {
		if views[i], err = viewOf(it); err != nil {
			return nil, projections.Key{}, failed("scan views", err)
		}
	}
	if len(out.LastEvaluatedKey) == 0 {
		return views, projections.Key{}, nil
	}
	partition, okPartition := out.LastEvaluatedKey[attrPartition].(*types.AttributeValueMemberS)
	sort, okSort := out.LastEvaluatedKey[attrSort].(*types.AttributeValueMemberS)
	if !okPartition || !okSort {
		return nil, projections.Key{}, failed("scan views", errDamaged)
	}
	return views, projections.Key{Partition: partition.Value, Sort: sort.Value}, nil
}

// scanOf asks for the next page. DynamoDB's limit is on what it reads, not on what it picks.
func (v *Views) scanOf(prefixes []string, after projections.Key, limit int) *dynamodb.ScanInput {
	in := &dynamodb.ScanInput{TableName: aws.String(v.table), ConsistentRead: aws.Bool(true), Limit: limitOf(limit)}
	if after != (projections.Key{}) {
		in.ExclusiveStartKey = keyOf(after)
	}
	if len(prefixes) == 0 {
		return in
	}
	in.ExpressionAttributeNames = map[string]string{"#partition": attrPartition}
	in.ExpressionAttributeValues = item{}
	conditions := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		name := fmt.Sprintf(":p%d", i)
		in.ExpressionAttributeValues[name] = text(prefix)
		conditions[i] = "begins_with(#partition, " + name + ")"
	}
	in.FilterExpression = aws.String(strings.Join(conditions, " OR "))
	return in
}
