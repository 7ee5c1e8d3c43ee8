package projections

import (
	"context"
	"errors"
	"math"
	"time"

	"parley/events"
)

const (
	// syncMargin is how much later than a beat of its region an event may arrive and yet be told to
	// whoever comes from another region. Replication takes seconds, and clocks differ.
	syncMargin = time.Minute
	// maxRewind is how far back somebody from another region is taken, and maxBehind how many
	// arrivals there may be to go through. Beyond, loading everything again is cheaper.
	maxRewind = time.Hour
	maxBehind = 50_000
	// syncScan bounds the arrivals that one call goes through.
	syncScan = 5000
)

// ErrTooFarBehind: what happened since cannot be told completely; load everything again.
var ErrTooFarBehind = errors.New("too far behind to catch up")

// Place is how far somebody has come who follows what happens: up to an entry of a region's
// journal.
type Place struct {
	Region string
	Epoch  string // of the journal; "" if there was none yet
	Number uint64 // of the last entry she was told of
	// Low is the time up to which all that any region had accepted had arrived by then, but for
	// what comes late by more than a margin: where to go on in another region. Zero: not known.
	Low time.Time
}

// Happened is an event as it came to this region.
type Happened struct {
	JournalEntry
	Event events.Event
}

// Syncer tells what happened since, in one region.
type Syncer struct {
	Region string
	Log    events.Log
	Views  Views
}

// Here is the present place: it is behind all that has arrived in this region.
func (s Syncer) Here(ctx context.Context) (Place, error) {
	head, err := lastJournal(ctx, s.Views, math.MaxUint64)
	if err != nil || head == nil {
		return Place{Region: s.Region}, err
	}
	return Place{s.Region, head.Epoch, head.end() - 1, head.low()}, nil
}

// At is a place at a time that has passed: all before it had arrived by then.
func (s Syncer) At(ctx context.Context, at time.Time) (Place, error) {
	head, err := lastJournal(ctx, s.Views, math.MaxUint64)
	if err != nil || head == nil {
		return Place{Region: s.Region}, err
	}
	number, err := journalBefore(ctx, s.Views, head, at)
	if err != nil || number == 0 {
		return Place{Region: s.Region, Epoch: head.Epoch}, err
	}
	last, err := lastJournal(ctx, s.Views, number)
	if err != nil {
		return Place{}, err
	}
	if last == nil {
		return Place{}, errGap
	}
	return Place{s.Region, head.Epoch, number, last.low()}, nil
}

// low is the time up to which all has arrived by the end of the segment.
func (s *journalSegment) low() time.Time {
	least := int64(math.MaxInt64)
	for _, at := range s.Frontiers {
		least = min(least, at)
	}
	if len(s.Frontiers) == 0 {
		return time.Time{}
	}
	return time.UnixMilli(least)
}

// Since returns what happened in the user's rooms, and of herself, after a place: at most limit
// events, in the order in which they arrived here, and the place up to which that is all. More
// says that there is more. What she may not see is left out, and of a room that she has left or
// was removed from she is told only that. From a place of this region it is exact; from one of
// another region, or of a journal that was begun anew, it may repeat what she knows, but omits
// nothing. The error is ErrTooFarBehind if that cannot be done.
func (s Syncer) Since(ctx context.Context, user string, from Place, limit int) (what []Happened, to Place, more bool, err error) {
	head, err := lastJournal(ctx, s.Views, math.MaxUint64)
	if err != nil {
		return nil, from, false, err
	}
	if to, err = s.enter(ctx, head, from); err != nil || head == nil {
		return nil, to, false, err
	}
	first, err := lastJournal(ctx, s.Views, to.Number+1)
	if err != nil {
		return nil, from, false, err
	}
	if first == nil {
		return nil, from, false, errors.New("the journal does not begin with its first entry")
	}
	look := &looker{views: s.Views, user: user, in: map[string]bool{}}
	scanned := 0
	for segment, err := range journal(ctx, s.Views, Range{From: journalKey(first.First).Sort}) {
		if err != nil {
			return nil, from, false, err
		}
		if len(what) == limit || scanned >= syncScan {
			more = true
			break
		}
		entries := segment.entries(to.Number)
		scanned += len(entries)
		visible, err := look.filter(ctx, entries)
		if err != nil {
			return nil, from, false, err
		}
		done := true
		for i, e := range entries {
			if visible[i] && len(what) == limit {
				done = false
				break
			}
			if to.Number = e.Number; !visible[i] {
				continue
			}
			if kind, room := e.Stream.Split(); kind == events.KindRoom && !look.in[room] {
				e.Position = 0 // it would tell how much happened that she may not see
			}
			what = append(what, Happened{JournalEntry: e})
		}
		if !done {
			more = true
			break
		}
		to.Low = segment.low()
	}
	what, err = s.load(ctx, what)
	return what, to, more, err
}

