package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	ddb "parley/events/dynamodb"
	"parley/projections"
)

// Query implements [projections.Views]. It reads page after page of 1 MB, and what is saved
// meanwhile may show in a later one. It fails if a stored item is damaged.
func (v *Views) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	if err := checkQuery(ctx, partition, r); err != nil {
		return nil, fmt.Errorf("query views: %w", err)
	}
	if r.Before != "" && r.From >= r.Before {
		return nil, nil
	}
	views, err := v.pages(ctx, v.queryOf(partition, r), r)
	if err != nil {
		return nil, failed("query views", err)
	}
	return views, nil
}

func checkQuery(ctx context.Context, partition string, r projections.Range) error {
	if r.Limit < 1 {
		return errors.New("the limit must be above 0")
	}
	if partition == "" || !utf8.ValidString(partition) || !utf8.ValidString(r.From) || !utf8.ValidString(r.Before) {
		return errKey
	}
	return ctx.Err()
}

// queryOf asks for the views within a range. A sort key takes one condition, and the one with
// two bounds includes both: the view at Before may come too.
func (v *Views) queryOf(partition string, r projections.Range) *dynamodb.QueryInput {
	condition := "#partition = :partition"
	names := map[string]string{"#partition": attrPartition}
	values := item{":partition": text(partition)}
	if r.From != "" || r.Before != "" {
		names["#sort"] = attrSort
	}
	if r.From != "" {
		values[":from"] = text(r.From)
	}
	if r.Before != "" {
		values[":before"] = text(r.Before)
	}
	switch {
	case r.From != "" && r.Before != "":
		condition += " AND #sort BETWEEN :from AND :before"
	case r.From != "":
		condition += " AND #sort >= :from"
	case r.Before != "":
		condition += " AND #sort < :before"
	}
	return &dynamodb.QueryInput{
		TableName:                 aws.String(v.table),
		ConsistentRead:            aws.Bool(!r.Stale),
		KeyConditionExpression:    aws.String(condition),
		ExpressionAttributeNames:  names,
		ExpressionAttributeValues: values,
		ScanIndexForward:          aws.Bool(!r.Reverse),
	}
}

// pages asks as often as it takes for so many views as r wants.
func (v *Views) pages(ctx context.Context, in *dynamodb.QueryInput, r projections.Range) ([]projections.View, error) {
	var views []projections.View
	for {
		in.Limit = limitOf(r.Limit - len(views))
		out, err := v.db.Query(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, it := range out.Items {
			view, err := viewOf(it)
			if err != nil {
				return nil, err
			}
			if view.Key.Sort != r.Before {
				views = append(views, view)
			}
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 || len(views) >= r.Limit {
			return views, nil
		}
	}
}

func limitOf(n int) *int32 { return aws.Int32(int32(min(n, math.MaxInt32))) }

// batchesAside is how many BatchGetItem calls are made side by side: they bring 128 MB at most, since
// an answer ends at 16 MB.
const batchesAside = 8

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
	for batch := range slices.Chunk(slices.Collect(maps.Keys(wanted)), ddb.BatchKeys) {
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

// getBatch reads the views of at most [ddb.BatchKeys] keys.
func (v *Views) getBatch(ctx context.Context, batch []projections.Key, add func(...item) error) error {
	keys := make([]item, len(batch))
	for i, key := range batch {
		keys[i] = keyOf(key)
	}
	return ddb.BatchGet(ctx, v.db, v.table, keys, func(items []item) error { return add(items...) })
}

// Scan implements [projections.Views]. A call is one page of DynamoDB's: up to 1 MB of the table,
// from which it picks, and which costs 128 read units at 1 MB, whatever it picks. It fails if a
// stored item is damaged.
func (v *Views) Scan(ctx context.Context, prefixes []string, after projections.Key, limit int) ([]projections.View, projections.Key, error) {
	if limit < 1 {
		return nil, projections.Key{}, errors.New("scan views: the limit must be above 0")
	}
	if err := ctx.Err(); err != nil {
		return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
	}
	out, err := v.db.Scan(ctx, v.scanOf(prefixes, after, limit))
	if err != nil {
		return nil, projections.Key{}, failed("scan views", err)
	}
	views := make([]projections.View, len(out.Items))
	for i, it := range out.Items {
		if views[i], err = viewOf(it); err != nil {
			return nil, projections.Key{}, failed("scan views", err)
		}
	}
	if len(out.LastEvaluatedKey) == 0 {
		return views, projections.Key{}, nil
	}
	partition, okPartition := out.LastEvaluatedKey[attrPartition].(*types.AttributeValueMemberS)
	sort, okSort := out.LastEvaluatedKey[attrSort].(*types.AttributeValueMemberS)
	if !okPartition || !okSort {
		return nil, projections.Key{}, failed("scan views", errDamaged)
	}
	return views, projections.Key{Partition: partition.Value, Sort: sort.Value}, nil
}

// scanOf asks for the next page. DynamoDB's limit is on what it reads, not on what it picks.
func (v *Views) scanOf(prefixes []string, after projections.Key, limit int) *dynamodb.ScanInput {
	in := &dynamodb.ScanInput{TableName: aws.String(v.table), ConsistentRead: aws.Bool(true), Limit: limitOf(limit)}
	if after != (projections.Key{}) {
		in.ExclusiveStartKey = keyOf(after)
	}
	if len(prefixes) == 0 {
		return in
	}
	in.ExpressionAttributeNames = map[string]string{"#partition": attrPartition}
	in.ExpressionAttributeValues = item{}
	conditions := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		name := fmt.Sprintf(":p%d", i)
		in.ExpressionAttributeValues[name] = text(prefix)
		conditions[i] = "begins_with(#partition, " + name + ")"
	}
	in.FilterExpression = aws.String(strings.Join(conditions, " OR "))
	return in
}
