package pebbleview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"parley/events/pebbledb/window"
	"parley/projections"
)

// What is kept in memory of the views that are read by their keys: at most hotViews, and none
// with a body of more than hotBytes. That is 16 MB at the very most. It serves the few views
// that are asked for again and again: every command asks for its room and its member.
const (
	hotViews = 8192
	hotBytes = 2048
)

// Views keeps views in a Pebble database. It implements [projections.Views]; make one with
// [New]. It must not be used once the database is closed.
type Views struct {
	db     *pebble.DB
	prefix []byte
	seed   maphash.Seed
	locks  locks
	// hot holds views just as they are stored: its entries change under their locks.
	hot *lru.Cache[projections.Key, projections.View]
	new newViews
}

var _ projections.Views = (*Views)(nil)

// New returns the views that db holds under the keys that begin with prefix. No two of one
// database may have a prefix that begins with the prefix of the other, and a prefix has one Views at
// a time: its locks make a Save atomic.
func New(db *pebble.DB, prefix ...byte) *Views {
	hot, err := lru.New[projections.Key, projections.View](hotViews)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Views{
		db: db, prefix: slices.Clone(prefix), seed: maphash.MakeSeed(), hot: hot,
		new: newViews{windows: window.New()},
	}
}

// Get implements [projections.Views]. It fails if a stored value is damaged.
func (v *Views) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get views: %w", err)
	}
	views := make([]projections.View, len(keys))
	for _, i := range ascending(len(keys), func(i int) projections.Key { return keys[i] }) {
		var err error
		if views[i], err = v.get(keys[i]); err != nil {
			return nil, readError(keys[i].Partition, err)
		}
	}
	return views, nil
}

// get reads one view, from memory or from the database. It is locked between reading and keeping
// it, or a Save could come between and what is kept would be of yesterday.
func (v *Views) get(key projections.Key) (projections.View, error) {
	if view, ok := v.hot.Get(key); ok {
		return view, nil
	}
	lock := &v.locks[v.part(key)]
	lock.Lock()
	defer lock.Unlock()
	view := projections.View{Key: key}
	err := v.read(appendKey(nil, v.prefix, key), func(version int64, body []byte) {
		view.Version, view.Body = version, bytes.Clone(body)
	})
	if err == nil && view.Version > 0 && len(view.Body) <= hotBytes {
		v.hot.Add(key, view)
	}
	return view, err
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
	if err := v.track(); err != nil {
		return fmt.Errorf("save views: %w", err)
	}
	v.new.saving.RLock()
	defer v.new.saving.RUnlock()
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
		err := batch.Commit(pebble.NoSync)
		v.refresh(views, conflicts, err)
		if err != nil {
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
		stored, err := v.version(view.Key, buf)
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

// version is the stored version of a view, which must be locked; 0 if there is none.
func (v *Views) version(key projections.Key, encoded []byte) (stored int64, err error) {
	if v.new.absent(key) {
		return 0, nil
	}
	if view, ok := v.hot.Get(key); ok {
		return view.Version, nil
	}
	err = v.read(encoded, func(version int64, _ []byte) { stored = version })
	if err == nil && stored == 0 {
		v.new.missed(key.Partition)
	}
	return stored, err
}

// refresh brings what is kept in memory up to what was saved: all views but the conflicts. What
// may or may not have been saved is forgotten.
func (v *Views) refresh(views []projections.View, conflicts []projections.Key, err error) {
	for _, view := range views {
		if !v.hot.Contains(view.Key) || slices.Contains(conflicts, view.Key) {
			continue
		}
		v.hot.Remove(view.Key)
		if err == nil && len(view.Body) <= hotBytes {
			v.hot.Add(view.Key, projections.View{Key: view.Key, Version: view.Version + 1, Body: bytes.Clone(view.Body)})
		}
	}
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

// Delete implements [projections.Views]. All views that it removes are gone, and stay so after a
// crash, or are not, together.
func (v *Views) Delete(ctx context.Context, views ...projections.View) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete views: %w", err)
	}
	order := ascending(len(views), func(i int) projections.Key { return views[i].Key })
	for i := 1; i < len(order); i++ {
		if views[order[i-1]].Key == views[order[i]].Key {
			return errors.New("delete views: a key was given twice")
		}
	}
	set := v.lockSet(views)
	v.locks.lock(set)
	defer v.locks.unlock(set)

	batch := v.db.NewBatch()
	defer batch.Close()
	var conflict projections.ConflictError
	for _, i := range order {
		view, stored := views[i], int64(0)
		key := appendKey(nil, v.prefix, view.Key)
		if err := v.read(key, func(version int64, _ []byte) { stored = version }); err != nil {
			return readError(view.Key.Partition, err)
		}
		switch stored {
		case 0:
		case view.Version:
			_ = batch.Delete(key, nil) // fails for a closed batch only
		default:
			conflict.Keys = append(conflict.Keys, view.Key)
		}
	}
	if !batch.Empty() {
		err := batch.Commit(pebble.NoSync)
		for _, view := range views {
			v.hot.Remove(view.Key)
		}
		if err != nil {
			return fmt.Errorf("delete views: %w", err)
		}
	}
	if len(conflict.Keys) > 0 {
		return &conflict
	}
	return nil
}

// newViews knows, of partitions that grow, which views are certainly not stored: nearly all that a
// stream under load creates. Call absent for each view before it is stored.
type newViews struct {
	// saving is held for reading by every Save, from the time it looks at what is stored until
	// it has stored its views, and for writing to begin tracking: the greatest key of a partition
	// can only be read while none is on its way.
	saving sync.RWMutex

	mu      sync.Mutex
	windows *window.Windows
}

// track begins to track the partitions that were found to grow.
func (v *Views) track() error {
	v.new.mu.Lock()
	due := v.new.windows.Due()
	v.new.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	v.new.saving.Lock()
	defer v.new.saving.Unlock()
	for _, partition := range due {
		greatest, err := v.greatest(partition)
		if err != nil {
			return err
		}
		v.new.mu.Lock()
		v.new.windows.Track(partition, greatest)
		v.new.mu.Unlock()
	}
	return nil
}

// absent reports whether a view is certainly not stored, and notes that it is about to be.
func (n *newViews) absent(key projections.Key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	absent := n.windows.Absent(key.Partition, key.Sort)
	n.windows.Add(key.Partition, key.Sort)
	return absent
}

// missed notes that a view was looked for and is not stored.
func (n *newViews) missed(partition string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.windows.Missed(partition)
}

// greatest is the greatest sort key of a partition, "" if it is empty.
func (v *Views) greatest(partition string) (string, error) {
	start := appendPartition(nil, v.prefix, partition)
	rows, err := v.db.NewIter(bounds(start, projections.Range{}))
	if err != nil {
		return "", err
	}
	sort := ""
	if rows.Last() {
		sort = string(rows.Key()[len(start):])
	}
	return sort, rows.Close()
}
