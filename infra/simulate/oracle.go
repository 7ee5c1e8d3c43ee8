package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"parley/events"
	"parley/events/keys"
	"parley/functions/wire"
)

// The oracle says what a region must answer, from the log alone. It shares nothing with the projections: it does
// not fold events one by one, but looks for the event that decides each fact, by the rules that the design gives.
// A fold that is wrong in the same way in any order is found by it.

// oracle is the log of one room, in the order of Refs.
type oracle struct {
	room   string
	direct bool
	events []events.Event // their content decrypted
}

// last returns the last event that decides; nil if there is none.
func last(es []events.Event, decides func(events.Event) bool) *events.Event {
	for i := range slices.Backward(es) {
		if decides(es[i]) {
			return &es[i]
		}
	}
	return nil
}

// first returns the first event that decides; nil if there is none.
func first(es []events.Event, decides func(events.Event) bool) *events.Event {
	if i := slices.IndexFunc(es, decides); i >= 0 {
		return &es[i]
	}
	return nil
}

// isA reports whether an event has a payload of a type.
func isA[P events.Payload](e events.Event) bool { _, is := e.Payload.(P); return is }

func (o oracle) creates(e events.Event) bool {
	p, is := e.Payload.(events.RoomCreated)
	return is && events.CreatesRoom(e, p)
}

// membership is what a user is in the room.
type membership struct {
	in, banned bool
	role       events.Role
	since      events.ID
	invited    events.ID
}

func (o oracle) member(user string) membership {
	if o.direct {
		created := first(o.events, func(e events.Event) bool {
			return o.creates(e) && slices.Contains(e.Payload.(events.RoomCreated).Direct, user)
		})
		if created == nil {
			return membership{}
		}
		return membership{in: true, role: events.RoleMember, since: created.ID}
	}
	about := slices.DeleteFunc(slices.Clone(o.events), func(e events.Event) bool {
		return e.Member() != user && (!o.creates(e) || e.Actor != user)
	})
	moved := last(about, func(e events.Event) bool {
		return o.creates(e) || isA[events.MemberJoined](e) || isA[events.MemberLeft](e) || isA[events.MemberBanned](e)
	})
	barred := last(about, func(e events.Event) bool { return isA[events.MemberBanned](e) || isA[events.MemberUnbanned](e) })
	invited := last(about, isA[events.MemberInvited])
	role := last(about, func(e events.Event) bool {
		return o.creates(e) || isA[events.MemberJoined](e) || isA[events.MemberRoleChanged](e)
	})
	m := membership{banned: barred != nil && isA[events.MemberBanned](*barred)}
	if moved != nil {
		m.since = moved.ID
		joined := o.creates(*moved) || isA[events.MemberJoined](*moved)
		m.in = joined && !m.banned && (barred == nil || moved.Ref().Compare(barred.Ref()) > 0)
	}
	if m.in {
		m.role = events.RoleOwner
		switch p := role.Payload.(type) {
		case events.MemberJoined:
			m.role = p.Role
		case events.MemberRoleChanged:
			m.role = p.Role
		}
	}
	if invited != nil && !m.in && !m.banned && (moved == nil || invited.Ref().Compare(moved.Ref()) > 0) {
		m.invited = invited.ID
	}
	return m
}

// members are those whom a reader may see, in the order of their ids.
func (o oracle) members(users []string, reader membership) []wire.Member {
	list := []wire.Member{}
	for _, user := range slices.Sorted(slices.Values(users)) {
		m := o.member(user)
		admin := reader.in && reader.role != events.RoleMember
		switch {
		case m.in:
			list = append(list, wire.Member{User: user, Role: m.role, Since: m.since.Timestamp().UTC()})
		case m.banned && admin:
			list = append(list, wire.Member{User: user, Since: m.since.Timestamp().UTC(), Banned: true})
		case m.invited != events.ID{} && admin:
			list = append(list, wire.Member{User: user, Since: m.invited.Timestamp().UTC(), Invited: true})
		}
	}
	return list
}

