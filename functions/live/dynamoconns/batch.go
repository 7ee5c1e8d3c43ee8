package dynamoconns

import (
	"context"
	"slices"

	"parley/events/dynamotable"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"
)

// The bounds of batches: what one call takes, and how many calls are made side by side.
const (
	batchGets    = 100
	batchWrites  = 25
	batchesAside = 8
)

// deleteAll deletes items, whether they are there or not.
func (c *Connections) deleteAll(ctx context.Context, keys []item) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batchesAside)
	for batch := range slices.Chunk(keys, batchWrites) {
		group.Go(func() error { return c.deleteBatch(ctx, batch) })
	}
	return group.Wait()
}

func (c *Connections) deleteBatch(ctx context.Context, keys []item) error {
	var left []types.WriteRequest
	for _, key := range keys {
		left = append(left, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key}})
	}
	return untilDone(ctx, len(left), func() (int, error) {
		out, err := c.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{c.table: left}})
		if err != nil {
			return 0, err
		}
		left = out.UnprocessedItems[c.table]
		return len(left), nil
	})
}

// getAll reads items; those that are not there are left out.
func (c *Connections) getAll(ctx context.Context, keys []item) ([]item, error) {
	var found []item
	for batch := range slices.Chunk(keys, batchGets) {
		ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(true), Keys: batch}
		err := untilDone(ctx, len(batch), func() (int, error) {
			out, err := c.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{c.table: ask}})
			if err != nil {
				return 0, err
			}
			found = append(found, out.Responses[c.table]...)
			ask.Keys = out.UnprocessedKeys[c.table].Keys
			return len(ask.Keys), nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// untilDone repeats a call of a batch until nothing is left of it: as long as it takes where calls
// get on, and as often as any call is tried where they do not.
func untilDone(ctx context.Context, left int, call func() (left int, err error)) error {
	for inVain := 0; ; {
		n, err := call()
		if err != nil || n == 0 {
			return err
		}
		inVain++
		if n < left {
			inVain, left = 0, n
		}
		if inVain == dynamotable.Attempts { // DynamoDB itself says it so
			return &types.ProvisionedThroughputExceededException{Message: aws.String("items were left unprocessed")}
		}
		if err := dynamotable.Pause(ctx, inVain); err != nil {
			return err
		}
	}
}
