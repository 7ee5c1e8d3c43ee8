package source

import (
	"crypto/sha256"
	"encoding/binary"

	"parley/events"
)

// An id that follows from a source has, after the time and the mark of its author, 16 bits that keep
// the source's order within a millisecond and 32 that tell apart what else is equal, a hash.
const (
	orderAt = 10
	hashAt  = 12
)

func makeID(ms uint64, author string, order uint16, hash uint32) events.ID {
	var id events.ID
	_ = id.SetTime(ms) // times are checked before
	mark := events.Mark(author)
	copy(id[6:orderAt], mark[:])
	binary.BigEndian.PutUint16(id[orderAt:], order)
	binary.BigEndian.PutUint32(id[hashAt:], hash)
	return id
}

// mintAfter makes an id of a time, or of the least later time at which it sorts after floor.
func mintAfter(floor events.ID, ms uint64, author string, hash uint32) events.ID {
	if ms > floor.Time() || floor == (events.ID{}) {
		return makeID(ms, author, 0, hash)
	}
	ms = floor.Time()
	if id := makeID(ms, author, 0, hash); id.Compare(floor) > 0 {
		return id
	}
	if order := binary.BigEndian.Uint16(floor[orderAt:]); order < 1<<16-1 {
		if id := makeID(ms, author, order+1, hash); id.Compare(floor) > 0 {
			return id
		}
	}
	return makeID(ms+1, author, 0, hash)
}

// hashOf hashes texts. No two lists of texts are hashed as the same bytes.
func hashOf(texts ...string) uint32 {
	h := sha256.New()
	var size [8]byte
	for _, text := range texts {
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		_, _ = h.Write(size[:]) // never fails
		_, _ = h.Write([]byte(text))
	}
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// order keeps the ids of one room in the order of its source, where the times do not say otherwise.
type order struct {
	last events.ID
	ms   map[uint64]events.ID // the last id by time, of a room whose times go back; else nil
}

func (o *order) next(ms uint64, cause events.ID, author string, hash uint32) events.ID {
	floor := o.last
	if o.ms != nil {
		floor = o.ms[ms]
	}
	if cause.Compare(floor) > 0 {
		floor = cause
	}
	id := mintAfter(floor, ms, author, hash)
	if o.last = id; o.ms != nil {
		o.ms[ms] = id
	}
	return id
}
