package source

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"parley/events"
)

// Open opens a file or folder and detects its format. A zip file or folder with channels.json is a
// Slack export; a folder without it is read as its *.jsonl and *.ndjson files; any other file holds
// JSON lines. "-" is standard input, which is copied to a temporary file first. The caller closes
// the closer when done. slackIDs is [Slack.IDs].
func Open(name string, slackIDs bool) (Source, io.Closer, error) {
	if name == "-" {
		return spool(os.Stdin)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open the source: %w", err)
	}
	switch {
	case info.IsDir():
		return openFolder(name, slackIDs)
	case isZip(name):
		z, err := zip.OpenReader(name)
		if err != nil {
			return nil, nil, fmt.Errorf("open the source: %w", err)
		}
		files := findSlack(z)
		if files == nil {
			return nil, nil, errors.Join(fmt.Errorf("%s is not a Slack export: it has no channels.json", name), z.Close())
		}
		return Slack{files, slackIDs}, z, nil
	default:
		return fileLines(name, filepath.Base(name)), nopCloser, nil
	}
}

func openFolder(name string, slackIDs bool) (Source, io.Closer, error) {
	if files := findSlack(os.DirFS(name)); files != nil {
		return Slack{files, slackIDs}, nopCloser, nil
	}
	entries, err := os.ReadDir(name) // sorted by name
	if err != nil {
		return nil, nil, fmt.Errorf("open the source: %w", err)
	}
	var all sequence
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".jsonl" || ext == ".ndjson") {
			all = append(all, fileLines(filepath.Join(name, e.Name()), e.Name()))
		}
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("%s has neither channels.json (a Slack export) nor *.jsonl or *.ndjson files", name)
	}
	return all, nopCloser, nil
}

func isZip(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head)
	return slices.Contains([]string{"PK\x03\x04", "PK\x05\x06"}, string(head[:n]))
}

// spool copies to a temporary file what can be read only once.
func spool(in io.Reader) (Source, io.Closer, error) {
	f, err := os.CreateTemp("", "parley-import-")
	if err != nil {
		return nil, nil, fmt.Errorf("copy standard input: %w", err)
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("copy standard input: %w", err), os.Remove(f.Name()))
	}
	return fileLines(f.Name(), "standard input"), closeFunc(func() error { return os.Remove(f.Name()) }), nil
}

type closeFunc func() error

func (c closeFunc) Close() error { return c() }

var nopCloser = closeFunc(func() error { return nil })

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
		r := bufio.NewReaderSize(in, 64<<10)
		for n := 1; ; n++ {
			line, tooLong, err := readLine(r)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Record{}, fmt.Errorf("read %s after line %d: %w", l.Name, n-1, err))
				return
			}
			if n == 1 {
				line = bytes.TrimPrefix(line, []byte("\ufeff"))
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

// jsonLine is a line with a message or a room, or enough of an event to recognize it.
type jsonLine struct {
	Room      *string             `json:"room"`
	Author    *string             `json:"author"`
	At        *string             `json:"at"`
	Text      *string             `json:"text"`
	ID        string              `json:"id"`
	Thread    string              `json:"thread"`
	ReplyTo   string              `json:"reply_to"`
	Edited    string              `json:"edited"`
	Reactions map[string][]string `json:"reactions"`
	Pinned    string              `json:"pinned"`

	About json.RawMessage `json:"about"`

	Stream string `json:"stream"`
	Type   string `json:"type"`
}

func decodeLine(line []byte) Record {
	if !utf8.Valid(line) {
		return Record{Problem: "the line is not valid UTF-8"}
	}
	var l jsonLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Record{Problem: jsonProblem(err)}
	}
	if l.Stream != "" && l.Type != "" {
		return decodeEvent(line)
	}
	if l.About != nil && l.Room != nil && *l.Room != "" {
		return decodeRoom(*l.Room, l.About)
	}
	for _, f := range []struct {
		name  string
		value *string
	}{{"room", l.Room}, {"author", l.Author}, {"at", l.At}, {"text", l.Text}} {
		if f.value == nil || *f.value == "" {
			return Record{Problem: f.name + " is missing"}
		}
	}
	at, err := time.Parse(time.RFC3339Nano, *l.At)
	if err != nil {
		return Record{Problem: "at must be a time like 2026-01-31T12:00:00Z"}
	}
	rec := Record{
		Kind: KindMessage, Room: *l.Room, At: at, Author: *l.Author, Text: *l.Text,
		Key: l.ID, Thread: l.Thread, ReplyTo: l.ReplyTo, Pinned: l.Pinned,
	}
	if l.Edited != "" {
		if rec.Edited, err = time.Parse(time.RFC3339Nano, l.Edited); err != nil {
			rec.Note = "the time of its edit is unknown: the edited text was imported as the original"
		}
	}
	for _, emoji := range slices.Sorted(maps.Keys(l.Reactions)) {
		for _, user := range l.Reactions[emoji] {
			rec.Reactions = append(rec.Reactions, Reaction{user, emoji})
		}
	}
	return rec
}

// About is what a line says about a room, as [Room]. A room is private unless its line says that it
// is not.
type About struct {
	Name    string                 `json:"name,omitempty"` // "" is the line's room
	Topic   string                 `json:"topic,omitempty"`
	Private *bool                  `json:"private,omitempty"`
	Direct  []string               `json:"direct,omitempty"`
	Created time.Time              `json:"created,omitzero"`
	Owner   string                 `json:"owner,omitempty"`
	Members map[string]events.Role `json:"members,omitempty"` // the members at the end and their roles
}

func decodeRoom(name string, text []byte) Record {
	rec := Record{Kind: KindRoom, Room: name}
	var a About
	if err := json.Unmarshal(text, &a); err != nil {
		rec.Problem = "about: " + jsonProblem(err)
		return rec
	}
	rec.About = &Room{
		Name: a.Name, Topic: a.Topic, Private: a.Private == nil || *a.Private || a.Direct != nil, Direct: a.Direct, Created: a.Created, Owner: a.Owner,
	}
	if a.Members != nil {
		rec.About.Members, rec.About.Roles = slices.Sorted(maps.Keys(a.Members)), a.Members
	}
	for _, role := range a.Members {
		if role.Validate() != nil {
			rec.Problem = "about: the role of a member must be owner, admin or member"
		}
	}
	return rec
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

// jsonProblem says what is wrong with a JSON text, without quoting it.
func jsonProblem(err error) string {
	if syntax, is := errors.AsType[*json.SyntaxError](err); is {
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	}
	switch wrong, is := errors.AsType[*json.UnmarshalTypeError](err); {
	case is && wrong.Field != "":
		return fmt.Sprintf("%s must be a %s", wrong.Field, strings.TrimPrefix(wrong.Type.String(), "*"))
	case is:
		return "it must be a JSON object"
	default:
		return "not JSON"
	}
}
