// Package stream is what runs when the log's change stream has new records: it projects them into
// this region's views and feed, publishes them on this region's bus, and notifies connected clients,
// in that order.
//
// The first two stages must succeed, or the batch is reported as failed from a record on and is
// delivered again: every event is handled at least once, and handling it twice changes nothing. An
// event that cannot be handled at all is parked, and the stream goes on.
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

// Outcome is what has become of an event.
type Outcome string

// The outcomes.
const (
	Projected Outcome = "projected" // its region's views and feed have it
	Published Outcome = "published" // it is on its region's bus
	Parked    Outcome = "parked"
)

// Handler handles batches of records of one region. Every field must be set but Logger, Passed,
// Notify, Now, BusOpens and OwnOnly.
type Handler struct {
	Region string
	Log    events.Log          // to which late notices and acknowledgements of erasures are appended
	Views  projections.Views   // the generations that are read; where events are parked
	Engine *projections.Engine // folds into all generations that are written
	Feed   *projections.Feed
	Bus    Bus
	Keys   *keys.Ring // decrypts what is published, and destroys the keys of erased users

	// BusOpens leaves decrypting to the bus, which keeps entries as they are in the log.
	BusOpens bool
	// OwnOnly publishes only what this region accepted. It must be off if a subscriber listens in one
	// region alone; if it listens in all of them, OwnOnly saves duplicates.
	OwnOnly bool

	// Notify gets what was projected and published, in the order of arrival, duplicates again; may be
	// nil. It must bound its time.
	Notify func(ctx context.Context, what []projections.Happened)
	// Passed observes each outcome as soon as it is known; may be nil. An event whose envelope could
	// not be decoded is the zero event.
	Passed func(ctx context.Context, e events.Event, outcome Outcome)

	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // logs what is parked; may be nil
}

// Handle handles a batch in order and returns how many records, from the first, need not be delivered
// again. If that is not all of them, the error says why.
func (h *Handler) Handle(ctx context.Context, records []events.Record) (int, error) {
	batch, err := h.decode(ctx, records)
	if err != nil {
		return 0, err
	}
	batch, err = h.project(ctx, batch)
	if err != nil {
		return 0, fmt.Errorf("project: %w", err)
	}
	if unpublished, err := h.publish(ctx, batch); err != nil {
		return unpublished, fmt.Errorf("publish: %w", err)
	}
	// Nothing waits for clients, and nothing fails because of them: a client that misses an event sees
	// the gap in the positions and catches up.
	if h.Notify != nil && len(batch) > 0 {
		what := make([]projections.Happened, len(batch))
		for i, a := range batch {
			what[i] = projections.Happened{Event: a.Shown(), Position: a.position}
		}
		h.Notify(ctx, what)
	}
	return len(records), nil
}

// arrival is a record that can be handled, with its place in the batch as it was delivered.
type arrival struct {
	projections.Arrival
	index    int
	position uint64 // in the feed of its stream; 0: it has none
}

// arrivalsOf returns a batch as projections take it.
func arrivalsOf(batch []arrival) []projections.Arrival {
	out := make([]projections.Arrival, len(batch))
	for i, a := range batch {
		out[i] = a.Arrival
	}
	return out
}

