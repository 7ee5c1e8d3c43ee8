package source

import (
	"cmp"
	"slices"

	"parley/events"
)

// createRoom makes a room before its first event, with the members who never did anything in it.
func (m *maker) createRoom(r *room) {
	if r.begun {
		return
	}
	r.begun = true
	owner := m.s.user(r.owner)
	if owner == "" {
		m.emit(Item{Problem: "nobody is in the room: it is imported only with -owner"})
		return
	}
	created := events.RoomCreated{Name: r.about.nameOr(r.key), Topic: oneLine(r.about.Topic, events.MaxTopicChars), Private: r.private}
	if r.direct != nil {
		created = events.RoomCreated{Private: true, Direct: r.direct}
		r.joined[r.direct[0]], r.joined[r.direct[1]] = true, true
	}
	if r.past != nil && r.past.created != (events.ID{}) {
		r.joined[r.past.actors[r.past.created]] = true
		m.emitEvent(r.past.created, events.RoomStream(r.id), owner, created, true)
	} else if id := r.creation(m.s); r.past == nil || r.direct != nil || id.String() == r.id {
		r.joined[owner] = true
		m.emitRoom(r, id, owner, created)
	}
	if r.direct != nil {
		return
	}
	ms := r.createdMillis(m.s) + 1
	for _, who := range r.members {
		if _, active := r.spans[who]; who != "" && !active {
			m.join(r, who, ms)
		}
	}
}

// joinID is the id with which a person joins a room by the lists, not by a record.
func (m *maker) joinID(r *room, who string, ms uint64) events.ID {
	return idOf(ms, "join", r.name, who)
}

// addMember makes a person who did something at a time, Unix milliseconds, a member just before it, unless they
// are one, or did nothing else than join.
func (m *maker) addMember(r *room, who string, ms uint64) {
	user := m.s.user(who)
	span, active := r.spans[who]
	switch {
	case r.direct != nil:
	case r.joined[user]:
		if last := r.state.last(user); last.id != (events.ID{}) && !last.value && last.id.Time() < ms { // left, and is back
			m.emitRoom(r, m.joinID(r, who, ms-1), user, events.MemberJoined{User: user, Role: r.role(who)})
		}
	case !active: // who only reacted
		m.join(r, who, r.createdMillis(m.s)+1)
	case span.joins:
		r.joined[user] = true
	default:
		m.join(r, who, span.first-1)
	}
}

// join makes a person a member at a time, unless they are one then.
func (m *maker) join(r *room, who string, ms uint64) {
	user, id := m.s.user(who), m.joinID(r, who, ms)
	if r.joined[user] {
		return
	}
	r.joined[user] = true
	_, active := r.spans[who]
	if r.past != nil && !r.past.has(id) && (r.past.state.inAt(user, ms) || !active && r.past.state.last(user).id != (events.ID{})) {
		return
	}
	m.emitRoom(r, id, user, events.MemberJoined{User: user, Role: r.role(who)})
}

// finish makes of a room what the source says of it at its end: who is a member and owns it, what it is called,
// whether it is archived, and what is pinned. What people changed in Parley since, or a later part of the
// source says, stays.
func (m *maker) finish(r *room) {
	if m.s.user(r.owner) == "" {
		return
	}
	if r.direct == nil {
		m.settleMembers(r)
		m.settleOwner(r)
		m.settleRoom(r)
	}
	for _, pin := range r.about.Pins {
		ms, _ := m.s.options.millis(pin.At) // 0 is just behind the message
		at, problem := m.s.options.millis(pin.Message.At)
		id := r.exactID(pin.Message.At, at, pin.Message.Key)
		there, found := r.past.find(id, Record{Kind: KindMessage, Room: r.key, Key: pin.Message.Key}, nil)
		if problem != "" || !found && !r.seen[digestKey(pin.Message.Key)] {
			m.note("a pinned message is not in the source: it is not pinned")
			continue
		}
		m.pin(r, there, m.s.user(cmp.Or(pin.By, r.owner)), ms)
	}
}

