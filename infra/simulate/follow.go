package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"parley/events"
	"parley/functions/wire"
	"parley/projections"
)

// follower is a client that catches up by GET /v1/sync, in one region after the other.
type follower struct {
	user, name string
	cursor     string
	at         *region // that gave the cursor
	rebuilds   int     // of its feeds by then
	got        map[eventName]bool
	busy       bool                     // it is catching up
	high       map[events.Stream]uint64 // the greatest position in the region; nil: it does not matter
	// once counts what was delivered since the follower came to the region.
	once map[eventName]int
}

func newFollower(user, name string) *follower {
	return &follower{user: user, name: name, got: map[eventName]bool{}, once: map[eventName]int{}}
}

// eventName is how a client knows an event.
type eventName struct {
	stream events.Stream
	id     events.ID
	kind   string
}

func nameOf(e events.Event) eventName { return eventName{e.Stream, e.ID, e.Type} }

// load takes a cursor and then reads everything there is, as a client does first.
func (f *follower) load(w *world, s Step, r *region) {
	a := w.request(s, r, f.user, "GET", "/v1/rooms", "", "")
	var page wire.RoomPage
	if err := json.Unmarshal(a.body, &page); err != nil || !a.ok() {
		w.fail("load", "%s cannot load the rooms of %s: %d %s", f.name, r.name, a.status, a.body)
		return
	}
	f.cursor, f.at, f.rebuilds = page.Cursor, r, r.rebuilds
	for at := range w.first {
		if at.region == r.index {
			f.got[nameOf(w.event(r, at.key))] = true
		}
	}
}

// event reads an event of a region's log.
func (w *world) event(r *region, key events.Key) events.Event {
	got, err := r.log.GetMany(context.Background(), []events.Key{key})
	if err != nil {
		w.fail("log", "cannot read the log of %s: %v", r.name, err)
	}
	return got[key]
}

// follow catches up in a region until there is no more, or a request fails. It reports whether an event still waits for
// its key.
func (f *follower) follow(w *world, s Step, r *region) (held bool) {
	if f.at != r || f.rebuilds != r.rebuilds {
		clear(f.once)
	}
	limit := 1 + int(mix(w.schedule.Seed, uint64(s.N), 4)%30)
	for range 10_000 {
		a := w.request(s, r, f.user, "GET", fmt.Sprint("/v1/sync?limit=", limit, "&cursor=", url.QueryEscape(f.cursor)), "", "")
		if a.open() {
			if w.settling {
				w.fail("sync", "%s cannot catch up in %s: %d %s", f.name, r.name, a.status, a.body)
			}
			return held
		}
		var page wire.SyncPage
		if err := json.Unmarshal(a.body, &page); err != nil || !a.ok() {
			w.fail("sync", "%s is answered %d %s", f.name, a.status, a.body)
			return held
		}
		if page.Reset {
			w.fail("reset", "%s is answered a reset to a cursor of %s in %s", f.name, f.at.name, r.name)
		}
		if len(page.Events) > limit {
			w.fail("sync", "%s receives %d events, at most %d are allowed", f.name, len(page.Events), limit)
		}
		f.take(w, r, page)
		if w.trace.ports {
			cursor, _ := w.cursors.Decode("", f.user, page.Cursor)
			w.trace.line(f.name, "note", "", fmt.Sprintf("%d events, more %v, cursor %+v", len(page.Events), page.More, cursor))
		}
		f.cursor, f.at, f.rebuilds = page.Cursor, r, r.rebuilds
		if held = page.Held; !page.More || w.failed() {
			return held
		}
	}
	w.fail("sync", "%s: there is always more", f.name)
	return held
}

