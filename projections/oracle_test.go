package projections_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// What readers get is what the merge rules say, read off the sorted events one after the other.
func TestMergeRules(t *testing.T) {
	for name, types := range map[string][]string{
		"all": events.Types(), "messages": typesOf(t, projections.Timeline), "members": typesOf(t, projections.Members),
	} {
		known := projections.NewKnown() // of all that was ever there
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			set := eventsOf(types, 50).Draw(t, "set")
			views := viewtest.NewModel()
			engine := projections.NewEngine(nil, views, projections.All()...)
			for _, batch := range batchesOf(set).Draw(t, "batches") {
				apply(t, engine, batch)
			}
			checkRules(t, set, views, known)
		}))
	}
}

func checkRules(t *rapid.T, set []events.Event, views projections.Views, known *projections.Known) {
	ctx := context.Background()
	for _, room := range rooms {
		got, err := projections.LoadMessages(ctx, views, room, messages...)
		same(t, "LoadMessages", got, messagesByRule(set, room), err)
		listed, err := projections.LoadRooms(ctx, views, room)
		same(t, "LoadRooms", listed, []projections.Room{roomByRule(set, room)}, err)
		for _, user := range users {
			want := memberByRule(set, room, user)
			m, err := projections.LoadMember(ctx, views, room, user)
			same(t, "LoadMember", m, want, err)
			r, m, err := known.LoadAccess(ctx, views, room, user)
			same(t, "LoadAccess", []any{r, m}, []any{listed[0], want}, err)
		}
	}
	for _, user := range users {
		markers, err := projections.LoadMarkers(ctx, views, user, rooms...)
		same(t, "LoadMarkers", markers, markersByRule(set, user), err)
		profile, err := projections.LoadUser(ctx, views, user)
		same(t, "LoadUser", profile, profileByRule(set, user), err)
	}
	frontiers, err := projections.LoadFrontiers(ctx, views)
	same(t, "LoadFrontiers", frontiers, frontiersByRule(set), err)
}

