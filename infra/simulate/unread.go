package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"parley/events"
	"parley/functions/wire"
)

// What the list of rooms says of unread messages, in a world at rest.

// markUnread marks a room as unread from a message on.
func (w *world) markUnread(s Step) {
	m := w.message(s.B)
	if m == nil {
		return
	}
	user := w.user(s.A)
	c := w.command(user, "PUT", m.room.path("/unread"), bodyOf(wire.UnreadMarker{From: m.id.String()}), events.UserStream(user), m.id)
	w.send(s, w.region(s.C), c)
}

// roomsOf returns the list of rooms of a user as a region answers it; nil if it does not.
func (w *world) roomsOf(s Step, r *region, user string) map[string]wire.MyRoom {
	a := w.request(s, r, user, "GET", "/v1/rooms?limit=200", "", "")
	var page wire.RoomPage
	if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
		w.fail("rooms", "%s answers the list of rooms of %s with %d %s", r.name, user, a.status, a.body)
		return nil
	}
	of := map[string]wire.MyRoom{}
	for _, room := range page.Rooms {
		of[room.ID] = room
	}
	return of
}

// checkUnread counts, for each user and room, what is unread for certain and what may be, and compares that with every
// region's answer. Then one user reads everything: nothing is unread any more, anywhere.
func (w *world) checkUnread(logs [][]events.Event) {
	s := Step{N: -400}
	posts, deletes := map[string][]events.Event{}, map[string]bool{}
	deleted := map[events.ID]bool{}
	for _, e := range logs[0] {
		switch e.Payload.(type) {
		case events.MessagePosted:
			if list := posts[e.Stream.Name()]; len(list) == 0 || list[len(list)-1].ID != e.ID { // the one that shows
				posts[e.Stream.Name()] = append(list, e)
			}
		case events.MessageDeleted:
			deletes[e.Stream.Name()], deleted[e.About()] = true, true
		}
	}
	for _, user := range w.users {
		var first map[string]wire.MyRoom
		for i, r := range w.regions {
			got := w.roomsOf(s, r, user)
			for _, id := range slices.Sorted(maps.Keys(got)) {
				room := got[id]
				most, equal := 0, !deletes[id]
				for _, e := range posts[id] {
					if e.Actor != user && !deleted[e.ID] {
						most++
					}
					equal = equal && e.Actor != user
				}
				if room.Unread > most || room.Unread < 0 {
					w.fail("unread", "%s has %d unread messages in %s for %s, and there are only %d by others", r.name, room.Unread, id, user, most)
				}
				// Of late messages the last to arrive are taken, which in another region may be the user's own.
				if i > 0 && equal && room.Unread != first[id].Unread {
					w.fail("unread-equal", "%s has %d unread messages in %s for %s, %s has %d", r.name, room.Unread, id, user, w.regions[0].name, first[id].Unread)
				}
			}
			if i == 0 {
				first = got
			}
		}
	}
	w.checkAllRead(s, posts)
}

// checkAllRead lets a user read everything.
func (w *world) checkAllRead(s Step, posts map[string][]events.Event) {
	user := w.users[0]
	r := w.region(int(mix(w.schedule.Seed, 9) >> 1))
	for _, id := range slices.Sorted(maps.Keys(w.roomsOf(s, r, user))) {
		of := posts[id]
		if len(of) == 0 {
			continue
		}
		last := of[len(of)-1].ID
		c := w.command(user, "PUT", "/v1/rooms/"+id+"/read", bodyOf(wire.ReadMarker{UpTo: last.String()}), events.UserStream(user), last)
		if a := w.send(s, r, c); !a.ok() {
			w.fail("unread", "%s cannot read %s in %s: %d %s", user, id, r.name, a.status, a.body)
			return
		}
	}
	for w.progress(s, true) && !w.failed() {
	}
	for _, r := range w.regions {
		for id, room := range w.roomsOf(s, r, user) {
			if room.Unread > 0 {
				w.fail("unread", "%s has read everything, and %s has %d unread messages in %s", user, r.name, room.Unread, id)
			}
		}
	}
}
