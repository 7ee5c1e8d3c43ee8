package source

import (
	"encoding/binary"
	"slices"
	"time"

	"parley/events"
)

// Past is what a region has of a room: what was imported before, and what happened in it since. Make one
// with [NewPast]. It needs no texts: events may be sealed.
type Past struct {
	stream    events.Stream
	created   events.ID            // of the event that created the room; zero if there is none
	actors    map[events.ID]string // of all events
	messages  map[messageHash][]events.ID
	times     map[uint64]events.ID   // the first message of a time
	former    map[uint32][]events.ID // of a former release, by the end of their ids
	joined    map[idTail]string      // users, by the ids of their joining
	edits     map[editAt]bool
	reactions map[reactionOn]bool
	pins      map[events.ID]bool
	posts     map[string][]events.ID // the messages of each user
	state     state
}

type editAt struct {
	message events.ID
	ms      uint64
}

type reactionOn struct {
	message events.ID
	Reaction
}

// NewPast returns the past of the room of a stream, without events.
func NewPast(stream events.Stream) *Past {
	return &Past{
		stream: stream, actors: map[events.ID]string{}, messages: map[messageHash][]events.ID{}, times: map[uint64]events.ID{},
		former: map[uint32][]events.ID{}, joined: map[idTail]string{},
		edits: map[editAt]bool{}, reactions: map[reactionOn]bool{}, pins: map[events.ID]bool{}, posts: map[string][]events.ID{}, state: newState(),
	}
}

// Add adds an event, in any order.
func (p *Past) Add(e events.Event) {
	if _, known := p.actors[e.ID]; known {
		return
	}
	p.actors[e.ID] = e.Actor
	p.state.apply(e)
	if mark := events.FormerMark(e.Actor); [4]byte(e.ID[6:10]) == mark {
		hash := binary.BigEndian.Uint32(e.ID[12:])
		p.former[hash] = append(p.former[hash], e.ID)
	}
	switch payload := e.Payload.(type) {
	case events.RoomCreated:
		if events.CreatesRoom(e, payload) && (p.created == (events.ID{}) || e.ID.Compare(p.created) < 0) {
			p.created = e.ID
		}
	case events.MemberJoined:
		p.joined[tailOf(e.ID)] = payload.User
	case events.MessagePosted:
		p.posts[e.Actor] = append(p.posts[e.Actor], e.ID)
		hash := hashOfMessage(e.ID)
		p.messages[hash] = append(p.messages[hash], e.ID)
		if first, known := p.times[e.ID.Time()]; !known || e.ID.Compare(first) < 0 {
			p.times[e.ID.Time()] = e.ID
		}
	case events.MessageEdited:
		p.edits[editAt{payload.Message, e.ID.Time()}] = true
	case events.ReactionAdded:
		p.reactions[reactionOn{payload.Message, Reaction{e.Actor, payload.Emoji}}] = true
	case events.MessagePinned:
		p.pins[payload.Message] = true
	}
}

// Len returns the number of events.
func (p *Past) Len() int { return len(p.actors) }

// has reports whether an event of the id is there; a nil Past has none.
func (p *Past) has(id events.ID) bool {
	if p == nil {
		return false
	}
	_, has := p.actors[id]
	return has
}

// postAfter returns the time of the first message of a user after an event, 0 if there is none.
func (p *Past) postAfter(user string, id events.ID) (ms uint64) {
	if p == nil {
		return 0
	}
	for _, post := range p.posts[user] {
		if at := post.Time(); at > id.Time() && (ms == 0 || at < ms) {
			ms = at
		}
	}
	return ms
}

// formerTolerance is by how much a former release moved records of one millisecond, to keep their order.
const formerTolerance = 10 * time.Second

// find returns the id under which a message is there that would get this one, unless another message of
// the source has taken it.
func (p *Past) find(id events.ID, rec Record, taken map[events.ID]bool) (events.ID, bool) {
	if p == nil {
		return id, false
	}
	if p.has(id) {
		return id, true
	}
	if own, err := events.ParseID("id", rec.Key); err == nil && p.has(own) && own.Time() == id.Time() {
		return own, true
	}
	for _, there := range p.messages[hashOfMessage(id)] {
		if events.Imported(there) && there.Time() == id.Time() && part(there, 0) == there && !taken[there] {
			return there, true
		}
	}
	return p.findFormer(id, rec, taken)
}

// findFormer returns the id that a former release gave to a record.
func (p *Past) findFormer(id events.ID, rec Record, taken map[events.ID]bool) (events.ID, bool) {
	for _, there := range p.former[formerHash(rec)] {
		if moved := there.Timestamp().Sub(id.Timestamp()); moved >= 0 && moved < formerTolerance && !taken[there] {
			return there, true
		}
	}
	return id, false
}

