package projections

import (
	"context"
	"time"

	"parley/events"
)

// lateAtMost is how late an event may be and yet be named: as old as a client's id may be. What is
// older was imported, and everybody is told of it as it arrives.
const lateAtMost = 24 * time.Hour

// Stragglers returns the events in which a region says which of a batch reached it late: further
// behind the last beat of their own region than whoever comes from here is taken back elsewhere.
// The batch must have been folded.
func Stragglers(ctx context.Context, views Views, region string, now time.Time, batch []Arrival) ([]events.Event, error) {
	var frontiers map[string]events.ID // read only if something looks late
	var late []events.Event
	for _, a := range batch {
		if !mayBeLate(a.Event, region, now) {
			continue
		}
		if frontiers == nil {
			var err error
			if frontiers, err = LoadFrontiers(ctx, views); err != nil {
				return nil, err
			}
		}
		if !isLate(a.Event, frontiers[a.Event.Region].Timestamp()) {
			continue
		}
		e, err := events.Late(a.Event, region)
		if err != nil {
			return nil, err
		}
		late = append(late, e)
	}
	return late, nil
}

// mayBeLate reports whether an event is not of this region, nor of the present.
func mayBeLate(e events.Event, region string, now time.Time) bool {
	_, says := e.Payload.(events.EventLate)
	kind, _ := e.Stream.Split()
	return kind == events.KindRoom && e.Region != region && !says && isLate(e, now)
}

func isLate(e events.Event, frontier time.Time) bool {
	behind := frontier.Sub(e.ID.Timestamp())
	return behind > syncMargin && behind < lateAtMost
}

// WithLate replaces each event that says that another was late by that other one, which is what a
// client wants to hear; it keeps the place of the one that says so. One that is not here yet will be
// told when it arrives: till then the one that says so stays.
func WithLate(ctx context.Context, log events.Log, what []Happened) ([]Happened, error) {
	var keys []events.Key
	for _, h := range what {
		if p, ok := h.Event.Payload.(events.EventLate); ok {
			keys = append(keys, events.Key{Stream: h.Event.Stream, ID: p.Event})
		}
	}
	if len(keys) == 0 {
		return what, nil
	}
	named, err := log.GetMany(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]Happened, len(what))
	for i, h := range what {
		if p, ok := h.Event.Payload.(events.EventLate); ok {
			if e, here := named[events.Key{Stream: h.Event.Stream, ID: p.Event}]; here {
				h.Event, h.ID = e, e.ID
			}
		}
		out[i] = h
	}
	return out, nil
}
