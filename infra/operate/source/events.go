package source

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"parley/events"
)

// Item is an event made from a source, or a Problem or Note about a record.
type Item struct {
	Event   events.Event // its ID is zero if there is none
	Copied  bool         // the event is one of another log, as it is there
	Place   Place
	Problem string // why the record cannot be imported
	Type    string // with a Problem: of the event that is never imported
	Note    string // which part of the record cannot be imported
}

// Events makes the events of a source after its survey. They are the same ones each time, and the
// events of a room come in an order in which each follows its causes.
func Events(src Source, s *Survey) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for _, r := range s.rooms {
			r.begun, r.joined, r.resolved = false, map[string]bool{}, map[[16]byte]target{}
			r.order = order{}
			if !r.sorted {
				r.order.last = map[uint64]events.ID{}
			}
		}
		m := &maker{s: s, yield: yield}
		for rec, err := range src.Records() {
			if err != nil {
				yield(Item{}, err)
				return
			}
			if m.add(rec); m.stopped {
				return
			}
		}
		for _, name := range s.names {
			r := s.rooms[name]
			m.place = Place{File: name}
			m.createRoom(r)
			m.removeMembers(r)
		}
	}
}

// maker makes events.
type maker struct {
	s       *Survey
	place   Place // of the present record
	yield   func(Item, error) bool
	stopped bool // the consumer wants no more
}

// emit hands out an item, unless the consumer has stopped.
func (m *maker) emit(i Item) {
	i.Place = m.place
	m.stopped = m.stopped || !m.yield(i, nil)
}

func (m *maker) emitEvent(id events.ID, stream events.Stream, actor string, payload events.Payload) {
	e, err := events.New(id, stream, actor, m.s.options.Region, payload)
	if err != nil {
		m.emit(Item{Problem: fmt.Sprintf("%T: %v", payload, err)})
		return
	}
	m.emit(Item{Event: e})
}

// add makes the events of a record.
func (m *maker) add(rec Record) {
	m.place = rec.Place
	c, problem := m.s.check(rec)
	if problem != "" {
		item := Item{Problem: problem}
		if rec.Event != nil && neverImported(*rec.Event) {
			item.Type = rec.Event.Type
		}
		m.emit(item)
		return
	}
	if rec.Note != "" {
		m.emit(Item{Note: rec.Note})
	}
	switch rec.Kind {
	case KindEvent:
		m.emit(Item{Event: *rec.Event, Copied: true})
		return
	case KindProfile:
		id := m.s.makeID(c.ms, c.author, 0, hashOf("profile", rec.Text))
		m.emitEvent(id, events.UserStream(c.author), c.author, events.UserProfileSet{Name: events.Plain(oneLine(rec.Text, events.MaxNameChars))})
		return
	}
	r := m.s.rooms[rec.Room]
	m.createRoom(r)
	if rec.Kind == KindRoom {
		m.noteRoom(rec, r)
		return
	}
	if len(r.about.Direct) == 2 && (rec.Kind == KindJoin || rec.Kind == KindLeave) {
		return // nobody joins or leaves a direct room
	}
	m.addMember(r, c.author)
	var payload events.Payload
	switch rec.Kind {
	case KindJoin:
		payload = events.MemberJoined{User: c.author, Role: r.role(c.author)}
	case KindLeave:
		payload = events.MemberLeft{User: c.author}
	case KindArchive:
		payload = events.RoomArchived{}
	case KindUnarchive:
		payload = events.RoomUnarchived{}
	default:
		m.addMessage(rec, c, r)
		return
	}
	m.emitEvent(r.order.next(m.s, c.ms, r.created, c.author, rec.hash()), events.RoomStream(r.id), c.author, payload)
}

