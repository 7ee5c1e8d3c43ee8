package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"parley/events"
)

const (
	// readAtOnce is how many feeds are read side by side, and roomsAtOnce of how many rooms messages are.
	readAtOnce, roomsAtOnce = 32, 8
	// readBack is how many segments are read one by one from the head before the start is searched for.
	readBack = 16
)

// FeedEntry is one arrival.
type FeedEntry struct {
	Position uint64        `json:"-"`                // 0: it has none
	Stream   events.Stream `json:"stream,omitempty"` // of the event, in a feed of memberships
	Ref      events.Ref    `json:"id"`
	Type     string        `json:"type"`
	Actor    string        `json:"actor"`
	// Late is set of an event that was handled here later than lateAfter.
	Late bool `json:"late,omitempty"`
	// Old is set of an event that a rebuild added and that is older than the feed: the feed was lost.
	Old bool `json:"old,omitempty"`
}

func (e FeedEntry) isMessage() bool { return e.Type == "message.posted" }

// canBeUnread reports whether the event is a message that is no history of another system.
func (e FeedEntry) canBeUnread() bool { return e.isMessage() && !events.Imported(e.Ref.ID) }

// segment is a part of a feed, the view at its first position. Segments of the release before have none
// of the fields that may be missing.
type segment struct {
	Epoch   string      `json:"epoch"` // of the whole feed; one that was lost and begun again has another
	First   uint64      `json:"first"`
	Entries []FeedEntry `json:"entries"`

	// At is when it was written, Unix ms; never less than that of the segment before.
	At int64 `json:"at,omitempty"`
	// Number is the greatest number of the change stream in this segment and those before.
	Number events.Number `json:"number,omitempty"`
	// Unsure is when the last event was added that had no number, Unix ms: the change stream may still
	// deliver what was accepted until then, with a greater number.
	Unsure int64 `json:"unsure,omitempty"`
	// Messages is how many messages the feed of a room has up to the end of this segment, imported ones left out. It
	// is nil where a former release began the feed, until a rebuild of the feeds counts them.
	Messages *int64 `json:"messages,omitempty"`

	former bool // the release before wrote it, and At is taken from the ids
}

// messages is how many messages the feed has, of which s is the head, nil if it is empty; SeenUnknown if not known.
func (s *segment) messages() int64 {
	switch {
	case s == nil:
		return 0
	case s.Messages == nil:
		return events.SeenUnknown
	default:
		return *s.Messages
	}
}

func (s *segment) end() uint64 { return s.First + uint64(len(s.Entries)) }

// loadHead reads the last segment of a feed, nil if there is none.
func loadHead(ctx context.Context, views Views, feed events.Stream, stale bool) (*segment, error) {
	for s, err := range segments(ctx, views, feed, Range{Reverse: true, Stale: stale, Limit: 1}) {
		return s, err
	}
	return nil, nil
}

// errDamaged says that a segment is not what its key says.
var errDamaged = errors.New("segment of a feed is damaged")

// segments yields the segments of a feed within r. It reads them in pages that grow from r.Limit, 2 if that
// is zero: a segment holds one entry or many.
func segments(ctx context.Context, views Views, feed events.Stream, r Range) iter.Seq2[*segment, error] {
	return func(yield func(*segment, error) bool) {
		const most = 64
		for r.Limit = cmp.Or(r.Limit, 2); ; r.Limit = min(2*r.Limit, most) {
			got, err := views.Query(ctx, feedPartition(feed), r)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, view := range got {
				s, err := decodeSegment(feed, view)
				if !yield(s, err) || err != nil {
					return
				}
				if r.Reverse {
					r.Before = view.Key.Sort
				} else {
					r.From = next(view.Key.Sort)
				}
			}
			if len(got) < r.Limit {
				return
			}
		}
	}
}

func decodeSegment(feed events.Stream, view View) (*segment, error) {
	s, err := decode[segment](view.Body)
	if err == nil && (len(s.Entries) == 0 || view.Key != segmentKey(feed, s.First)) {
		err = errDamaged
	}
	if err == nil && s.At == 0 {
		s.former = true
		for _, e := range s.Entries { // a catch-up must find what arrived lately
			s.At = max(s.At, e.Ref.ID.Timestamp().UnixMilli())
		}
	}
	return s, err
}

// hasFeed reports whether clients follow the events of a stream.
func hasFeed(stream events.Stream) bool {
	kind, _ := stream.Split()
	return kind != events.KindRegion && kind != events.KindOps
}

// membershipFeed names the feed of what may have changed a user's membership of any room. It is no stream
// of the log.
func membershipFeed(user string) events.Stream { return events.Stream("membership/" + user) }

// MembersOf returns the users whose membership of its room an event may change.
func MembersOf(e events.Event) []string {
	if p, ok := e.Payload.(events.RoomCreated); ok {
		if len(p.Direct) == 2 {
			return p.Direct
		}
		return []string{e.Actor}
	}
	if user := e.Member(); user != "" {
		return []string{user}
	}
	return nil
}

func feedPartition(stream events.Stream) string { return "feed/" + string(stream) }

func segmentKey(stream events.Stream, first uint64) Key {
	return Key{feedPartition(stream), fmt.Sprintf("%020d", first)}
}