// show is the room as a reader gets it.
func (o oracle) show(reader membership) wire.Room {
	created := first(o.events, o.creates)
	p := created.Payload.(events.RoomCreated)
	r := wire.Room{
		ID: o.room, Name: p.Name, Topic: p.Topic, Private: p.Private, Direct: p.Direct,
		CreatedBy: created.Actor, CreatedAt: created.ID.Timestamp().UTC(), Role: reader.role,
	}
	for _, e := range o.events {
		if p, is := e.Payload.(events.RoomUpdated); is && !o.direct {
			if p.Name != nil {
				r.Name = *p.Name
			}
			if p.Topic != nil {
				r.Topic = *p.Topic
			}
			if p.Private != nil {
				r.Private = *p.Private
			}
		}
	}
	archived := last(o.events, func(e events.Event) bool { return isA[events.RoomArchived](e) || isA[events.RoomUnarchived](e) })
	r.Archived = archived != nil && isA[events.RoomArchived](*archived)
	return r
}

// messages are all messages of the room.
func (o oracle) messages() []wire.Message {
	list := []wire.Message{}
	for _, e := range o.events {
		if isA[events.MessagePosted](e) && (len(list) == 0 || list[len(list)-1].ID != e.ID) { // the least of its id
			list = append(list, o.message(e))
		}
	}
	return list
}

func (o oracle) message(posted events.Event) wire.Message {
	p := posted.Payload.(events.MessagePosted)
	m := wire.Message{
		ID: posted.ID, Room: o.room, Author: posted.Actor, Text: p.Text.Text(), Erased: p.Text.Erased(), SentAt: posted.ID.Timestamp().UTC(),
		Reactions: map[string][]string{},
	}
	if p.ReplyTo != nil {
		m.ReplyTo = *p.ReplyTo
	}
	if p.Thread != nil {
		m.Thread = *p.Thread
	}
	authors := map[string]bool{}
	var after []events.Event // what was done to it
	replies := map[events.ID]bool{}
	for _, e := range o.events {
		if isA[events.MessagePosted](e) && e.ID == posted.ID {
			authors[e.Actor] = true
		}
		if e.About() == posted.ID && e.ID.Compare(posted.ID) > 0 {
			after = append(after, e)
			if isA[events.MessagePosted](e) {
				replies[e.ID] = true
			}
		}
	}
	m.Replies = min(len(replies), 100)
	m.Deleted = slices.ContainsFunc(after, func(e events.Event) bool {
		p, is := e.Payload.(events.MessageDeleted)
		return is && (p.Moderated || authors[e.Actor])
	})
	if m.Deleted {
		m.Text, m.Erased = "", false
		return m
	}
	if edit := last(after, func(e events.Event) bool { return isA[events.MessageEdited](e) && e.Actor == posted.Actor }); edit != nil {
		text, at := edit.Payload.(events.MessageEdited).Text, edit.ID.Timestamp().UTC()
		m.Text, m.Erased, m.EditedAt = text.Text(), text.Erased(), &at
	}
	pin := last(after, func(e events.Event) bool { return isA[events.MessagePinned](e) || isA[events.MessageUnpinned](e) })
	m.Pinned = pin != nil && isA[events.MessagePinned](*pin)
	for i, e := range after { // the last of a user and emoji decides
		added, is := e.Payload.(events.ReactionAdded)
		if is && last(after, func(other events.Event) bool { return other.Actor == e.Actor && emojiOf(other) == added.Emoji }) == &after[i] {
			m.Reactions[added.Emoji] = append(m.Reactions[added.Emoji], e.Actor)
		}
	}
	return m
}

// emojiOf is the emoji of an event that adds or removes a reaction; "" of any other.
func emojiOf(e events.Event) string {
	switch p := e.Payload.(type) {
	case events.ReactionAdded:
		return p.Emoji
	case events.ReactionRemoved:
		return p.Emoji
	}
	return ""
}

// marker is how far a user has read a room, by the log of the user's stream: up to the greatest read marker behind the
// last mark as unread, or else up to where that mark begins.
func marker(own []events.Event, room string) (up events.ID) {
	from := last(own, func(e events.Event) bool {
		p, is := e.Payload.(events.RoomMarkedUnread)
		return is && p.Room == room
	})
	if from != nil {
		up = events.PrecedingID(from.Payload.(events.RoomMarkedUnread).From)
	}
	for _, e := range own {
		p, is := e.Payload.(events.RoomRead)
		if is && p.Room == room && p.UpTo.Compare(up) > 0 && (from == nil || e.Ref().Compare(from.Ref()) > 0) {
			up = p.UpTo
		}
	}
	return up
}

