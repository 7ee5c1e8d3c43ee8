package operate

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *handlers) registerParked(a *api.API) {
	query(a, api.Operation{
		ID: "listParked", Method: "GET", Path: "/v1/ops/parked",
		Summary: "A page of the events that could not be handled in this region",
		Detail:  "In the order of their keys.",
	}, h.listParked)
	query(a, api.Operation{
		ID: "getParked", Method: "GET", Path: "/v1/ops/parked/one", Codes: []int{404},
		Summary: "An event that could not be handled",
	}, h.getParked)
	command(a, api.Operation{
		ID: "retryParked", Method: "POST", Path: "/v1/ops/parked/retry", Codes: []int{404},
		Summary: "Handle a parked event again: project, publish, push",
		Detail:  "Handled, it is no longer parked. Otherwise it stays, with its new error.",
	}, h.retryParked)
	command(a, api.Operation{
		ID: "dropParked", Method: "POST", Path: "/v1/ops/parked/drop", Codes: []int{404},
		Summary: "Forget that an event was parked",
		Detail:  "It stays in the log. This region's views and subscribers go without it.",
	}, h.dropParked)
}

// Parked is an event that could not be handled.
type Parked struct {
	Key    string    `json:"key"`
	Stage  string    `json:"stage" doc:"Where it failed: decode, project, publish or trigger."`
	Error  string    `json:"error"`
	At     time.Time `json:"at" doc:"When it failed last."`
	Tries  int       `json:"tries" doc:"How often it was parked."`
	Stream string    `json:"stream,omitempty" doc:"As far as it is known."`
	ID     string    `json:"id,omitempty"`
	Event  RawEvent  `json:"event,omitempty" doc:"The event as it came."`
	Record string    `json:"record,omitempty" doc:"What came, where it is no event."`
}

// parkedOf is what is parked for an operator to look at, opened as far as it can be.
func (h *handlers) parkedOf(ctx context.Context, p projections.Parked) Parked {
	out := Parked{Key: p.Key, Stage: p.Stage, Error: p.Error, At: p.At.UTC(), Tries: p.Tries, Stream: p.Stream, ID: p.ID}
	e := eventIn(p)
	if e == nil {
		if json.Unmarshal(p.Record, &out.Record) != nil {
			out.Record = string(p.Record)
		}
		return out
	}
	out.Event = RawEvent(p.Record)
	if opened, err := h.Keys.OpenEvent(ctx, *e); err == nil && e.Personal() {
		if raw, err := rawOf(opened); err == nil {
			out.Event = raw
		}
	}
	return out
}

// eventIn is the event in a parked record, nil if it holds none.
func eventIn(p projections.Parked) *events.Event {
	var e events.Event
	if len(p.Record) == 0 || p.Record[0] != '{' || e.UnmarshalJSON(p.Record) != nil {
		return nil
	}
	return &e
}

type parkedInput struct {
	After string `query:"after" doc:"Keys that sort after this one."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// ParkedPage is a part of what is parked.
type ParkedPage struct {
	Parked []Parked `json:"parked"`
	After  *string  `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

func (h *handlers) listParked(ctx context.Context, in *parkedInput) (*output[ParkedPage], error) {
	got, err := projections.ListParked(ctx, h.Views, in.After, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := ParkedPage{Parked: []Parked{}}
	for i, p := range got {
		if i == in.Limit {
			page.After = &got[i-1].Key
			break
		}
		page.Parked = append(page.Parked, h.parkedOf(ctx, p))
	}
	return ok(page), nil
}

type oneParkedInput struct {
	Key string `query:"key" doc:"As in the list."`
}

func (h *handlers) getParked(ctx context.Context, in *oneParkedInput) (*output[Parked], error) {
	p, err := h.parked(ctx, in.Key)
	if err != nil {
		return nil, err
	}
	return ok(h.parkedOf(ctx, p)), nil
}

// parked finds what is parked under a key.
func (h *handlers) parked(ctx context.Context, key string) (projections.Parked, error) {
	if key == "" {
		return projections.Parked{}, events.Invalid("key", "must be the key of a parked event")
	}
	p, there, err := projections.LoadParked(ctx, h.Views, key)
	if err == nil && !there {
		err = api.Fail(http.StatusNotFound, "parked_not_found", "nothing is parked under this key")
	}
	return p, err
}

type parkedKeyInput struct{ Body ParkedChange }

// ParkedChange names a parked event.
type ParkedChange struct {
	Key string `json:"key"`
}

// ParkedOutcome is what came of trying a parked event again, or of dropping it.
type ParkedOutcome struct {
	Key     string `json:"key"`
	Outcome string `json:"outcome" enum:"handled,parked,dropped" doc:"handled: it is no longer parked. parked: it failed again."`
	Error   string `json:"error,omitempty" doc:"Why it failed again."`
	Tries   int    `json:"tries,omitempty" doc:"How often it was parked."`
}

func (h *handlers) retryParked(ctx context.Context, in *parkedKeyInput) (*output[ParkedOutcome], error) {
	p, err := h.parked(ctx, in.Body.Key)
	if err != nil {
		return nil, err
	}
	e, err := h.logged(ctx, p)
	if err != nil {
		return nil, err
	}
	out := ParkedOutcome{Key: p.Key, Outcome: "handled"}
	if err := h.Retry(ctx, e); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		out.Outcome, out.Error, out.Tries = "parked", err.Error(), p.Tries
		if again, _, err := projections.LoadParked(ctx, h.Views, p.Key); err == nil && again.Tries > p.Tries {
			out.Error, out.Tries = again.Error, again.Tries
		}
	} else if err := projections.Unpark(ctx, h.Views, p.Key); err != nil {
		return nil, err
	}
	return ok(out), h.acts.Append(ctx, api.CallerOf(ctx).User, "parked.retry", p.Key, out.Outcome)
}

// logged returns a parked event as the log has it.
func (h *handlers) logged(ctx context.Context, p projections.Parked) (events.Event, error) {
	stream, idText := p.Stream, p.ID
	if e := eventIn(p); e != nil {
		stream, idText = string(e.Stream), e.ID.String()
	}
	id, err := events.ParseID("id", idText)
	if err != nil || events.Stream(stream).Validate() != nil {
		return events.Event{}, api.Fail(http.StatusConflict, "not_an_event", "it does not say which event it is; it can only be dropped")
	}
	e, err := h.Log.Get(ctx, events.Stream(stream), id)
	if errors.Is(err, events.ErrNotFound) {
		return e, api.Fail(http.StatusConflict, "not_in_log", "this region's log does not have the event; repair the log, or drop it")
	}
	return e, err
}

func (h *handlers) dropParked(ctx context.Context, in *parkedKeyInput) (*output[ParkedOutcome], error) {
	p, err := h.parked(ctx, in.Body.Key)
	if err != nil {
		return nil, err
	}
	if err := projections.Unpark(ctx, h.Views, p.Key); err != nil {
		return nil, err
	}
	out := ParkedOutcome{Key: p.Key, Outcome: "dropped"}
	return ok(out), h.acts.Append(ctx, api.CallerOf(ctx).User, "parked.drop", p.Key, p.Stage)
}
