package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// activeWithin bounds the wait for a new table: on AWS some 10 s are usual.
const activeWithin = 5 * time.Minute

// CreateTable makes the table of views where it is not there yet, billed by request and without a
// stream, and waits until it can be used. It fails if there is a table of the name that has other
// keys. On AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	db := newClient(cfg)
	_, err := db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            aws.String(table),
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: attributes(),
		KeySchema:            schema(),
	})
	if err != nil && !errors.As(err, new(*types.ResourceInUseException)) {
		return fmt.Errorf("create the table of views: %w", err)
	}
	made, err := dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 2*time.Second
	}).WaitForOutput(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(table)}, activeWithin)
	if err != nil {
		return fmt.Errorf("wait for the table of views: %w", err)
	}
	return check(made.Table)
}

func attributes() []types.AttributeDefinition {
	return []types.AttributeDefinition{
		{AttributeName: aws.String(attrPartition), AttributeType: types.ScalarAttributeTypeS},
		{AttributeName: aws.String(attrSort), AttributeType: types.ScalarAttributeTypeS},
	}
}

func schema() []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: aws.String(attrPartition), KeyType: types.KeyTypeHash},
		{AttributeName: aws.String(attrSort), KeyType: types.KeyTypeRange},
	}
}

// check refuses a table that cannot hold views.
func check(table *types.TableDescription) error {
	got, want := keys(table.KeySchema, table.AttributeDefinitions), keys(schema(), attributes())
	if got != want {
		return fmt.Errorf("table %q is no table of views: its keys are %s, not %s", aws.ToString(table.TableName), got, want)
	}
	return nil
}

// keys is a primary key in words, partition key first.
func keys(schema []types.KeySchemaElement, attributes []types.AttributeDefinition) string {
	var words []string
	for _, key := range schema {
		for _, attribute := range attributes {
			if aws.ToString(attribute.AttributeName) == aws.ToString(key.AttributeName) {
				words = append(words, fmt.Sprintf("%s (%s)", aws.ToString(key.AttributeName), attribute.AttributeType))
			}
		}
	}
	return strings.Join(words, ", ")
}
