package dynamoconns

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamotable"
)

// CreateTable makes the table of connections where it is not there yet, billed by request, with
// its time to live, and waits until it can be used. It fails if there is a table of the name that
// has other keys. On AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	if err := create(ctx, dynamotable.NewClient(cfg), table); err != nil {
		return fmt.Errorf("create the table of connections: %w", err)
	}
	return nil
}

func create(ctx context.Context, db *dynamodb.Client, table string) error {
	if _, err := dynamotable.Create(ctx, db, dynamotable.Keyed(table, attrPartition, attrSort)); err != nil {
		return err
	}
	// Whoever made the table may have got no further.
	out, err := db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil || out.TimeToLiveDescription.TimeToLiveStatus != types.TimeToLiveStatusDisabled {
		return err
	}
	_, err = db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrExpires), Enabled: aws.Bool(true)},
	})
	return err
}
