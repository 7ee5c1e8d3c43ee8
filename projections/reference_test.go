package projections_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// The world that events are drawn from is small, so that they meet: three users, a room that is
// like any other, the direct room of two of them, four messages in each.
var (
	users    = []string{"ada", "bob", "eve"}
	regions  = []string{"eu", "us"}
	emojis   = []string{"👍", ":tada:"}
	texts    = []events.Content{events.Plain("one"), events.Plain("two"), events.Plain("<three> & \u2028 \"four\"")}
	plain    = makeID(5, "ada", 1).String()
	direct   = events.DirectRoom("ada", "bob")
	rooms    = []string{plain, direct}
	messages = []events.ID{makeID(10, "ada", 1), makeID(12, "bob", 2), makeID(12, "eve", 3), makeID(14, "ada", 4)}
)

// authors are the authors of messages, by index.
var authors = []string{"ada", "bob", "eve", "ada"}

// makeID makes the id of an actor at a millisecond; n distinguishes ids of one millisecond.
func makeID(ms uint64, actor string, n uint32) events.ID {
	var id events.ID
	if err := id.SetTime(ms); err != nil {
		panic(err)
	}
	mark := events.FormerMark(actor)
	copy(id[6:], mark[:])
	binary.BigEndian.PutUint32(id[12:], n)
	return id
}

// eventTypes draw an event of each type. Hostile ones are among them: by any actor, about any
// message, before and after it, in any room.
var eventTypes = map[string]func(d draw) events.Payload{
	"room.created": func(d draw) events.Payload {
		if d.oneIn(2, "direct") {
			pairs := [][]string{{"ada", "bob"}, {"ada", "eve"}}
			return events.RoomCreated{Direct: rapid.SampledFrom(pairs).Draw(d.T, "pair"), Private: true}
		}
		return events.RoomCreated{Name: d.word("name"), Topic: d.word("topic"), Private: d.oneIn(2, "private")}
	},
	"room.updated": func(d draw) events.Payload {
		p := events.RoomUpdated{Name: ptr(d.word("name"))}
		if d.oneIn(2, "other fields") {
			p = events.RoomUpdated{Topic: ptr(d.word("topic")), Private: ptr(d.oneIn(2, "private"))}
		}
		return p
	},
	"room.archived":       func(draw) events.Payload { return events.RoomArchived{} },
	"room.unarchived":     func(draw) events.Payload { return events.RoomUnarchived{} },
	"member.invited":      func(d draw) events.Payload { return events.MemberInvited{User: d.user("user")} },
	"member.joined":       func(d draw) events.Payload { return events.MemberJoined{User: d.user("user"), Role: d.role()} },
	"member.left":         func(d draw) events.Payload { return events.MemberLeft{User: d.user("user")} },
	"member.role_changed": func(d draw) events.Payload { return events.MemberRoleChanged{User: d.user("user"), Role: d.role()} },
	"member.banned":       func(d draw) events.Payload { return events.MemberBanned{User: d.user("user")} },
	"member.unbanned":     func(d draw) events.Payload { return events.MemberUnbanned{User: d.user("user")} },
	"message.posted": func(d draw) events.Payload {
		return events.MessagePosted{Text: d.text(), ReplyTo: d.maybe("reply to"), Thread: d.maybe("thread")}
	},
	"message.edited": func(d draw) events.Payload { return events.MessageEdited{Message: d.message(), Text: d.text()} },
	"message.deleted": func(d draw) events.Payload {
		return events.MessageDeleted{Message: d.message(), Moderated: d.oneIn(4, "moderated")}
	},
	"message.pinned":   func(d draw) events.Payload { return events.MessagePinned{Message: d.message()} },
	"message.unpinned": func(d draw) events.Payload { return events.MessageUnpinned{Message: d.message()} },
	"reaction.added":   func(d draw) events.Payload { return events.ReactionAdded{Message: d.message(), Emoji: d.emoji()} },
	"reaction.removed": func(d draw) events.Payload { return events.ReactionRemoved{Message: d.message(), Emoji: d.emoji()} },
	"room.read": func(d draw) events.Payload {
		p := events.RoomRead{Room: d.room(), UpTo: d.message()}
		if !d.oneIn(3, "of a former release") {
			p.Seen = ptr(rapid.Int64Range(events.SeenUnknown, 2).Draw(d.T, "seen"))
		}
		return p
	},
	"room.marked_unread": func(d draw) events.Payload { return events.RoomMarkedUnread{Room: d.room(), From: d.message()} },
	"user.profile_set":   func(d draw) events.Payload { return events.UserProfileSet{Name: d.text(), About: d.text()} },
	"user.erased":        func(d draw) events.Payload { return events.UserErased{By: d.user("by")} },
	"event.late":         func(d draw) events.Payload { return events.EventLate{Event: events.Ref{ID: d.message()}} },
	"region.beat":        func(draw) events.Payload { return events.RegionBeat{} },
	"ops.acted":          func(d draw) events.Payload { return events.OpsActed{What: d.word("what")} },
}

