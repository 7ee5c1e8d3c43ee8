package source

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"parley/events"
)

// leadMillis is how many milliseconds a room is created before its first record. Its first member
// joins in between.
const leadMillis = 2

// Survey is what a source contains. Make one with [NewSurvey].
type Survey struct {
	Records  int               // of all kinds, including those with problems
	Messages int               // that can be imported
	Events   int               // that [Events] will make
	First    time.Time         // of all records that can be imported, shifted
	Last     time.Time         //
	Mapped   map[string]string // user ids, by the authors' names that are not valid ids
	Authors  []string          // of the events that [Events] will make; those that the source has are left out

	// Mark returns the mark of an author, which must be set before [Events]: the bytes of the
	// [events.Mark] that the region gives or, to make the events that a release without these made, of
	// [events.FormerMark].
	Mark func(author string) []byte

	options Options
	rooms   map[string]*room
	names   []string        // of the rooms, in the order of the source
	refused map[string]bool // rooms that cannot be imported
	roots   map[[16]byte]bool
}

// Rooms returns the number of rooms. Rooms that appear only in Parley events are not counted.
func (s *Survey) Rooms() int { return len(s.names) }

// room is what must be known about a room before its first event is made, and then how far its
// events are made.
type room struct {
	name   string // the source's own
	about  Room
	first  uint64 // earliest time in ms; once the survey is complete: of the room's creation
	last   uint64 // time of the record read last, in ms
	sorted bool   // times never go back
	users  []string
	spans  map[string]*span // by user

	described bool                   // by a KindRoom
	members   map[string]bool        // about.Members as users
	roles     map[string]events.Role // about.Roles by user
	heir      string                 // becomes an owner, because about.Owner is no member at the end
	orphan    bool                   // nobody can become an owner

	id       string
	created  events.ID
	order    order
	begun    bool
	joined   map[string]bool
	resolved map[[16]byte]target
}

// span is when a user first and last did something in a room, in ms.
type span struct {
	first, last uint64
	joins       bool // the first was joining
	leaves      bool // the last was leaving
}

// target is a message that others refer to.
type target struct{ id, root events.ID }

// NewSurvey reads a source once to find out what it contains.
func NewSurvey(src Source, o Options) (*Survey, error) {
	s := &Survey{Mapped: map[string]string{}, options: o, rooms: map[string]*room{}, refused: map[string]bool{}, roots: map[[16]byte]bool{}}
	for rec, err := range src.Records() {
		if err != nil {
			return s, err
		}
		s.Records++
		if c, problem := s.check(rec); problem == "" {
			s.add(rec, c)
		} else if rec.Kind == KindRoom && rec.Room != "" {
			s.refused[rec.Room] = true
		}
	}
	// What belongs to a room that cannot be imported as it is described must not make another room,
	// which might be open to more people.
	s.names = slices.DeleteFunc(s.names, func(name string) bool { return s.refused[name] })
	maps.DeleteFunc(s.rooms, func(name string, _ *room) bool { return s.refused[name] })
	for _, r := range s.rooms {
		s.decideOwner(r)
	}
	// Make the events once without using them: their number is the total for progress and costs, and
	// does not depend on the marks of their authors, which are found here.
	authors := map[string]bool{}
	s.Mark = func(author string) []byte {
		authors[author] = true
		return make([]byte, len(events.Mark{}))
	}
	for item, err := range Events(src, s) {
		if err != nil {
			return s, err
		}
		if item.Event.ID != (events.ID{}) {
			s.Events++
		}
		if item.Event.Type == "message.posted" {
			s.Messages++
		}
	}
	s.Authors = slices.Sorted(maps.Keys(authors))
	return s, nil
}

// Creations returns the events that create the rooms, in the order of the source.
func (s *Survey) Creations() []events.Key {
	keys := make([]events.Key, len(s.names))
	for i, name := range s.names {
		id, room := s.creation(s.rooms[name])
		keys[i] = events.Key{Stream: events.RoomStream(room), ID: id}
	}
	return keys
}

