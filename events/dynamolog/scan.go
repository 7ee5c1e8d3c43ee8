package dynamolog

import (
	"cmp"
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"parley/events"
)

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
		input.ExclusiveStartKey = keyOf(after.Stream, after.ID)
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
