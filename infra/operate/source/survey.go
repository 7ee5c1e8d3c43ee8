package source

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"parley/events"
)

// leadMillis is the earliest time of a record in Unix milliseconds: its author joins the room before.
const leadMillis = 2

// Survey is what a source contains. Make one with [NewSurvey].
type Survey struct {
	Records  int               // of all kinds, including those with problems
	Messages int               // that can be imported
	Events   int               // that [Events] will make
	Mapped   map[string]string // user ids, by the names in the source from which they differ

	options Options
	rooms   map[string]*room
	names   []string // of the rooms, in the order of the source
	refs    map[digest]bool
	end     uint64 // the time of the last record or creation of a room, in ms: what the source says of rooms holds then

	people map[string]*person // the users that the source lists
	users  map[string]string  // their user ids
	known  map[string]string  // user ids that an earlier import gave them
}

// Rooms returns the number of rooms. Rooms that appear only in Parley events are not counted.
func (s *Survey) Rooms() int { return len(s.names) }

// room is what must be known about a room before its first event is made, and then how far its
// events are made. Persons are named as in the source.
type room struct {
	key, name string // the source's own name; the same with the name of the source
	about     Room
	described bool
	place     Place           // where it is described
	first     uint64          // the earliest time in ms
	last      uint64          // the time of the record read last, in ms
	sorted    bool            // times never go back
	people    []string        // who did something in it as a member, in the order of the source
	has       map[string]bool // the same
	actor     string          // who did anything first
	spans     map[string]span // when, except who only reacted

	direct  []string // the two users of a direct room, sorted
	odd     bool     // the source calls it direct, and it is not one of two users
	private bool
	members []string        // the persons who are members at the end; nil if the source does not say
	listed  map[string]bool // the same
	partial bool            // there may be others
	owner   string

	past     *Past
	id       string
	state    state
	begun    bool
	joined   map[string]bool // users
	messages placer
	seen     map[digest]bool // keys of messages
	taken    map[events.ID]bool
	done     map[events.ID]bool // edits, reactions and pins that were made
	resolved map[digest]target
}

// span is when a person first and last did something in a room, in ms.
type span struct {
	first, last uint64
	joins       bool // the first was joining
}

// target is a message that others refer to.
type target struct{ id, root events.ID }

// digest identifies a message in little memory.
type digest [12]byte

func digestKey(key string) digest {
	sum := sumOf(key)
	return digest(sum[:])
}

// refKey returns the key under which a message is found by its name or its time.
func refKey(text string) digest {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return timeKey(at)
	}
	return digestKey(text)
}

func timeKey(at time.Time) digest { return digestKey("at " + at.UTC().Format(time.RFC3339Nano)) }

// placer numbers the messages of each millisecond.
type placer struct {
	ms    uint64
	n     int
	times map[uint64]int // of a source whose times go back
}

func (p *placer) next(ms uint64) int {
	if p.times != nil {
		p.times[ms]++
		return p.times[ms] - 1
	}
	if ms != p.ms {
		p.ms, p.n = ms, 0
	}
	p.n++
	return p.n - 1
}

// NewSurvey reads a source to find out what it contains.
func NewSurvey(src Source, o Options) (*Survey, error) {
	s := &Survey{options: o, rooms: map[string]*room{}, refs: map[digest]bool{}, people: map[string]*person{}, known: map[string]string{}}
	for rec, err := range src.Records() {
		if err != nil {
			return s, err
		}
		s.Records++
		if c, problem := s.check(rec); problem == "" {
			s.add(rec, c)
		}
	}
	return s, s.Prepare(src)
}

// Prepare decides what users and rooms become, and counts the events. Call it again after
// [Survey.Continue].
func (s *Survey) Prepare(src Source) error {
	s.decide()
	s.Events, s.Messages = 0, 0
	for _, r := range s.rooms {
		r.resolved = map[digest]target{}
	}
	for item, err := range Events(src, s) {
		if err != nil {
			return err
		}
		if item.Event.ID != (events.ID{}) {
			s.Events++
		}
		if item.Event.Type == "message.posted" {
			s.Messages++
		}
	}
	return nil
}

// decide decides what users and rooms become.
func (s *Survey) decide() {
	s.assignUsers()
	for _, r := range s.rooms {
		s.decideRoom(r)
		s.end = max(s.end, r.createdMillis(s))
	}
}

// Candidates returns, for each room that is direct or not, the streams in which a region may have it, by
// the room's name in the source. Continue the others first: they show who the users of direct rooms are.
func (s *Survey) Candidates(direct bool) map[string][]events.Stream {
	all := map[string][]events.Stream{}
	for key, r := range s.rooms {
		if (r.direct != nil) != direct || r.past != nil {
			continue
		}
		if direct {
			all[key] = []events.Stream{events.RoomStream(events.DirectRoom(r.direct[0], r.direct[1]))}
			continue
		}
		for _, id := range append([]events.ID{r.creation(s), idOf(0, "room", r.name)}, s.formerRooms(r)...) {
			if stream := events.RoomStream(id.String()); id != (events.ID{}) && !slices.Contains(all[key], stream) {
				all[key] = append(all[key], stream)
			}
		}
	}
	return all
}

// Continue says what a region has of a room, which the import then continues.
func (s *Survey) Continue(key string, past *Past) { s.rooms[key].past = past }

// checked is what both passes over a source need from a record.
type checked struct{ ms uint64 } // shifted Unix milliseconds

