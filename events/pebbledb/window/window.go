// Package window caches recent keys, to answer without a read whether a new key is already stored.
//
// Most new keys are greater than nearly all stored keys. For partitions that grow, a [Windows] caches
// the keys that were stored last, and a floor. A key above the floor that is not cached is not in the
// store. All other keys must be read from the store. In a log-structured store such a read is
// expensive if the key is absent, because every level must be searched.
package window

const (
	// trackAfter is how many reads of absent keys make a partition worth tracking.
	trackAfter = 8
	// generation is the smallest number of keys cached of a partition once it is full; the largest is
	// twice as many. At 10,000 keys a second it holds the last 400 ms: a key that comes later, out of
	// order, is read from the store.
	generation = 4096
	// mostPartitions and mostKeys bound the cache: about 13 MB with 100 bytes a key. Beyond them the
	// cache is cleared, and partitions that still grow are soon tracked again.
	mostPartitions = 1024
	mostKeys       = 1 << 17
)

// Windows caches the last keys of some partitions. Make one with [New]. It is not safe for concurrent
// use.
//
// Results are valid only if Add is called for every key before it is stored, from the moment at which
// the floor for Track was read.
type Windows struct {
	tracked map[string]*window
	keys    int            // of all windows
	missed  map[string]int // reads of absent keys, by partition that is not tracked
	due     []string       // partitions to track
}

// New returns Windows that track no partition yet.
func New() *Windows { return &Windows{tracked: map[string]*window{}, missed: map[string]int{}} }

// Missed counts a read of a key that the store does not have.
func (w *Windows) Missed(partition string) {
	if w.tracked[partition] != nil {
		return
	}
	if len(w.missed) >= mostPartitions {
		clear(w.missed)
	}
	if w.missed[partition]++; w.missed[partition] == trackAfter {
		delete(w.missed, partition)
		w.due = append(w.due, partition)
	}
}

// Due returns the partitions that are now worth tracking, and resets the list. The caller reads the
// greatest key of each, while no key is being stored, and calls Track.
func (w *Windows) Due() []string {
	due := w.due
	w.due = nil
	return due
}

// Track begins to cache the keys of a partition. The floor is the greatest key in it, "" if it is empty.
// If the cache is full it drops all other partitions.
func (w *Windows) Track(partition, floor string) {
	if len(w.tracked) >= mostPartitions || w.keys > mostKeys {
		clear(w.tracked)
		w.keys = 0
	}
	w.tracked[partition] = &window{floor: floor, recent: map[string]struct{}{}}
}

// Add caches a key that is about to be stored.
func (w *Windows) Add(partition, key string) {
	window := w.tracked[partition]
	if window == nil {
		return
	}
	w.keys += window.add(key)
}

// Absent reports whether a key is certainly neither stored nor about to be stored. False means unknown.
func (w *Windows) Absent(partition, key string) bool {
	window := w.tracked[partition]
	return window != nil && window.absent(key)
}

// window caches one partition: all keys above the floor, in two generations. The older is dropped when
// the recent one is full.
type window struct {
	floor         string
	older, recent map[string]struct{}
	olderGreatest string
	greatest      string // of recent
}

// add caches a key and returns by how many keys the window has grown.
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
