package client

import (
	"encoding/json"
	"maps"
	"slices"

	"parley/events"
	"parley/functions/wire"
)

// maxHeld bounds the events that are held behind a gap, in bytes. What does not fit is dropped, and
// comes with the next catch-up.
const maxHeld = 1 << 20

// sequence puts the events of one socket into the order of arrival in its region, by their
// positions: 1, 2, 3 and so on in each stream. Events behind a gap are held until the gap is closed:
// by the missing event, or by a catch-up.
//
// It passes on duplicates, which [dedup] drops. It knows no network and no time.
type sequence struct {
	last map[events.Stream]uint64 // position up to which all was passed on, by stream; 0: nothing
	held map[events.Stream]map[uint64]happened
	size int // of what is held, in bytes
	lost bool
	// covers is, by stream, the position up to which the catch-up in progress is complete; nil if
	// none is in progress.
	covers map[events.Stream]uint64
}

func newSequence() *sequence {
	return &sequence{last: map[events.Stream]uint64{}, held: map[events.Stream]map[uint64]happened{}}
}

// addLive adds an event that came as it arrived, and returns what can be passed on now, in order.
func (s *sequence) addLive(h happened) []happened {
	switch last := s.last[h.stream]; {
	case h.position == 0: // of a room whose other events the user may not see
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

// addCaughtUp adds an event of the catch-up in progress, and returns what can be passed on now.
// Everything before it was passed on, or is held.
func (s *sequence) addCaughtUp(h happened) []happened {
	if h.position == 0 {
		return []happened{h}
	}
	ready := append(s.before(h.stream, h.position), h)
	s.last[h.stream] = max(s.last[h.stream], h.position)
	return s.drain(h.stream, ready)
}

// hold keeps an event until those before it have come.
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

// take removes the event that is held at a position.
func (s *sequence) take(stream events.Stream, position uint64) (happened, bool) {
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

// drain adds to ready the held events that follow the last position of a stream without a gap.
func (s *sequence) drain(stream events.Stream, ready []happened) []happened {
	for {
		h, ok := s.take(stream, s.last[stream]+1)
		if !ok {
			return ready
		}
		s.last[stream]++
		ready = append(ready, h)
	}
}

// before removes the events that are held up to a position, in order.
func (s *sequence) before(stream events.Stream, position uint64) (ready []happened) {
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

// gap reports whether an event is held or was dropped.
func (s *sequence) gap() bool { return s.size > 0 || s.lost }

// missing reports whether an event up to the given positions was not passed on.
func (s *sequence) missing(tops map[events.Stream]uint64) bool {
	for stream, top := range tops {
		if s.last[stream] < top {
			return true
		}
	}
	return false
}

// beginCatchUp notes that the client asks for everything that has happened. The answer covers what is
// held, and the given positions: all of that has arrived before.
func (s *sequence) beginCatchUp(tops map[events.Stream]uint64) {
	s.lost = false
	s.covers = maps.Clone(tops)
	if s.covers == nil {
		s.covers = map[events.Stream]uint64{}
	}
	for stream, held := range s.held {
		s.covers[stream] = max(s.covers[stream], slices.Max(slices.Collect(maps.Keys(held))))
	}
}

// catchingUp reports whether a catch-up is in progress.
func (s *sequence) catchingUp() bool { return s.covers != nil }

// endCatchUp notes that the catch-up is complete, and returns the held events that follow it.
func (s *sequence) endCatchUp() (ready []happened) {
	for _, stream := range slices.Sorted(maps.Keys(s.covers)) {
		ready = append(ready, s.before(stream, s.covers[stream])...)
		s.last[stream] = max(s.last[stream], s.covers[stream])
		ready = s.drain(stream, ready)
	}
	s.covers = nil
	return ready
}

// happened is an event and its position in the region that delivers it.
type happened struct {
	room     string
	stream   events.Stream
	position uint64 // in its stream; 0: not known
	event    events.Event
	partial  bool // it came without its data
	unknown  bool // not even its envelope can be read: it is a newer server's
}

// happenedOf decodes the event of a frame or of a page. The payload of one that this version does
// not know is [events.Unreadable].
func happenedOf(f wire.Frame) happened {
	h := happened{room: f.Room, stream: f.Stream, position: f.Position, partial: f.Partial}
	h.unknown = json.Unmarshal(f.Event, &h.event) != nil
	return h
}

// size is how much memory the event takes, about, in bytes.
func (h happened) size() int { return 512 + len(h.event.Data) }
