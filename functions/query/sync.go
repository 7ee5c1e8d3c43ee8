package query

import (
	"context"
	"errors"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *queries) registerSync(a *api.API) {
	api.Query(a, api.Operation{
		ID: "sync", Method: "GET", Path: "/v1/sync", Tag: "live",
		Summary: "What happened in my rooms since a cursor",
		Detail: "Every kind of event, in the order in which they arrived in this region, none left out: of the rooms you are a member of, " +
			"and your own. Go on with the cursor of the answer. In the region a cursor comes from each event is told once; in another " +
			"one some may be told again: drop them by their ids. The first cursor is that of GET /v1/rooms.",
	}, h.sync)
}

const (
	// maxWait is the longest a client may wait. An API Gateway waits 30 s for an answer.
	maxWait = 25 * time.Second
	// Where nobody tells of arrivals they are looked for, at first soon and then ever less often.
	firstLook, lastLook = 100 * time.Millisecond, time.Second
)

type syncInput struct {
	Cursor string `query:"cursor" doc:"How far you have come. Without it you get one for now, and reset."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"100"`
	Wait   int    `query:"wait" minimum:"0" maximum:"25" doc:"Seconds to wait for something to happen."`
}

// SyncPage is what happened.
type SyncPage struct {
	Events []HappenedEvent `json:"events"`
	Cursor string          `json:"cursor" doc:"Go on with this."`
	More   bool            `json:"more" doc:"There is more; ask at once."`
	Reset  bool            `json:"reset" doc:"What happened cannot be told completely: load your rooms and messages again, then go on with the cursor."`
}

// HappenedEvent is an event and where it stands in this region.
type HappenedEvent struct {
	Room     string    `json:"room,omitempty" doc:"The room it happened in; absent if it is about you alone."`
	Stream   string    `json:"stream"`
	Position uint64    `json:"position,omitempty" doc:"1, 2, 3 and so on in its stream, in the order of arrival in this region; absent where you may not see the rest."`
	Event    api.Event `json:"event"`
}

type syncOutput struct{ Body SyncPage }

func (h *queries) sync(ctx context.Context, in *syncInput) (*syncOutput, error) {
	user := api.CallerOf(ctx).User
	if in.Cursor == "" {
		return h.reset(ctx, user)
	}
	from, err := h.Cursors.Decode("cursor", user, in.Cursor)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(in.Wait)*time.Second+maxWait)
	defer cancel()
	what, to, more, err := h.await(ctx, user, from, in)
	if errors.Is(err, projections.ErrTooFarBehind) {
		return h.reset(ctx, user)
	}
	if err != nil {
		return nil, err
	}
	out := &syncOutput{SyncPage{Events: make([]HappenedEvent, len(what)), Cursor: h.Cursors.Encode(user, to), More: more}}
	for i, w := range what {
		if out.Body.Events[i], err = h.happenedOf(ctx, w); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reset gives a cursor for now.
func (h *queries) reset(ctx context.Context, user string) (*syncOutput, error) {
	here, err := h.syncer().Here(ctx)
	if err != nil {
		return nil, err
	}
	return &syncOutput{SyncPage{Events: []HappenedEvent{}, Cursor: h.Cursors.Encode(user, here), Reset: true}}, nil
}

func (h *queries) syncer() projections.Syncer {
	return projections.Syncer{Region: h.Region, Log: h.Log, Views: h.Views}
}

// await asks what happened, again and again until there is something or the time is up.
func (h *queries) await(ctx context.Context, user string, from projections.Place, in *syncInput) ([]projections.Happened, projections.Place, bool, error) {
	up := time.NewTimer(time.Duration(in.Wait) * time.Second)
	defer up.Stop()
	for look := firstLook; ; look = min(2*look, lastLook) {
		arrived := h.arrived(look)
		what, to, more, err := h.syncer().Since(ctx, user, from, in.Limit)
		if err != nil || len(what) > 0 || more || in.Wait == 0 {
			return what, to, more, err
		}
		from = to // what she may not see need not be gone through again
		select {
		case <-arrived:
		case <-up.C:
			return nil, to, false, nil
		case <-ctx.Done():
			return nil, to, false, ctx.Err()
		}
	}
}

// arrived is closed or sent to when something may have arrived since this was called.
func (h *queries) arrived(look time.Duration) <-chan struct{} {
	if h.Arrived != nil {
		return h.Arrived()
	}
	c := make(chan struct{}, 1)
	time.AfterFunc(look, func() { c <- struct{}{} })
	return c
}

func (h *queries) happenedOf(ctx context.Context, w projections.Happened) (HappenedEvent, error) {
	event, err := api.EventOf(ctx, h.Keys, w.Event)
	out := HappenedEvent{Stream: string(w.Stream), Position: w.Position, Event: event}
	if kind, name := w.Stream.Split(); kind == events.KindRoom {
		out.Room = name
	}
	return out, err
}
