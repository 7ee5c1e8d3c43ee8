package pebbleview

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"parley/projections"
)

// Query implements [projections.Views]. It sees the partition as it was at one moment. It fails
// if a stored value is damaged.
func (v *Views) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	if r.Limit < 1 {
		return nil, errors.New("query views: the limit must be above 0")
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("query views: %w", err)
	}
	if r.Before != "" && r.From >= r.Before {
		return nil, nil
	}
	start := appendPartition(nil, v.prefix, partition)
	rows, err := v.db.NewIter(bounds(start, r))
	if err != nil {
		return nil, fmt.Errorf("query views: %w", err)
	}
	defer rows.Close()
	return collect(ctx, rows, partition, len(start), r)
}

// bounds keeps an iterator to a part of the partition whose keys begin with start. Without
// them it would walk into its neighbours, and over whatever was deleted there.
func bounds(start []byte, r projections.Range) *pebble.IterOptions {
	options := &pebble.IterOptions{LowerBound: append(start[:len(start):len(start)], r.From...)}
	if r.Before == "" {
		options.UpperBound = appendSuccessor(nil, start)
	} else {
		options.UpperBound = append(start[:len(start):len(start)], r.Before...)
	}
	return options
}

// collect copies the views that rows goes over, up to the limit. The first n bytes of a key are
// what the whole partition has in common.
func collect(ctx context.Context, rows *pebble.Iterator, partition string, n int, r projections.Range) ([]projections.View, error) {
	begin, step := rows.First, rows.Next
	if r.Reverse {
		begin, step = rows.Last, rows.Prev
	}
	var views []projections.View
	for ok := begin(); ok; ok = step() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("query views: %w", err)
		}
		value, err := rows.ValueAndErr()
		if err != nil {
			return nil, readError(partition, err)
		}
		version, body, err := splitValue(value)
		if err != nil {
			return nil, readError(partition, err)
		}
		key := projections.Key{Partition: partition, Sort: string(rows.Key()[n:])}
		views = append(views, projections.View{Key: key, Version: version, Body: bytes.Clone(body)})
		if len(views) == r.Limit { // before another step, which might have to read a block
			break
		}
	}
	if err := rows.Error(); err != nil {
		return nil, readError(partition, err)
	}
	return views, nil
}
