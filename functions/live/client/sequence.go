package client

import (
	"maps"
	"slices"
)

// maxHeld bounds what waits for events before it, in bytes. What does not fit is dropped and
// caught up on.
const maxHeld = 1 << 20

// sequence brings what comes over one socket into the order of arrival in its region, by
// positions: 1, 2, 3 and so on in each stream. What stands behind a gap is held back until the gap
// is closed: by what is missing, or by having caught up.
//
// It drops no event but those it must catch up on: whether one is a repeat is for [memory] to say.
// It knows no network and no time.
type sequence struct {
	last map[string]uint64 // position up to which all was handed on, by stream; 0: nothing
	held map[string]map[uint64]happened
	size int // of what is held, in bytes
	lost bool
	// covers is, by stream, a position up to which the catch-up under way tells all; nil: none is
	// under way.
	covers map[string]uint64
}

func newSequence() *sequence {
	return &sequence{last: map[string]uint64{}, held: map[string]map[uint64]happened{}}
}

// live takes an event that came as it happened, and returns what can be handed on now, in order.
func (s *sequence) live(h happened) []happened {
	switch last := s.last[h.stream]; {
	case h.position == 0: // of a room she may not see the rest of
		return []happened{h}
	case h.position <= last:
		return []happened{h}
	case h.position == last+1:
		s.last[h.stream] = h.position
		return s.drain(h.stream, []happened{h})
	default:
		s.hold(h)
		return nil
	}
}

// told takes an event of the catch-up under way, and returns what can be handed on now. Whatever
// stands before it has been told, or is held.
func (s *sequence) told(h happened) []happened {
	if h.position == 0 {
		return []happened{h}
	}
	ready := append(s.before(h.stream, h.position), h)
	s.last[h.stream] = max(s.last[h.stream], h.position)
	return s.drain(h.stream, ready)
}

// hold keeps an event until those before it are there.
func (s *sequence) hold(h happened) {
	if _, there := s.held[h.stream][h.position]; there {
		return
	}
	if s.size+h.size() > maxHeld {
		s.lost = true
		return
	}
	if s.held[h.stream] == nil {
		s.held[h.stream] = map[uint64]happened{}
	}
	s.held[h.stream][h.position] = h
	s.size += h.size()
}

// take takes out what is held at a position.
func (s *sequence) take(stream string, position uint64) (happened, bool) {
	h, ok := s.held[stream][position]
	if !ok {
		return h, false
	}
	delete(s.held[stream], position)
	if len(s.held[stream]) == 0 {
		delete(s.held, stream)
	}
	s.size -= h.size()
	return h, true
}

// drain adds to ready what is held right behind the last position of a stream.
func (s *sequence) drain(stream string, ready []happened) []happened {
	for {
		h, ok := s.take(stream, s.last[stream]+1)
		if !ok {
			return ready
		}
		s.last[stream]++
		ready = append(ready, h)
	}
}

// before takes out what is held up to a position, in order.
func (s *sequence) before(stream string, position uint64) (ready []happened) {
	if len(s.held[stream]) == 0 {
		return nil
	}
	for _, at := range slices.Sorted(maps.Keys(s.held[stream])) {
		if at <= position {
			h, _ := s.take(stream, at)
			ready = append(ready, h)
		}
	}
	return ready
}

// gap reports whether something is held back or was dropped.
func (s *sequence) gap() bool { return s.size > 0 || s.lost }

// missing reports whether something up to the given positions was not handed on.
func (s *sequence) missing(tops map[string]uint64) bool {
	for stream, top := range tops {
		if s.last[stream] < top {
			return true
		}
	}
	return false
}

// asking says that the client now asks for all that happened. What is held, and what stands at the
// given positions, lies within the answer: it arrived before.
func (s *sequence) asking(tops map[string]uint64) {
	s.lost = false
	s.covers = maps.Clone(tops)
	if s.covers == nil {
		s.covers = map[string]uint64{}
	}
	for stream, held := range s.held {
		s.covers[stream] = max(s.covers[stream], slices.Max(slices.Collect(maps.Keys(held))))
	}
}

// catching reports whether a catch-up is under way.
func (s *sequence) catching() bool { return s.covers != nil }

// caughtUp says that all the client asked for was told. It returns what that sets free.
func (s *sequence) caughtUp() (ready []happened) {
	for _, stream := range slices.Sorted(maps.Keys(s.covers)) {
		ready = append(ready, s.before(stream, s.covers[stream])...)
		s.last[stream] = max(s.last[stream], s.covers[stream])
		ready = s.drain(stream, ready)
	}
	s.covers = nil
	return ready
}
