// Package window answers without a look into the store what a store of ever newer keys is asked
// most: is this new key there already?
//
// Most keys that are stored are newer than nearly all that are there. A [Windows] remembers, for
// the partitions that grow, the keys stored last and a floor below which it knows nothing. A key
// above the floor that it does not remember is not in the store. For all others the store must
// be asked: in a log-structured store that is dear for a key that is not there, as every level
// of it has to say no.
package window

const (
	// enough is how many looks for keys that were not there make a partition worth tracking.
	enough = 8
	// generation is how many keys are remembered of a partition, at least; twice as many at
	// most. At 10,000 keys a second that is the last 400 ms: what comes later than that, out of
	// order, is looked for in the store.
	generation = 4096
	// most is how many partitions and, of all together, keys are remembered: with 100 bytes a
	// key about 13 MB. Beyond it everything is forgotten, and what still grows is soon tracked
	// again.
	mostPartitions = 1024
	mostKeys       = 1 << 17
)

// Windows remembers the last keys of some partitions. Make one with [New]. It is not safe for
// concurrent use.
//
// What it says holds only if it is told of every key before it is stored: from the moment on at
// which Track was told the greatest key.
type Windows struct {
	tracked map[string]*window
	keys    int            // of all windows
	missed  map[string]int // looks in vain, by partition that is not tracked
	due     []string       // partitions that are worth tracking
}

// New returns Windows that track no partition yet.
func New() *Windows { return &Windows{tracked: map[string]*window{}, missed: map[string]int{}} }

// Missed says that the store was asked for a key and does not have it.
func (w *Windows) Missed(partition string) {
	if w.tracked[partition] != nil {
		return
	}
	if len(w.missed) >= mostPartitions {
		clear(w.missed)
	}
	if w.missed[partition]++; w.missed[partition] == enough {
		delete(w.missed, partition)
		w.due = append(w.due, partition)
	}
}

// Due takes the partitions that are worth tracking by now: find the greatest key of each, while
// no key is about to be stored, and call Track.
func (w *Windows) Due() []string {
	due := w.due
	w.due = nil
	return due
}

// Track begins to remember the keys of a partition. The floor is the greatest key in it, "" if it
// is empty. It may forget all others.
func (w *Windows) Track(partition, floor string) {
	if len(w.tracked) >= mostPartitions || w.keys > mostKeys {
		clear(w.tracked)
		w.keys = 0
	}
	w.tracked[partition] = &window{floor: floor, recent: map[string]struct{}{}}
}

// Add says that a key is about to be stored.
func (w *Windows) Add(partition, key string) {
	window := w.tracked[partition]
	if window == nil {
		return
	}
	w.keys += window.add(key)
}

// Absent reports whether a key is certainly not in the store, nor about to be.
func (w *Windows) Absent(partition, key string) bool {
	window := w.tracked[partition]
	return window != nil && window.absent(key)
}

// window is what is remembered of one partition: all keys above the floor, in two generations,
// of which the older is dropped as a whole when the younger is full.
type window struct {
	floor         string
	older, recent map[string]struct{}
	olderGreatest string
	greatest      string // of recent
}

// add returns by how many keys more are remembered.
func (w *window) add(key string) int {
	before := len(w.older) + len(w.recent)
	w.recent[key] = struct{}{}
	w.greatest = max(w.greatest, key)
	if len(w.recent) == generation {
		w.floor = max(w.floor, w.olderGreatest)
		w.older, w.olderGreatest = w.recent, w.greatest
		w.recent, w.greatest = make(map[string]struct{}, generation), ""
	}
	return len(w.older) + len(w.recent) - before
}

func (w *window) absent(key string) bool {
	if key <= w.floor {
		return false
	}
	_, older := w.older[key]
	_, recent := w.recent[key]
	return !older && !recent
}
