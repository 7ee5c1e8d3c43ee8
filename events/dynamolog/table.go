package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// activeWithin bounds the wait for a new table: DynamoDB Local needs milliseconds, AWS some
// seconds.
const activeWithin = time.Minute

// CreateTable makes the event table with its stream if it is not there, and waits until it is
// active. A table that is there but has other keys, or no stream of new images, is an error, and
// is left alone. It is for infra/local and for tests: on AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	client, _ := newClient(cfg)
	if err := createTable(ctx, client, table); err != nil {
		return fmt.Errorf("create event table %q: %w", table, err)
	}
	return nil
}

func createTable(ctx context.Context, client *dynamodb.Client, table string) error {
	description := &dynamodb.DescribeTableInput{TableName: &table}
	_, err := client.DescribeTable(ctx, description)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		_, err = client.CreateTable(ctx, newTable(table))
		var made *types.ResourceInUseException // by someone else, meanwhile
		if errors.As(err, &made) {
			err = nil
		}
	}
	if err != nil {
		return readError(ctx, err)
	}
	waiter := dynamodb.NewTableExistsWaiter(client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 2*time.Second
	})
	out, err := waiter.WaitForOutput(ctx, description, activeWithin)
	if err != nil {
		return readError(ctx, err)
	}
	return checkTable(out.Table)
}

// newTable describes the event table: no index, on demand, as the template has it.
func newTable(table string) *dynamodb.CreateTableInput {
	return &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrStream), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrID), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrStream), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrID), KeyType: types.KeyTypeRange},
		},
		StreamSpecification: &types.StreamSpecification{
			StreamEnabled:  aws.Bool(true),
			StreamViewType: types.StreamViewTypeNewImage,
		},
	}
}

// checkTable refuses a table that was made for something else.
func checkTable(t *types.TableDescription) error {
	kinds := map[string]types.ScalarAttributeType{}
	for _, a := range t.AttributeDefinitions {
		kinds[aws.ToString(a.AttributeName)] = a.AttributeType
	}
	keys := map[types.KeyType]string{}
	for _, k := range t.KeySchema {
		name := aws.ToString(k.AttributeName)
		keys[k.KeyType] = name + " " + string(kinds[name])
	}
	if !maps.Equal(keys, map[types.KeyType]string{types.KeyTypeHash: attrStream + " S", types.KeyTypeRange: attrID + " S"}) {
		return errors.New("it is there and has other keys than the strings stream and id")
	}
	s := t.StreamSpecification
	if s == nil || !aws.ToBool(s.StreamEnabled) {
		return errors.New("it is there and has no stream")
	}
	if s.StreamViewType != types.StreamViewTypeNewImage && s.StreamViewType != types.StreamViewTypeNewAndOldImages {
		return errors.New("it is there and its stream has no new images")
	}
	return nil
}

// Identity tells this table from every other, also from one of the same name made anew: whoever
// keeps a checkpoint or a view beside it sees by this that it belongs to another log. It is the
// table's TableId. DynamoDB Local gives none; there it is region, name, and the millisecond in which
// the table was made. Errors are those of [Log.Get] but ErrNotFound.
func (l *Log) Identity(ctx context.Context) (string, error) {
	out, err := l.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &l.table})
	if err != nil {
		return "", fmt.Errorf("identify event table: %w", readError(ctx, err))
	}
	if id := aws.ToString(out.Table.TableId); id != "" {
		return id, nil
	}
	made := aws.ToTime(out.Table.CreationDateTime).UTC().Format(time.RFC3339Nano)
	return l.client.Options().Region + "/" + l.table + "/" + made, nil
}
