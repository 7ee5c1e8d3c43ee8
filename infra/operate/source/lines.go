package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"parley/events"
)

// sequence is several sources, read one after the other.
type sequence []Source

// Records implements [Source].
func (all sequence) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, src := range all {
			for rec, err := range src.Records() {
				if !yield(rec, err) {
					return
				}
			}
		}
	}
}

// MaxLine is the longest line of JSON, in bytes: room for the longest text with each byte escaped.
const MaxLine = 256 << 10

// Lines is a source of JSON lines: {"room","author","at","text"}, where at is in RFC 3339, and
// optionally "id", any text that identifies the message in its room, "thread" and "reply_to", each
// the id or the time of an earlier message, "edited", the time of the present text, "reactions", lists
// of users by emoji, and "pinned", the user who pinned it. A line {"room","about"} describes a room;
// without one a room is as [Options] say. A line may also be an event as the export command writes it.
type Lines struct {
	Name string                        // of the file, for problems
	Open func() (io.ReadCloser, error) // opens the file at its beginning
}

func fileLines(name, shown string) Lines {
	return Lines{shown, func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open the source: %w", err)
		}
		return f, nil
	}}
}

// Records implements [Source].
func (l Lines) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		in, err := l.Open()
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer func() { _ = in.Close() }()
		r := utf8Reader(in)
		for n := 1; ; n++ {
			line, tooLong, err := readLine(r)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Record{}, fmt.Errorf("read %s after line %d: %w", l.Name, n-1, err))
				return
			}
			line = bytes.TrimSpace(line)
			if len(line) > 0 || tooLong {
				rec := Record{Problem: fmt.Sprintf("the line is longer than %d bytes", MaxLine)}
				if !tooLong {
					rec = decodeLine(line)
				}
				rec.Place = Place{l.Name, n}
				if !yield(rec, nil) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// readLine reads a line. It skips the content of a line that is too long.
func readLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > MaxLine; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

func decodeLine(line []byte) Record {
	o, problem := decodeObject(line)
	if problem != "" {
		return Record{Problem: problem}
	}
	if o.text("stream") != "" && o.text("type") != "" {
		return decodeEvent(line)
	}
	room := norm.NFC.String(o.text("room")) // the same room, however its accents are written
	if o.raw("about") != nil && room != "" {
		return decodeRoom(room, o)
	}
	rec := Record{
		Kind: KindMessage, Room: room, Author: o.text("author"), Text: o.text("text"), Key: o.text("id"),
		Thread: Ref{Key: o.text("thread")}, ReplyTo: Ref{Key: o.text("reply_to")}, Edited: o.time("edited"), Pinned: o.text("pinned"),
	}
	at := o.text("at")
	for _, field := range [][2]string{{"room", room}, {"author", rec.Author}, {"at", at}, {"text", rec.Text}} {
		if field[1] == "" {
			return Record{Problem: field[0] + " is missing"}
		}
	}
	var ok bool
	if rec.At, ok = parseTime(at); !ok {
		return Record{Problem: "at must be a time like 2026-01-31T12:00:00Z"}
	}
	reactions := o.object("reactions")
	for _, emoji := range sortedKeys(reactions.fields) {
		users, _ := reactions.texts(emoji)
		for _, user := range users {
			rec.Reactions = append(rec.Reactions, Reaction{user, emoji})
		}
	}
	o.odd = append(o.odd, reactions.odd...)
	rec.Note = o.notes()
	return rec
}

// About is what a line says about a room, as [Room]. A room is private unless its line says that it
// is not.
type About struct {
	Name     string                 `json:"name,omitempty"` // "" is the line's room
	Topic    string                 `json:"topic,omitempty"`
	Private  *bool                  `json:"private,omitempty"`
	Archived bool                   `json:"archived,omitempty"`
	Direct   []string               `json:"direct,omitempty"`
	Created  time.Time              `json:"created,omitzero"`
	Owner    string                 `json:"owner,omitempty"`
	Members  map[string]events.Role `json:"members,omitzero"` // the members at the end and their roles; nil: who writes is one
}

func decodeRoom(name string, line *object) Record {
	o := line.object("about")
	if len(o.fields) == 0 && string(line.raw("about")) != "{}" {
		o.isOdd("about: the room is private")
	}
	a := &Room{Name: o.text("name"), Topic: o.text("topic"), Created: o.time("created"), Owner: o.text("owner")}
	public, says := o.flag("private")
	a.Private = !says || public || o.raw("direct") != nil
	if archived, says := o.flag("archived"); says {
		a.Archived = &archived
	}
	if o.raw("direct") != nil {
		a.Direct, _ = o.texts("direct")
		a.Direct = append([]string{}, a.Direct...)
	}
	if o.raw("members") != nil {
		members := o.object("members")
		a.Members, a.Roles = append([]string{}, sortedKeys(members.fields)...), map[string]events.Role{}
		a.partial = len(a.Members) == 0 && string(o.raw("members")) != "{}"
		for _, member := range a.Members {
			role := events.Role(members.text(member))
			if a.Roles[member] = role; role.Validate() != nil {
				o.isOdd("the role of a member")
				a.Roles[member] = events.RoleMember
			}
		}
	}
	return Record{Kind: KindRoom, Room: name, About: a, Note: strings.Join(slices.DeleteFunc([]string{line.notes(), o.notes()}, func(s string) bool { return s == "" }), "; ")}
}

func decodeEvent(line []byte) Record {
	var e events.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Record{Problem: "not a valid event: " + err.Error()}
	}
	if u, bad := e.Payload.(events.Unreadable); bad {
		return Record{Problem: "the event cannot be decoded: " + u.Err.Error()}
	}
	e = Canonical(e)
	return Record{Kind: KindEvent, Event: &e, At: e.ID.Timestamp(), Author: e.Actor}
}

// Canonical returns an event with its data encoded as in the log. JSON in transit may have other
// spaces and escapes.
func Canonical(e events.Event) events.Event {
	again, err := events.New(e.ID, e.Stream, e.Actor, e.Region, e.Payload)
	if err != nil || again.Type != e.Type || again.Version != e.Version {
		return e // not readable, or of an older version
	}
	return again
}
