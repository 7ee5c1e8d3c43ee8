package projections

import (
	"context"
	"fmt"
	"time"

	"parley/events"
)

const (
	// lateAfter is how long after its acceptance an event may be handled in a region without a late
	// notice. It is well below [Rewind]: ids may be ahead of time by a little, and clocks differ.
	lateAfter = 10 * time.Minute
	// maxLate bounds the age of a late event of which only the id says how old it is: a client's id may be
	// as old. Older events were imported, and are delivered as they arrive.
	maxLate = 24 * time.Hour
	// lateNotices is how many notices of notices are followed.
	lateNotices = 3
)

// Late are the events of one segment that were handled here late.
type Late struct {
	stream events.Stream
	epoch  string
	first  uint64
	at     time.Time
	events []events.Ref
}

// Notice returns the notice that names the late events: always the same event of the same segment.
func (l Late) Notice(region string) (events.Event, error) {
	return events.LateNotice(region, l.stream, l.at, fmt.Sprint(l.epoch, "/", l.first), l.events)
}

// isLate reports whether an event is handled long after its acceptance.
func (f *Feed) isLate(a Arrival, now time.Time) bool {
	if _, notice := a.Event.Payload.(events.EventLate); notice && a.Event.Region == f.Region {
		return false // other regions do not wait for it to be handled here
	}
	if !a.At.IsZero() && (a.Replica || a.Event.Region == f.Region) {
		return now.Sub(a.At) > lateAfter
	}
	behind := now.Sub(a.Event.ID.Timestamp())
	return behind > lateAfter && behind < maxLate
}

// ExpandLate returns the events that a late notice of another region names, as far as they are here: the
// others will arrive. Of any other event, and where none is here, it returns the event itself.
func ExpandLate(ctx context.Context, log events.Log, region string, e events.Event) ([]events.Event, error) {
	return expandLate(ctx, log, region, e, lateNotices)
}

// expandLate expands a notice of a notice, too, so many times.
func expandLate(ctx context.Context, log events.Log, region string, e events.Event, depth int) ([]events.Event, error) {
	notice, is := e.Payload.(events.EventLate)
	if !is || e.Region == region || depth == 0 {
		return []events.Event{e}, nil
	}
	refs := notice.Events()
	keys := make([]events.Key, len(refs))
	for i, ref := range refs {
		keys[i] = ref.In(e.Stream)
	}
	named, err := log.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	var all []events.Event
	for _, key := range keys {
		if late, here := named[key]; here {
			more, err := expandLate(ctx, log, region, late, depth-1)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
	}
	if len(all) == 0 {
		all = append(all, e)
	}
	return all, nil
}