// findRecord returns the id under which a record other than a message is there, or would get.
func (p *Past) findRecord(id events.ID, rec Record) events.ID {
	if p != nil && !p.has(id) {
		id, _ = p.findFormer(id, rec, nil)
	}
	return id
}

// refer returns the message that a reference means, if it is there. Computed is the id that follows from the
// reference, zero if none does.
func (p *Past) refer(r *room, ref Ref, computed events.ID) (events.ID, bool) {
	if p == nil {
		return events.ID{}, false
	}
	if former := p.former[hashOf("0", r.key, ref.Key)]; len(former) > 0 {
		return former[0], true
	}
	if computed != (events.ID{}) {
		return computed, p.has(computed)
	}
	if id, err := events.ParseID("id", ref.Key); err == nil && p.has(id) {
		return id, true
	}
	hash := hashOf("message", r.name, ref.Key) >> 8
	for _, id := range p.messages[messageHash{byte(hash >> 16), byte(hash >> 8), byte(hash)}] {
		if events.Imported(id) && part(id, 0) == id {
			return id, true
		}
	}
	at, err := time.Parse(time.RFC3339Nano, ref.Key)
	if err != nil || at.UnixMilli() < 0 {
		return events.ID{}, false
	}
	id, found := p.times[uint64(at.UnixMilli())]
	return id, found
}

// state is who is in a room and what it is like, after events in any order.
type state struct {
	members        map[string][]setting[bool] // of each user, sorted
	roles          map[string]setting[events.Role]
	name, topic    setting[string]
	open, archived setting[bool]
}

// setting is a value and the event that set it.
type setting[T any] struct {
	id    events.ID
	value T
}

func newState() state {
	return state{members: map[string][]setting[bool]{}, roles: map[string]setting[events.Role]{}}
}

// clone returns a copy that can change alone.
func (s state) clone() state {
	c := s
	c.members, c.roles = map[string][]setting[bool]{}, map[string]setting[events.Role]{}
	for user, changes := range s.members {
		c.members[user] = slices.Clone(changes)
	}
	for user, role := range s.roles {
		c.roles[user] = role
	}
	return c
}

func (s *setting[T]) set(id events.ID, value T) {
	if id.Compare(s.id) >= 0 {
		*s = setting[T]{id, value}
	}
}

func (s *state) apply(e events.Event) {
	switch p := e.Payload.(type) {
	case events.RoomCreated:
		s.name.set(e.ID, p.Name)
		s.topic.set(e.ID, p.Topic)
		s.open.set(e.ID, !p.Private)
		if len(p.Direct) == 0 {
			s.join(e.ID, e.Actor, true)
			s.give(e.ID, e.Actor, events.RoleOwner)
		}
	case events.RoomUpdated:
		if p.Name != nil {
			s.name.set(e.ID, *p.Name)
		}
		if p.Topic != nil {
			s.topic.set(e.ID, *p.Topic)
		}
		if p.Private != nil {
			s.open.set(e.ID, !*p.Private)
		}
	case events.RoomArchived:
		s.archived.set(e.ID, true)
	case events.RoomUnarchived:
		s.archived.set(e.ID, false)
	case events.MemberJoined:
		s.join(e.ID, p.User, true)
		s.give(e.ID, p.User, p.Role)
	case events.MemberLeft:
		s.join(e.ID, p.User, false)
	case events.MemberBanned:
		s.join(e.ID, p.User, false)
	case events.MemberRoleChanged:
		s.give(e.ID, p.User, p.Role)
	}
}

func (s *state) join(id events.ID, user string, in bool) {
	s.members[user] = append(s.members[user], setting[bool]{id, in})
	slices.SortFunc(s.members[user], func(a, b setting[bool]) int { return a.id.Compare(b.id) })
}

func (s *state) give(id events.ID, user string, role events.Role) {
	given := s.roles[user]
	given.set(id, role)
	s.roles[user] = given
}

// last returns the last change of a user's membership.
func (s *state) last(user string) setting[bool] {
	if changes := s.members[user]; len(changes) > 0 {
		return changes[len(changes)-1]
	}
	return setting[bool]{}
}

// inAt reports whether a user was a member at a time, Unix milliseconds.
func (s *state) inAt(user string, ms uint64) (in bool) {
	for _, c := range s.members[user] {
		if c.id.Time() <= ms {
			in = c.value
		}
	}
	return in
}