// addMessage makes a message, its edit and its reactions.
func (m *maker) addMessage(rec Record, c checked, r *room) {
	posted, cause := events.MessagePosted{Text: events.Plain(rec.Text)}, r.created
	if rec.Thread != "" {
		if to, found := r.resolved[hashKey(rec.Room, threadKey(rec.Thread))]; found {
			posted.Thread, cause = &to.root, to.id
		} else {
			m.emit(Item{Note: "the message it replies to does not come before it: imported without a thread"})
		}
	}
	if rec.ReplyTo != "" {
		if to, found := r.resolved[hashKey(rec.Room, threadKey(rec.ReplyTo))]; found {
			posted.ReplyTo, cause = &to.id, latest(cause, to.id)
		} else {
			m.emit(Item{Note: "the message it answers does not come before it: imported without reply_to"})
		}
	}
	id, stream := r.order.next(m.s, c.ms, cause, c.author, rec.hash()), events.RoomStream(r.id)
	m.emitEvent(id, stream, c.author, posted)

	// Remember the message if others refer to it. The first of a key counts.
	root := id
	if posted.Thread != nil {
		root = *posted.Thread
	}
	keys := []string{timeKey(rec.At)}
	if rec.Key != "" {
		keys = append(keys, threadKey(rec.Key))
	}
	for _, name := range keys {
		key := hashKey(rec.Room, name)
		if _, known := r.resolved[key]; m.s.roots[key] && !known {
			r.resolved[key] = target{id, root}
		}
	}

	if !rec.Edited.IsZero() {
		ms, problem := m.s.options.millis(rec.Edited)
		switch {
		case problem != "":
			m.emit(Item{Note: "its edit was left out: " + problem})
		case rec.Editor != "" && UserOf(rec.Editor) != c.author:
			m.emit(Item{Note: "it was edited by another user: the edited text was imported as the original"})
		default:
			edited := m.s.mintAfter(id, max(ms, id.Time()), c.author, hashOf("edit", id.String(), rec.Text))
			m.emitEvent(edited, stream, c.author, events.MessageEdited{Message: id, Text: events.Plain(rec.Text)})
		}
	}

	seen := map[Reaction]bool{}
	for i, reaction := range rec.Reactions {
		user := UserOf(reaction.User)
		if reaction = (Reaction{user, reaction.Emoji}); user == "" || seen[reaction] {
			continue
		}
		seen[reaction] = true
		m.addMember(r, user)
		at := m.s.makeID(id.Time()+1+uint64(i), user, 0, hashOf("reaction", id.String(), reaction.Emoji))
		m.emitEvent(at, stream, user, events.ReactionAdded{Message: id, Emoji: reaction.Emoji})
	}

	if user := UserOf(rec.Pinned); user != "" {
		m.addMember(r, user)
		at := m.s.makeID(id.Time()+1+uint64(len(rec.Reactions)), user, 0, hashOf("pin", id.String()))
		m.emitEvent(at, stream, user, events.MessagePinned{Message: id})
	}
}

