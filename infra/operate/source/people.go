package source

import (
	"cmp"
	"maps"
	"slices"
)

// person is a user whom the source lists.
type person struct {
	login string
	gone  bool
	note  string // if another has the same login
}

// Recognize finds the user ids that an earlier import gave to the users of the source, whose names may have
// changed, by what they did in rooms that are continued.
func (s *Survey) Recognize(src Source) error {
	if len(s.people) == 0 {
		return nil
	}
	for _, name := range s.names {
		r := s.rooms[name]
		if r.past == nil {
			continue
		}
		for who := range s.people {
			if user := r.past.joined[tailOf(idOf(0, "join", r.name, who))]; user != "" {
				s.known[who] = user
			}
		}
	}
	for rec, err := range src.Records() {
		if err != nil {
			return err
		}
		c, problem := s.check(rec)
		r := s.rooms[rec.Room]
		if problem != "" || rec.Kind != KindMessage || r == nil || r.past == nil || s.people[rec.Author] == nil || s.known[rec.Author] != "" {
			continue
		}
		if id, found := r.past.find(r.messageID(rec, c.ms, 0), rec, nil); found {
			s.known[rec.Author] = r.past.actors[id]
		}
	}
	s.decide()
	return nil
}

// assignUsers decides the user ids of all whom the source lists: their logins. If several have the same, or
// it is the name of another user in the source, only one gets it, and the others' have their names in the
// source behind it: two people never become one.
func (s *Survey) assignUsers() {
	s.users, s.Mapped = maps.Clone(s.known), map[string]string{}
	of := map[string]string{} // persons, by user id
	for who, user := range s.known {
		of[user] = who
	}
	all := sortedKeys(s.people)
	slices.SortStableFunc(all, func(a, b string) int { // who is active first
		return cmp.Compare(s.people[a].rank(), s.people[b].rank())
	})
	for _, who := range all {
		p := s.people[who]
		p.note = ""
		if s.users[who] != "" {
			continue
		}
		user := UserOf(cmp.Or(p.login, who))
		_, isOther := s.people[p.login]
		if other, taken := of[user]; taken || isOther && p.login != who {
			user = UserOf(cmp.Or(p.login, who) + "-" + who)
			p.note = "two users have the same name " + p.login + ", the other is " + cmp.Or(other, p.login) + ": this one gets the user id " + user
		}
		s.users[who], of[user] = user, who
	}
	for who, user := range s.users {
		if p := s.people[who]; p != nil && p.login != user && p.login != "" {
			s.Mapped[p.login] = user
		}
	}
	for _, r := range s.rooms {
		for _, who := range r.people {
			if user := s.user(who); user != who && s.people[who] == nil {
				s.Mapped[who] = user
			}
		}
	}
}

func (p *person) rank() int {
	if p.gone {
		return 1
	}
	return 0
}

// user returns the user id of a person.
func (s *Survey) user(who string) string {
	if user := s.users[who]; user != "" {
		return user
	}
	return UserOf(who)
}
