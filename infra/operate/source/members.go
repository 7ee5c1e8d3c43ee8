package source

import (
	"slices"

	"parley/events"
)

// begin makes a room before its first event, with the members who never did anything.
func (m *maker) begin(rec Record, r *room) bool {
	if r == nil || r.begun {
		return true
	}
	r.begun = true
	m.place = rec.Place
	a, created := r.about, events.RoomCreated{Name: roomName(r.about.Name), Topic: oneLine(r.about.Topic, events.MaxTopicChars), Private: r.about.Private}
	r.created = makeID(r.first, a.Owner, 0, hashOf("room", r.name))
	r.id = r.created.String()
	if len(a.Direct) == 2 {
		users := []string{UserOf(a.Direct[0]), UserOf(a.Direct[1])}
		slices.Sort(users)
		r.id, created = events.DirectRoom(users[0], users[1]), events.RoomCreated{Private: true, Direct: users}
		r.joined[users[0]], r.joined[users[1]] = true, true
	}
	r.joined[a.Owner] = true
	if !m.event(r.created, events.RoomStream(r.id), a.Owner, created) {
		return false
	}
	for _, member := range a.Members {
		user := UserOf(member)
		if r.spans[user] == nil && !r.joined[user] && !m.joinAt(r, user, r.first+1) {
			return false
		}
	}
	return true
}

// join makes a user a member just before what she did first, unless that was to join.
func (m *maker) join(r *room, user string) bool {
	if r.joined[user] {
		return true
	}
	span := r.spans[user]
	if span.joins {
		r.joined[user] = true
		return true
	}
	return m.joinAt(r, user, span.first-1)
}

func (m *maker) joinAt(r *room, user string, ms uint64) bool {
	r.joined[user] = true
	id := mintAfter(r.created, ms, user, hashOf("join", r.id))
	return m.event(id, events.RoomStream(r.id), user, events.MemberJoined{User: user, Role: events.RoleMember})
}

// end lets those leave whom the source no longer names as members, and who did not say good-bye:
// what is said later is not for them.
func (m *maker) end(r *room) bool {
	if r.about.Members == nil || len(r.about.Direct) == 2 {
		return true
	}
	stay := map[string]bool{}
	for _, member := range r.about.Members {
		stay[UserOf(member)] = true
	}
	users := r.users
	if !slices.Contains(users, r.about.Owner) {
		users = append(slices.Clone(users), r.about.Owner)
	}
	for _, user := range users {
		p := r.spans[user]
		if p == nil {
			p = &span{last: r.first}
		}
		if stay[user] || p.leaves {
			continue
		}
		id := mintAfter(r.created, p.last+1, user, hashOf("leave", r.id))
		if !m.event(id, events.RoomStream(r.id), user, events.MemberLeft{User: user}) {
			return false
		}
	}
	return true
}
