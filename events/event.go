package events

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
)

// ID identifies an event, and orders it among all others: a ULID, 48 bits of Unix time in
// milliseconds followed by 80 bits that distinguish ids of one millisecond. The first 56 of
// those 80 are the mark of the id's actor, see [Mark]; of older ids the first 32, see [FormerMark]. Ids of
// imported events have no actor's mark, see [ImportedID].
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

// Digest tells events apart that share an id: the first 80 bits of a SHA-256 over what is stored of the
// event, its region left out. A release that stored events under their ids alone left events whose Digest
// is zero.
type Digest [10]byte

// digestOf returns the digest of an event in the form in which it is stored. Every part but the last is
// preceded by its length, so that no two events make the same input.
func digestOf(e Event) Digest {
	input := make([]byte, 0, 160+len(e.Data))
	for _, part := range [...]string{string(e.Stream), string(e.ID[:]), joinType(e.Type, e.Version), e.Actor} {
		input = append(binary.AppendUvarint(input, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(append(input, e.Data...))
	return Digest(sum[:len(Digest{})])
}

// MarshalText implements [encoding.TextMarshaler]: it is the digest as in the text of a [Ref].
func (d Digest) MarshalText() ([]byte, error) { return base32Text.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(text []byte) error {
	if n, err := base32Text.Decode(d[:], text); base32Text.EncodedLen(len(d)) != len(text) || err != nil || n != len(d) {
		return Invalid("digest", "must have 16 characters of Crockford's base 32")
	}
	return nil
}

// Ref identifies an event within its stream, and orders it there: by id, then by digest. Two events with
// one id exist where two regions accepted different commands under it before one had heard of the other.
type Ref struct {
	ID     ID
	Digest Digest
}

// base32Text is the encoding of ULIDs, whose order is that of the bytes.
var base32Text = base32.NewEncoding(ulid.Encoding).WithPadding(base32.NoPadding)

// refSize is the length of a Ref's text: 26 for the id, a dot, 16 for the digest.
const refSize = ulid.EncodedSize + 1 + 16

// String is the sort key under which the event is stored, "<ULID>.<digest>", the digest in the base 32 of
// ULIDs. Without a digest it is the ULID. Texts sort like the Refs they are made of.
func (r Ref) String() string {
	if r.Digest == (Digest{}) {
		return r.ID.String()
	}
	text := make([]byte, ulid.EncodedSize, refSize)
	_ = r.ID.MarshalTextTo(text) // fails only if the size is another
	return string(base32Text.AppendEncode(append(text, '.'), r.Digest[:]))
}

// ParseRef reads the text form of a Ref. The error is an [InvalidError] for the named field.
func ParseRef(field, text string) (Ref, error) {
	idText, digestText, with := strings.Cut(text, ".")
	id, err := ParseID(field, idText)
	r := Ref{ID: id}
	if err != nil || !with {
		return r, err
	}
	if n, err := base32Text.Decode(r.Digest[:], []byte(digestText)); len(text) != refSize || err != nil || n != len(r.Digest) || r.Digest == (Digest{}) {
		return Ref{}, Invalid(field, "must be a ULID, a dot and a digest of 16 characters of Crockford's base 32")
	}
	return r, nil
}

// MarshalText implements [encoding.TextMarshaler]: it is String.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]: it reads what String gives.
func (r *Ref) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRef("ref", string(text))
	return err
}

// IsZero reports whether r refers to no event, for omitzero.
func (r Ref) IsZero() bool { return r == Ref{} }

// In returns the key of the event in a stream.
func (r Ref) In(stream Stream) Key { return Key{stream, r.ID, r.Digest} }

// Compare orders Refs by id, then by digest.
func (r Ref) Compare(other Ref) int {
	return cmp.Or(r.ID.Compare(other.ID), bytes.Compare(r.Digest[:], other.Digest[:]))
}

// Stream names one ordered part of the log and is its partition key: "room/<room>",
// "user/<user>", "region/<region>", "region/<region>.<n>" or "ops/<region>".
type Stream string

// Kind is what a stream is about.
type Kind string

// The kinds of stream.
const (
	KindRoom   Kind = "room"   // everything that happens in one room
	KindUser   Kind = "user"   // what concerns one user alone: the profile, the read markers
	KindRegion Kind = "region" // heartbeats of one region, which has several such streams
	KindOps    Kind = "ops"    // what operators did in one region: in no view, delivered to no client
)

// RoomStream is the stream of a room's events.
func RoomStream(room string) Stream { return Stream(string(KindRoom) + "/" + room) }

// UserStream is the stream of what concerns one user alone.
func UserStream(user string) Stream { return Stream(string(KindUser) + "/" + user) }

// RegionStream is the first stream of a region's heartbeats: [BeatStream] with n = 0.
func RegionStream(region string) Stream { return Stream(string(KindRegion) + "/" + region) }

// MaxBeatStreams is how many streams of heartbeats a region has at most.
const MaxBeatStreams = 100

// BeatStream is stream n of a region's heartbeats, n from 0 to MaxBeatStreams-1. A region appends its
// heartbeats to several streams because the change stream has several shards, each with its own lag: a
// heartbeat says nothing about the shards that other streams go through.
func BeatStream(region string, n int) Stream {
	if n == 0 {
		return RegionStream(region)
	}
	return RegionStream(region) + Stream("."+strconv.Itoa(n)) // no region's name has a dot
}

// BeatRegion returns the region whose heartbeats are in the stream, "" if the stream is of another kind or
// not as [BeatStream] names it.
func (s Stream) BeatRegion() string {
	kind, name := s.Split()
	region, number, numbered := strings.Cut(name, ".")
	if kind != KindRegion || ValidateRegion("stream", region) != nil {
		return ""
	}
	if n, err := strconv.Atoi(number); numbered && (err != nil || n < 1 || n >= MaxBeatStreams || strconv.Itoa(n) != number) {
		return ""
	}
	return region
}

// OpsStream is the stream of what operators did in a region.
func OpsStream(region string) Stream { return Stream(string(KindOps) + "/" + region) }

// Split returns what the stream is about and the name of the room, user or region. The name of a stream of
// heartbeats may have a number behind the region; see [Stream.BeatRegion].
func (s Stream) Split() (Kind, string) {
	kind, name, _ := strings.Cut(string(s), "/")
	return Kind(kind), name
}

// Name returns the name of the room, user or region the stream is about, as Split does.
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
	case KindRegion:
		if s.BeatRegion() == "" {
			return Invalid("stream", fmt.Sprintf("must be region/ and a region's name, and may have .1 to .%d behind it", MaxBeatStreams-1))
		}
		return nil
	case KindOps:
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
	Digest  Digest          // of the event as it is stored, also where its content was opened for a reader
}

// Ref identifies the event within its stream.
func (e Event) Ref() Ref { return Ref{e.ID, e.Digest} }

// Key identifies the event in the log.
func (e Event) Key() Key { return Key{e.Stream, e.ID, e.Digest} }

// WithDigest returns the event with the digest of what it holds now. Call it when content was changed that
// is to be stored: sealed, or read from JSON.
func (e Event) WithDigest() Event {
	e.Digest = digestOf(e)
	return e
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
	return e.WithDigest(), nil
}

func (e Event) validate(t *eventType) error {
	if e.ID == (ID{}) {
		return Invalid("id", "must not be zero")
	}
	if err := e.Stream.Validate(); err != nil {
		return err
	}
	kind, name := e.Stream.Split()
	if kind != t.kind && (kind != KindUser || !t.ofUsers) {
		return Invalid("stream", fmt.Sprintf("must be of kind %s for %s", t.kind, t.name))
	}
	if kind == KindUser && name != e.Actor && !t.ofUsers {
		return Invalid("actor", "must be the user whose stream it is")
	}
	if kind == KindRegion && e.Stream.BeatRegion() != e.Actor {
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

// Same reports whether two events are equal in everything but the region that accepted them. A
// retried command makes the same event; another command under its id does not. Data is compared as
// JSON in its newest version, without what a region adds to the command; data that cannot be read is the
// same only byte for byte.
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
	x, errX := marshal(asked(a.Payload))
	y, errY := marshal(asked(b.Payload))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// asked returns what a client asked for: the payload without what the accepting region, or only a later
// release, makes of it. Equal commands are thus the same whichever of them accepted them.
func asked(p Payload) Payload {
	if p, is := p.(interface{ asked() Payload }); is {
		return p.asked()
	}
	return p
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
