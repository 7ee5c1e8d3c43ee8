package source

import (
	"fmt"
	"iter"
	"time"

	"parley/events"
)

// Item is an event made of a source, or says with a Problem or a Note of what none could be made.
type Item struct {
	Event   events.Event // its ID is zero if there is none
	Place   Place
	Problem string // why this could not be taken
	Note    string // what of it could not be taken
}

// Events makes the events of a source that was looked at: always the same ones, a room's in an
// order in which each comes behind its causes.
func Events(src Source, s *Survey) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for _, r := range s.rooms {
			r.begun, r.joined, r.order.last = false, map[string]bool{}, events.ID{}
			if r.order.ms != nil {
				r.order.ms = map[uint64]events.ID{}
			}
			clear(r.resolved)
		}
		m := &maker{s: s, yield: func(i Item) bool { return yield(i, nil) }}
		for rec, err := range src.Records() {
			if err != nil {
				yield(Item{}, err)
				return
			}
			if !m.record(rec) {
				return
			}
		}
		for _, name := range s.names {
			if !m.begin(Record{Place: Place{File: name}}, s.rooms[name]) || !m.end(s.rooms[name]) {
				return
			}
		}
	}
}

// maker makes events. Its methods say whether more are wanted.
type maker struct {
	s     *Survey
	place Place
	yield func(Item) bool
}

func (m *maker) record(rec Record) bool {
	m.place = rec.Place
	t, problem := m.s.take(rec)
	if problem != "" {
		return m.yield(Item{Place: rec.Place, Problem: problem})
	}
	if rec.Note != "" && !m.note(rec.Note) {
		return false
	}
	switch rec.Kind {
	case KindEvent:
		return m.yield(Item{Place: rec.Place, Event: *rec.Event})
	case KindProfile:
		id := makeID(t.ms, t.author, 0, hashOf("profile", rec.Text))
		return m.event(id, events.UserStream(t.author), t.author, events.UserProfileSet{Name: events.Plain(oneLine(rec.Text, events.MaxNameChars))})
	}
	r := m.s.rooms[rec.Room]
	if !m.begin(rec, r) {
		return false
	}
	if rec.Kind == KindRoom || len(r.about.Direct) == 2 && (rec.Kind == KindJoin || rec.Kind == KindLeave) {
		return true // nobody joins or leaves a direct room
	}
	if !m.join(r, t.author) {
		return false
	}
	stream := events.RoomStream(r.id)
	next := func(payload events.Payload) bool {
		return m.event(r.order.next(t.ms, r.created, t.author, rec.hash()), stream, t.author, payload)
	}
	switch rec.Kind {
	case KindJoin:
		role := events.RoleMember
		if t.author == r.about.Owner {
			role = events.RoleOwner
		}
		return next(events.MemberJoined{User: t.author, Role: role})
	case KindLeave:
		return next(events.MemberLeft{User: t.author})
	case KindArchive:
		return next(events.RoomArchived{})
	case KindUnarchive:
		return next(events.RoomUnarchived{})
	default:
		return m.message(rec, t, r)
	}
}

// message makes a message and what was done to it.
func (m *maker) message(rec Record, t taken, r *room) bool {
	posted, cause := events.MessagePosted{Text: events.Plain(rec.Text)}, r.created
	if rec.Thread != "" {
		to, found := r.resolved[keyOf(rec.Room, threadKey(rec.Thread))]
		if !found && !m.note("the first message of its thread does not come before it: it was taken without a thread") {
			return false
		}
		if found {
			posted.Thread, cause = &to.root, to.id
		}
	}
	id := r.order.next(t.ms, cause, t.author, rec.hash())
	stream := events.RoomStream(r.id)
	if !m.event(id, stream, t.author, posted) {
		return false
	}
	root := id
	if posted.Thread != nil {
		root = *posted.Thread
	}
	m.remember(r, keyOf(rec.Room, timeKey(rec.At)), target{id, root})
	if rec.Key != "" {
		m.remember(r, keyOf(rec.Room, threadKey(rec.Key)), target{id, root})
	}
	return m.edit(rec, t, stream, id) && m.react(rec, r, stream, id)
}

// remember keeps a message that is referred to. The first of its name counts.
func (m *maker) remember(r *room, key [16]byte, to target) {
	if _, known := r.resolved[key]; m.s.roots[key] && !known {
		r.resolved[key] = to
	}
}

func (m *maker) edit(rec Record, t taken, stream events.Stream, id events.ID) bool {
	if rec.Edited.IsZero() {
		return true
	}
	ms, problem := m.s.options.ms(rec.Edited)
	switch {
	case problem != "":
		return m.note("its edit was not taken: " + problem)
	case rec.Editor != "" && UserOf(rec.Editor) != t.author:
		return m.note("it was edited by another user than its author: its last text was taken as the first")
	}
	edited := mintAfter(id, max(ms, id.Time()), t.author, hashOf("edit", id.String(), rec.Text))
	return m.event(edited, stream, t.author, events.MessageEdited{Message: id, Text: events.Plain(rec.Text)})
}

func (m *maker) react(rec Record, r *room, stream events.Stream, id events.ID) bool {
	seen := map[Reaction]bool{}
	for i, reaction := range rec.Reactions {
		user := UserOf(reaction.User)
		if reaction = (Reaction{user, reaction.Emoji}); user == "" || seen[reaction] {
			continue
		}
		seen[reaction] = true
		if !m.join(r, user) {
			return false
		}
		at := makeID(id.Time()+1+uint64(i), user, 0, hashOf("reaction", id.String(), reaction.Emoji))
		if !m.event(at, stream, user, events.ReactionAdded{Message: id, Emoji: reaction.Emoji}) {
			return false
		}
	}
	return true
}

func (m *maker) event(id events.ID, stream events.Stream, actor string, payload events.Payload) bool {
	e, err := events.New(id, stream, actor, m.s.options.Region, payload)
	if err != nil {
		return m.yield(Item{Place: m.place, Problem: fmt.Sprintf("%T: %v", payload, err)})
	}
	return m.yield(Item{Place: m.place, Event: e})
}

func (m *maker) note(text string) bool { return m.yield(Item{Place: m.place, Note: text}) }

// hash tells a record from others of its author and millisecond.
func (rec Record) hash() uint32 {
	if rec.Key != "" {
		return hashOf(fmt.Sprint(rec.Kind), rec.Room, rec.Key)
	}
	return hashOf(fmt.Sprint(rec.Kind), rec.Room, rec.At.UTC().Format(time.RFC3339Nano), rec.Text)
}
