package source

import (
	"crypto/sha256"
	"time"

	"parley/events"
)

// lead is how many milliseconds before the first thing that happens in a room its creation lies;
// the first of its members joins between the two.
const lead = 2

// Survey is what is in a source. Make one with [Look].
type Survey struct {
	Records  int               // of all kinds, those with problems included
	Messages int               // that can be taken
	Events   int               // that [Events] will make
	First    time.Time         // of all that can be taken, shifted
	Last     time.Time         //
	Mapped   map[string]string // user ids by names that are none

	options Options
	rooms   map[string]*room
	names   []string // of the rooms, in the order of the source
	roots   map[[16]byte]bool
}

// Rooms is how many rooms there are. Events of Parley's own, which stand for themselves, are not
// looked into.
func (s *Survey) Rooms() int { return len(s.names) }

// room is what must be known of a room before its first event is made.
type room struct {
	name     string // the source's own
	about    Room
	first    uint64 // ms
	last     uint64 // of the record looked at last
	sorted   bool
	users    []string // ids of those who did something, first come first
	spans    map[string]*span
	resolved map[[16]byte]target

	id      string
	created events.ID
	order   order
	begun   bool
	joined  map[string]bool
}

// span is what one user did in a room: when first and last, in ms.
type span struct {
	first, last uint64
	joins       bool // the first was to join
	leaves      bool // the last was to leave
}

// target is a message that others refer to.
type target struct{ id, root events.ID }

// Look reads a source once to find out what is in it.
func Look(src Source, o Options) (*Survey, error) {
	s := &Survey{Mapped: map[string]string{}, options: o, rooms: map[string]*room{}, roots: map[[16]byte]bool{}}
	for rec, err := range src.Records() {
		if err != nil {
			return s, err
		}
		s.Records++
		if t, problem := s.take(rec); problem == "" {
			s.look(rec, t)
		}
	}
	for _, r := range s.rooms {
		s.settle(r)
	}
	// The events are made once without being used: how many there are decides how long it takes.
	for item, err := range Events(src, s) {
		if err != nil {
			return s, err
		}
		if item.Event.ID != (events.ID{}) {
			s.Events++
		}
	}
	return s, nil
}

func (s *Survey) look(rec Record, t taken) {
	s.between(t.at)
	switch rec.Kind {
	case KindEvent, KindProfile:
		if rec.Event != nil && rec.Event.Type == "message.posted" {
			s.Messages++
		}
		return
	case KindRoom:
		r := s.room(rec.Room)
		r.about = *rec.About
		return
	}
	r := s.room(rec.Room)
	if rec.Kind == KindMessage {
		s.Messages++
		if rec.Thread != "" {
			s.roots[keyOf(rec.Room, threadKey(rec.Thread))] = true
		}
	}
	r.sorted = r.sorted && t.ms >= r.last
	r.last = t.ms
	r.acts(t.author, t.ms, rec.Kind)
	for i, reaction := range rec.Reactions {
		r.acts(UserOf(reaction.User), t.ms+1+uint64(i), KindMessage)
	}
}

func (s *Survey) between(at time.Time) {
	if s.First.IsZero() || at.Before(s.First) {
		s.First = at
	}
	if at.After(s.Last) {
		s.Last = at
	}
}

func (s *Survey) room(name string) *room {
	r := s.rooms[name]
	if r == nil {
		r = &room{
			name: name, about: Room{Name: roomName(name), Private: s.options.Private}, sorted: true,
			spans: map[string]*span{}, joined: map[string]bool{}, resolved: map[[16]byte]target{},
		}
		s.rooms[name] = r
		s.names = append(s.names, name)
	}
	return r
}

func (r *room) acts(user string, ms uint64, kind Kind) {
	if user == "" {
		return
	}
	if len(r.users) == 0 || ms < r.first {
		r.first = ms
	}
	p := r.spans[user]
	if p == nil {
		p = &span{first: ms, last: ms, joins: kind == KindJoin}
		r.spans[user] = p
		r.users = append(r.users, user)
	}
	if ms < p.first {
		p.first, p.joins = ms, kind == KindJoin
	}
	if ms >= p.last {
		p.last, p.leaves = ms, kind == KindLeave
	}
}

// settle decides who owns a room, when it was created, and so its id.
func (s *Survey) settle(r *room) {
	owner := UserOf(r.about.Owner)
	if owner == "" {
		owner = s.options.Owner
	}
	if owner == "" && len(r.users) > 0 {
		owner = r.users[0]
	}
	if owner == "" && len(r.about.Members) > 0 {
		owner = UserOf(r.about.Members[0])
	}
	if d := r.about.Direct; len(d) == 2 && owner != UserOf(d[1]) {
		owner = UserOf(d[0]) // one of the two
	}
	r.about.Owner = owner
	created, problem := s.options.ms(r.about.Created)
	switch {
	case len(r.users) == 0: // nothing happened
	case r.about.Created.IsZero() || problem != "" || created > r.first-lead:
		created = r.first - lead
	}
	r.first = created
	if !r.sorted {
		r.order.ms = map[uint64]events.ID{}
	}
}

// keyOf names a message in little memory.
func keyOf(room, key string) [16]byte {
	sum := sha256.Sum256([]byte(room + "\x00" + key))
	return [16]byte(sum[:16])
}

// threadKey is the form of a name or a time under which messages are found.
func threadKey(text string) string {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return timeKey(at)
	}
	return text
}

func timeKey(at time.Time) string { return "at " + at.UTC().Format(time.RFC3339Nano) }
