package dynamolog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	ddb "parley/events/dynamodb"
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
		return found(e, taken.Item, w.lost)
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

// found returns the event whose item an append found in its place. Lost says that an attempt to store
// the event may have made that item.
func found(e events.Event, item map[string]types.AttributeValue, lost bool) (stored events.Event, repeat bool, err error) {
	there, err := eventOf(item)
	if err != nil {
		return events.Event{}, false, err
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
	item, err := l.item(ctx, e.Key())
	if err != nil || item == nil {
		return events.Event{}, false, fmt.Errorf("%w: %s", events.ErrUnknownOutcome, reason(why))
	}
	return found(e, item, true)
}

// item returns the item of an event, nil if there is none.
func (l *Log) item(ctx context.Context, key events.Key) (map[string]types.AttributeValue, error) {
	out, err := l.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &l.table,
		Key:            keyOf(key),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// Read implements [events.Log]. Errors are [events.ErrThrottled], [events.ErrUnavailable], those
// of ctx, and that of an item which is no event.
func (l *Log) Read(ctx context.Context, stream events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := l.read(ctx, stream, r, yield); err != nil {
			yield(events.Event{}, fmt.Errorf("read stream: %w", err))
		}
	}
}

// read yields a stream page by page. It returns nil if the consumer wants no more.
func (l *Log) read(ctx context.Context, stream events.Stream, r events.Range, yield func(events.Event, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lower, upper := bounds(r)
	if stream.Validate() != nil || lower > upper { // DynamoDB refuses both
		return nil
	}
	query := l.query(stream, lower, upper, r)
	for left := r.Limit; r.Limit == 0 || left > 0; {
		query.Limit = aws.Int32(pageSize(left))
		page, err := l.client.Query(ctx, query)
		if err != nil {
			return readError(ctx, err)
		}
		for _, item := range page.Items {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, err := eventOf(item)
			if err != nil {
				continue // its key is no event's; it was parked when it came by
			}
			if !yield(e, nil) {
				return nil
			}
			left--
		}
		if query.ExclusiveStartKey = page.LastEvaluatedKey; len(query.ExclusiveStartKey) == 0 {
			return nil
		}
	}
	return nil
}

// behind sorts after the dot in every key of an id, and so behind all digests of the id before it.
const behind = "~"

// bounds are the least and the greatest text of the keys of a range. If there is none the least is the
// greater.
func bounds(r events.Range) (lower, upper string) {
	last := events.ID(bytes.Repeat([]byte{0xff}, len(events.ID{})))
	if r.Before != (events.ID{}) {
		last = events.PrecedingID(r.Before)
	}
	if r.After == (events.ID{}) {
		return events.ID{}.String(), last.String() + behind
	}
	return r.After.String() + behind, last.String() + behind
}

// maxPage bounds a page. DynamoDB would fill it up to 1 MB, which a consumer that stops early has
// paid for; of usual messages these are about 150 KB.
const maxPage = 500

// pageSize is how many events to ask for if so many are left to read, or without a limit if the
// number is not positive: never more than are wanted, for what is read is paid for.
func pageSize(left int) int32 {
	if left <= 0 || left > maxPage {
		return maxPage
	}
	return int32(left)
}

func (l *Log) query(stream events.Stream, lower, upper string, r events.Range) *dynamodb.QueryInput {
	return &dynamodb.QueryInput{
		TableName:                &l.table,
		ConsistentRead:           aws.Bool(!r.Stale),
		ScanIndexForward:         aws.Bool(!r.Reverse),
		KeyConditionExpression:   aws.String("#stream = :stream AND #id BETWEEN :lower AND :upper"),
		ExpressionAttributeNames: map[string]string{"#stream": attrStream, "#id": attrID},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":stream": &types.AttributeValueMemberS{Value: string(stream)},
			":lower":  &types.AttributeValueMemberS{Value: lower},
			":upper":  &types.AttributeValueMemberS{Value: upper},
		},
	}
}

// Scan implements [events.Log]. A part is a segment of DynamoDB's parallel scan, read in pages of
// up to 1 MB: as many parts as there are cores are a good number, up to one for each 2 GB. Items
// that are no events are passed over. Its errors are those of [Log.Read].
func (l *Log) Scan(ctx context.Context, part events.Part, after events.Key) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		err := cmp.Or(part.Validate(), ctx.Err())
		if err == nil {
			err = l.scan(ctx, part, after, yield)
		}
		if err != nil {
			yield(events.Event{}, fmt.Errorf("scan log: %w", err))
		}
	}
}

// scan yields a segment. It reads consistently: a rebuild that scans what its copy of the stream
// no longer brings must not miss an event of a moment ago. It returns nil if the consumer wants
// no more.
func (l *Log) scan(ctx context.Context, part events.Part, after events.Key, yield func(events.Event, error) bool) error {
	input := &dynamodb.ScanInput{
		TableName:      &l.table,
		ConsistentRead: aws.Bool(true),
		Segment:        aws.Int32(int32(part.Index)),
		TotalSegments:  aws.Int32(int32(part.Of)),
	}
	if after != (events.Key{}) {
		input.ExclusiveStartKey = keyOf(after)
	}
	for {
		page, err := l.client.Scan(ctx, input)
		if err != nil {
			return readError(ctx, err)
		}
		for _, item := range page.Items {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, err := eventOf(item)
			if err != nil {
				continue // its key is no event's; it was parked when it came by
			}
			if !yield(e, nil) {
				return nil
			}
		}
		if input.ExclusiveStartKey = page.LastEvaluatedKey; len(input.ExclusiveStartKey) == 0 {
			return nil
		}
	}
}

// GetMany implements [events.Log]. It asks for 100 events a call, one call after the other. Errors
// are those of [Log.Read].
func (l *Log) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	var primary []map[string]types.AttributeValue
	found := make(map[events.Key]events.Event, len(keys))
	seen := make(map[events.Key]bool, len(keys)) // DynamoDB refuses a key given twice
	for _, k := range keys {
		if !seen[k] && k.Stream.Validate() == nil { // of no other stream is an event
			seen[k] = true
			primary = append(primary, keyOf(k))
		}
	}
	for batch := range slices.Chunk(primary, ddb.BatchKeys) {
		var damaged error
		err := ddb.BatchGet(ctx, l.client, l.table, batch, func(items []map[string]types.AttributeValue) error {
			for _, item := range items {
				e, err := eventOf(item)
				if err != nil {
					damaged = err
					return err
				}
				found[e.Key()] = e
			}
			return nil
		})
		if err != nil && damaged == nil {
			err = readError(ctx, err)
		}
		if err != nil {
			return nil, fmt.Errorf("get events: %w", err)
		}
	}
	return found, nil
}