// everybody returns all persons that the source knows and that may be members.
func (m *maker) everybody(r *room) []string {
	all := slices.Concat(r.people, []string{r.owner}, r.members)
	if r.past != nil {
		for _, who := range sortedKeys(m.s.people) {
			if len(r.past.state.members[m.s.user(who)]) > 0 {
				all = append(all, who)
			}
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(who string) bool { return m.s.user(who) == "" })
}

// settleMillis is how long after the last record in the source that happens which the source says of rooms at
// its end: who is a member, who becomes an owner, and the rest.
const (
	membersMillis = 1 + iota
	ownerMillis
	roomMillis
	settleMillis = roomMillis
)

// canSettle reports whether an event that set something may be followed by what the source says at its end:
// nobody changed it in Parley, and no later part of the source was imported.
func (m *maker) canSettle(id events.ID) bool {
	return id == (events.ID{}) || events.Imported(id) && id.Time() <= m.s.end+settleMillis
}

// settle makes an event of the end, behind the one that set it before, if it is needed and that one allows it.
// An event that an import made before is known.
func (m *maker) settle(r *room, needed bool, before events.ID, ms uint64, actor string, payload events.Payload, texts ...string) {
	texts = append(texts, r.name)
	id := idOf(ms, texts...)
	switch {
	case r.past.has(id):
	case !needed || !m.canSettle(before):
		return
	case id.Compare(before) <= 0:
		id = idOf(after(before, ms), texts...)
	}
	m.emitRoom(r, id, actor, payload)
}

// settleMembers makes users leave whom the source no longer lists as members, because later messages are not
// for them, and makes those members again whom it lists.
func (m *maker) settleMembers(r *room) {
	for _, who := range m.everybody(r) {
		user, isListed := m.s.user(who), r.isListed(who)
		last := r.state.last(user)
		left := m.s.end + membersMillis
		if p, active := r.spans[who]; active {
			left = p.last + 1
		}
		m.settle(r, last.value && !isListed, last.id, left, user, events.MemberLeft{User: user}, "leave", who)
		isBack := !last.value && last.id != (events.ID{}) && r.listed[who]
		m.settle(r, isBack, last.id, m.s.end+membersMillis, user, events.MemberJoined{User: user, Role: r.role(who)}, "return", who)
	}
}

// settleOwner gives a room an owner if none of its members is one, because a room that nobody can manage
// stays so: an admin, else the first who is listed, else who wrote first. If nobody is left, it is the
// operator's owner.
func (m *maker) settleOwner(r *room) {
	var heir string
	rank := func(who string) int { return r.state.roles[m.s.user(who)].value.Rank() }
	since := func(who string) uint64 { // the lists are the same in every part of a source
		if at := slices.Index(r.members, who); at >= 0 {
			return uint64(at)
		}
		return uint64(len(r.members)) + r.spans[who].first
	}
	owned := false
	for user := range r.state.members {
		owned = owned || r.state.last(user).value && r.state.roles[user].value == events.RoleOwner
	}
	for _, who := range m.everybody(r) {
		if !r.state.last(m.s.user(who)).value {
			continue
		}
		if heir == "" || cmp.Or(cmp.Compare(rank(who), rank(heir)), cmp.Compare(since(heir), since(who))) > 0 {
			heir = who
		}
	}
	if owned {
		heir = ""
	} else if r.place.File != "" {
		m.place = r.place
	}
	for _, who := range m.everybody(r) { // those whom an earlier import made owners are known
		user := m.s.user(who)
		before := r.state.roles[user].id
		if joined := r.state.last(user).id; joined.Compare(before) > 0 {
			before = joined
		}
		m.settle(r, who == heir, before, m.s.end+ownerMillis, user, events.MemberRoleChanged{User: user, Role: events.RoleOwner}, "heir", who)
	}
	switch owner := m.s.options.Owner; {
	case owned:
	case heir != "":
		m.note("its owner %s is no member any more: %s becomes an owner", m.s.user(r.owner), m.s.user(heir))
	case owner != "":
		m.settle(r, true, r.state.last(owner).id, m.s.end+ownerMillis, owner, events.MemberJoined{User: owner, Role: events.RoleOwner}, "owner", owner)
	default:
		m.note("no member is left who can be its owner: give it one with operate owner %s USER", r.id)
	}
}

// settleRoom gives a room the name and topic that the source says, and archives or opens it. A room that is
// private stays private.
func (m *maker) settleRoom(r *room) {
	if !r.described || r.about.inferred {
		return
	}
	owner, at := m.s.user(r.owner), m.s.end+roomMillis
	name, topic := r.about.nameOr(r.key), oneLine(r.about.Topic, events.MaxTopicChars)
	is := &r.state
	m.settle(r, is.name.value != name, is.name.id, at, owner, events.RoomUpdated{Name: &name}, "name", name)
	m.settle(r, is.topic.value != topic, is.topic.id, at, owner, events.RoomUpdated{Topic: &topic}, "topic", topic)
	private := true
	m.settle(r, is.open.value && r.private, is.open.id, at, owner, events.RoomUpdated{Private: &private}, "private")
	switch archived := r.about.Archived; {
	case archived == nil:
	case *archived:
		m.settle(r, !is.archived.value, is.archived.id, at, owner, events.RoomArchived{}, "archive")
	default:
		m.settle(r, is.archived.value, is.archived.id, at, owner, events.RoomUnarchived{}, "unarchive")
	}
}
