package pebbleview

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// ascending returns the indexes of n keys, partition by partition and ascending in each: what is
// read one after the other then lies in few blocks. Twins stand side by side.
func ascending(n int, key func(i int) projections.Key) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compareKeys(key(a), key(b)) })
	return order
}

func compareKeys(a, b projections.Key) int {
	if c := strings.Compare(a.Partition, b.Partition); c != 0 {
		return c
	}
	return strings.Compare(a.Sort, b.Sort)
}

// read calls f with the stored version and body, if there is one. The body is valid in f only.
func (v *Views) read(key []byte, f func(version int64, body []byte)) error {
	value, done, err := v.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done.Close()
	version, body, err := splitValue(value)
	if err != nil {
		return err
	}
	f(version, body)
	return nil
}

// What one Scan reads at most: so many bytes of bodies, and so many partitions that it passes
// over.
const (
	scanBytes = 1 << 20
	scanSkips = 4096
)

// Scan implements [projections.Views]. It goes by the length of the partitions' names, then by
// the names. It fails if a stored value is damaged.
func (v *Views) Scan(ctx context.Context, prefixes []string, after projections.Key, limit int) ([]projections.View, projections.Key, error) {
	if limit < 1 {
		return nil, projections.Key{}, errors.New("scan views: the limit must be above 0")
	}
	if err := ctx.Err(); err != nil {
		return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
	}
	options := &pebble.IterOptions{LowerBound: v.prefix}
	if len(v.prefix) > 0 {
		options.UpperBound = upperBound(v.prefix)
	}
	if after != (projections.Key{}) {
		options.LowerBound = append(appendKey(nil, v.prefix, after), 0)
	}
	rows, err := v.db.NewIter(options)
	if err != nil {
		return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
	}
	defer rows.Close()
	return v.scan(ctx, rows, prefixes, limit)
}

func (v *Views) scan(ctx context.Context, rows *pebble.Iterator, prefixes []string, limit int) (views []projections.View, next projections.Key, err error) {
	var start []byte // what the keys of the partition that is being read begin with
	var partition string
	size, skips := 0, 0
	for ok := rows.First(); ok; {
		if err := ctx.Err(); err != nil {
			return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
		}
		if start == nil || !bytes.HasPrefix(rows.Key(), start) {
			partition, start = v.partition(rows.Key())
			if start == nil {
				return nil, projections.Key{}, readError("", errDamaged)
			}
			begins := func(prefix string) bool { return strings.HasPrefix(partition, prefix) }
			if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, begins) {
				if skips++; skips == scanSkips {
					return views, projections.Key{Partition: partition, Sort: string(rows.Key()[len(start):])}, nil
				}
				ok = rows.SeekGE(appendSuccessor(nil, start))
				start = nil
				continue
			}
		}
		value, err := rows.ValueAndErr()
		if err != nil {
			return nil, projections.Key{}, readError(partition, err)
		}
		version, body, err := splitValue(value)
		if err != nil {
			return nil, projections.Key{}, readError(partition, err)
		}
		key := projections.Key{Partition: partition, Sort: string(rows.Key()[len(start):])}
		views = append(views, projections.View{Key: key, Version: version, Body: bytes.Clone(body)})
		size += len(body)
		if ok = rows.Next(); ok && (len(views) == limit || size > scanBytes) {
			return views, key, nil
		}
	}
	if err := rows.Error(); err != nil {
		return nil, projections.Key{}, readError(partition, err)
	}
	return views, projections.Key{}, nil
}

// partition reads the partition of a stored key, and what all keys of it begin with; nil if the
// key is none of a view.
func (v *Views) partition(key []byte) (string, []byte) {
	rest := key[len(v.prefix):]
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > uint64(len(rest)-n) {
		return "", nil
	}
	end := len(v.prefix) + n + int(size)
	return string(key[len(v.prefix)+n : end]), slices.Clone(key[:end])
}

// upperBound is the least key above all that begin with prefix; nil if there is none.
func upperBound(prefix []byte) []byte {
	if bytes.Count(prefix, []byte{0xff}) == len(prefix) {
		return nil
	}
	return appendSuccessor(nil, prefix)
}
