package operate

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
)

// appendsAtOnce is how many events are appended side by side: a log commits them together.
const appendsAtOnce = 32

type appendInput struct{ Body NewEvents }

// NewEvents are events to be appended.
type NewEvents struct {
	Events []RawEvent `json:"events" maxItems:"100"`
}

// The outcomes of an append.
const (
	outcomeStored  = "stored"
	outcomeRepeat  = "repeat"
	outcomeRefused = "refused"
)

// Appended is what came of one event.
type Appended struct {
	ID      string   `json:"id,omitempty" doc:"Missing where the event could not be read."`
	Outcome string   `json:"outcome" enum:"stored,repeat,refused" doc:"repeat: the log had it."`
	Problem *Refusal `json:"problem,omitempty"`
}

// Refusal says why one event of several was refused.
type Refusal struct {
	Code   string `json:"code" doc:"As in Problem."`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty" doc:"The field at fault."`
}

// AppendResult is what came of each event, in their order.
type AppendResult struct {
	Events []Appended `json:"events"`
}

func (h *handlers) appendEvents(ctx context.Context, in *appendInput) (*output[AppendResult], error) {
	given := in.Body.Events
	if len(given) < 1 || len(given) > MaxAppend {
		return nil, events.Invalid("events", fmt.Sprintf("must be a list of 1 to %d events", MaxAppend))
	}
	out := AppendResult{Events: make([]Appended, len(given))}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(appendsAtOnce)
	for i, raw := range given {
		group.Go(func() (err error) {
			out.Events[i], err = h.appendOne(groupCtx, raw)
			return err
		})
	}
	failed := group.Wait()
	stored := 0
	for _, e := range out.Events {
		if e.Outcome == outcomeStored {
			stored++
		}
	}
	if stored > 0 {
		what := fmt.Sprintf("%d stored of %d", stored, len(given))
		failed = errors.Join(failed, h.acts.Append(ctx, api.CallerOf(ctx).User, "events.append", "", what))
	}
	return ok(out), failed
}

// appendOne appends one event, or says what is wrong with it. An error is no fault of the event.
func (h *handlers) appendOne(ctx context.Context, raw RawEvent) (Appended, error) {
	var e events.Event
	if err := e.UnmarshalJSON(raw); err != nil {
		return refused("", err), nil
	}
	id := e.ID.String()
	if unreadable, is := e.Payload.(events.Unreadable); is {
		return refused(id, unreadable.Err), nil
	}
	if err := h.Clock.Check(e.Actor, e.ID); err != nil && !errors.Is(err, events.ErrIDPast) {
		p := api.ProblemOf(err, h.Clock.Now())
		return Appended{ID: id, Outcome: outcomeRefused, Problem: &Refusal{Code: p.Code, Detail: p.Detail, Field: "id"}}, nil
	}
	sealed, err := h.Keys.Seal(ctx, e)
	if errors.Is(err, keys.ErrErased) {
		return Appended{ID: id, Outcome: outcomeRefused, Problem: &Refusal{Code: "user_erased", Detail: "the event's actor was erased; nothing can be written in her name", Field: "actor"}}, nil
	}
	if err != nil {
		return Appended{}, err
	}
	_, repeat, err := h.Log.Append(ctx, sealed)
	if errors.Is(err, events.ErrConflict) && e.Personal() { // or it was sealed with another key
		repeat, err = h.there(ctx, e)
	}
	switch {
	case errors.Is(err, events.ErrConflict):
		return Appended{ID: id, Outcome: outcomeRefused, Problem: &Refusal{Code: "id_taken", Detail: "this region's log has an event with other content under the id", Field: "id"}}, nil
	case err != nil:
		return Appended{}, err
	case repeat:
		return Appended{ID: id, Outcome: outcomeRepeat}, nil
	default:
		return Appended{ID: id, Outcome: outcomeStored}, nil
	}
}

// there reports whether the event that has the id of another says the same; else that is a conflict.
func (h *handlers) there(ctx context.Context, e events.Event) (bool, error) {
	stored, err := h.Log.Get(ctx, e.Stream, e.ID)
	if err != nil {
		return false, err
	}
	same, err := h.Keys.Same(ctx, stored, e)
	if err == nil && !same {
		err = events.ErrConflict
	}
	return same, err
}

// refused says why an event cannot be one.
func refused(id string, err error) Appended {
	r := &Refusal{Code: "invalid_event", Detail: err.Error()}
	if invalid := events.IsInvalid(err); invalid != nil {
		r.Code, r.Field, r.Detail = "invalid_field", invalid.Field, invalid.Error()
	}
	return Appended{ID: id, Outcome: outcomeRefused, Problem: r}
}
