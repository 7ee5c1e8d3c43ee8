package dynamolog

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"golang.org/x/sync/errgroup"

	"parley/events"
)

// Scan hands every event of the log to f, in pages of up to 1 MB, reading so many segments of the
// table side by side (1 if fewer; as many as there are cores is a good number, up to one for each
// 2 GB). It sees every Append that returned before; of what is appended meanwhile it may see
// some. All events of one stream are in one segment and come in the order of their ids; f may be
// called by the segments at the same time, never twice at a time by one.
//
// The first error stops all of it and is returned: f's own, or those of [Log.Read].
func (l *Log) Scan(ctx context.Context, segments int, f func([]events.Event) error) error {
	segments = max(segments, 1)
	group, ctx := errgroup.WithContext(ctx)
	for segment := range segments {
		group.Go(func() error { return l.scan(ctx, segment, segments, f) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("scan log: %w", err)
	}
	return nil
}

// scan hands on one segment. It reads consistently: a rebuild that scans what its copy of the
// stream no longer brings must not miss an event of a moment ago.
func (l *Log) scan(ctx context.Context, segment, segments int, f func([]events.Event) error) error {
	input := &dynamodb.ScanInput{
		TableName:      &l.table,
		ConsistentRead: aws.Bool(true),
		Segment:        aws.Int32(int32(segment)),
		TotalSegments:  aws.Int32(int32(segments)),
	}
	for {
		out, err := l.client.Scan(ctx, input)
		if err != nil {
			return readError(ctx, err)
		}
		page := make([]events.Event, 0, len(out.Items))
		for _, item := range out.Items {
			if e, err := eventOf(item); err == nil { // else its key is no event's; it was parked when it came by
				page = append(page, e)
			}
		}
		if len(page) > 0 {
			if err := f(page); err != nil {
				return err
			}
		}
		if input.ExclusiveStartKey = out.LastEvaluatedKey; len(input.ExclusiveStartKey) == 0 {
			return nil
		}
	}
}
