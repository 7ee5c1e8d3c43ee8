// Package source reads conversations that were held elsewhere, JSON lines and Slack's exports, and
// makes of them the events they would have been: with their times and authors, under ids that follow
// from the source alone, so that the same source makes the same events again.
//
// A source is read twice: [Look] finds out what is in it, [Events] makes the events. Both go
// through it as a stream; what is held in memory are rooms, members and threads.
package source

import (
	"fmt"
	"iter"
	"time"

	"parley/events"
)

// Source is a conversation, or many. Records may be called again and then yields the same again. An
// error ends it: the source cannot be read on. What cannot be understood is a Record with a Problem.
type Source interface {
	Records() iter.Seq2[Record, error]
}

// Place is where in a source something stands.
type Place struct {
	File string
	Line int // of JSON lines; of a day of Slack's the number of the message; 0 is the file as a whole
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Kind is what a record tells.
type Kind int

// The kinds of record.
const (
	KindMessage   Kind = iota // Author said Text
	KindRoom                  // there is a room, see Record.About
	KindJoin                  // Author joined
	KindLeave                 // Author left
	KindArchive               // Author archived the room
	KindUnarchive             // Author opened it again
	KindProfile               // Author is called Text
	KindEvent                 // an event of Parley's own, Record.Event
)

// Record is one thing that happened, as the source tells it.
type Record struct {
	Place   Place
	Problem string // why it cannot be taken; then nothing else counts
	Note    string // what of it cannot be taken

	Kind   Kind
	Room   string // the source's own name of the room, by which it is told from others
	At     time.Time
	Author string // the source's own name of the author
	Text   string

	Key       string    // names this message in its room; "" if nothing but its time does
	Thread    string    // the Key, or the time in RFC 3339, of the message in whose thread it stands
	Edited    time.Time // when it got its present text, zero if it always had it
	Editor    string
	Reactions []Reaction

	About *Room
	Event *events.Event
}

// Reaction is an emoji on a message. Sources do not tell when it came.
type Reaction struct{ User, Emoji string }

// Room is what a source tells about a room beyond what was said in it.
type Room struct {
	Name    string
	Topic   string
	Private bool
	Direct  []string  // the two users, of a direct room
	Created time.Time // zero: just before the first thing that happened
	Owner   string    // "": the first author
	Members []string  // who is in it at the end; nil: not told
}

// Options are what whoever imports decides.
type Options struct {
	Region  string        // the region that accepts the events
	Owner   string        // of rooms whose owner the source does not tell; "" is the first author
	Private bool          // rooms of which the source does not tell are private
	Shift   time.Duration // added to all times
	Now     time.Time     // no event may lie after it
}
