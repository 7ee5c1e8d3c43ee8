// Package query is what runs when a client reads: it reads this region's views, or the log for as_of,
// and never changes anything.
package query

import (
	"context"
	"slices"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/projections"
)

// Config are the parts of a region that queries need.
type Config struct {
	Region  string
	Log     events.Log
	Views   projections.Views
	Cursors *api.Cursors
	Keys    *keys.Ring       // decrypts content
	Now     func() time.Time // time.Now if nil
	Quota   *api.Quota       // bounds how many requests of a user wait
	Marks   events.Marks     // of the callers
	// Arrived returns a channel that something is sent to when an event of the streams, or one about the
	// user of one of them, arrives after the call; stop must be called in the end. If it is nil, a waiting
	// sync polls.
	Arrived func(streams []events.Stream) (arrived <-chan struct{}, stop func())
	// Closing is closed when waiting syncs must be answered; may be nil.
	Closing <-chan struct{}
}

// Queries are the queries of a region. Over HTTP an API serves them; a socket calls [Queries.Sync].
type Queries struct {
	Config
	known *projections.AccessCache
}

// Register adds the queries to an API.
func Register(a *api.API, c Config) *Queries {
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Queries{c, projections.NewAccessCache()}
	h.registerMessages(a)
	h.registerRooms(a)
	h.registerSync(a)
	return h
}

// maxLimit is the longest page.
const maxLimit = 200

// Including is the parameter that makes a query contain an event the views may not have yet.
type Including struct {
	Includes string `query:"includes" doc:"An event's id: the answer shows its effect even if this region's views lag behind it."`
}

// views returns the views with the included event folded in, and the message it is about, which may be
// as new. An event that may refuses is not found.
func (h *Queries) views(ctx context.Context, in Including, stream events.Stream, may func(events.Event) bool) (projections.Views, error) {
	if in.Includes == "" {
		return h.Views, nil
	}
	id, err := events.ParseID("includes", in.Includes)
	if err != nil {
		return nil, err
	}
	found, err := events.Find(ctx, h.Log, stream, id, false)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(e events.Event) bool { return !may(e) })
	if len(found) == 0 {
		return nil, api.NotYet("event_not_found", "includes: event not found in this region yet; retry in a moment or leave includes out")
	}
	with := found
	for _, e := range found {
		if message := e.About(); message != (events.ID{}) {
			posted, err := events.Find(ctx, h.Log, stream, message, false)
			if err != nil {
				return nil, err
			}
			with = append(with, posted...)
		}
	}
	return projections.WithEvents(h.Views, with...), nil
}

// see makes sure that the caller may see a room, and returns the views to read it from. The
// included event may be what made the caller a member. Callers who may not see the room get the same
// answer whether the event exists or not.
func (h *Queries) see(ctx context.Context, roomText string, in Including) (projections.Views, api.Access, error) {
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