// draw draws the parts of events.
type draw struct{ *rapid.T }

func (d draw) oneIn(n int, label string) bool { return rapid.IntRange(1, n).Draw(d.T, label) == n }

func (d draw) user(label string) string { return rapid.SampledFrom(users).Draw(d.T, label) }

func (d draw) room() string { return rooms[rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(d.T, "room")] }

func (d draw) emoji() string { return rapid.SampledFrom(emojis).Draw(d.T, "emoji") }

func (d draw) text() events.Content { return rapid.SampledFrom(texts[:2]).Draw(d.T, "text") }

func (d draw) word(label string) string {
	return rapid.SampledFrom([]string{"x", "y"}).Draw(d.T, label)
}

func (d draw) role() events.Role {
	return rapid.SampledFrom([]events.Role{events.RoleOwner, events.RoleAdmin, events.RoleMember}).Draw(d.T, "role")
}

// message draws one of the messages, half of the time the first, so that many events are about it.
func (d draw) message() events.ID {
	return rapid.OneOf(rapid.Just(messages[0]), rapid.SampledFrom(messages)).Draw(d.T, "message")
}

func (d draw) maybe(label string) *events.ID {
	if d.oneIn(2, label) {
		return nil
	}
	return ptr(d.message())
}

// event draws an event of a type. There are few ids, so that many events share one, of one actor or of
// several, and some share that of a message or of the room.
func (d draw) event(name string) events.Event {
	actor, region := d.user("actor"), rapid.SampledFrom(regions).Draw(d.T, "region")
	id := makeID(rapid.Uint64Range(4, 20).Draw(d.T, "ms"), d.user("mark"), 100)
	if d.oneIn(8, "a known id") {
		id = rapid.SampledFrom(append([]events.ID{makeID(5, "ada", 1)}, messages...)).Draw(d.T, "id")
	}
	stream := events.RoomStream(d.room())
	payload := eventTypes[name](d)
	switch name {
	case "room.created":
		if d.oneIn(3, "hostile") {
			break
		}
		if pair := payload.(events.RoomCreated).Direct; len(pair) == 2 {
			stream = events.RoomStream(events.DirectRoom(pair[0], pair[1]))
		} else {
			id, actor, stream = makeID(5, "ada", 1), rapid.SampledFrom([]string{"ada", "ada", "bob"}).Draw(d.T, "creator"), events.RoomStream(plain)
		}
	case "message.posted":
		if !d.oneIn(4, "nobody asks for it") {
			at := slices.Index(messages, d.message())
			id, actor = messages[at], authors[at]
			if d.oneIn(6, "by another") {
				actor = d.user("other author")
			}
		}
	case "room.read", "room.marked_unread", "user.profile_set", "user.erased":
		stream = events.UserStream(actor)
	case "region.beat":
		actor = region
		stream = events.BeatStream(region, rapid.IntRange(0, 2).Draw(d.T, "stream of heartbeats"))
		if d.oneIn(4, "another hour") {
			id = makeID(id.Time()+uint64(time.Hour.Milliseconds()), region, 100)
		}
	case "ops.acted":
		stream = events.OpsStream(region)
	}
	return newEvent(id, stream, actor, region, payload)
}

// eventsOf draws a set of events of the named types, in their order. The same event may be in it twice,
// as accepted by two regions, and different events with one id.
func eventsOf(types []string, most int) *rapid.Generator[[]events.Event] {
	return rapid.Custom(func(t *rapid.T) []events.Event {
		d := draw{t}
		var set []events.Event
		said := map[string]bool{}
		for range rapid.IntRange(0, most).Draw(t, "events") {
			e := d.event(rapid.SampledFrom(types).Draw(t, "type"))
			if place := string(e.Stream) + e.Ref().String(); said[place] {
				continue // a log has it once
			} else {
				said[place] = true
			}
			if d.oneIn(10, "unreadable") {
				e = unreadable(e)
			}
			set = append(set, e)
			if d.oneIn(6, "accepted twice") && e.Stream.Name() != e.Actor && e.Stream.BeatRegion() == "" {
				e.Region = regions[1-slices.Index(regions, e.Region)]
				set = append(set, e)
			}
		}
		slices.SortStableFunc(set, func(a, b events.Event) int { return a.Ref().Compare(b.Ref()) })
		return set
	})
}