// check validates a record. A problem is why it cannot be imported.
func (s *Survey) check(rec Record) (c checked, problem string) {
	switch {
	case rec.Problem != "":
		return c, rec.Problem
	case rec.Kind == KindRoom || rec.Kind == KindNote:
		return c, ""
	case rec.Kind == KindEvent:
		return c, s.checkEvent(*rec.Event)
	}
	c.ms, problem = s.options.millis(rec.At)
	switch {
	case rec.Kind == KindUser: // a name without a valid time is the oldest
		if problem != "" || rec.At.IsZero() {
			c.ms = leadMillis
		}
		return c, ""
	case problem != "":
		return c, problem
	case rec.Author == "":
		return c, "author is missing"
	case events.ValidateName("room", roomName(rec.Room)) != nil && s.rooms[rec.Room] == nil:
		return c, "room must be a name with at least one visible character"
	case rec.Kind == KindMessage:
		if err := events.ValidateText("text", splitText(rec.Text)[0]); err != nil {
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
// move on a little, because authors must join before.
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
	switch rec.Kind {
	case KindEvent, KindNote:
		return
	case KindUser:
		s.people[rec.Author] = &person{login: rec.Login, gone: rec.Gone}
		return
	}
	r := s.rooms[rec.Room]
	if r == nil {
		r = &room{key: rec.Room, name: rec.Room, about: Room{Private: !s.options.Public}, sorted: true, spans: map[string]span{}, has: map[string]bool{}}
		if s.options.Name != "" {
			r.name = s.options.Name + "\x00" + rec.Room
		}
		s.rooms[rec.Room] = r
		s.names = append(s.names, rec.Room)
	}
	if rec.Kind == KindRoom {
		r.describe(*rec.About, rec.Place)
		return
	}
	for _, to := range []Ref{rec.Thread, rec.ReplyTo} {
		if to.Key != "" {
			s.refs[refKey(to.Key)] = true
		}
	}
	s.end = max(s.end, c.ms)
	r.sorted = r.sorted && c.ms >= r.last
	r.last = c.ms
	r.actor = cmp.Or(r.actor, rec.Author)
	if rec.Kind.byMember() {
		r.addActivity(rec.Author, c.ms, rec.Kind)
	}
	for _, reaction := range rec.Reactions {
		r.addPerson(reaction.User)
	}
	r.addPerson(rec.Pinned)
}

// describe adds what the source says about the room. Of two descriptions the stricter holds, and one that is
// inferred counts only if there is no other.
func (r *room) describe(a Room, place Place) {
	switch {
	case a.inferred && r.described:
		return
	case r.described && !r.about.inferred:
		a.Private = a.Private || r.about.Private
		a.Pins = append(a.Pins, r.about.Pins...)
	}
	r.about, r.described, r.place = a, true, place
}

// addPerson adds who did something of which the source does not say when.
func (r *room) addPerson(who string) {
	if who != "" && !r.has[who] {
		r.people, r.has[who] = append(r.people, who), true
	}
}

func (r *room) addActivity(who string, ms uint64, kind Kind) {
	if r.first == 0 || ms < r.first {
		r.first = ms
	}
	p, known := r.spans[who]
	if !known {
		p = span{first: ms, last: ms, joins: kind == KindJoin}
	}
	if ms < p.first {
		p.first, p.joins = ms, kind == KindJoin
	}
	p.last = max(p.last, ms)
	r.spans[who] = p
	r.addPerson(who)
}

// createdMillis is when the room was created, 0 if the source does not say.
func (r *room) createdMillis(s *Survey) uint64 {
	_, problem := s.options.millis(r.about.Created)
	if problem != "" || r.about.Created.IsZero() {
		return 0
	}
	return uint64(r.about.Created.Add(s.options.Shift).UnixMilli())
}

// creation returns the id of the event that creates the room.
func (r *room) creation(s *Survey) events.ID { return idOf(r.createdMillis(s), "room", r.name) }

// decideRoom decides what a room becomes, who is in it and who owns it.
func (s *Survey) decideRoom(r *room) {
	a := r.about
	r.private, r.partial, r.direct, r.odd, r.listed = a.Private, a.partial, nil, false, nil
	r.members = a.Members
	if a.Direct != nil {
		for _, who := range a.Direct {
			if user := s.user(who); user != "" && !slices.Contains(r.direct, user) {
				r.direct = append(r.direct, user)
			}
		}
		slices.Sort(r.direct)
		if r.private = true; len(r.direct) != 2 {
			r.odd, r.direct, r.members, r.partial = true, nil, a.Direct, true
		}
	}
	if r.members != nil && r.direct == nil {
		r.listed = map[string]bool{}
		for _, who := range r.members {
			r.listed[who] = who != ""
		}
	}
	first := func(people []string) string {
		return strings.Join(people[:min(len(people), 1)], "")
	}
	owners := slices.DeleteFunc(slices.Clone(r.members), func(who string) bool { return a.Roles[who] != events.RoleOwner })
	r.owner = cmp.Or(a.Owner, s.options.Owner, first(owners), first(r.members), first(r.people), r.actor)
	if r.direct != nil && !slices.Contains(r.direct, s.user(r.owner)) {
		r.owner = a.Direct[0]
	}
	switch {
	case r.past != nil:
		r.id = r.past.stream.Name()
	case r.direct != nil:
		r.id = events.DirectRoom(r.direct[0], r.direct[1])
	default:
		r.id = r.creation(s).String()
	}
}

// isListed reports whether a person can be a member at the end.
func (r *room) isListed(who string) bool { return r.listed == nil || r.partial || r.listed[who] }

// role is the role with which a person joins.
func (r *room) role(who string) events.Role {
	if who == r.owner {
		return events.RoleOwner
	}
	return cmp.Or(r.about.Roles[who], events.RoleMember)
}
