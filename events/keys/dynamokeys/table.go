package dynamokeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// activeWithin bounds the wait for a new table: on AWS some 10 s are usual.
const activeWithin = 5 * time.Minute

// CreateTable makes the table of keys where it is not there yet, billed by request, and waits until
// it can be used. It is for infra/local and for tests: on AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	if err := create(ctx, newClient(cfg), table); err != nil {
		return fmt.Errorf("create the table of keys: %w", err)
	}
	return nil
}

func create(ctx context.Context, db *dynamodb.Client, table string) error {
	_, err := db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrUser), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrKey), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrUser), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrKey), KeyType: types.KeyTypeRange},
		},
	})
	if err != nil && !errors.As(err, new(*types.ResourceInUseException)) { // it is there
		return err
	}
	return dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 2*time.Second
	}).Wait(ctx, &dynamodb.DescribeTableInput{TableName: &table}, activeWithin)
}
