package pebbleview

import (
	"hash/maphash"
	"math/bits"
	"sync"

	"parley/projections"
)

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