// batchesOf cuts the events, in a random order and with some of them twice, into batches.
func batchesOf(set []events.Event) *rapid.Generator[[][]projections.Arrival] {
	return rapid.Custom(func(t *rapid.T) [][]projections.Arrival {
		all := slices.Clone(set)
		if len(set) > 0 {
			all = append(all, rapid.SliceOfN(rapid.SampledFrom(set), 0, len(set)).Draw(t, "again")...)
		}
		all = rapid.Permutation(all).Draw(t, "order")
		var batches [][]projections.Arrival
		for len(all) > 0 {
			n := rapid.IntRange(1, len(all)).Draw(t, "batch")
			batches = append(batches, arrivals(all[:n]...))
			all = all[n:]
		}
		return batches
	})
}

func arrivals(set ...events.Event) []projections.Arrival {
	batch := make([]projections.Arrival, len(set))
	for i, e := range set {
		batch[i].Event = e
	}
	return batch
}

func newEvent(id events.ID, stream events.Stream, actor, region string, payload events.Payload) events.Event {
	e, err := events.New(id, stream, actor, region, payload)
	if err != nil {
		panic(fmt.Sprintf("make a %T: %v", payload, err))
	}
	return e
}

// unreadable is an event as a later release might write it.
func unreadable(e events.Event) events.Event {
	stored := events.Encode(e)
	stored.Type, stored.ID = e.Type+"/99", e.ID.String()
	again, err := events.Decode(stored)
	if err != nil {
		panic(err)
	}
	return again.WithDigest()
}

func ptr[V any](v V) *V { return &v }

// The generator must draw every event type, also those that are added later.
func TestGeneratorKnowsAllTypes(t *testing.T) {
	t.Parallel()
	for _, name := range events.Types() {
		if eventTypes[name] == nil {
			t.Errorf("the generator does not draw %s", name)
		}
	}
}

