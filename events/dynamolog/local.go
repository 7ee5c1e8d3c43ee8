package dynamolog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"parley/events"
	ddb "parley/events/dynamodb"
)

// CreateTable creates the event table with its stream if it does not exist, and waits until it is
// active. It fails if the table exists with other keys or without a stream of new images. It is for
// infra/local and for tests: on AWS the template creates the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	client, _ := newClient(cfg)
	if err := createTable(ctx, client, table); err != nil {
		return fmt.Errorf("create event table %q: %w", table, err)
	}
	return nil
}

func createTable(ctx context.Context, client *dynamodb.Client, table string) error {
	made, err := ddb.Create(ctx, client, newTable(table))
	if errors.Is(err, ddb.ErrOtherKeys) {
		return err
	}
	if err != nil {
		return readError(ctx, err)
	}
	return checkStream(made.StreamSpecification)
}

// newTable describes the event table, as the template does.
func newTable(table string) *dynamodb.CreateTableInput {
	in := ddb.Keyed(table, attrStream, attrID)
	in.StreamSpecification = &types.StreamSpecification{
		StreamEnabled:  aws.Bool(true),
		StreamViewType: types.StreamViewTypeNewImage,
	}
	return in
}

// checkStream rejects a table without a stream of new images.
func checkStream(s *types.StreamSpecification) error {
	if s == nil || !aws.ToBool(s.StreamEnabled) {
		return errors.New("the table exists and has no stream")
	}
	if s.StreamViewType != types.StreamViewTypeNewImage && s.StreamViewType != types.StreamViewTypeNewAndOldImages {
		return errors.New("the table exists and its stream has no new images")
	}
	return nil
}

// Identity returns a text that identifies this table, also against an earlier table of the same name.
// Checkpoints and views that are stored beside the log belong to one identity. It is the table's
// TableId; DynamoDB Local has none, so there it consists of region, name and the millisecond of the
// table's creation. Errors are those of [Log.Read].
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

// replicators is how many events of a batch are written concurrently. More do not make DynamoDB Local
// faster.
const replicators = 8

// Replicate stores events of other regions as [events.Replica] describes. It is for DynamoDB Local,
// which has no global tables: on AWS nothing calls it. Errors are those of [Log.Append].
func (l *Log) Replicate(ctx context.Context, records []events.Record) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(replicators)
	for _, r := range records {
		group.Go(func() error { return l.replicate(ctx, r.Event) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("replicate events: %w", err)
	}
	return nil
}

func (l *Log) replicate(ctx context.Context, e events.Event) error {
	if err := cmp.Or(ctx.Err(), e.Stream.Validate()); err != nil {
		return err
	}
	item := itemOf(e)
	item[attrReplica] = valueOf("yes")
	_, err := l.client.PutItem(ctx, l.insert(item))
	var taken *types.ConditionalCheckFailedException
	if err != nil && !errors.As(err, &taken) {
		return writeError(ctx, err)
	}
	return nil
}
