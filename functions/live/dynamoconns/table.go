package dynamoconns

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

// CreateTable makes the table of connections where it is not there yet, billed by request, with
// its time to live, and waits until it can be used. On AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	db := newClient(cfg)
	if err := create(ctx, db, table); err != nil {
		return fmt.Errorf("create the table of connections: %w", err)
	}
	return nil
}

func create(ctx context.Context, db *dynamodb.Client, table string) error {
	_, err := db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   aws.String(table),
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrPartition), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrSort), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrPartition), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrSort), KeyType: types.KeyTypeRange},
		},
	})
	if errors.As(err, new(*types.ResourceInUseException)) {
		return waitFor(ctx, db, table)
	}
	if err != nil {
		return err
	}
	if err := waitFor(ctx, db, table); err != nil {
		return err
	}
	_, err = db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               aws.String(table),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrExpires), Enabled: aws.Bool(true)},
	})
	return err
}

func waitFor(ctx context.Context, db *dynamodb.Client, table string) error {
	return dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 2*time.Second
	}).Wait(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(table)}, activeWithin)
}