// What readers get is what the merge rules say, read off the sorted events one after the other.
func TestMergeRules(t *testing.T) {
	t.Parallel()
	for name, types := range map[string][]string{
		"all": events.Types(), "messages": typesOf(t, projections.Timeline), "members": typesOf(t, projections.Members),
	} {
		known := projections.NewAccessCache() // of all that was ever there
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

func checkRules(t *rapid.T, set []events.Event, views projections.Views, known *projections.AccessCache) {
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
			r, m, err := known.Load(ctx, views, room, user)
			same(t, "Load", []any{r, m}, []any{listed[0], want}, err)
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
	for _, ms := range []int64{30, time.Hour.Milliseconds() + 10, 3 * time.Hour.Milliseconds()} {
		now := time.UnixMilli(ms)
		low, err := projections.LoadLow(ctx, views, now)
		same(t, "LoadLow", low.UnixMilli(), lowByRule(set, now).UnixMilli(), err)
	}
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
	var authors []string
	var shown events.Digest
	for _, e := range set {
		p, ok := e.Payload.(events.MessagePosted)
		if !ok || e.Stream != events.RoomStream(room) || e.ID != id {
			continue
		}
		authors = append(authors, e.Actor)
		switch {
		case !posted:
			m = projections.Message{
				ID: id, Room: room, Author: e.Actor, Text: p.Text, ReplyTo: p.ReplyTo, Thread: p.Thread, Region: e.Region,
			}
			posted, shown = true, e.Digest
		case e.Digest == shown:
			m.Region = min(e.Region, m.Region)
		}
	}
	type pair struct{ emoji, user string }
	on := map[pair]events.Ref{}
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
			m.Deleted = m.Deleted || p.Message == id && (p.Moderated || slices.Contains(authors, e.Actor))
		case events.MessagePinned:
			m.Pinned = m.Pinned || p.Message == id
		case events.MessageUnpinned:
			m.Pinned = m.Pinned && p.Message != id
		case events.ReactionAdded:
			if p.Message == id {
				on[pair{p.Emoji, e.Actor}] = e.Ref()
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
				if !r.Exists() {
					r.Created, r.By = e.ID, e.Actor
				}
				r.Name, r.Topic, r.Private = p.Name, p.Topic, p.Private
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
	in, role, by := false, events.Role(""), ""
	var since, invited events.Ref
	for _, e := range set {
		if e.Stream != events.RoomStream(room) {
			continue
		}
		if p, ok := e.Payload.(events.RoomCreated); ok {
			if room == plain && e.ID.String() == plain && p.Direct == nil && user == e.Actor {
				in, role, since = true, events.RoleOwner, e.Ref()
			}
			if room == direct && createsDirect(e, p) && user != "eve" && !in {
				in, role, since = true, events.RoleMember, e.Ref()
			}
		}
		if room == direct {
			continue
		}
		switch p := e.Payload.(type) {
		case events.MemberJoined:
			if p.User == user {
				in, role, since = true, p.Role, e.Ref()
			}
		case events.MemberLeft:
			if p.User == user {
				in, since = false, e.Ref()
			}
		case events.MemberRoleChanged:
			if p.User == user {
				role = p.Role
			}
		case events.MemberBanned:
			if p.User == user {
				in, m.Banned, since = false, true, e.Ref()
			}
		case events.MemberUnbanned:
			if p.User == user {
				in, m.Banned = false, false
			}
		case events.MemberInvited:
			if p.User == user {
				invited, by = e.Ref(), e.Actor
			}
		}
	}
	m.Since = since.ID
	if in && !m.Banned {
		m.In, m.Role = true, role
	} else if !m.Banned && invited.Compare(since) > 0 {
		m.Invited, m.InvitedBy = invited.ID, by
	}
	return m
}

// markersByRule are the markers by the latest mark as unread, or the greatest of those that were set after it. One of a
// former release was set before any mark as unread.
func markersByRule(set []events.Event, user string) []projections.ReadMarker {
	markers := make([]projections.ReadMarker, len(rooms))
	for i, room := range rooms {
		m := projections.ReadMarker{Seen: events.SeenUnknown}
		for _, e := range set {
			if p, ok := e.Payload.(events.RoomMarkedUnread); ok && e.Actor == user && p.Room == room {
				m = projections.ReadMarker{UpTo: events.PrecedingID(p.From), Seen: events.SeenUnknown, Event: e.ID, MarkedUnread: e.ID}
			}
		}
		var unread events.Ref
		for _, e := range set {
			if _, ok := e.Payload.(events.RoomMarkedUnread); ok && e.ID == m.MarkedUnread && e.Actor == user {
				unread = e.Ref()
			}
		}
		for _, e := range set {
			p, ok := e.Payload.(events.RoomRead)
			if !ok || e.Actor != user || p.Room != room {
				continue
			}
			switch order := p.UpTo.Compare(m.UpTo); {
			case p.Seen == nil && m.MarkedUnread == events.ID{} && order > 0:
				m.UpTo, m.Seen, m.Event = p.UpTo, events.SeenUnknown, events.ID{}
			case p.Seen != nil && e.Ref().Compare(unread) > 0 && (order > 0 || order == 0 && (m.Event == m.MarkedUnread || uint64(*p.Seen) >= uint64(m.Seen))):
				m.UpTo, m.Seen, m.Event = p.UpTo, *p.Seen, e.ID
			}
		}
		markers[i] = m
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

// lastBeats is the last heartbeat in each stream, and the newest of each region in any stream. The set is in
// order.
func lastBeats(set []events.Event) (last map[events.Stream]events.Event, newest map[string]events.ID) {
	last, newest = map[events.Stream]events.Event{}, map[string]events.ID{}
	for _, e := range set {
		if _, ok := e.Payload.(events.RegionBeat); ok {
			last[e.Stream], newest[e.Actor] = e, e.ID
		}
	}
	return last, newest
}

func frontiersByRule(set []events.Event) map[string]events.ID {
	last, newest := lastBeats(set)
	least := map[string]events.ID{}
	for _, e := range last {
		heard := newest[e.Actor].Timestamp().Sub(e.ID.Timestamp()) <= time.Hour
		if one, has := least[e.Actor]; heard && (!has || e.ID.Compare(one) < 0) {
			least[e.Actor] = e.ID
		}
	}
	return least
}

// lowByRule is the least of those frontiers, of the regions with a heartbeat in the last hour.
func lowByRule(set []events.Event, now time.Time) time.Time {
	_, newest := lastBeats(set)
	var times []time.Time
	for region, id := range frontiersByRule(set) {
		if newest[region].Timestamp().Add(time.Hour).Compare(now) >= 0 {
			times = append(times, id.Timestamp())
		}
	}
	if len(times) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(times, time.Time.Compare)
}