// creation returns the id of the event that creates a room, and the room's id.
func (s *Survey) creation(r *room) (id events.ID, roomID string) {
	id = s.makeID(r.first, r.about.Owner, 0, hashOf("room", r.name))
	if d := r.about.Direct; len(d) == 2 {
		return id, events.DirectRoom(UserOf(d[0]), UserOf(d[1]))
	}
	return id, id.String()
}

// checked is what both passes over a source need from a record.
type checked struct {
	at     time.Time // shifted
	ms     uint64
	author string // a user id
}

// check validates a record. A problem is why it cannot be imported.
func (s *Survey) check(rec Record) (c checked, problem string) {
	switch {
	case rec.Problem != "":
		return c, rec.Problem
	case rec.Kind == KindRoom:
		if events.ValidateName("room", rec.About.nameOr(rec.Room)) != nil && len(rec.About.conversation().Direct) != 2 {
			return c, "the room has no name: it is not imported, nor are its messages"
		}
		c.at = rec.At
		return c, ""
	case rec.Kind == KindEvent:
		c.at = rec.At
		return c, s.checkEvent(*rec.Event)
	case rec.Kind != KindProfile && s.refused[rec.Room]:
		return c, "its room is not imported"
	}
	c.at = rec.At.Add(s.options.Shift)
	if c.ms, problem = s.options.millis(rec.At); problem != "" {
		return c, problem
	}
	if c.author = UserOf(rec.Author); c.author == "" {
		return c, "author is missing"
	}
	if c.author != rec.Author {
		s.Mapped[rec.Author] = c.author
	}
	if rec.Kind == KindProfile {
		return c, ""
	}
	if events.ValidateName("room", roomName(rec.Room)) != nil && s.rooms[rec.Room] == nil {
		return c, "room must be a name with at least one visible character"
	}
	if rec.Kind == KindMessage {
		if err := events.ValidateText("text", rec.Text); err != nil {
			return c, err.Error()
		}
	}
	return c, ""
}

// neverImported reports whether an event erases a user or records what an operator or a region did:
// that happens only where it is done.
func neverImported(e events.Event) bool {
	kind, _ := e.Stream.Split()
	return e.Type == "user.erased" || kind != events.KindRoom && kind != events.KindUser
}

// checkEvent says why an event of the source cannot be imported.
func (s *Survey) checkEvent(e events.Event) (problem string) {
	switch {
	case !s.options.Events:
		return "the line is an event: lines that are events are imported only with -events"
	case neverImported(e):
		return "events of type " + e.Type + " are never imported"
	case s.options.Shift != 0:
		return "an event cannot be shifted: its time is part of its id"
	default:
		return ""
	}
}

// millis returns a shifted time in milliseconds, as an id holds it. The first milliseconds of 1970
// move on a little, because the room must be created before.
func (o Options) millis(at time.Time) (ms uint64, problem string) {
	at = at.Add(o.Shift)
	switch n := at.UnixMilli(); {
	case n < 0:
		return 0, "the time is before 1970, which ids cannot represent; use -shift to move all times"
	case at.After(o.Now):
		return 0, "the time is in the future"
	default:
		return uint64(max(n, leadMillis)), ""
	}
}