// ListFeed reads at most limit entries of a stream's feed, those behind a position, and the
// feed's epoch: positions of another epoch mean nothing in this one.
func ListFeed(ctx context.Context, views Views, stream events.Stream, after uint64, limit int) ([]FeedEntry, string, error) {
	after = min(after, math.MaxUint64-2)
	// The segment that holds the next position is the last that does not begin behind it.
	from, err := views.Query(ctx, feedPartition(stream), Range{Before: segmentKey(stream, after+2).Sort, Reverse: true, Limit: 1})
	if err != nil || len(from) == 0 {
		return nil, "", err
	}
	var entries []FeedEntry
	var epoch string
	for s, err := range segments(ctx, views, stream, Range{From: from[0].Key.Sort}) {
		if err != nil {
			return nil, "", err
		}
		epoch = s.Epoch
		for i, e := range s.Entries {
			if e.Position = s.First + uint64(i); e.Position > after && len(entries) < limit {
				entries = append(entries, e)
			}
		}
		if len(entries) >= limit {
			break
		}
	}
	return entries, epoch, nil
}

// Head is the end of a feed.
type Head struct {
	Position uint64    // of the last event; 0: there is none
	At       time.Time // when it arrived; that of its id if the release before wrote it
	epoch    string
}

// LoadHeads reads the head of each stream's feed. What arrived within the last second may be missing.
func LoadHeads(ctx context.Context, views Views, streams ...events.Stream) ([]Head, error) {
	heads := make([]Head, len(streams))
	err := each(ctx, len(streams), readAtOnce, func(ctx context.Context, i int) error {
		s, err := loadHead(ctx, views, streams[i], true)
		if s != nil {
			heads[i] = s.head()
		}
		return err
	})
	return heads, err
}

func (s *segment) head() Head { return Head{s.end() - 1, unixMilli(s.At), s.Epoch} }

// unixMilli is the time of Unix milliseconds, where 0 is none.
func unixMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// newEntry is an entry with the time of its arrival.
type newEntry struct {
	FeedEntry
	at time.Time
}

// entriesBehind returns entries behind a position, at most so many.
func entriesBehind(ctx context.Context, views Views, feed events.Stream, head *segment, position uint64, most int) ([]newEntry, error) {
	list, reached, err := backTo(ctx, views, feed, head, func(s *segment) bool { return s.First <= position+1 })
	if err == nil && !reached {
		list, err = forward(ctx, views, feed, position+1, most)
	}
	return entriesOf(list, position, most), err
}

// entriesSince returns entries of segments that were written at a time or later, at most so many.
func entriesSince(ctx context.Context, views Views, feed events.Stream, head *segment, since time.Time, most int) ([]newEntry, error) {
	list, reached, err := backTo(ctx, views, feed, head, func(s *segment) bool { return s.At < since.UnixMilli() })
	if err != nil {
		return nil, err
	}
	if reached {
		list = slices.DeleteFunc(list, func(s *segment) bool { return s.At < since.UnixMilli() })
		return entriesOf(list, 0, most), nil
	}
	// In low everything is older, behind high nothing is.
	low, high := uint64(0), list[0].First-1
	for low < high {
		middle, err := segmentAt(ctx, views, feed, low+(high-low+1)/2)
		if err != nil {
			return nil, err
		}
		if middle.At >= since.UnixMilli() {
			high = middle.First - 1
		} else {
			low = min(high, middle.end()-1)
		}
	}
	list, err = forward(ctx, views, feed, low+1, most)
	return entriesOf(list, low, most), err
}

// backTo returns the segments of a feed from the one for which stop is true up to the head. Reached is
// false if it takes more than a few: then these are the last.
func backTo(ctx context.Context, views Views, feed events.Stream, head *segment, stop func(*segment) bool) (list []*segment, reached bool, err error) {
	list = []*segment{head}
	if stop(head) || head.First == 1 {
		return list, true, nil
	}
	for _, stale := range []bool{true, false} {
		list = list[:1]
		r := Range{Reverse: true, Before: segmentKey(feed, head.First).Sort, Stale: stale, Limit: readBack / 2}
		for before, err := range segments(ctx, views, feed, r) {
			if err != nil {
				return nil, false, err
			}
			if before.end() != list[len(list)-1].First {
				break // a stale read has a gap
			}
			if list = append(list, before); stop(before) || before.First == 1 {
				slices.Reverse(list)
				return list, true, nil
			}
			if len(list) > readBack {
				slices.Reverse(list)
				return list, false, nil
			}
		}
	}
	return nil, false, errDamaged
}

// segmentAt returns the segment that holds a position.
func segmentAt(ctx context.Context, views Views, feed events.Stream, position uint64) (*segment, error) {
	got, err := views.Query(ctx, feedPartition(feed), Range{Before: segmentKey(feed, position+1).Sort, Reverse: true, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(got) == 0 {
		return nil, errDamaged
	}
	return decodeSegment(feed, got[0])
}

// forward returns the segments from the one that holds a position on, with so many entries at most.
func forward(ctx context.Context, views Views, feed events.Stream, position uint64, most int) (list []*segment, err error) {
	first, err := segmentAt(ctx, views, feed, position)
	if err != nil {
		return nil, err
	}
	n := 0
	for segment, err := range segments(ctx, views, feed, Range{From: segmentKey(feed, first.First).Sort}) {
		if err != nil {
			return nil, err
		}
		list = append(list, segment)
		if n += int(segment.end() - max(segment.First, position)); n >= most {
			break
		}
	}
	return list, nil
}

// entriesOf returns the entries of segments behind a position, at most so many.
func entriesOf(list []*segment, position uint64, most int) []newEntry {
	var all []newEntry
	for _, s := range list {
		for i, e := range s.Entries {
			if e.Position = s.First + uint64(i); e.Position > position && len(all) < most {
				all = append(all, newEntry{e, unixMilli(s.At)})
			}
		}
	}
	return all
}
