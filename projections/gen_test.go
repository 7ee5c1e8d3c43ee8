package projections_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
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

// authors is who wrote each of messages, if she did.
var authors = []string{"ada", "bob", "eve", "ada"}

// makeID makes the id of an actor at a millisecond; n tells ids of one millisecond apart.
func makeID(ms uint64, actor string, n uint32) events.ID {
	var id events.ID
	if err := id.SetTime(ms); err != nil {
		panic(err)
	}
	mark := events.Mark(actor)
	copy(id[6:], mark[:])
	binary.BigEndian.PutUint32(id[12:], n)
	return id
}

// eventTypes are how an event of each type is drawn. Hostile ones are among them: by whoever, of
// whatever message, before it and after it, into whichever room.
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
	"room.read":        func(d draw) events.Payload { return events.RoomRead{Room: d.room(), UpTo: d.message()} },
	"user.profile_set": func(d draw) events.Payload { return events.UserProfileSet{Name: d.text(), About: d.text()} },
	"user.erased":      func(d draw) events.Payload { return events.UserErased{By: d.user("by")} },
	"event.late":       func(d draw) events.Payload { return events.EventLate{Event: d.message()} },
	"region.beat":      func(draw) events.Payload { return events.RegionBeat{} },
	"ops.acted":        func(d draw) events.Payload { return events.OpsActed{What: d.word("what")} },
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

// message draws one of the messages, half of the time the first, so that much happens to it.
func (d draw) message() events.ID {
	return rapid.OneOf(rapid.Just(messages[0]), rapid.SampledFrom(messages)).Draw(d.T, "message")
}

func (d draw) maybe(label string) *events.ID {
	if d.oneIn(2, label) {
		return nil
	}
	return ptr(d.message())
}

// event draws an event of a type. n is its place among those drawn: no two have one id.
func (d draw) event(name string, n uint32) events.Event {
	actor, region := d.user("actor"), rapid.SampledFrom(regions).Draw(d.T, "region")
	id := makeID(rapid.Uint64Range(4, 20).Draw(d.T, "ms"), actor, 100+n)
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
			id, actor, stream = makeID(5, "ada", 1), "ada", events.RoomStream(plain)
		}
	case "message.posted":
		if !d.oneIn(4, "nobody asks for it") {
			at := slices.Index(messages, d.message())
			id, actor = messages[at], authors[at]
		}
	case "room.read", "user.profile_set", "user.erased":
		stream = events.UserStream(actor)
	case "region.beat":
		actor = region
		stream = events.RegionStream(region)
	case "ops.acted":
		stream = events.OpsStream(region)
	}
	return newEvent(id, stream, actor, region, payload)
}

// eventsOf draws a set of events of the named types, sorted by id. The same event may be in it
// twice, as accepted by two regions.
func eventsOf(types []string, most int) *rapid.Generator[[]events.Event] {
	return rapid.Custom(func(t *rapid.T) []events.Event {
		d := draw{t}
		var set []events.Event
		said := map[string]bool{}
		for n := range rapid.IntRange(0, most).Draw(t, "events") {
			e := d.event(rapid.SampledFrom(types).Draw(t, "type"), uint32(n))
			if place := string(e.Stream) + e.ID.String(); said[place] {
				continue // a log has one event under an id
			} else {
				said[place] = true
			}
			if d.oneIn(10, "unreadable") {
				e = unreadable(e)
			}
			set = append(set, e)
			if d.oneIn(6, "accepted twice") && e.Stream.Name() != e.Actor {
				e.Region = regions[1-slices.Index(regions, e.Region)]
				set = append(set, e)
			}
		}
		slices.SortStableFunc(set, func(a, b events.Event) int { return a.ID.Compare(b.ID) })
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
	stored.Type = e.Type + "/99"
	again, err := events.Decode(stored)
	if err != nil {
		panic(err)
	}
	return again
}

func ptr[V any](v V) *V { return &v }

// Whoever adds an event type must teach the generator to draw it.
func TestGeneratorKnowsAllTypes(t *testing.T) {
	for _, name := range events.Types() {
		if eventTypes[name] == nil {
			t.Errorf("the generator does not draw %s", name)
		}
	}
}
