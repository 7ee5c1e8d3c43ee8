package events

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// RoomCreated brings a room into being. Its actor becomes the owner; of a direct room both
// users become members. The id of a room other than a direct one is the id of this event.
type RoomCreated struct {
	Name    string   `json:"name,omitempty"` // empty for a direct room only
	Topic   string   `json:"topic,omitempty"`
	Private bool     `json:"private,omitempty"` // strangers neither see nor join it
	Direct  []string `json:"direct,omitempty"`  // the two users of a direct room, sorted; itself private
}

// Validate implements [Payload].
func (p RoomCreated) Validate() error {
	if len(p.Direct) == 0 {
		if err := ValidateName("name", p.Name); err != nil {
			return err
		}
		return ValidateTopic("topic", p.Topic)
	}
	if len(p.Direct) != 2 || p.Direct[0] >= p.Direct[1] {
		return Invalid("direct", "must name two different users, sorted")
	}
	for _, user := range p.Direct {
		if err := ValidateUser("direct", user); err != nil {
			return err
		}
	}
	if p.Name != "" || p.Topic != "" || !p.Private {
		return Invalid("direct", "rooms are private and have neither name nor topic")
	}
	return nil
}

// RoomUpdated changes the fields it carries; of each field the latest change wins.
type RoomUpdated struct {
	Name    *string `json:"name,omitempty"`
	Topic   *string `json:"topic,omitempty"`
	Private *bool   `json:"private,omitempty"`
}

// Validate implements [Payload].
func (p RoomUpdated) Validate() error {
	if p == (RoomUpdated{}) {
		return Invalid("name", "or topic or private must be given")
	}
	if p.Name != nil {
		if err := ValidateName("name", *p.Name); err != nil {
			return err
		}
	}
	if p.Topic != nil {
		return ValidateTopic("topic", *p.Topic)
	}
	return nil
}

// RoomArchived closes a room to everything but reading.
type RoomArchived struct{}

// Validate implements [Payload].
func (RoomArchived) Validate() error { return nil }

// RoomUnarchived opens an archived room again.
type RoomUnarchived struct{}

// Validate implements [Payload].
func (RoomUnarchived) Validate() error { return nil }

// directPrefix tells a direct room's id from all others.
const directPrefix = "direct-"

// DirectRoom returns the id of the direct room of two users, in any order. It is computed from
// their ids, so that the two find themselves in one room whichever region each of them asks.
func DirectRoom(a, b string) string {
	users := []string{a, b}
	slices.Sort(users)
	sum := sha256.Sum256([]byte(users[0] + "/" + users[1])) // no user id holds a slash
	return directPrefix + ID(sum[:16]).String()
}

// IsDirect reports whether a room id is that of a direct room.
func IsDirect(room string) bool { return strings.HasPrefix(room, directPrefix) }

// ValidateRoomID checks the form of a room's id: an upper case ULID, or that of a direct room.
func ValidateRoomID(field, room string) error {
	id, err := ParseID(field, strings.TrimPrefix(room, directPrefix))
	if err != nil || id.String() != strings.TrimPrefix(room, directPrefix) {
		return Invalid(field, "must be a ULID in upper case, or direct- and a ULID")
	}
	return nil
}

// CreatesRoom reports whether a room.created event may stand at the beginning of its stream: a
// room's id is the id of its creation, a direct room's id follows from its users. Whatever else
// got into the stream creates nothing.
func CreatesRoom(e Event, p RoomCreated) bool {
	room := e.Stream.Name()
	if len(p.Direct) == 2 {
		return room == DirectRoom(p.Direct[0], p.Direct[1]) && slices.Contains(p.Direct, e.Actor)
	}
	return room == e.ID.String()
}
