package dynamolog

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/events/dynamotable"
)

// maxKeys is how many keys a BatchGetItem takes.
const maxKeys = 100

// GetMany implements [events.Log]. It asks for 100 events a call, one call after the other. Keys
// that DynamoDB leaves unprocessed are asked for again, after a wait; if 6 calls in a row give nothing more, the
// error is [events.ErrThrottled]. Other errors are those of [Log.Get].
func (l *Log) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	found := make(map[events.Key]events.Event, len(keys))
	for part := range slices.Chunk(distinct(keys), maxKeys) {
		if err := l.getPart(ctx, part, found); err != nil {
			return nil, fmt.Errorf("get events: %w", err)
		}
	}
	return found, nil
}

// distinct returns the primary keys, each once: DynamoDB refuses a key given twice. Where no event
// can be it does not look.
func distinct(keys []events.Key) []map[string]types.AttributeValue {
	seen := make(map[events.Key]bool, len(keys))
	var all []map[string]types.AttributeValue
	for _, k := range keys {
		if seen[k] || k.Stream.Validate() != nil {
			continue
		}
		seen[k] = true
		all = append(all, keyOf(k.Stream, k.ID))
	}
	return all
}

// getPart adds the events of at most maxKeys keys to found.
func (l *Log) getPart(ctx context.Context, left []map[string]types.AttributeValue, found map[events.Key]events.Event) error {
	for idle := 0; ; {
		out, err := l.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{l.table: {Keys: left, ConsistentRead: aws.Bool(true)}},
		})
		if err != nil {
			return readError(ctx, err)
		}
		for _, item := range out.Responses[l.table] {
			e, err := eventOf(item)
			if err != nil {
				return err
			}
			found[events.Key{Stream: e.Stream, ID: e.ID}] = e
		}
		rest := out.UnprocessedKeys[l.table].Keys
		if len(rest) == 0 {
			return nil
		}
		if idle++; len(rest) < len(left) {
			idle = 0
		}
		if idle == maxAttempts {
			return fmt.Errorf("%w: DynamoDB leaves the keys unprocessed", events.ErrThrottled)
		}
		left = rest
		if err := dynamotable.Sleep(ctx, delay(idle)); err != nil {
			return err
		}
	}
}
