package source

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"parley/events"
)

// Item is an event made from a source, or what becomes of a record of which none is made.
type Item struct {
	Event   events.Event // its ID is zero if there is none
	Known   bool         // the region has the event already
	Copied  bool         // the event is one of another log, as it is there
	Place   Place
	Problem string // why the record cannot be imported
	Type    string // with a Problem: of the event that is never imported
	Note    string // which part of the record cannot be imported
	Repeat  bool   // the record is the same message as an earlier one
}

// Events makes the events of a source after its survey. They are the same ones each time, and the
// events of a room come in an order in which each follows its causes.
func Events(src Source, s *Survey) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for _, r := range s.rooms {
			r.begin()
		}
		m := &maker{s: s, yield: yield, profiles: map[events.ID]bool{}}
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
			m.finish(r)
		}
	}
}

// begin makes the room ready for its first event.
func (r *room) begin() {
	r.begun, r.joined, r.seen, r.messages = false, map[string]bool{}, map[digest]bool{}, placer{}
	r.taken, r.done, r.state = map[events.ID]bool{}, map[events.ID]bool{}, newState()
	if !r.sorted {
		r.messages.times = map[uint64]int{}
	}
	if r.past != nil {
		r.state = r.past.state.clone()
	}
}

// maker makes events.
type maker struct {
	s        *Survey
	place    Place // of the present record
	yield    func(Item, error) bool
	stopped  bool               // the consumer wants no more
	profiles map[events.ID]bool // that were made
}

// emit hands out an item, unless the consumer has stopped.
func (m *maker) emit(i Item) {
	i.Place = m.place
	m.stopped = m.stopped || !m.yield(i, nil)
}

func (m *maker) note(format string, args ...any) { m.emit(Item{Note: fmt.Sprintf(format, args...)}) }

// emitEvent makes an event by a person.
func (m *maker) emitEvent(id events.ID, stream events.Stream, actor string, payload events.Payload, known bool) {
	e, err := events.New(id, stream, actor, m.s.options.Region, payload)
	if err != nil {
		m.emit(Item{Problem: fmt.Sprintf("%T: %v", payload, err)})
		return
	}
	m.emit(Item{Event: e, Known: known})
}

// emitRoom makes an event of a room, and remembers what it changes.
func (m *maker) emitRoom(r *room, id events.ID, actor string, payload events.Payload) {
	known := r.past.has(id)
	if !known {
		r.state.apply(events.Event{ID: id, Stream: events.RoomStream(r.id), Actor: actor, Payload: payload})
	}
	m.emitEvent(id, events.RoomStream(r.id), actor, payload, known)
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
	case KindNote:
		return
	case KindEvent:
		m.emit(Item{Event: *rec.Event, Copied: true})
		return
	case KindUser:
		m.addUser(rec, c)
		return
	}
	r := m.s.rooms[rec.Room]
	m.createRoom(r)
	switch {
	case rec.Kind == KindRoom:
		if r.odd {
			m.note("a direct room has two users; this becomes a private room")
		}
		return
	case r.direct != nil && rec.Kind != KindMessage:
		m.note("nobody joins, leaves, names or archives a direct room: left out")
		return
	}
	if rec.Kind.byMember() && (rec.Kind != KindJoin || !r.joined[m.s.user(rec.Author)]) {
		m.addMember(r, rec.Author, c.ms)
	}
	id, user := r.past.findRecord(r.recordID(rec, c.ms), rec), m.s.user(rec.Author)
	switch rec.Kind {
	case KindJoin:
		m.emitRoom(r, id, user, events.MemberJoined{User: user, Role: r.role(rec.Author)})
	case KindLeave:
		m.emitRoom(r, id, user, events.MemberLeft{User: user})
		if ms := r.past.postAfter(user, id); ms > 0 && !r.state.inAt(user, ms) { // of a later part of the source
			m.emitRoom(r, m.joinID(r, rec.Author, ms-1), user, events.MemberJoined{User: user, Role: r.role(rec.Author)})
		}
	case KindArchive:
		m.emitRoom(r, id, user, events.RoomArchived{})
	case KindUnarchive:
		m.emitRoom(r, id, user, events.RoomUnarchived{})
	case KindUpdate:
		m.emitRoom(r, id, user, rec.Update)
	default:
		m.addMessage(rec, c, r)
	}
}

func (m *maker) addUser(rec Record, c checked) {
	if note := m.s.people[rec.Author].note; note != "" {
		m.note("%s", note)
	}
	if name := oneLine(rec.Text, events.MaxNameChars); events.ValidateName("name", name) == nil {
		user, id := m.s.user(rec.Author), idOf(c.ms, "profile", rec.Author, name)
		if m.profiles[id] { // two lists have the user
			m.emit(Item{Repeat: true})
			return
		}
		m.profiles[id] = true
		m.emitEvent(id, events.UserStream(user), user, events.UserProfileSet{Name: events.Plain(name)}, false)
	}
}