// take takes a page, and checks that the follower may have each event, now.
func (f *follower) take(w *world, r *region, page wire.SyncPage) {
	exact := f.at == r && f.rebuilds == r.rebuilds
	last := map[events.Stream]uint64{}
	for _, h := range page.Events {
		name := eventName{h.Stream, h.Event.ID, h.Event.Type}
		w.trace.note(f.name, "deliver", h.Event.ID.String(), "%s in %s from %s", h.Event.Type, h.Stream, r.name)
		found, err := events.Find(context.Background(), r.log, h.Stream, h.Event.ID, false)
		found = slices.DeleteFunc(found, func(e events.Event) bool { return e.Type != h.Event.Type })
		if err != nil || len(found) == 0 {
			w.fail("invented", "%s receives a %s that %s does not have", f.name, h.Event.Type, r.name)
			return
		}
		f.allowed(w, r, found[0], h.Position)
		r.checkShows(context.Background(), name, h.Event.Data, f.name)
		if h.Position > 0 && h.Position < last[h.Stream] {
			w.fail("positions", "%s receives position %d of %s behind %d", f.name, h.Position, h.Stream, last[h.Stream])
		}
		last[h.Stream] = h.Position
		if f.high != nil {
			f.high[h.Stream] = max(f.high[h.Stream], h.Position)
		}
		if f.once[name]++; f.once[name] > len(found) && exact && !f.mayRepeat(w, r, found) {
			w.fail("repeated", "%s receives a %s twice in %s, which gave the cursor", f.name, h.Event.Type, r.name)
		}
		f.got[name] = true
	}
}

// allowed checks that a user may receive an event in a region now.
func (f *follower) allowed(w *world, r *region, e events.Event, position uint64) {
	switch kind, name := e.Stream.Split(); {
	case kind == events.KindUser && name == f.user:
	case kind != events.KindRoom:
		w.fail("not-allowed", "%s receives a %s of %s", f.name, e.Type, e.Stream)
	case w.together: // it may change at any time
	default:
		m, err := projections.LoadMember(context.Background(), r.current(), name, f.user)
		if err != nil {
			w.fail("views", "cannot read a member in %s: %v", r.name, err)
		}
		if own := slices.Contains(projections.MembersOf(e), f.user); !m.In && (!own || position != 0) {
			w.fail("not-allowed", "%s, who is not in the room, receives a %s at position %d from %s", f.name, e.Type, position, r.name)
		}
	}
}

// current returns the views of a region that are read now.
func (r *region) current() projections.Views { return projections.NewGenerations(r.views).Views() }

// mayRepeat reports whether one of some events of one id may be delivered again in a region: a late notice of
// another region names it, or the user has joined its room, or was invited to it, since.
func (f *follower) mayRepeat(w *world, r *region, found []events.Event) bool {
	changes := 0
	for other, err := range r.log.Read(context.Background(), found[0].Stream, events.Range{}) {
		if err != nil {
			w.fail("log", "cannot read the log of %s: %v", r.name, err)
		}
		if notice, is := other.Payload.(events.EventLate); is && other.Region != r.name {
			for _, e := range found {
				if slices.Contains(notice.Events(), e.Ref()) {
					return true
				}
			}
		}
		if slices.Contains(projections.MembersOf(other), f.user) {
			changes++
		}
	}
	return changes > 1
}

// misses returns an event that a follower should have received by now, if there is one: of the user's own
// stream, about the user's memberships, and of the rooms that the user is in since the last join.
func (f *follower) misses(w *world, r *region, all []events.Event) (events.Event, bool) {
	members := map[string]projections.Member{}
	for _, e := range all {
		kind, name := e.Stream.Split()
		if _, notice := e.Payload.(events.EventLate); notice || !readable(e) { // what a notice names is delivered in its place
			continue
		}
		if f.got[nameOf(e)] || kind != events.KindRoom && (kind != events.KindUser || name != f.user) {
			continue
		}
		if kind == events.KindUser || slices.Contains(projections.MembersOf(e), f.user) {
			return e, true
		}
		m, cached := members[name]
		if !cached {
			var err error
			if m, err = projections.LoadMember(context.Background(), r.current(), name, f.user); err != nil {
				w.fail("views", "cannot read a member in %s: %v", r.name, err)
			}
			members[name] = m
		}
		if m.In && e.ID.Compare(m.Since) > 0 {
			return e, true
		}
	}
	return events.Event{}, false
}

// follow lets a client catch up: mostly in the region where it was.
func (w *world) follow(s Step) {
	f := w.followers[s.A%len(w.followers)]
	r := f.at
	if s.B%3 == 0 {
		r = w.region(s.C)
	}
	if f.busy { // two at the same time would be two clients
		return
	}
	f.busy = true
	f.follow(w, s, r)
	f.busy = false
}
