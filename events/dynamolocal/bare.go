package dynamolocal

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Bare puts items into a table with nothing in between: the limit to hold a driver against.
type Bare struct {
	client *dynamodb.Client
	table  string
}

// NewBare returns the table of a name, which must be there.
func NewBare(cfg aws.Config, table string) *Bare {
	return &Bare{dynamodb.NewFromConfig(cfg), table}
}

// Put puts an item of string attributes, whatever was there.
func (b *Bare) Put(ctx context.Context, item map[string]string) error {
	values := make(map[string]types.AttributeValue, len(item))
	for name, text := range item {
		values[name] = &types.AttributeValueMemberS{Value: text}
	}
	if _, err := b.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &b.table, Item: values}); err != nil {
		return fmt.Errorf("put an item: %w", err)
	}
	return nil
}