// addMessage makes a message, its edit, its reactions and its pin.
func (m *maker) addMessage(rec Record, c checked, r *room) {
	if rec.Key != "" {
		key := digestKey(rec.Key)
		if r.seen[key] {
			m.emit(Item{Repeat: true})
			if rec.exact { // the copy may say more
				id, _ := r.past.find(r.exactID(rec.At, c.ms, rec.Key), rec, nil)
				m.addChanges(rec, r, id)
			}
			return
		}
		r.seen[key] = true
	}
	index := 0
	if !rec.exact {
		index = r.messages.next(c.ms)
	}
	id, known := r.past.find(r.messageID(rec, c.ms, index), rec, r.taken)
	if known {
		r.taken[id] = true
	}
	posted := events.MessagePosted{}
	root := id
	if to, found := m.refer(r, rec.Thread, id, "thread"); found {
		posted.Thread, root = &to.root, to.root
	}
	if to, found := m.refer(r, rec.ReplyTo, id, "reply_to"); found {
		posted.ReplyTo = &to.id
	}
	// Remember the message if others refer to it. The first of a time counts.
	keys := []digest{timeKey(rec.At)}
	if rec.Key != "" {
		keys = append(keys, refKey(rec.Key))
	}
	for _, key := range keys {
		if first, has := r.resolved[key]; m.s.refs[key] && (!has || first.id == id) {
			r.resolved[key] = target{id, root}
		}
	}
	texts := splitText(rec.Text)
	if len(texts) > 1 {
		m.note("the text is longer than %d bytes: it is split into %d messages", events.MaxTextBytes, len(texts))
	}
	for n, text := range texts {
		posted.Text = events.Plain(text)
		m.emitEvent(part(id, n), events.RoomStream(r.id), m.s.user(rec.Author), posted, known || r.past.has(part(id, n)))
	}
	m.addChanges(rec, r, id)
}

// refer returns the message to which another one refers. A message whose id follows from the reference, because
// its time is its key or the source was exported from Parley, need not be in the source: all who refer to it
// keep together, and with a later import it is there.
func (m *maker) refer(r *room, ref Ref, id events.ID, as string) (to target, found bool) {
	if ref.Key == "" {
		return target{}, false
	}
	to, found = r.resolved[refKey(ref.Key)]
	var computed events.ID
	if ms, problem := m.s.options.millis(ref.At); !found && !ref.At.IsZero() && problem == "" {
		computed = r.exactID(ref.At, ms, ref.Key)
	}
	if exported, err := events.ParseID("id", ref.Key); err == nil && events.Imported(exported) {
		computed = exported
	}
	if !found {
		to.id, found = r.past.refer(r, ref, computed)
		to.root = to.id
	}
	switch {
	case found && to.id.Compare(id) < 0 && to.root.Compare(id) < 0:
		return to, true
	case !found && computed != (events.ID{}) && computed.Compare(id) < 0:
		m.note("the message it refers to as %s is not in the source", as)
		return target{computed, computed}, true
	case found:
		m.note("the message it refers to as %s does not come before it: imported without %s", as, as)
	default:
		m.note("the message it refers to as %s is not in the source: imported without %s", as, as)
	}
	return target{}, false
}

// addChanges makes the edit, the reactions and the pin of a message.
func (m *maker) addChanges(rec Record, r *room, id events.ID) {
	stream, author := events.RoomStream(r.id), m.s.user(rec.Author)
	if !rec.Edited.IsZero() {
		ms, problem := m.s.options.millis(rec.Edited)
		switch {
		case problem != "":
			m.note("its edit was left out: %s", problem)
		case rec.Editor != "" && m.s.user(rec.Editor) != author:
			m.note("it was edited by another user: the edited text was imported as the original")
		default:
			for n, text := range splitText(rec.Text) {
				of := part(id, n)
				edited := idOf(after(of, ms), "edit", of.String())
				if r.done[edited] {
					continue
				}
				r.done[edited] = true
				known := r.past != nil && (r.past.has(edited) || r.past.edits[editAt{of, ms}])
				m.emitEvent(edited, stream, author, events.MessageEdited{Message: of, Text: events.Plain(text)}, known)
			}
		}
	}
	for i, reaction := range rec.Reactions {
		user, emoji := m.s.user(reaction.User), events.NormalizeEmoji(reaction.Emoji)
		once := idOf(id.Time(), "reaction", id.String(), user, emoji)
		if user == "" || r.done[once] {
			continue
		}
		r.done[once] = true
		if err := events.ValidateEmoji("a reaction", emoji); err != nil {
			m.note("a reaction left out: %v", err)
			continue
		}
		m.addMember(r, reaction.User, 0)
		at := idOf(id.Time()+1+uint64(i), "reaction", id.String(), user, emoji)
		known := r.past != nil && r.past.reactions[reactionOn{id, Reaction{user, emoji}}]
		m.emitEvent(at, stream, user, events.ReactionAdded{Message: id, Emoji: emoji}, known)
	}
	if rec.Pinned != "" {
		m.addMember(r, rec.Pinned, 0)
		m.pin(r, id, m.s.user(rec.Pinned), 0)
	}
}

// pin pins a message once.
func (m *maker) pin(r *room, message events.ID, user string, ms uint64) {
	id := idOf(after(message, ms), "pin", message.String())
	once := idOf(message.Time(), "pin", message.String())
	if !r.done[once] {
		r.done[once] = true
		m.emitEvent(id, events.RoomStream(r.id), user, events.MessagePinned{Message: message}, r.past != nil && r.past.pins[message])
	}
}

// The marks where a text is split.
const goesOn = "…"

// splitText splits a text that is too long for one message, at a line or a word if there is one near the end.
// What is beyond maxParts messages is cut off.
func splitText(text string) (parts []string) {
	for len(text) > events.MaxTextBytes && len(parts) < maxParts-1 {
		end := events.MaxTextBytes - 2*len(goesOn)
		for !utf8.RuneStart(text[end]) {
			end--
		}
		for _, gap := range []string{"\n", " "} {
			if at := strings.LastIndex(text[:end], gap); at > end*3/4 {
				end = at
				break
			}
		}
		parts, text = append(parts, text[:end]+goesOn), goesOn+strings.TrimLeft(text[end:], " \n")
	}
	if len(text) > events.MaxTextBytes {
		end := events.MaxTextBytes - len(goesOn)
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + goesOn
	}
	return append(parts, text)
}
