package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamotable"
)

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
	made, err := dynamotable.Create(ctx, client, newTable(table))
	if errors.Is(err, dynamotable.ErrOtherKeys) {
		return err
	}
	if err != nil {
		return readError(ctx, err)
	}
	return checkStream(made.StreamSpecification)
}

// newTable describes the event table, as the template has it.
func newTable(table string) *dynamodb.CreateTableInput {
	in := dynamotable.Keyed(table, attrStream, attrID)
	in.StreamSpecification = &types.StreamSpecification{
		StreamEnabled:  aws.Bool(true),
		StreamViewType: types.StreamViewTypeNewImage,
	}
	return in
}

// checkStream refuses the stream of a table that was made for something else.
func checkStream(s *types.StreamSpecification) error {
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
