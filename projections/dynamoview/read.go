package dynamoview

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"parley/events/dynamotable"
	"parley/projections"
)

// The bounds of reading by keys: a BatchGetItem takes 100, and 8 of them side by side bring 128 MB
// at the very most, for an answer ends at 16 MB.
const (
	batchKeys    = 100
	batchesAside = 8
)

// Get implements [projections.Views]. It fails if a stored item is damaged.
func (v *Views) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	found, err := v.find(ctx, keys)
	if err != nil {
		return nil, failed("get views", err)
	}
	views := make([]projections.View, len(keys))
	for i, key := range keys {
		views[i] = found[key]
		views[i].Key = key
	}
	return views, nil
}

// find returns those of the views that are stored.
func (v *Views) find(ctx context.Context, keys []projections.Key) (map[projections.Key]projections.View, error) {
	wanted := make(map[projections.Key]bool, len(keys)) // BatchGetItem takes no key twice
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
		wanted[key] = true
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	found := make(map[projections.Key]projections.View, len(wanted))
	add := func(items ...item) error {
		mu.Lock()
		defer mu.Unlock()
		return collect(found, items)
	}
	if len(wanted) == 1 {
		return found, v.getOne(ctx, keys[0], add)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batchesAside)
	for batch := range slices.Chunk(slices.Collect(maps.Keys(wanted)), batchKeys) {
		group.Go(func() error { return v.getBatch(ctx, batch, add) })
	}
	return found, group.Wait()
}

func collect(found map[projections.Key]projections.View, items []item) error {
	for _, it := range items {
		view, err := viewOf(it)
		if err != nil {
			return err
		}
		found[view.Key] = view
	}
	return nil
}

func (v *Views) getOne(ctx context.Context, key projections.Key, add func(...item) error) error {
	out, err := v.db.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(v.table), Key: keyOf(key), ConsistentRead: aws.Bool(true),
	})
	if err != nil || len(out.Item) == 0 {
		return err
	}
	return add(out.Item)
}

// getBatch reads a batch, asking again for what was not processed, for load or because the answer
// was full: as long as it takes where answers bring something, and as often as any call is tried
// where they do not.
func (v *Views) getBatch(ctx context.Context, batch []projections.Key, add func(...item) error) error {
	ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, key := range batch {
		ask.Keys = append(ask.Keys, keyOf(key))
	}
	for inVain := 0; ; {
		out, err := v.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{v.table: ask},
		})
		if err != nil {
			return err
		}
		if err := add(out.Responses[v.table]...); err != nil {
			return err
		}
		left := out.UnprocessedKeys[v.table].Keys
		if len(left) == 0 {
			return nil
		}
		inVain++
		if len(left) < len(ask.Keys) {
			inVain = 0
		}
		if inVain == dynamotable.Attempts { // DynamoDB itself says it so
			return &types.ProvisionedThroughputExceededException{Message: aws.String("keys were left unprocessed")}
		}
		ask.Keys = left
		if err := dynamotable.Pause(ctx, inVain); err != nil {
			return err
		}
	}
}