// add adds a valid record to the survey.
func (s *Survey) add(rec Record, c checked) {
	if s.First.IsZero() || c.at.Before(s.First) {
		s.First = c.at
	}
	if c.at.After(s.Last) {
		s.Last = c.at
	}
	if rec.Kind == KindEvent || rec.Kind == KindProfile {
		return
	}
	r := s.rooms[rec.Room]
	if r == nil {
		r = &room{
			name: rec.Room, about: Room{Name: rec.Room, Private: !s.options.Public}, sorted: true, spans: map[string]*span{},
		}
		s.rooms[rec.Room] = r
		s.names = append(s.names, rec.Room)
	}
	if rec.Kind == KindRoom {
		about := rec.About.conversation()
		about.Name = about.nameOr(rec.Room)
		about.Private = about.Private || r.described && r.about.Private // of two descriptions, the stricter
		r.about, r.described = about, true
		return
	}
	for _, to := range []string{rec.Thread, rec.ReplyTo} {
		if to != "" {
			s.roots[hashKey(rec.Room, threadKey(to))] = true
		}
	}
	r.sorted = r.sorted && c.ms >= r.last
	r.last = c.ms
	r.addActivity(c.author, c.ms, rec.Kind)
	for i, reaction := range rec.Reactions {
		if user := UserOf(reaction.User); user != "" {
			r.addActivity(user, c.ms+1+uint64(i), KindMessage)
		}
	}
	if user := UserOf(rec.Pinned); user != "" {
		r.addActivity(user, c.ms+1+uint64(len(rec.Reactions)), KindMessage)
	}
}

func (r *room) addActivity(user string, ms uint64, kind Kind) {
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

// decideOwner decides the owner of a room and the time of its creation, which together with its name
// give its id.
func (s *Survey) decideOwner(r *room) {
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
		owner = UserOf(d[0])
	}
	r.about.Owner = owner
	if len(r.about.Direct) != 2 {
		r.members, r.roles = usersOf(r.about.Members), map[string]events.Role{}
		for name, role := range r.about.Roles {
			r.roles[UserOf(name)] = role
		}
		s.decideHeir(r)
	}
	created, problem := s.options.millis(r.about.Created)
	if len(r.users) > 0 && (r.about.Created.IsZero() || problem != "" || created > r.first-leadMillis) {
		created = r.first - leadMillis
	}
	r.first = created
}

// decideHeir finds an owner for a room whose owner is no member at the end, because a room that nobody
// can manage stays so: another owner, else an admin, else who was there first. If nobody is left, it
// is the operator's owner.
func (s *Survey) decideHeir(r *room) {
	stays := func(user string) bool {
		p := r.spans[user]
		return user != "" && r.listed(user) && (p == nil || !p.leaves)
	}
	if stays(r.about.Owner) {
		return
	}
	users := slices.Clone(r.users)
	slices.SortStableFunc(users, func(a, b string) int { return cmp.Compare(r.spans[a].first, r.spans[b].first) })
	for _, member := range r.about.Members {
		users = append(users, UserOf(member))
	}
	users = slices.DeleteFunc(users, func(user string) bool { return !stays(user) })
	heir := ""
	for _, user := range users {
		if heir == "" || r.role(user).Rank() > r.role(heir).Rank() {
			heir = user
		}
	}
	switch owner := s.options.Owner; {
	case heir != "" && r.role(heir) == events.RoleOwner: // is one anyway
	case heir != "":
		r.heir = heir
	case owner != "" && r.spans[owner] == nil:
		r.heir, r.about.Members = owner, append(slices.Clone(r.about.Members), owner)
		r.members = usersOf(r.about.Members)
	default:
		r.orphan = true
	}
}

// usersOf returns the users of a list of names; nil of nil.
func usersOf(names []string) map[string]bool {
	if names == nil {
		return nil
	}
	users := make(map[string]bool, len(names))
	for _, name := range names {
		users[UserOf(name)] = true
	}
	return users
}

// listed reports whether a user can be a member at the end.
func (r *room) listed(user string) bool {
	return r.members == nil || r.about.partial || r.members[user]
}

// role is the role with which a user joins.
func (r *room) role(user string) events.Role {
	if user == r.about.Owner || user == r.heir {
		return events.RoleOwner
	}
	return cmp.Or(r.roles[user], events.RoleMember)
}

// hashKey identifies a message in little memory.
func hashKey(room, key string) [16]byte {
	sum := sha256.Sum256([]byte(room + "\x00" + key))
	return [16]byte(sum[:16])
}

// threadKey returns the key under which a message is found by its name or its time.
func threadKey(text string) string {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return timeKey(at)
	}
	return text
}

func timeKey(at time.Time) string { return "at " + at.UTC().Format(time.RFC3339Nano) }
