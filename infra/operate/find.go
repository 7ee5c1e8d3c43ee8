package main

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/events"
)

// foundRoom is a room as rooms lists it.
type foundRoom struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Topic    string    `json:"topic,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	Private  bool      `json:"private"`
	Direct   []string  `json:"direct,omitempty"`
	Archived bool      `json:"archived,omitempty"`
	Members  int       `json:"members"`
	Messages int       `json:"messages"` // that were ever posted
}

// matches reports whether one of the texts contains what is looked for.
func matches(wanted string, texts ...string) bool {
	wanted = strings.ToLower(wanted)
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), wanted) })
}

// Run lists rooms, by name.
func (c roomsCmd) Run(s *session) error {
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	states, messages := map[events.Stream]*roomState{}, map[events.Stream]int{}
	names := map[events.Stream]string{}
	err = readLog(r, func(e events.Event) error {
		if kind, _ := e.Stream.Split(); kind != events.KindRoom {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		state := states[e.Stream]
		if state == nil {
			state = newRoomState()
			states[e.Stream] = state
		}
		state.add(e)
		names[e.Stream] = roomNameAfter(names[e.Stream], e)
		if _, is := e.Payload.(events.MessagePosted); is {
			messages[e.Stream]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	var found []foundRoom
	for stream, state := range states {
		if name := names[stream]; matches(c.Text, name, state.Topic, stream.Name()) {
			maps.DeleteFunc(state.Members, func(user string, _ events.Role) bool { return state.banned[user] })
			found = append(found, foundRoom{
				ID: stream.Name(), Name: name, Topic: state.Topic, Created: state.Created, Private: state.Private != nil && *state.Private,
				Direct: state.Direct, Archived: state.Archived, Members: max(len(state.Members), len(state.Direct)), Messages: messages[stream],
			})
		}
	}
	slices.SortFunc(found, func(a, b foundRoom) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	for _, room := range found {
		if s.JSON {
			if err := r.printItem("room", room); err != nil {
				return err
			}
			continue
		}
		kind := "public"
		if len(room.Direct) > 0 {
			kind = "direct"
		} else if room.Private {
			kind = "private"
		}
		if room.Archived {
			kind += ", archived"
		}
		s.printf("%-26s  %s (%s; members %s, messages %s)", room.ID, room.Name, kind, thousands(int64(room.Members)), thousands(int64(room.Messages)))
	}
	if len(found) == 0 {
		s.printf("No room is found.")
	}
	return nil
}

// foundUser is a user as users lists it.
type foundUser struct {
	ID     string    `json:"id"`
	Name   string    `json:"name,omitempty"`
	Erased bool      `json:"erased,omitempty"`
	Last   time.Time `json:"last"` // the time of the user's last event
}

// Run lists users, by id.
func (c usersCmd) Run(s *session) error {
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	users := map[string]*foundUser{}
	err = readLog(r, func(e events.Event) error {
		mu.Lock()
		defer mu.Unlock()
		kind, name := e.Stream.Split()
		about := e.Actor
		if kind == events.KindUser {
			about = name // an operator may have written it
		}
		u := users[about]
		if u == nil {
			u = &foundUser{ID: about}
			users[about] = u
		}
		if at := e.ID.Timestamp().UTC(); at.After(u.Last) {
			u.Last = at
		}
		switch p := e.Payload.(type) {
		case events.UserProfileSet:
			u.Name = p.Name.Text()
		case events.UserErased:
			u.Erased = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	n := 0
	for _, id := range slices.Sorted(maps.Keys(users)) {
		u := users[id]
		if !matches(c.Text, u.ID, u.Name) {
			continue
		}
		n++
		if s.JSON {
			if err := r.printItem("user", u); err != nil {
				return err
			}
			continue
		}
		text := u.Name
		if u.Erased {
			text = "(erased)"
		}
		s.printf("%-26s  %s  last event %s", u.ID, text, u.Last.Format(time.RFC3339))
	}
	if n == 0 {
		s.printf("No user is found.")
	}
	return nil
}
