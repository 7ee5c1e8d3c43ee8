package events

import "hash/fnv"

// Part is a share of the streams of a log: that of Index, counted from 0, of so many. Part{0, 1}
// is all. The parts of one Of hold every stream once, all its events in one part. Which stream
// is in which part is each driver's own choice, and always the same.
type Part struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// MaxParts is the greatest Of.
const MaxParts = 1_000_000

// Validate says what is wrong with the part, as an [InvalidError], or nil.
func (p Part) Validate() error {
	if p.Of < 1 || p.Of > MaxParts || p.Index < 0 || p.Index >= p.Of {
		return Invalid("part", "must be i/n with i from 0 to n-1 and n from 1 to 1000000")
	}
	return nil
}

// Holds reports whether a stream is in the part, in a driver whose store has no parts of its own.
func (p Part) Holds(stream Stream) bool {
	if p.Of <= 1 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(stream)) // never fails
	sum := h.Sum64()
	return int((sum^sum>>32)%uint64(p.Of)) == p.Index
}
