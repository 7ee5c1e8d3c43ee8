package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
)

// Log is an [events.Log] in a table. Make one with [New]. Its methods are safe for concurrent
// use.
type Log struct {
	client  *dynamodb.Client
	retryer *retry.Standard // the client's
	table   string
}

var _ events.Log = (*Log)(nil)

// New returns the log in a table, in the region of cfg. It makes no call: that the table is
// there is seen by the first call to need it.
func New(cfg aws.Config, table string) *Log {
	client, retryer := newClient(cfg)
	return &Log{client: client, retryer: retryer, table: table}
}

// Append implements [events.Log]. Beyond its errors there are an [events.InvalidError] for an event
// that is larger than an item can be, 400 KB, and those of ctx, which also wrap
// [events.ErrUnknownOutcome] if the event may be stored.
//
// Where the answer to an attempt got lost and then the very same item is found, down to its
// Region, it is taken for the work of that attempt: repeat is false, although an earlier Append in
// this region may have stored it.
func (l *Log) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	stored, repeat, err := l.append(ctx, e)
	if err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	return stored, repeat, nil
}

func (l *Log) append(ctx context.Context, e events.Event) (stored events.Event, repeat bool, err error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, false, err
	}
	if err := e.Stream.Validate(); err != nil {
		return events.Event{}, false, err
	}
	put := l.insert(itemOf(e))
	w := &watch{Standard: l.retryer}
	_, err = l.client.PutItem(ctx, put, w.use)
	var taken *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		return e, false, nil
	case errors.As(err, &taken):
		return judge(e, taken.Item, w.lost)
	case ctx.Err() != nil && w.lost:
		return events.Event{}, false, fmt.Errorf("%w: %w", ctx.Err(), events.ErrUnknownOutcome)
	case w.lost:
		return l.look(ctx, e, err)
	case isTooLarge(put.Item, err):
		return events.Event{}, false, events.Invalid("data", "must leave the event below 400 KB")
	default:
		return events.Event{}, false, writeError(ctx, err)
	}
}

// insert puts an item that must not be there yet, or returns the one that is.
func (l *Log) insert(item map[string]types.AttributeValue) *dynamodb.PutItemInput {
	return &dynamodb.PutItemInput{
		TableName:                           &l.table,
		Item:                                item,
		ConditionExpression:                 aws.String("attribute_not_exists(#id)"),
		ExpressionAttributeNames:            map[string]string{"#id": attrID},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// judge compares an event with the item that has its id. Lost says that an attempt to store the
// event may have made that item.
func judge(e events.Event, item map[string]types.AttributeValue, lost bool) (stored events.Event, repeat bool, err error) {
	there, err := eventOf(item)
	if err != nil || !events.Same(there, e) { // what cannot be read is not the same
		return events.Event{}, false, events.ErrConflict
	}
	own := lost && events.Encode(there) == events.Encode(e)
	return there, !own, nil
}

// lookWithin bounds the look for an event after its outcome got lost.
const lookWithin = 2 * time.Second

// look finds out what became of an append whose outcome got lost, even if the caller has hardly
// any time left. An event that is not there may yet come: its request may still be on its way.
func (l *Log) look(ctx context.Context, e events.Event, why error) (stored events.Event, repeat bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookWithin)
	defer cancel()
	item, err := l.item(ctx, e.Stream, e.ID)
	if err != nil || item == nil {
		return events.Event{}, false, fmt.Errorf("%w: %s", events.ErrUnknownOutcome, reason(why))
	}
	return judge(e, item, true)
}

// Get implements [events.Log]. Errors beside ErrNotFound are [events.ErrThrottled],
// [events.ErrUnavailable], and those of ctx.
func (l *Log) Get(ctx context.Context, stream events.Stream, id events.ID) (events.Event, error) {
	e, err := l.get(ctx, stream, id)
	if err != nil {
		return events.Event{}, fmt.Errorf("get event: %w", err)
	}
	return e, nil
}

func (l *Log) get(ctx context.Context, stream events.Stream, id events.ID) (events.Event, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, err
	}
	if stream.Validate() != nil { // nothing is ever stored there, and DynamoDB refuses some as keys
		return events.Event{}, events.ErrNotFound
	}
	item, err := l.item(ctx, stream, id)
	switch {
	case err != nil:
		return events.Event{}, readError(ctx, err)
	case item == nil:
		return events.Event{}, events.ErrNotFound
	default:
		return eventOf(item)
	}
}

// item returns the item of an event, nil if there is none.
func (l *Log) item(ctx context.Context, stream events.Stream, id events.ID) (map[string]types.AttributeValue, error) {
	out, err := l.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &l.table,
		Key:            keyOf(stream, id),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}
