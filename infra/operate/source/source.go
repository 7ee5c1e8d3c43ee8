// Package source imports conversations that took place elsewhere. It reads JSON lines and Slack
// exports and makes the Parley events that would have recorded them. Times and authors are kept, and
// event ids are computed from what the source names lastingly, such as a channel's id and a message's time
// in it, so that the same source always makes the same events, and a later one continues its rooms.
//
// A source is read several times: [NewSurvey] finds out what is in it, [Survey.Continue] takes what a
// region has of it already, and [Events] makes the events. All stream; rooms, members, threads and digests
// of the messages' keys are held in memory.
package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"parley/events"
)

// Source is one or more conversations. Each call of Records yields the same records again. An error
// ends the iteration: the source cannot be read any further. What can be read but not understood is
// a Record with a Problem.
type Source interface {
	Records() iter.Seq2[Record, error]
}

// Place is where in a source something is found.
type Place struct {
	File string
	// Line counts from 1: lines of JSON lines, elements of a Slack file. 0 is the whole file.
	Line int
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Kind is what a record is about.
type Kind int

// The kinds of records.
const (
	KindMessage   Kind = iota // Author wrote Text
	KindRoom                  // a room exists, described by Record.About
	KindJoin                  // Author joined
	KindLeave                 // Author left
	KindArchive               // Author archived the room
	KindUnarchive             // Author reopened the room
	KindUpdate                // Author changed name or topic of the room, Record.Update
	KindUser                  // Author is a user with the name Login, whose display name is Text
	KindEvent                 // a Parley event, Record.Event
	KindNote                  // nothing but a Note
)

// byMember reports whether only members do this. A channel may be archived or renamed by others.
func (k Kind) byMember() bool { return k == KindMessage || k == KindJoin || k == KindLeave }

// Record is one thing that happened, as the source describes it. Users, rooms and messages have the lasting
// names that the source gives them, so that another part of the source, or a later one, names the same.
type Record struct {
	Place   Place
	Problem string // why the record cannot be imported
	Note    string // which part of the record cannot be imported

	Kind   Kind
	Room   string // the source's own, unique name of the room
	At     time.Time
	Author string // the source's own, unique name of the author
	Text   string

	Key       string    // identifies the message in its room; "" if only its time and content do
	Thread    Ref       // the message in whose thread this one is
	ReplyTo   Ref       // the message that this one answers
	Edited    time.Time // when the message got its present text; zero if it was never edited
	Editor    string
	Reactions []Reaction
	Pinned    string // who pinned it; "" if it is not pinned

	Login  string // of a user: the user id to prefer; "" is Author
	Gone   bool   // of a user: deactivated
	Update events.RoomUpdated
	About  *Room
	Event  *events.Event

	exact bool // At, to the microsecond, orders and identifies the message in its room, and is its Key
}

// Ref is how a source refers to a message of the same room: by its Key, or by its time in RFC 3339.
type Ref struct {
	Key string
	At  time.Time // of a source with exact times
}

// Reaction is an emoji on a message. Sources do not say when it was added.
type Reaction struct{ User, Emoji string }

// Pin says that a message is pinned.
type Pin struct {
	Message Ref
	By      string
	At      time.Time
}

// Room is what a source says about a room in addition to its messages.
type Room struct {
	Name     string // "": Record.Room
	Topic    string
	Private  bool
	Direct   []string               // the two users of a direct room; of others than two, a private room is made
	Created  time.Time              // zero: the source does not say
	Owner    string                 // "": the first author
	Members  []string               // the members at the end; nil if the source does not say
	Roles    map[string]events.Role // of members above [events.RoleMember]
	Archived *bool                  // nil if the source does not say
	Pins     []Pin

	partial  bool // Members need not name all
	inferred bool // from the name of a folder
}

// nameOr returns the room's name as a valid one, if it has one, else that of the source's own name.
func (a Room) nameOr(name string) string {
	for _, name := range []string{roomName(a.Name), roomName(name)} {
		if events.ValidateName("room", name) == nil {
			return name
		}
	}
	return fmt.Sprintf("room %08x", hashOf(name))
}

// Options are the choices of the operator who imports.
type Options struct {
	Region string        // the region that accepts the events
	Name   string        // of the source: rooms of one name in sources of different names are different rooms
	Owner  string        // owner of rooms for which the source names none; "" is the first author
	Public bool          // makes rooms public where the source does not say; else they are private
	Events bool          // takes lines that are events; else they are problems
	Shift  time.Duration // added to all times
	Now    time.Time     // records after this time are refused
}

// Ids made of names have at most userChars characters, userHashChars of which are of the hash. Other numbers would make other
// users of the names that were imported before.
const (
	userChars     = 64
	userHashChars = 12
)

// UserOf returns the user id for an author's name: the name itself if it is a valid id. Otherwise it
// is the valid characters of the name and a hash of the whole name, so that different names never
// become the same user. UserOf("") is "".
func UserOf(name string) string {
	if name == "" || len(name) <= userChars && events.ValidateUser("author", name) == nil {
		return name
	}
	var b strings.Builder
	for _, r := range name {
		switch {
		case b.Len() >= userChars-userHashChars-1:
		case r < unicode.MaxASCII && events.ValidateUser("author", "a"+string(r)) == nil:
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	sum := sha256.Sum256([]byte(name))
	return strings.Trim(b.String(), "-.") + "-" + hex.EncodeToString(sum[:userHashChars/2])
}

// roomName returns a valid room name for a name in the source.
func roomName(name string) string { return oneLine(name, events.MaxNameChars) }

// oneLine replaces control characters and line breaks by spaces and cuts the text to a maximum length.
func oneLine(text string, maxChars int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if runes := []rune(text); len(runes) > maxChars {
		text = string(runes[:maxChars-1]) + "…"
	}
	return text
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