// decode parks the records that cannot be read and returns the others.
func (h *Handler) decode(ctx context.Context, records []events.Record) ([]arrival, error) {
	batch := make([]arrival, 0, len(records))
	for i, r := range records {
		err := r.Err
		if unreadable, ok := r.Event.Payload.(events.Unreadable); ok {
			err = unreadable.Err
		}
		if err == nil {
			batch = append(batch, arrival{Arrival: projections.Arrival{Event: r.Event, Number: r.Number, At: r.At, Replica: r.Replica}, index: i})
			continue
		}
		if err := h.Park(ctx, "decode", r, err); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// project folds the batch and appends it to the feed, parks the events that cannot be folded and
// returns the others. An event enters the feed after the views: a client that learns of it from the
// feed finds it in the views.
func (h *Handler) project(ctx context.Context, batch []arrival) ([]arrival, error) {
	// The keys of erased users are destroyed before anything of the batch is decrypted.
	if err := h.destroyKeys(ctx, batch); err != nil {
		return nil, err
	}
	failures, err := h.apply(ctx, batch)
	if err != nil {
		return nil, err
	}
	parked := map[int]bool{}
	for _, f := range failures {
		if err := h.Park(ctx, "project", events.Record{Event: batch[f.Index].Event}, f.Err); err != nil {
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
	entries, late, err := h.Feed.Append(ctx, arrivalsOf(batch))
	if err != nil {
		return nil, err
	}
	for i := range batch {
		batch[i].position = entries[i].Position
	}
	if err := errors.Join(h.reportLate(ctx, late), h.acknowledgeErasures(ctx, batch)); err != nil {
		return nil, err
	}
	for _, a := range batch {
		h.passed(ctx, a.Event, Projected)
	}
	return batch, nil
}

// apply folds the batch, and marks what may not be shown any more.
func (h *Handler) apply(ctx context.Context, batch []arrival) ([]projections.Failure, error) {
	arrivals := arrivalsOf(batch)
	failures, err := h.Engine.Apply(ctx, arrivals)
	for i := range batch {
		batch[i].Arrival = arrivals[i]
	}
	return failures, err
}

// reportLate appends the late notices for what was handled late, for clients that have moved to another
// region. The events of one segment have one notice, however often they are delivered.
func (h *Handler) reportLate(ctx context.Context, late []projections.Late) error {
	for _, of := range late {
		notice, err := of.Notice(h.Region)
		if err != nil {
			return err
		}
		if _, _, err := h.Log.Append(ctx, notice); err != nil {
			return fmt.Errorf("report late events: %w", err)
		}
	}
	return nil
}

// destroyKeys destroys the keys of the users who were erased.
func (h *Handler) destroyKeys(ctx context.Context, batch []arrival) error {
	for _, a := range batch {
		if _, is := a.Event.Payload.(events.UserErased); is {
			if err := h.Keys.Erase(ctx, a.Event.Actor); err != nil {
				return err
			}
		}
	}
	return nil
}

// acknowledgeErasures appends, for each erasure, that the user's keys are destroyed in this region:
// one event, however often the erasure is delivered.
func (h *Handler) acknowledgeErasures(ctx context.Context, batch []arrival) error {
	for _, a := range batch {
		if _, is := a.Event.Payload.(events.UserErased); !is {
			continue
		}
		destroyed, err := events.Destroyed(a.Event, h.Region)
		if err != nil {
			return err
		}
		if _, _, err := h.Log.Append(ctx, destroyed); err != nil {
			return fmt.Errorf("acknowledge an erasure: %w", err)
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

// Park sets a record aside with the stage that failed and its error. The trigger calls it for
// records that it stops retrying.
func (h *Handler) Park(ctx context.Context, stage string, r events.Record, cause error) error {
	parked := projections.Parked{Stage: stage, Error: cause.Error(), At: h.now().UTC(), Record: r.Raw}
	key := stage + "/" + r.Sequence
	if r.Err == nil {
		parked.Stream, parked.ID = string(r.Event.Stream), r.Event.Ref().String()
		key = stage + "/" + parked.ID + "/" + parked.Stream
		raw, err := json.Marshal(r.Event)
		if err != nil {
			return errors.Join(cause, err)
		}
		parked.Record = raw
	}
	if h.Logger != nil {
		h.Logger.ErrorContext(ctx, "parked an event", "stage", stage, "type", r.Event.Type, "error", cause)
	}
	if err := projections.Park(ctx, h.Views, key, parked); err != nil {
		return err
	}
	h.passed(ctx, r.Event, Parked)
	return nil
}

// ErrParkedAgain: the retried event could not be handled.
var ErrParkedAgain = errors.New("parked again")

// Retry handles an event that was parked. An event that the feed lacks is handled like one of the
// change stream. One that it has, because only its publishing failed, is folded and published. If the
// event is parked again, that is an [ErrParkedAgain], with the reason.
func (h *Handler) Retry(ctx context.Context, e events.Event) error {
	if unreadable, is := e.Payload.(events.Unreadable); is {
		return errors.Join(h.Park(ctx, "decode", events.Record{Event: e}, unreadable.Err), fmt.Errorf("%w: %w", ErrParkedAgain, unreadable.Err))
	}
	missing, err := h.Feed.Missing(ctx, e.Stream, []events.Event{e})
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	again, parked := *h, false
	again.Passed = func(ctx context.Context, e events.Event, outcome Outcome) {
		parked = parked || outcome == Parked
		h.passed(ctx, e, outcome)
	}
	if len(missing) > 0 {
		_, err = again.Handle(ctx, []events.Record{{Event: e}})
	} else {
		err = again.foldAndPublish(ctx, e)
	}
	if err == nil && parked {
		err = ErrParkedAgain
	}
	return err
}

// foldAndPublish handles an event that has its position in the feed, or needs none.
func (h *Handler) foldAndPublish(ctx context.Context, e events.Event) error {
	batch := []arrival{{Arrival: projections.Arrival{Event: e}}}
	if err := h.destroyKeys(ctx, batch); err != nil {
		return fmt.Errorf("project: %w", err)
	}
	failures, err := h.apply(ctx, batch)
	if err != nil {
		return fmt.Errorf("project: %w", err)
	}
	if len(failures) > 0 {
		return h.Park(ctx, "project", events.Record{Event: e}, failures[0].Err)
	}
	if err := h.acknowledgeErasures(ctx, batch); err != nil {
		return fmt.Errorf("project: %w", err)
	}
	if _, err := h.publish(ctx, batch); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}
