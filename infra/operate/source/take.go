package source

import (
	"time"

	"parley/events"
)

// taken is what both readings of a source find in a record.
type taken struct {
	at     time.Time // shifted
	ms     uint64
	author string // a user id
}

// take says what a record comes to, or why it cannot be taken.
func (s *Survey) take(rec Record) (t taken, problem string) {
	if rec.Problem != "" {
		return t, rec.Problem
	}
	if rec.Kind == KindRoom {
		return s.takeRoom(rec)
	}
	t.at = rec.At
	if rec.Kind == KindEvent {
		if s.options.Shift != 0 {
			return t, "it is an event, whose time is in its id: it cannot be shifted"
		}
		return t, ""
	}
	t.at = rec.At.Add(s.options.Shift)
	if t.ms, problem = s.options.ms(rec.At); problem != "" {
		return t, problem
	}
	if t.author = UserOf(rec.Author); t.author == "" {
		return t, "author is missing"
	}
	if t.author != rec.Author {
		s.Mapped[rec.Author] = t.author
	}
	if rec.Kind == KindProfile {
		return t, ""
	}
	if events.ValidateName("room", roomName(rec.Room)) != nil && s.rooms[rec.Room] == nil {
		return t, "room must be a name with at least one visible character"
	}
	if rec.Kind == KindMessage {
		if err := events.ValidateText("text", rec.Text); err != nil {
			return t, err.Error()
		}
	}
	return t, ""
}

func (s *Survey) takeRoom(rec Record) (t taken, problem string) {
	if a := rec.About; len(a.Direct) > 0 {
		if len(a.Direct) != 2 || UserOf(a.Direct[0]) == UserOf(a.Direct[1]) {
			return t, "a direct room must have two users"
		}
	} else if events.ValidateName("room", roomName(a.Name)) != nil {
		return t, "the room has no name"
	}
	t.at = rec.At
	return t, ""
}

// ms is a time as an id holds it. The first moments of 1970 are moved on a little: the room must be
// created before.
func (o Options) ms(at time.Time) (ms uint64, problem string) {
	at = at.Add(o.Shift)
	switch n := at.UnixMilli(); {
	case n < 0:
		return 0, "the time lies before 1970, which no id can hold: -shift moves all times"
	case at.After(o.Now):
		return 0, "the time lies in the future"
	default:
		return uint64(max(n, lead)), ""
	}
}
