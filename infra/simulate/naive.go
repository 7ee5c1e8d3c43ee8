package main

import (
	"context"
	"maps"
	"slices"

	"parley/events"
	"parley/projections"
)

// What the log adds up to by the rules alone, written without a look at the folds: event by event, in their order.

// naiveMember is a user in a room.
type naiveMember struct{ in, banned bool }

// naiveMessage is a message of a room.
type naiveMessage struct {
	posted    events.Event // that shows: the one with the least digest
	authors   map[string]bool
	text      events.Content
	deleted   bool
	pinned    bool
	reactions map[[2]string]bool // of an emoji and a user
}

// naiveRoom is a room.
type naiveRoom struct {
	members  map[string]naiveMember
	messages map[events.ID]*naiveMessage
}

// naive reads a room off its events, which are in order.
func naive(of []events.Event) naiveRoom {
	r := naiveRoom{map[string]naiveMember{}, map[events.ID]*naiveMessage{}}
	for _, e := range of {
		room := e.Stream.Name()
		switch p := e.Payload.(type) {
		case events.RoomCreated:
			if p.Direct != nil {
				for _, user := range p.Direct {
					r.members[user] = naiveMember{in: true}
				}
			} else if e.ID.String() == room {
				r.members[e.Actor] = naiveMember{in: true}
			}
		case events.MemberJoined: // who is banned stays out
			if m := r.members[p.User]; !m.banned {
				r.members[p.User] = naiveMember{in: true}
			}
		case events.MemberLeft:
			r.members[p.User] = naiveMember{banned: r.members[p.User].banned}
		case events.MemberBanned:
			r.members[p.User] = naiveMember{banned: true}
		case events.MemberUnbanned:
			r.members[p.User] = naiveMember{}
		case events.MessagePosted:
			m := r.messages[e.ID]
			if m == nil { // the first has the least digest
				m = &naiveMessage{posted: e, text: p.Text, authors: map[string]bool{}, reactions: map[[2]string]bool{}}
				r.messages[e.ID] = m
			}
			m.authors[e.Actor] = true
		}
	}
	for _, e := range of {
		m := r.messages[e.About()]
		if m == nil {
			continue
		}
		switch p := e.Payload.(type) {
		case events.MessageEdited:
			if e.Actor == m.posted.Actor {
				m.text = p.Text
			}
		case events.MessageDeleted:
			m.deleted = m.deleted || p.Moderated || m.authors[e.Actor]
		case events.MessagePinned:
			m.pinned = true
		case events.MessageUnpinned:
			m.pinned = false
		case events.ReactionAdded:
			m.reactions[[2]string{p.Emoji, e.Actor}] = true
		case events.ReactionRemoved:
			delete(m.reactions, [2]string{p.Emoji, e.Actor})
		}
	}
	return r
}

// checkRules checks rooms, as readers get them in every region, against the rules.
func (w *world) checkRules(logs [][]events.Event) {
	rooms := map[events.Stream][]events.Event{}
	for _, e := range logs[0] {
		if kind, _ := e.Stream.Split(); kind == events.KindRoom {
			rooms[e.Stream] = append(rooms[e.Stream], e)
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(rooms)) {
		want := naive(rooms[stream])
		for _, r := range w.regions {
			if w.checkMembers(r, stream.Name(), want); !w.failed() {
				w.checkMessages(r, stream.Name(), want)
			}
			if w.failed() {
				return
			}
		}
	}
}

func (w *world) checkMembers(r *region, room string, want naiveRoom) {
	for _, user := range w.users {
		m, err := projections.LoadMember(context.Background(), r.current(), room, user)
		if err != nil {
			w.fail("views", "cannot read a member in %s: %v", r.name, err)
		}
		if got := (naiveMember{m.In, m.Banned}); got != want.members[user] {
			w.fail("rules", "%s has %s in %s as %+v, and by the rules it is %+v", r.name, user, room, got, want.members[user])
		}
	}
}

func (w *world) checkMessages(r *region, room string, want naiveRoom) {
	got, err := projections.LoadMessages(context.Background(), r.current(), room, slices.Collect(maps.Keys(want.messages))...)
	if err != nil || len(got) != len(want.messages) {
		w.fail("rules", "%s has %d messages in %s, want %d (%v)", r.name, len(got), room, len(want.messages), err)
		return
	}
	for _, m := range got {
		rule := want.messages[m.ID]
		reactions := 0
		for emoji, users := range m.Reactions {
			for _, user := range users {
				if reactions++; !rule.reactions[[2]string{emoji, user}] {
					w.fail("rules", "%s shows %s of %s on %s, which was removed", r.name, emoji, user, m.ID)
				}
			}
		}
		switch {
		case m.Deleted != rule.deleted:
			w.fail("rules", "%s has message %s deleted: %v, and by the rules it is %v", r.name, m.ID, m.Deleted, rule.deleted)
		case m.Deleted:
			if m.Text != events.Plain("") {
				w.fail("rules", "%s shows the text of %s, which was deleted", r.name, m.ID)
			}
		case m.Author != rule.posted.Actor || m.Text != rule.text:
			w.fail("rules", "%s shows another text or author of %s than the rules", r.name, m.ID)
		case m.Pinned != rule.pinned || reactions != len(rule.reactions):
			w.fail("rules", "%s shows %s with %d reactions, pinned %v; by the rules it is %d and %v", r.name, m.ID, reactions, m.Pinned, len(rule.reactions), rule.pinned)
		}
	}
}
