// Package query is what runs when a client asks: it reads this region's views, or the log where
// the past is asked for, and never changes anything.
package query

import (
	"context"
	"errors"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/projections"
)

// Config is what the queries read, all of one region.
type Config struct {
	Region  string
	Log     events.Log
	Views   projections.Views
	Cursors *api.Cursors
	Keys    *keys.Ring // opens what is asked for
	// Arrived returns a channel that is closed when something arrives after the call; nil: then
	// it is looked for now and then.
	Arrived func() <-chan struct{}
}

// queries holds the handlers, by subject in the files of this package.
type queries struct {
	Config
	known *projections.Known
}

// Register adds the queries to an API.
func Register(a *api.API, c Config) {
	h := &queries{c, projections.NewKnown()}
	h.registerMessages(a)
	h.registerRooms(a)
	h.registerSync(a)
}

// maxLimit is the longest page.
const maxLimit = 200

// Including is the part of a query that makes it contain an event the views may not have yet.
type Including struct {
	Includes string `query:"includes" doc:"An event's id: the answer shows its effect even if it has yet to come by stream."`
}

// views returns the views with the included event folded in. What it was done to is folded in
// with it: that may be as new. An event that may not be shown is not found.
func (h *queries) views(ctx context.Context, in Including, stream events.Stream, may func(events.Event) bool) (projections.Views, error) {
	if in.Includes == "" {
		return h.Views, nil
	}
	id, err := events.ParseID("includes", in.Includes)
	if err != nil {
		return nil, err
	}
	e, err := h.Log.Get(ctx, stream, id)
	if errors.Is(err, events.ErrNotFound) || err == nil && !may(e) {
		return nil, api.NotYet("event_not_found", "includes: this region does not know the event, yet; ask again in a moment or leave includes out")
	}
	if err != nil {
		return nil, err
	}
	with := []events.Event{e}
	if message := projections.About(e); message != (events.ID{}) {
		posted, err := h.Log.Get(ctx, e.Stream, message)
		if err == nil {
			with = append(with, posted)
		} else if !errors.Is(err, events.ErrNotFound) {
			return nil, err
		}
	}
	return projections.WithEvents(h.Views, with...), nil
}

// see makes sure that the caller may see a room, and returns the views to read it from. The
// included event may be what made her a member. What it is must not be told to anyone else, not
// even whether there is one: who may not see the room gets the same answer either way.
func (h *queries) see(ctx context.Context, roomText string, in Including) (projections.Views, api.Access, error) {
	room, err := api.ParseRoom("room", roomText)
	if err != nil {
		return nil, api.Access{}, err
	}
	user := api.CallerOf(ctx).User
	views, notIncluded := h.views(ctx, in, events.RoomStream(room), func(events.Event) bool { return true })
	if notIncluded != nil {
		views = h.Views
	}
	access, err := api.See(ctx, h.known, views, room, user)
	if err != nil {
		return nil, access, err
	}
	return views, access, notIncluded
}

// parseAsOf reads a time or an event's id; a time stands for the last id that it can have.
func parseAsOf(text string) (events.ID, error) {
	if id, err := events.ParseID("as_of", text); err == nil {
		return id, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Before(time.Unix(0, 0)) {
		return events.ID{}, events.Invalid("as_of", "must be a time as in RFC 3339, 1970 or later, or the id of an event")
	}
	return events.LastID(at), nil
}