func latest(a, b events.ID) events.ID {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// noteRoom says where a room will not be as the source describes it.
func (m *maker) noteRoom(rec Record, r *room) {
	if rec.About.isOddDirect() {
		m.emit(Item{Note: "a direct room has two users; this becomes a private room"})
	}
	switch {
	case r.heir != "":
		m.emit(Item{Note: fmt.Sprintf("its owner %s is no member any more: %s becomes an owner", r.about.Owner, r.heir)})
	case r.orphan:
		m.emit(Item{Note: fmt.Sprintf("no member is left who can be its owner: give it one with operate owner %s USER", r.id)})
	}
}

// createRoom makes a room before its first event, with the members who never did anything in it.
func (m *maker) createRoom(r *room) {
	if r.begun {
		return
	}
	r.begun = true
	a := r.about
	created := events.RoomCreated{Name: roomName(a.Name), Topic: oneLine(a.Topic, events.MaxTopicChars), Private: a.Private}
	r.created, r.id = m.s.creation(r)
	if len(a.Direct) == 2 {
		users := []string{UserOf(a.Direct[0]), UserOf(a.Direct[1])}
		slices.Sort(users)
		created = events.RoomCreated{Private: true, Direct: users}
		r.joined[users[0]], r.joined[users[1]] = true, true
	}
	r.joined[a.Owner] = true
	m.emitEvent(r.created, events.RoomStream(r.id), a.Owner, created)
	for _, member := range a.Members {
		if user := UserOf(member); r.spans[user] == nil && !r.joined[user] {
			m.joinAt(r, user, r.first+1)
		}
	}
}

// addMember makes a user a member just before the user's first activity, unless that was joining.
func (m *maker) addMember(r *room, user string) {
	switch span := r.spans[user]; {
	case r.joined[user]:
	case span == nil: // a record whose room the survey met only later
		m.joinAt(r, user, r.first+1)
	case span.joins:
		r.joined[user] = true
	default:
		m.joinAt(r, user, span.first-1)
	}
}

func (m *maker) joinAt(r *room, user string, ms uint64) {
	r.joined[user] = true
	id := m.s.mintAfter(r.created, ms, user, hashOf("join", r.id))
	m.emitEvent(id, events.RoomStream(r.id), user, events.MemberJoined{User: user, Role: r.role(user)})
}

// removeMembers makes users leave whom the source no longer lists as members and who did not leave by
// themselves: later messages are not for them.
func (m *maker) removeMembers(r *room) {
	if len(r.about.Direct) == 2 {
		return
	}
	users := r.users
	if !slices.Contains(users, r.about.Owner) {
		users = append(slices.Clone(users), r.about.Owner)
	}
	for _, user := range users {
		last := r.first
		if p := r.spans[user]; p != nil {
			if p.leaves {
				continue
			}
			last = p.last
		}
		if !r.listed(user) {
			id := m.s.mintAfter(r.created, last+1, user, hashOf("leave", r.id))
			m.emitEvent(id, events.RoomStream(r.id), user, events.MemberLeft{User: user})
		}
	}
}

// makeID computes an id from a source. After the time and the mark of its author it has a hash of 24
// bits that separates records which are otherwise equal; with an order, which keeps the source's order
// within a millisecond, 8 bits of that and 16 of the hash. Behind a former mark, 16 bits and 32 always.
func (s *Survey) makeID(ms uint64, author string, order uint16, hash uint32) events.ID {
	var id events.ID
	_ = id.SetTime(ms) // millis has checked it
	mark := s.Mark(author)
	at := 6 + copy(id[6:], mark)
	switch {
	case !keyed(mark):
		binary.BigEndian.PutUint16(id[at:], order)
		binary.BigEndian.PutUint32(id[at+2:], hash)
	case order == 0:
		id[at], id[at+1], id[at+2] = byte(hash>>24), byte(hash>>16), byte(hash>>8)
	default:
		id[at], id[at+1], id[at+2] = byte(order), byte(hash>>24), byte(hash>>16)
	}
	return id
}

// keyed reports whether a mark is not a former one.
func keyed(mark []byte) bool { return len(mark) == len(events.Mark{}) }

// nextOrder is the order of an id that sorts after another one of the same millisecond and author; 0 if
// there is none.
func (s *Survey) nextOrder(id events.ID, author string) uint16 {
	if mark := s.Mark(author); keyed(mark) {
		return (uint16(id[6+len(mark)]) + 1) % (1 << 8)
	}
	return binary.BigEndian.Uint16(id[10:]) + 1
}

// mintAfter makes an id for a time, or for the earliest later time at which it sorts after floor.
func (s *Survey) mintAfter(floor events.ID, ms uint64, author string, hash uint32) events.ID {
	if ms > floor.Time() || floor == (events.ID{}) {
		return s.makeID(ms, author, 0, hash)
	}
	ms = floor.Time()
	if id := s.makeID(ms, author, 0, hash); id.Compare(floor) > 0 {
		return id
	}
	if order := s.nextOrder(floor, author); order > 0 {
		if id := s.makeID(ms, author, order, hash); id.Compare(floor) > 0 {
			return id
		}
	}
	return s.makeID(ms+1, author, 0, hash)
}

// order keeps the ids of one room in the order of its source within each millisecond; of a room whose
// times never go back, in the order of the source altogether.
type order struct {
	floor events.ID            // the last id, of a room whose times never go back
	last  map[uint64]events.ID // else the last id by time
}

// next makes an id that sorts after cause and after the ids before it in the order.
func (o *order) next(s *Survey, ms uint64, cause events.ID, author string, hash uint32) events.ID {
	floor := o.floor
	if o.last != nil {
		floor = o.last[ms]
	}
	if cause.Compare(floor) > 0 {
		floor = cause
	}
	id := s.mintAfter(floor, ms, author, hash)
	if o.floor = id; o.last != nil {
		o.last[ms] = id
	}
	return id
}

// hash separates a record from others of its author and millisecond.
func (rec Record) hash() uint32 {
	if rec.Key != "" {
		return hashOf(fmt.Sprint(rec.Kind), rec.Room, rec.Key)
	}
	return hashOf(fmt.Sprint(rec.Kind), rec.Room, rec.At.UTC().Format(time.RFC3339Nano), rec.Text)
}

// hashOf hashes a list of texts, each preceded by its length.
func hashOf(texts ...string) uint32 {
	h := sha256.New()
	for _, text := range texts {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text)))) // never fails
		_, _ = h.Write([]byte(text))
	}
	return binary.BigEndian.Uint32(h.Sum(nil))
}
