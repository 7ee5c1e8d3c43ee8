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
	views := make([]projections.View, len(keys))
	var buf []byte
	for i, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("get views: %w", err)
		}
		views[i].Key = key
		buf = appendKey(buf[:0], v.prefix, key)
		err := v.read(buf, func(version int64, body []byte) {
			views[i].Version, views[i].Body = version, bytes.Clone(body)
		})
		if err != nil {
			return nil, readError(key.Partition, err)
		}
	}
	return views, nil
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

// Save implements [projections.Views]. All views that it saves become visible, and survive, or
// do not, together.
func (v *Views) Save(ctx context.Context, views ...projections.View) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save views: %w", err)
	}
	if len(views) == 0 {
		return nil
	}
	slots := v.slots(views)
	if hasTwins(slots, views) {
		return errors.New("save views: a key was given twice")
	}
	v.locks.lock(slots)
	defer v.locks.unlock(slots)

	batch := v.db.NewBatchWithSize(v.batchSize(views))
	defer batch.Close()
	conflicts, err := v.fill(batch, views)
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
func (v *Views) fill(batch *pebble.Batch, views []projections.View) (conflicts []projections.Key, err error) {
	var buf []byte
	for _, view := range views {
		var stored int64
		buf = appendKey(buf[:0], v.prefix, view.Key)
		err := v.read(buf, func(version int64, _ []byte) { stored = version })
		if err != nil {
			return nil, readError(view.Key.Partition, err)
		}
		if stored != view.Version {
			conflicts = append(conflicts, view.Key)
			continue
		}
		version := stored + 1
		set := batch.SetDeferred(len(buf), valueSize(version, view.Body))
		copy(set.Key, buf)
		putValue(set.Value, version, view.Body)
		if err := set.Finish(); err != nil {
			return nil, fmt.Errorf("save views: %w", err)
		}
	}
	return conflicts, nil
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