// same compares what was read with what should have been; nothing and an empty list are one.
func same(t failer, what string, got, want any, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func messagesByRule(set []events.Event, room string) []projections.Message {
	var all []projections.Message
	for _, id := range messages {
		if m, ok := messageByRule(set, room, id); ok {
			all = append(all, m)
		}
	}
	return all
}

func messageByRule(set []events.Event, room string, id events.ID) (m projections.Message, posted bool) {
	for _, e := range set {
		p, ok := e.Payload.(events.MessagePosted)
		if !ok || e.Stream != events.RoomStream(room) || e.ID != id {
			continue
		}
		if posted {
			e.Region = min(e.Region, m.Region)
		}
		m = projections.Message{
			ID: id, Room: room, Author: e.Actor, Text: p.Text, ReplyTo: p.ReplyTo, Thread: p.Thread, Region: e.Region,
		}
		posted = true
	}
	type pair struct{ emoji, user string }
	on := map[pair]events.ID{}
	replies := map[events.ID]bool{}
	for _, e := range set {
		if e.Stream != events.RoomStream(room) || e.ID.Compare(id) <= 0 {
			continue
		}
		switch p := e.Payload.(type) {
		case events.MessagePosted:
			if p.Thread != nil && *p.Thread == id {
				replies[e.ID] = true
			}
		case events.MessageEdited:
			if p.Message == id && e.Actor == m.Author {
				m.Text, m.Edited = p.Text, e.ID
			}
		case events.MessageDeleted:
			m.Deleted = m.Deleted || p.Message == id && (p.Moderated || e.Actor == m.Author)
		case events.MessagePinned:
			m.Pinned = m.Pinned || p.Message == id
		case events.MessageUnpinned:
			m.Pinned = m.Pinned && p.Message != id
		case events.ReactionAdded:
			if p.Message == id {
				on[pair{p.Emoji, e.Actor}] = e.ID
			}
		case events.ReactionRemoved:
			if p.Message == id {
				delete(on, pair{p.Emoji, e.Actor})
			}
		}
	}
	m.Replies = len(replies)
	m.Reactions = map[string][]string{}
	for _, emoji := range emojis {
		for _, user := range users {
			if _, ok := on[pair{emoji, user}]; ok {
				m.Reactions[emoji] = append(m.Reactions[emoji], user)
			}
		}
		slices.SortFunc(m.Reactions[emoji], func(a, b string) int {
			return on[pair{emoji, a}].Compare(on[pair{emoji, b}])
		})
		if len(m.Reactions[emoji]) == 0 {
			delete(m.Reactions, emoji)
		}
	}
	if m.Deleted {
		m.Text, m.Edited, m.Pinned, m.Reactions = events.Plain(""), events.ID{}, false, nil
	}
	return m, posted
}

func roomByRule(set []events.Event, name string) projections.Room {
	r := projections.Room{ID: name}
	for _, e := range set {
		if e.Stream != events.RoomStream(name) {
			continue
		}
		switch p := e.Payload.(type) {
		case events.RoomCreated:
			switch {
			case name == plain && e.ID.String() == plain && p.Direct == nil:
				r.Created, r.By, r.Name, r.Topic, r.Private = e.ID, e.Actor, p.Name, p.Topic, p.Private
			case name == direct && createsDirect(e, p) && !r.Exists():
				r.Created, r.By, r.Direct, r.Private = e.ID, e.Actor, p.Direct, true
			}
		case events.RoomUpdated:
			if name != direct && p.Name != nil {
				r.Name = *p.Name
			}
			if name != direct && p.Topic != nil {
				r.Topic = *p.Topic
			}
			if name != direct && p.Private != nil {
				r.Private = *p.Private
			}
		case events.RoomArchived:
			r.Archived = true
		case events.RoomUnarchived:
			r.Archived = false
		}
	}
	return r
}

func createsDirect(e events.Event, p events.RoomCreated) bool {
	return slices.Equal(p.Direct, []string{"ada", "bob"}) && (e.Actor == "ada" || e.Actor == "bob")
}

func memberByRule(set []events.Event, room, user string) projections.Member {
	m := projections.Member{Room: room, User: user}
	in, role := false, events.Role("")
	for _, e := range set {
		if e.Stream != events.RoomStream(room) {
			continue
		}
		if p, ok := e.Payload.(events.RoomCreated); ok {
			if room == plain && e.ID.String() == plain && p.Direct == nil && user == e.Actor {
				in, role, m.Since = true, events.RoleOwner, e.ID
			}
			if room == direct && createsDirect(e, p) && user != "eve" && !in {
				in, role, m.Since = true, events.RoleMember, e.ID
			}
		}
		if room == direct {
			continue
		}
		switch p := e.Payload.(type) {
		case events.MemberJoined:
			if p.User == user {
				in, role, m.Since = true, p.Role, e.ID
			}
		case events.MemberLeft:
			if p.User == user {
				in, m.Since = false, e.ID
			}
		case events.MemberRoleChanged:
			if p.User == user {
				role = p.Role
			}
		case events.MemberBanned:
			if p.User == user {
				in, m.Banned, m.Since = false, true, e.ID
			}
		case events.MemberUnbanned:
			m.Banned = m.Banned && p.User != user
		}
	}
	if in && !m.Banned {
		m.In, m.Role = true, role
	}
	return m
}

func markersByRule(set []events.Event, user string) []events.ID {
	markers := make([]events.ID, len(rooms))
	for _, e := range set {
		p, ok := e.Payload.(events.RoomRead)
		if at := slices.Index(rooms, p.Room); ok && e.Actor == user && p.UpTo.Compare(markers[at]) > 0 {
			markers[at] = p.UpTo
		}
	}
	return markers
}

func profileByRule(set []events.Event, user string) projections.User {
	u := projections.User{ID: user}
	for _, e := range set {
		if p, ok := e.Payload.(events.UserProfileSet); ok && e.Actor == user {
			u.Set, u.Name, u.About = e.ID, p.Name, p.About
		}
	}
	for _, e := range set {
		if p, ok := e.Payload.(events.UserErased); ok && e.Actor == user {
			return projections.User{ID: user, Erased: e.ID, ErasedBy: p.By}
		}
	}
	return u
}

func frontiersByRule(set []events.Event) map[string]events.ID {
	beats := map[string]events.ID{}
	for _, e := range set {
		if _, ok := e.Payload.(events.RegionBeat); ok {
			beats[e.Actor] = e.ID
		}
	}
	return beats
}
