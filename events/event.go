package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"
)

// ID identifies an event, and orders it among all others: a ULID, 48 bits of Unix time in
// milliseconds followed by 80 bits that tell ids of one millisecond apart. The first 32 of
// those 80 are the mark of the id's actor, see [Mark].
type ID = ulid.ULID

// ParseID reads the text form of an ID. Lower case is taken, so that a client may send what
// its library prints, but only the upper case form of [ID.String] is ever stored: otherwise
// one id would have two keys. The error is an [InvalidError] for the named field.
func ParseID(field, text string) (ID, error) {
	id, err := ulid.ParseStrict(text)
	if err != nil {
		return ID{}, Invalid(field, "must be a ULID: 26 characters of Crockford's base 32, the first not above 7")
	}
	return id, nil
}

// Stream names one ordered part of the log and is its partition key: "room/<room>",
// "user/<user>", "region/<region>" or "ops/<region>".
type Stream string

// Kind is what a stream is about.
type Kind string

// The kinds of stream.
const (
	KindRoom   Kind = "room"   // everything that happens in one room
	KindUser   Kind = "user"   // what concerns one user alone: her profile, her read markers
	KindRegion Kind = "region" // the beats of one region
	KindOps    Kind = "ops"    // what operators did in one region: of no view, told to no client
)

// RoomStream is the stream of a room's events.
func RoomStream(room string) Stream { return Stream(string(KindRoom) + "/" + room) }

// UserStream is the stream of what concerns one user alone.
func UserStream(user string) Stream { return Stream(string(KindUser) + "/" + user) }

// RegionStream is the stream of a region's beats.
func RegionStream(region string) Stream { return Stream(string(KindRegion) + "/" + region) }

// OpsStream is the stream of what operators did in a region.
func OpsStream(region string) Stream { return Stream(string(KindOps) + "/" + region) }

// Split returns what the stream is about and the name of the room, user or region.
func (s Stream) Split() (Kind, string) {
	kind, name, _ := strings.Cut(string(s), "/")
	return Kind(kind), name
}

// Name returns the name of the room, user or region the stream is about.
func (s Stream) Name() string {
	_, name := s.Split()
	return name
}

// Validate says what is wrong with the stream's name, as an [InvalidError], or nil.
func (s Stream) Validate() error {
	kind, name := s.Split()
	switch kind {
	case KindRoom:
		return ValidateRoomID("stream", name)
	case KindUser:
		return ValidateUser("stream", name)
	case KindRegion, KindOps:
		return ValidateRegion("stream", name)
	default:
		return Invalid("stream", "must start with room/, user/, region/ or ops/")
	}
}

// Event is an immutable fact: what happened, in which stream, by whom. Make one with [New] or
// [Decode]; both keep Data and Payload in agreement. Events are shared between goroutines and
// must not be changed.
type Event struct {
	ID      ID
	Stream  Stream
	Type    string          // the frozen wire name, "message.posted"
	Version int             // the version of that type's payload in Data, from 1
	Actor   string          // the user who did it; of a beat, the region
	Region  string          // the region that accepted it: metadata, never compared
	Data    json.RawMessage // the payload as it is stored, for good
	Payload Payload         // the payload in its newest version; Unreadable if Data does not decode
}

// New makes the event that payload describes, with its newest version, or says in an
// [InvalidError] which field is wrong. The event is a pure function of the arguments: the same
// arguments, at any time and in any region, make the same event.
func New(id ID, stream Stream, actor, region string, payload Payload) (Event, error) {
	t, ok := types.of(payload)
	if !ok {
		return Event{}, fmt.Errorf("events: %T is not in the table of types", payload)
	}
	e := Event{ID: id, Stream: stream, Type: t.name, Version: t.version, Actor: actor, Region: region, Payload: payload}
	if err := e.validate(t); err != nil {
		return Event{}, err
	}
	data, err := marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", t.name, err)
	}
	e.Data = data
	return e, nil
}

func (e Event) validate(t *eventType) error {
	if e.ID == (ID{}) {
		return Invalid("id", "must not be zero")
	}
	if err := e.Stream.Validate(); err != nil {
		return err
	}
	kind, name := e.Stream.Split()
	if kind != t.kind {
		return Invalid("stream", fmt.Sprintf("must be of kind %s for %s", t.kind, t.name))
	}
	if kind == KindUser && name != e.Actor {
		return Invalid("actor", "must be the user whose stream it is")
	}
	if kind == KindRegion && name != e.Actor {
		return Invalid("actor", "must be the region whose stream it is")
	}
	if err := ValidateUser("actor", e.Actor); err != nil {
		return err
	}
	if err := ValidateRegion("region", e.Region); err != nil {
		return err
	}
	return e.Payload.Validate()
}

// Same reports whether two events say the same: everything but the region that accepted them.
// A command sent again makes the same event; another command under its id does not. Data is
// compared after it was brought up to date, and by what it says, not by how it is spelled;
// data that cannot be read is the same only byte for byte.
func Same(a, b Event) bool {
	if a.ID != b.ID || a.Stream != b.Stream || a.Type != b.Type || a.Actor != b.Actor {
		return false
	}
	if a.Version == b.Version && bytes.Equal(a.Data, b.Data) {
		return true
	}
	if !a.readable() || !b.readable() {
		return false
	}
	x, errX := marshal(a.Payload)
	y, errY := marshal(b.Payload)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func (e Event) readable() bool {
	_, unreadable := e.Payload.(Unreadable)
	return e.Payload != nil && !unreadable
}

// Payload is what an event says beyond its envelope. Its Go type decides the wire name, by the
// table in types.go.
type Payload interface {
	// Validate returns an [InvalidError] that names the first field that is out of bounds.
	Validate() error
}

// Unreadable stands in for a payload that does not decode: an unknown type, a version from the
// future, damaged data. The event keeps its Data, so that it can be copied, parked and decoded
// by a later release; no fold acts on it.
type Unreadable struct{ Err error }

// Validate always fails: an unreadable payload cannot be made into a new event.
func (u Unreadable) Validate() error { return u.Err }

// InvalidError says which field of an input is wrong and what is allowed. It never carries the
// value itself: errors reach logs, user text must not.
type InvalidError struct {
	Field  string // the field as the client knows it, "text"
	Reason string // what is allowed, "must have 1 to 20000 bytes"
}

// Invalid makes an [InvalidError].
func Invalid(field, reason string) error { return &InvalidError{Field: field, Reason: reason} }

func (e *InvalidError) Error() string { return e.Field + " " + e.Reason }

// IsInvalid returns the [InvalidError] in err's chain, or nil.
func IsInvalid(err error) *InvalidError {
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		return invalid
	}
	return nil
}

// PrecedingID returns the greatest id below one; below the zero id there is none, and it is
// returned itself.
func PrecedingID(id ID) ID {
	for i := len(id) - 1; i >= 0 && id != (ID{}); i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// FollowingID returns the least id above one; above the greatest there is none, and the zero id
// is returned.
func FollowingID(id ID) ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			return id
		}
	}
	return ID{}
}
