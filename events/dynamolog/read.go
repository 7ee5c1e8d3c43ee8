package dynamolog

import (
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
)

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
	if stream.Validate() != nil || lower.Compare(upper) > 0 { // DynamoDB refuses both
		return nil
	}
	query := l.query(stream, lower, upper, r.Reverse)
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

// bounds are the least and the greatest id of a range. If there is none the least is the greater.
func bounds(r events.Range) (lower, upper events.ID) {
	for i := range upper {
		upper[i] = 0xff
	}
	if r.After == upper {
		return upper, events.ID{}
	}
	if r.After != (events.ID{}) {
		lower = events.FollowingID(r.After)
	}
	if r.Before != (events.ID{}) {
		upper = events.PrecedingID(r.Before)
	}
	return lower, upper
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

func (l *Log) query(stream events.Stream, lower, upper events.ID, reverse bool) *dynamodb.QueryInput {
	return &dynamodb.QueryInput{
		TableName:                &l.table,
		ConsistentRead:           aws.Bool(true),
		ScanIndexForward:         aws.Bool(!reverse),
		KeyConditionExpression:   aws.String("#stream = :stream AND #id BETWEEN :lower AND :upper"),
		ExpressionAttributeNames: map[string]string{"#stream": attrStream, "#id": attrID},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":stream": &types.AttributeValueMemberS{Value: string(stream)},
			":lower":  &types.AttributeValueMemberS{Value: lower.String()},
			":upper":  &types.AttributeValueMemberS{Value: upper.String()},
		},
	}
}
