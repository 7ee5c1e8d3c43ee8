package pebbleview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"parley/projections"
)

// Views keeps views in a Pebble database. It implements [projections.Views]; make one with
// [New]. It must not be used once the database is closed.
type Views struct {
	db     *pebble.DB
	prefix []byte
	seed   maphash.Seed
	locks  locks
}

var _ projections.Views = (*Views)(nil)

// New returns the views that db holds under the keys that begin with prefix. No two of one
// database may have prefixes of which one begins with the other, and a prefix has one Views at a
// time: its locks are what makes a Save atomic.
func New(db *pebble.DB, prefix ...byte) *Views {
	return &Views{db: db, prefix: slices.Clone(prefix), seed: maphash.MakeSeed()}
}

// Get implements [projections.Views]. It fails if a stored value is damaged.
func (v *Views) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get views: %w", err)
	}
	views := make([]projections.View, len(keys))
	var buf []byte
	for _, i := range ascending(len(keys), func(i int) projections.Key { return keys[i] }) {
		buf = appendKey(buf[:0], v.prefix, keys[i])
		views[i].Key = keys[i]
		err := v.read(buf, func(version int64, body []byte) {
			views[i].Version, views[i].Body = version, bytes.Clone(body)
		})
		if err != nil {
			return nil, readError(keys[i].Partition, err)
		}
	}
	return views, nil
}

// Save implements [projections.Views]. All views that it saves become visible, and survive, or
// do not, together.
func (v *Views) Save(ctx context.Context, views ...projections.View) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save views: %w", err)
	}
	order := ascending(len(views), func(i int) projections.Key { return views[i].Key })
	for i := 1; i < len(order); i++ {
		if views[order[i-1]].Key == views[order[i]].Key {
			return errors.New("save views: a key was given twice")
		}
	}
	batch := v.db.NewBatchWithSize(v.batchSize(views))
	defer batch.Close()
	set := v.lockSet(views)
	v.locks.lock(set)
	defer v.locks.unlock(set)

	conflicts, err := v.fill(batch, views, order)
	if err != nil {
		return err
	}
	if !batch.Empty() {
		if err := batch.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("save views: %w", err)
		}
	}
	if len(conflicts) > 0 {
		return &projections.ConflictError{Keys: conflicts}
	}
	return nil
}

// fill adds to the batch the views whose version is the stored one and returns the keys of the
// others. The views must be locked.
func (v *Views) fill(batch *pebble.Batch, views []projections.View, order []int) (conflicts []projections.Key, err error) {
	var buf []byte
	for _, i := range order {
		view := views[i]
		buf = appendKey(buf[:0], v.prefix, view.Key)
		var stored int64
		err := v.read(buf, func(version int64, _ []byte) { stored = version })
		if err != nil {
			return nil, readError(view.Key.Partition, err)
		}
		if stored != view.Version {
			conflicts = append(conflicts, view.Key)
			continue
		}
		put(batch, buf, stored+1, view.Body)
	}
	return conflicts, nil
}

// put adds a view to the batch, copying its body only once.
func put(batch *pebble.Batch, key []byte, version int64, body []byte) {
	set := batch.SetDeferred(len(key), valueSize(version, body))
	copy(set.Key, key)
	putValue(set.Value, version, body)
	_ = set.Finish() // fails for an indexed batch only
}

// batchSize is about what the views take up in a batch: it need not grow on the way.
func (v *Views) batchSize(views []projections.View) int {
	const perView = 24 // two lengths, a version, the kind of the record
	size := perView
	for _, view := range views {
		size += perView + len(v.prefix) + len(view.Key.Partition) + len(view.Key.Sort) + len(view.Body)
	}
	return size
}
