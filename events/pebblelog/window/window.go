// Package window answers without a look into the store what a store of ever newer keys is asked
// most: is this new key there already?
//
// Most keys that are stored are newer than nearly all that are there. A [Windows] remembers, for
// the partitions that grow fast, the keys stored last and a floor below which it knows nothing.
// A key above the floor that it does not remember is not in the store. For all others the store
// must be asked: in a log-structured store that is dear for a key that is not there, as every
// level of it has to say no.
package window

const (
	// generation is how many keys are remembered of a partition, at least; twice as many at
	// most. At 10,000 keys a second that is the last 400 ms: what comes later than that, out of
	// order, is looked for in the store.
	generation = 4096
	// partitions is how many are remembered at a time. With 100 bytes a key 32 of them take
	// 26 MB at the very most.
	partitions = 32
)

// Windows remembers the last keys of some partitions. The zero value is not ready: use [New].
// It is not safe for concurrent use.
//
// What it says holds only if it is told of every key before it is stored: from the moment on at
// which Track was told the greatest key.
type Windows struct {
	byPartition map[string]*window
}

// New returns Windows that track no partition yet.
func New() *Windows { return &Windows{byPartition: map[string]*window{}} }

// Tracks reports whether a partition is tracked.
func (w *Windows) Tracks(partition string) bool { return w.byPartition[partition] != nil }

// Track begins to remember the keys of a partition. The floor is the greatest key in it, "" if it
// is empty. When too many partitions are tracked all others are forgotten.
func (w *Windows) Track(partition, floor string) {
	if len(w.byPartition) >= partitions {
		clear(w.byPartition)
	}
	w.byPartition[partition] = &window{floor: floor, recent: map[string]struct{}{}}
}

// Add says that a key is about to be stored.
func (w *Windows) Add(partition, key string) {
	if window := w.byPartition[partition]; window != nil {
		window.add(key)
	}
}

// Absent reports whether a key is certainly not in the store, nor about to be.
func (w *Windows) Absent(partition, key string) bool {
	window := w.byPartition[partition]
	return window != nil && window.absent(key)
}

// window is what is remembered of one partition: all keys above the floor, in two generations,
// of which the older is dropped as a whole when the younger is full.
type window struct {
	floor      string
	older      map[string]struct{}
	recent     map[string]struct{}
	olderMost  string // the greatest key of either
	recentMost string
}

func (w *window) add(key string) {
	w.recent[key] = struct{}{}
	w.recentMost = max(w.recentMost, key)
	if len(w.recent) < generation {
		return
	}
	w.floor = max(w.floor, w.olderMost)
	w.older, w.olderMost = w.recent, w.recentMost
	w.recent, w.recentMost = make(map[string]struct{}, generation), ""
}

func (w *window) absent(key string) bool {
	if key <= w.floor {
		return false
	}
	_, older := w.older[key]
	_, recent := w.recent[key]
	return !older && !recent
}
