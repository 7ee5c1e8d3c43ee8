package dynamodb

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

// activeWithin bounds the wait for a new table: DynamoDB Local needs milliseconds, on AWS some 10 s
// are usual.
const activeWithin = 5 * time.Minute

// ErrOtherKeys says that a table was made for something else.
var ErrOtherKeys = errors.New("it is there and has other keys")

// Keyed describes a table whose items are identified by a partition and a sort key, both strings,
// with no index, billed by request.
func Keyed(table, partition, sort string) *dynamodb.CreateTableInput {
	return &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: &partition, AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: &sort, AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: &partition, KeyType: types.KeyTypeHash},
			{AttributeName: &sort, KeyType: types.KeyTypeRange},
		},
	}
}

// Create makes a table where it is not there yet, waits until it can be used, and returns what
// DynamoDB says of it. A table of the name that has other keys is [ErrOtherKeys], and is left alone;
// other errors are those of the SDK.
func Create(ctx context.Context, db *dynamodb.Client, table *dynamodb.CreateTableInput) (*types.TableDescription, error) {
	_, err := db.CreateTable(ctx, table)
	if err != nil && !errors.As(err, new(*types.ResourceInUseException)) { // it is there
		return nil, err
	}
	made, err := dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 2*time.Second
	}).WaitForOutput(ctx, &dynamodb.DescribeTableInput{TableName: table.TableName}, activeWithin)
	if err != nil {
		return nil, err
	}
	got := keysOf(made.Table.KeySchema, made.Table.AttributeDefinitions)
	if want := keysOf(table.KeySchema, table.AttributeDefinitions); got != want {
		return nil, fmt.Errorf("%w: %s, not %s", ErrOtherKeys, got, want)
	}
	return made.Table, nil
}

// keysOf is a primary key in words, partition key first.
func keysOf(schema []types.KeySchemaElement, attributes []types.AttributeDefinition) string {
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
