package pebbleview

import (
	"sync"

	"parley/events/pebblelog/window"
	"parley/projections"
)

// newViews tells, of partitions that grow, which views are certainly not stored: nearly all that
// a stream under load brings into being. It is told of each view before it is stored.
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