// checkOracle checks what the regions answer in a world at rest: for each room and each region, to one user.
func (w *world) checkOracle(logs [][]events.Event) {
	ctx := context.Background()
	ring := keys.NewRing(w.regions[0].keys, w.root, w.regions[0].now)
	streams := map[events.Stream][]events.Event{}
	for _, e := range logs[0] {
		opened, err := ring.OpenEvent(ctx, e)
		if err != nil {
			w.fail("readable", "%s cannot decrypt the %s %s: %v", w.regions[0].name, e.Type, e.Ref(), err)
			return
		}
		streams[e.Stream] = append(streams[e.Stream], opened)
	}
	s := Step{N: -400}
	for i, in := range w.rooms {
		o := oracle{in.id, strings.HasPrefix(in.id, "direct-"), streams[in.stream]}
		for j, r := range w.regions {
			user := w.user(int(mix(w.schedule.Seed, uint64(i), uint64(j), 8) >> 1))
			if w.checkAnswers(s, r, o, user, streams[events.UserStream(user)]); w.failed() {
				return
			}
		}
	}
}

// checkAnswers checks what a region answers to a user about a room.
func (w *world) checkAnswers(s Step, r *region, o oracle, user string, own []events.Event) {
	reader, path := o.member(user), "/v1/rooms/"+o.room
	status := http.StatusOK
	switch created := first(o.events, o.creates); {
	case created == nil, o.show(reader).Private && !reader.in:
		status = http.StatusNotFound
	case reader.banned:
		status = http.StatusForbidden
	}
	a := w.request(s, r, user, "GET", path, "", "")
	if a.status != status {
		w.fail("access", "%s answers %s about %s with %d, and the log says %d: %s", r.name, user, o.room, a.status, status, a.body)
	}
	if status != http.StatusOK || w.failed() {
		return
	}
	w.checkAnswer(s, r, user, path, new(wire.Room), o.show(reader))
	w.checkAnswer(s, r, user, path+"/members", new(wire.MemberPage), wire.MemberPage{Members: o.members(w.users, reader)})
	var page wire.MessagePage
	a = w.request(s, r, user, "GET", path+"/messages?limit=200", "", "")
	if err := json.Unmarshal(a.body, &page); err != nil {
		w.fail("oracle", "%s answers %s with %d %s", r.name, user, a.status, a.body)
		return
	}
	for i := range page.Messages {
		page.Messages[i].Region = ""
	}
	want := o.messages()
	w.compare(r, user, path+"/messages", page.Messages, want[max(0, len(want)-200):])
	if !reader.in {
		return
	}
	var mine wire.RoomPage
	a = w.request(s, r, user, "GET", "/v1/rooms?limit=200", "", "")
	_ = json.Unmarshal(a.body, &mine) // without the room if it fails
	at := slices.IndexFunc(mine.Rooms, func(m wire.MyRoom) bool { return m.ID == o.room })
	if at < 0 {
		w.fail("oracle", "%s does not list %s among the rooms of %s: %d %s", r.name, o.room, user, a.status, a.body)
		return
	}
	w.compare(r, user, "the read marker of "+path, mine.Rooms[at].ReadTo, marker(own, o.room))
}

// checkAnswer checks an answer as a whole; into is of its type.
func (w *world) checkAnswer(s Step, r *region, user, path string, into, want any) {
	a := w.request(s, r, user, "GET", path, "", "")
	if err := json.Unmarshal(a.body, into); err != nil || !a.ok() {
		w.fail("oracle", "%s answers %s about %s with %d %s", r.name, user, path, a.status, a.body)
		return
	}
	w.compare(r, user, path, into, want)
}

func (w *world) compare(r *region, user, what string, got, want any) {
	if g, x := bodyOf(got), bodyOf(want); g != x {
		w.fail("oracle", "%s answers %s about %s\n  %s\nand the log says\n  %s", r.name, user, what, g, x)
	}
}