// enter finds where in this region's journal to go on from a place.
func (s Syncer) enter(ctx context.Context, head *journalSegment, from Place) (Place, error) {
	own := from.Region == s.Region
	switch {
	case head == nil && own && from.Epoch == "", head == nil && from.Number == 0 && from.Epoch == "":
		return Place{Region: s.Region}, nil // nothing has ever happened
	case head == nil:
		return Place{}, ErrTooFarBehind
	}
	to := Place{Region: s.Region, Epoch: head.Epoch, Low: from.Low}
	switch {
	case own && from.Epoch == head.Epoch && from.Number < head.end(), own && from.Epoch == "":
		to.Number = from.Number
	case from.Low.IsZero(), time.UnixMilli(head.At).Sub(from.Low) > maxRewind:
		return Place{}, ErrTooFarBehind
	default:
		number, err := journalBefore(ctx, s.Views, head, from.Low.Add(-syncMargin))
		if err != nil {
			return Place{}, err
		}
		to.Number = number
	}
	if head.end()-1-to.Number > maxBehind {
		return Place{}, ErrTooFarBehind
	}
	return to, nil
}

// load gives what happened its events, in the same order. One that is no longer in the log is
// left out.
func (s Syncer) load(ctx context.Context, what []Happened) ([]Happened, error) {
	if len(what) == 0 {
		return nil, nil
	}
	keys := make([]events.Key, len(what))
	for i, h := range what {
		keys[i] = events.Key{Stream: h.Stream, ID: h.ID}
	}
	got, err := s.Log.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	loaded := what[:0]
	for i, h := range what {
		if e, ok := got[keys[i]]; ok {
			h.Event = e
			loaded = append(loaded, h)
		}
	}
	return WithLate(ctx, s.Log, loaded)
}

// looker knows what a user may see.
type looker struct {
	views Views
	user  string
	in    map[string]bool // the rooms that were looked up: is she a member?
}

// filter says which entries the user may be told of. It looks each room up once.
func (l *looker) filter(ctx context.Context, entries []JournalEntry) ([]bool, error) {
	var rooms []string
	for _, e := range entries {
		if kind, room := e.Stream.Split(); kind == events.KindRoom {
			if _, known := l.in[room]; !known {
				l.in[room] = false
				rooms = append(rooms, room)
			}
		}
	}
	if err := l.lookUp(ctx, rooms); err != nil {
		return nil, err
	}
	visible := make([]bool, len(entries))
	for i, e := range entries {
		switch kind, name := e.Stream.Split(); kind {
		case events.KindRoom:
			visible[i] = l.in[name] || e.About == l.user
		case events.KindUser:
			visible[i] = name == l.user
		}
	}
	return visible, nil
}

func (l *looker) lookUp(ctx context.Context, rooms []string) error {
	keys := make([]Key, len(rooms))
	for i, room := range rooms {
		keys[i] = memberKey(room, l.user)
	}
	states, err := load[member](ctx, l.views, keys)
	if err != nil {
		return err
	}
	for i, state := range states {
		l.in[rooms[i]] = state.read(rooms[i], l.user).In
	}
	return nil
}
