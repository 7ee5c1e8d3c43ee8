package pebbleview

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"parley/projections"
)

// locks holds a mutex for each of 2^lockBits parts of all keys. A Save takes those of its keys
// in their order, so that no two can wait for each other.
type locks [1 << lockBits]sync.Mutex

const lockBits = 10

// slot is the place of a view of one Save among the locks.
type slot struct {
	hash  uint64 // of the key; its upper bits choose the lock
	index int    // of the view
}

func (s slot) lock() uint64 { return s.hash >> (64 - lockBits) }

// slots returns the slots of the views in the order in which they are to be locked. Views of
// one key stand side by side.
func (v *Views) slots(views []projections.View) []slot {
	slots := make([]slot, len(views))
	for i, view := range views {
		slots[i] = slot{maphash.Comparable(v.seed, view.Key), i}
	}
	slices.SortFunc(slots, func(a, b slot) int {
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return compareKeys(views[a.index].Key, views[b.index].Key)
	})
	return slots
}

func compareKeys(a, b projections.Key) int {
	return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Sort, b.Sort))
}

// hasTwins reports whether two of the views have one key.
func hasTwins(slots []slot, views []projections.View) bool {
	for i := 1; i < len(slots); i++ {
		if views[slots[i-1].index].Key == views[slots[i].index].Key {
			return true
		}
	}
	return false
}

func (l *locks) lock(slots []slot) {
	for i, s := range slots {
		if i == 0 || s.lock() != slots[i-1].lock() {
			l[s.lock()].Lock()
		}
	}
}

func (l *locks) unlock(slots []slot) {
	for i, s := range slots {
		if i == 0 || s.lock() != slots[i-1].lock() {
			l[s.lock()].Unlock()
		}
	}
}
