package operate

import (
	"context"
	"encoding/json"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// parkedHandlers show, retry and drop parked events.
type parkedHandlers struct{ *handlers }

func (h parkedHandlers) register(a *api.API) {
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
		Summary: "Handle a parked event again: project, publish, notify",
		Detail:  "If that succeeds, it is no longer parked. Otherwise it stays parked, with its new error.",
	}, h.retryParked)
	command(a, api.Operation{
		ID: "dropParked", Method: "POST", Path: "/v1/ops/parked/drop", Codes: []int{404},
		Summary: "Remove an event from what is parked",
		Detail:  "It stays in the log. This region's views and subscribers do not get it.",
	}, h.dropParked)
}

// parkedOf returns a parked record as an operator reads it: of an event, what may be shown.
func (h parkedHandlers) parkedOf(ctx context.Context, p projections.Parked) (wire.Parked, error) {
	out := wire.Parked{Key: p.Key, Stage: p.Stage, Error: p.Error, At: p.At.UTC(), Tries: p.Tries, Stream: p.Stream, ID: p.ID}
	e := eventIn(p)
	if e == nil {
		if json.Unmarshal(p.Record, &out.Record) != nil {
			out.Record = string(p.Record)
		}
		return out, nil
	}
	out.Event = wire.RawEvent(p.Record)
	if !e.Personal() {
		return out, nil
	}
	if err := h.actRead(ctx, "parked.read", ""); err != nil {
		return out, err
	}
	shown, err := projections.ShowEvents(ctx, h.Views, h.Keys, *e)
	if err != nil {
		return out, err
	}
	out.Event, err = shown[0].MarshalJSON()
	return out, err
}

// eventIn returns the event in a parked record, nil if it holds none.
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

func (h parkedHandlers) listParked(ctx context.Context, in *parkedInput) (*api.Response[wire.ParkedPage], error) {
	got, err := projections.ListParked(ctx, h.Views, in.After, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := wire.ParkedPage{Parked: []wire.Parked{}}
	for i, p := range got {
		if i == in.Limit {
			page.After = &got[i-1].Key
			break
		}
		shown, err := h.parkedOf(ctx, p)
		if err != nil {
			return nil, err
		}
		page.Parked = append(page.Parked, shown)
	}
	return api.OK(page), nil
}

type oneParkedInput struct {
	Key string `query:"key" doc:"As in the list."`
}

func (h parkedHandlers) getParked(ctx context.Context, in *oneParkedInput) (*api.Response[wire.Parked], error) {
	p, err := h.parked(ctx, in.Key)
	if err != nil {
		return nil, err
	}
	out, err := h.parkedOf(ctx, p)
	return api.OK(out), err
}

// parked returns what is parked under a key.
func (h parkedHandlers) parked(ctx context.Context, key string) (projections.Parked, error) {
	if key == "" {
		return projections.Parked{}, events.Invalid("key", "must be the key of a parked event")
	}
	p, there, err := projections.LoadParked(ctx, h.Views, key)
	if err == nil && !there {
		err = api.Fail(http.StatusNotFound, "parked_not_found", "nothing is parked under this key; GET /v1/ops/parked lists the keys")
	}
	return p, err
}

type parkedKeyInput struct{ Body wire.ParkedChange }

func (h parkedHandlers) retryParked(ctx context.Context, in *parkedKeyInput) (*api.Response[wire.ParkedOutcome], error) {
	p, err := h.parked(ctx, in.Body.Key)
	if err != nil {
		return nil, err
	}
	e, err := h.logged(ctx, p)
	if err != nil {
		return nil, err
	}
	out := wire.ParkedOutcome{Key: p.Key, Outcome: "handled"}
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
	return api.OK(out), h.act(ctx, "parked.retry", p.Key, out.Outcome)
}

// logged returns a parked event as the log has it.
func (h parkedHandlers) logged(ctx context.Context, p projections.Parked) (events.Event, error) {
	stream, refText := events.Stream(p.Stream), p.ID
	if e := eventIn(p); e != nil && refText == "" { // its spelling may not be what is stored, and so its digest
		stream, refText = e.Stream, e.ID.String()
	}
	ref, err := events.ParseRef("id", refText)
	if err != nil || stream.Validate() != nil {
		return events.Event{}, api.Fail(http.StatusConflict, "not_an_event", "the record does not say which event it is; it can only be dropped")
	}
	key := ref.In(stream)
	found, err := h.Log.GetMany(ctx, []events.Key{key})
	if err != nil {
		return events.Event{}, err
	}
	e, there := found[key]
	if !there {
		return e, api.Fail(http.StatusConflict, "not_in_log", "this region's log does not have the event; repair the log, or drop it")
	}
	return e, nil
}

func (h parkedHandlers) dropParked(ctx context.Context, in *parkedKeyInput) (*api.Response[wire.ParkedOutcome], error) {
	p, err := h.parked(ctx, in.Body.Key)
	if err != nil {
		return nil, err
	}
	if err := projections.Unpark(ctx, h.Views, p.Key); err != nil {
		return nil, err
	}
	out := wire.ParkedOutcome{Key: p.Key, Outcome: "dropped"}
	return api.OK(out), h.act(ctx, "parked.drop", p.Key, p.Stage)
}
