// Package stream is what runs when the log's stream has new records: it projects them into this
// region's views and feed, publishes them on this region's bus, and pushes them to whoever is
// connected, in that order.
//
// The first two stages must succeed, or the batch is reported as failed from a record on and comes
// again: every event is handled at least once, and handling it twice changes nothing. An event
// that cannot be handled at all is parked and the stream goes on.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/projections"
)

// Record is one record of the log's stream.
type Record struct {
	Event    events.Event
	Replaced bool // the event took the place of another with its id, see [projections.Arrival]

	// Err is set where not even the envelope could be decoded; Raw is then all there is, and
	// Sequence is what tells the record from others.
	Err      error
	Raw      json.RawMessage
	Sequence string
}

// Outcome is what has become of an event.
type Outcome string

// The outcomes.
const (
	Projected Outcome = "projected" // its region's views and feed have it
	Published Outcome = "published" // it is on its region's bus
	Parked    Outcome = "parked"
)

// Handler handles batches of records of one region. Every field must be set but Log, Passed, Push,
// Now, BusOpens and OwnOnly.
type Handler struct {
	Region string
	Engine *projections.Engine
	Feed   *projections.Feed
	Views  projections.Views // where events are parked
	Events events.Log        // where it is said which events were late, and whose keys were destroyed
	Bus    Bus
	Log    *slog.Logger // of what was parked; nil: none
	// Passed is told what has become of each event, as soon as it has; nil: nobody is. An event of
	// which not even the envelope could be decoded is told as the zero event.
	Passed func(ctx context.Context, e events.Event, outcome Outcome)

	// Push is told of what was projected and published, in the order of arrival; nil: nobody is. It
	// must bound the time it takes. What comes again is told again.
	Push func(ctx context.Context, what []projections.Happened)

	Now func() time.Time // time.Now if nil

	Keys *keys.Ring // opens what is published, and destroys the keys of who was erased
	// BusOpens leaves it to the bus to open what it delivers: it keeps entries as they are in the log.
	BusOpens bool

	// OwnOnly publishes only what this region accepted. Where each subscriber listens in one
	// region it must be off; where one listens in all it saves her the repeats.
	OwnOnly bool
}

// Handle handles a batch in order and returns how many records, from the first, need not come
// again. If that is not all of them the error says why.
func (h *Handler) Handle(ctx context.Context, records []Record) (int, error) {
	batch, err := h.decoded(ctx, records)
	if err != nil {
		return 0, err
	}
	batch, err = h.project(ctx, batch)
	if err != nil {
		return 0, err
	}
	if unpublished, err := h.publish(ctx, batch); err != nil {
		return unpublished.index, fmt.Errorf("publish: %w", err)
	}
	h.push(ctx, batch)
	return len(records), nil
}

// push tells those who are connected. Nothing waits for it and nothing fails by it: who missed
// something sees a gap in the positions and catches up.
func (h *Handler) push(ctx context.Context, batch []arrival) {
	if h.Push == nil || len(batch) == 0 {
		return
	}
	what := make([]projections.Happened, len(batch))
	for i, a := range batch {
		what[i] = projections.Happened{JournalEntry: a.entry, Event: a.Event}
	}
	h.Push(ctx, what)
}

// arrival is a record that can be handled, with its place in the batch as it came.
type arrival struct {
	projections.Arrival
	index int
	entry projections.JournalEntry
}

// decoded parks what cannot be read and returns the rest.
func (h *Handler) decoded(ctx context.Context, records []Record) ([]arrival, error) {
	batch := make([]arrival, 0, len(records))
	for i, r := range records {
		err := r.Err
		if unreadable, ok := r.Event.Payload.(events.Unreadable); ok {
			err = unreadable.Err
		}
		if err == nil {
			batch = append(batch, arrival{Arrival: projections.Arrival{Event: r.Event, Replaced: r.Replaced}, index: i})
			continue
		}
		if err := h.Park(ctx, "decode", r, err); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// project folds the batch and records its arrival, parks what makes a fold fail and returns the
// rest. An event enters the feed after the views: who hears of it finds it there.
func (h *Handler) project(ctx context.Context, batch []arrival) ([]arrival, error) {
	if err := h.erase(ctx, batch); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	failures, err := h.Engine.Apply(ctx, arrivals(batch))
	if err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	parked := map[int]bool{}
	for _, f := range failures {
		a := batch[f.Index]
		if err := h.Park(ctx, "project", Record{Event: a.Event}, f.Err); err != nil {
			return nil, err
		}
		parked[f.Index] = true
	}
	if len(parked) > 0 {
		kept := make([]arrival, 0, len(batch))
		for i, a := range batch {
			if !parked[i] {
				kept = append(kept, a)
			}
		}
		batch = kept
	}
	entries, err := h.Feed.Append(ctx, arrivals(batch))
	if err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	for i := range batch {
		batch[i].entry = entries[i]
	}
	if err := errors.Join(h.tellLate(ctx, batch), h.acknowledge(ctx, batch)); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	for _, a := range batch {
		h.passed(ctx, a.Event, Projected)
	}
	return batch, nil
}

// tellLate says which of the batch were late, to whoever has moved to another region. It is said
// once, however often they come.
func (h *Handler) tellLate(ctx context.Context, batch []arrival) error {
	late, err := projections.Stragglers(ctx, h.Views, h.Region, h.now(), arrivals(batch))
	if err != nil {
		return err
	}
	for _, e := range late {
		if _, _, err := h.Events.Append(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) now() time.Time {
	if h.Now == nil {
		return time.Now()
	}
	return h.Now()
}

func (h *Handler) passed(ctx context.Context, e events.Event, outcome Outcome) {
	if h.Passed != nil {
		h.Passed(ctx, e, outcome)
	}
}

func arrivals(batch []arrival) []projections.Arrival {
	out := make([]projections.Arrival, len(batch))
	for i, a := range batch {
		out[i] = a.Arrival
	}
	return out
}

// Park sets a record aside with the stage that failed and its error. The trigger calls it for
// records it gives up on.
func (h *Handler) Park(ctx context.Context, stage string, r Record, cause error) error {
	parked := projections.Parked{Stage: stage, Error: cause.Error(), At: h.now().UTC(), Record: r.Raw}
	key := stage + "/" + r.Sequence
	if r.Err == nil {
		parked.Stream, parked.ID = string(r.Event.Stream), r.Event.ID.String()
		key = stage + "/" + parked.ID + "/" + parked.Stream
		raw, err := json.Marshal(r.Event)
		if err != nil {
			return errors.Join(cause, err)
		}
		parked.Record = raw
	}
	if h.Log != nil {
		h.Log.ErrorContext(ctx, "parked an event", "stage", stage, "type", r.Event.Type, "error", cause)
	}
	if err := projections.Park(ctx, h.Views, key, parked); err != nil {
		return err
	}
	h.passed(ctx, r.Event, Parked)
	return nil
}
