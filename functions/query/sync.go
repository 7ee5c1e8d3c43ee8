package query

import (
	"context"
	"strconv"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Queries) registerSync(a *api.API) {
	api.Query(a, api.Operation{
		ID: "sync", Method: "GET", Path: "/v1/sync", Tag: "live",
		Summary: "What happened in my rooms since a cursor",
		Detail: "Every kind of event, none left out: of the rooms you are a member of, and your own. One room follows the other; the events of " +
			"a room are in the order in which they arrived in this region, and your own come last. Continue with the cursor of the answer; no cursor " +
			"expires. In the region a cursor comes from each event is delivered once, but where more than 128 rooms were active within half a minute, " +
			"or a membership arrived late; in another region those of at least the last 15 minutes are delivered again: deduplicate by stream and id. " +
			"The first cursor is that of GET /v1/rooms.",
	}, h.sync)
}

const (
	// maxWait is the longest a client may wait. An API Gateway waits 30 s for an answer.
	maxWait = 25 * time.Second
	// Without [Config.Arrived] a waiting sync polls, at first after firstLook and then less often.
	firstLook, lastLook = 100 * time.Millisecond, time.Second
)

type syncInput struct {
	Cursor string `query:"cursor" doc:"Where to resume. Without it, or with one of a former release, the answer is reset, with a cursor for now."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"100"`
	Wait   int    `query:"wait" minimum:"0" maximum:"25" doc:"Seconds to wait for something to happen. Two requests of a user wait at a time; more are answered at once."`
}

// Sync answers as GET /v1/sync does, without waiting, for a caller who is not connected over HTTP.
// [api.ProblemOf] turns an error into the answer.
func (h *Queries) Sync(ctx context.Context, caller api.Caller, cursor string, limit int) (wire.SyncPage, error) {
	switch { // with the reasons of huma, which checks requests
	case limit < 1:
		return wire.SyncPage{}, events.Invalid("limit", "expected number >= 1")
	case limit > maxLimit:
		return wire.SyncPage{}, events.Invalid("limit", "expected number <= "+strconv.Itoa(maxLimit))
	}
	out, err := h.sync(api.WithCaller(ctx, caller), &syncInput{Cursor: cursor, Limit: limit})
	if err != nil {
		return wire.SyncPage{}, err
	}
	return out.Body, nil
}

func (h *Queries) sync(ctx context.Context, in *syncInput) (*api.Response[wire.SyncPage], error) {
	user := api.CallerOf(ctx).User
	if in.Cursor == "" {
		return h.reset(ctx, user)
	}
	from, err := h.Cursors.Decode("cursor", user, in.Cursor)
	if err != nil {
		return nil, err
	}
	if from.Region == "" {
		return h.reset(ctx, user)
	}
	if in.Wait > 0 {
		done, ok := h.Quota.Wait(user)
		if ok {
			defer done()
		} else {
			in.Wait = 0
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Wait)*time.Second+maxWait)
	defer cancel()
	page, err := h.await(ctx, user, from, in)
	if err != nil {
		return nil, err
	}
	out := api.OK(wire.SyncPage{Events: make([]wire.HappenedEvent, len(page.Events)), Cursor: h.Cursors.Encode(user, page.Cursor), More: page.More, Held: page.Held})
	shown, err := h.shown(ctx, page.Events)
	if err != nil {
		return nil, err
	}
	for i, w := range page.Events {
		stream := w.Event.Stream
		out.Body.Events[i] = wire.HappenedEvent{Stream: stream, Position: w.Position, Event: api.EventOf(shown[i])}
		if kind, name := stream.Split(); kind == events.KindRoom {
			out.Body.Events[i].Room = name
		}
	}
	return out, nil
}

// reset answers with a cursor for now.
func (h *Queries) reset(ctx context.Context, user string) (*api.Response[wire.SyncPage], error) {
	here, err := h.syncer().Current(ctx, user)
	if err != nil {
		return nil, err
	}
	return api.OK(wire.SyncPage{Events: []wire.HappenedEvent{}, Cursor: h.Cursors.Encode(user, here), Reset: true}), nil
}

func (h *Queries) syncer() projections.Syncer {
	return projections.Syncer{Region: h.Region, Log: h.Log, Views: h.Views, Keys: h.Keys, Now: h.Now}
}

// await reads what happened until there is something or the time is up.
func (h *Queries) await(ctx context.Context, user string, from projections.Cursor, in *syncInput) (projections.Page, error) {
	page, err := h.syncer().Since(ctx, user, from, in.Limit)
	if err != nil || len(page.Events) > 0 || page.More || in.Wait == 0 {
		return page, err
	}
	up := time.NewTimer(time.Duration(in.Wait) * time.Second)
	defer up.Stop()
	for look := firstLook; ; look = min(2*look, lastLook) {
		arrived, stop, err := h.arrived(ctx, user, look)
		if err != nil {
			return page, err
		}
		ctx = api.Unmetered(ctx) // what wakes this request is not its user's doing
		page, err = h.syncer().Since(ctx, user, page.Cursor, in.Limit)
		done := err != nil || len(page.Events) > 0 || page.More
		if !done {
			var key <-chan time.Time
			if page.Held {
				key = time.After(look)
			}
			select {
			case <-arrived:
			case <-key:
			case <-up.C:
				done = true
			case <-h.Closing:
				done = true
			case <-ctx.Done():
				done, err = true, ctx.Err()
			}
		}
		if stop(); done {
			return page, err
		}
	}
}

// arrived is sent to when something may have arrived for the user since this was called.
func (h *Queries) arrived(ctx context.Context, user string, look time.Duration) (arrived <-chan struct{}, stop func(), err error) {
	poll := make(chan struct{}, 1)
	timer := func() { time.AfterFunc(look, func() { poll <- struct{}{} }) }
	if h.Arrived == nil {
		timer()
		return poll, func() {}, nil
	}
	streams := []events.Stream{events.UserStream(user)}
	more, err := projections.EachRoomOf(ctx, h.Views, user, "", projections.MaxRows, func(m projections.Member) bool {
		if m.In {
			streams = append(streams, events.RoomStream(m.Room))
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	if more != "" { // too many to be waited for one by one
		timer()
		return poll, func() {}, nil
	}
	arrived, stop = h.Arrived(streams)
	return arrived, stop, nil
}

// shown returns the events as they may be shown.
func (h *Queries) shown(ctx context.Context, what []projections.Happened) ([]events.Event, error) {
	es := make([]events.Event, len(what))
	for i, w := range what {
		es[i] = w.Event
	}
	return projections.ShowEvents(ctx, h.Views, h.Keys, es...)
}
