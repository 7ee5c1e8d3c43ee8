package pebbleview

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"parley/events/pebbledb"
	"parley/projections"
)

// Open opens the database in dir for views, or makes one. See [pebbledb.Open] for errors. When a write fails
// later, the database goes on in memory alone, see [pebbledb.Disk]: it must be closed and opened again.
func Open(dir string, o pebbledb.Options) (*pebble.DB, error) {
	db, err := pebbledb.Open(dir, o, func(p *pebble.Options) {
		// Saves are not fsynced one by one: let the write-ahead log go to disk as it grows, so that
		// the fsync at its end does not hold up writers.
		p.WALBytesPerSync = 1 << 20
	})
	if err != nil {
		return nil, fmt.Errorf("open view database in %s: %w", dir, err)
	}
	return db, nil
}

// locks has a mutex for each of 2^lockBits parts of all keys. A Get takes one at a time, a Save those of its keys in
// the order of the parts, so that no two can wait for each other.
type locks [1 << lockBits]sync.Mutex

const lockBits = 10

// lockSet is a set of parts, a bit for each.
type lockSet [1 << lockBits / 64]uint64

// lockSet returns the parts in which the keys of the views lie.
func (v *Views) lockSet(views []projections.View) *lockSet {
	var set lockSet
	for _, view := range views {
		part := v.part(view.Key)
		set[part/64] |= 1 << (part % 64)
	}
	return &set
}

// part is the part in which a key lies.
func (v *Views) part(key projections.Key) uint64 {
	return maphash.Comparable(v.seed, key) >> (64 - lockBits)
}

// each calls f for each part of the set, from the first to the last.
func (s *lockSet) each(f func(part int)) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			f(i*64 + bits.TrailingZeros64(word))
		}
	}
}

func (l *locks) lock(s *lockSet)   { s.each(func(part int) { l[part].Lock() }) }
func (l *locks) unlock(s *lockSet) { s.each(func(part int) { l[part].Unlock() }) }
