package stream

import (
	"context"
	"errors"
	"fmt"

	"parley/events"
	"parley/projections"
)

// ErrParkedAgain: the event could not be handled this time either.
var ErrParkedAgain = errors.New("parked again")

// Retry handles an event that was parked: what the feed does not have yet as if it came by stream;
// what it has, since only its publishing failed, is folded and published. If it is parked again
// that is an [ErrParkedAgain], with the reason.
func (h *Handler) Retry(ctx context.Context, e events.Event) error {
	if unreadable, is := e.Payload.(events.Unreadable); is {
		return errors.Join(h.Park(ctx, "decode", Record{Event: e}, unreadable.Err), parkedAgain(unreadable.Err))
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
		_, err = again.Handle(ctx, []Record{{Event: e}})
	} else {
		err = again.known(ctx, e)
	}
	if err == nil && parked {
		err = parkedAgain(nil)
	}
	return err
}

func parkedAgain(cause error) error {
	if cause == nil {
		return ErrParkedAgain
	}
	return fmt.Errorf("%w: %w", ErrParkedAgain, cause)
}

// known folds and publishes an event that has its place in the feed, or needs none.
func (h *Handler) known(ctx context.Context, e events.Event) error {
	batch := []arrival{{Arrival: projections.Arrival{Event: e}}}
	if err := h.erase(ctx, batch); err != nil {
		return fmt.Errorf("project: %w", err)
	}
	failures, err := h.Engine.Apply(ctx, arrivals(batch))
	if err != nil {
		return fmt.Errorf("project: %w", err)
	}
	if len(failures) > 0 {
		return h.Park(ctx, "project", Record{Event: e}, failures[0].Err)
	}
	if err := h.acknowledge(ctx, batch); err != nil {
		return fmt.Errorf("project: %w", err)
	}
	if _, err := h.publish(ctx, batch); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}
