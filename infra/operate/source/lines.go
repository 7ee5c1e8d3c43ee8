package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"parley/events"
)

// MaxLine bounds a line of JSON, in bytes: the longest text, each byte escaped, and room for the rest.
const MaxLine = 256 << 10

// Lines is a source of JSON lines: {"room","author","at","text"}, at in RFC 3339, and if need be
// "id", any text that names the message in its room, and "thread", the id or the time of an earlier
// message. A line may also be an event, as an export has them.
type Lines struct {
	Name string                        // of the file, for problems
	Open func() (io.ReadCloser, error) // begins again
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
		for r, err := range decodeLines(in, l.Name) {
			if !yield(r, err) {
				return
			}
		}
	}
}

func decodeLines(in io.Reader, name string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r := bufio.NewReaderSize(in, 64<<10)
		for n := 1; ; n++ {
			line, long, err := readLine(r)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Record{}, fmt.Errorf("read %s behind line %d: %w", name, n-1, err))
				return
			}
			if n == 1 {
				line = bytes.TrimPrefix(line, []byte("\ufeff"))
			}
			line = bytes.TrimSpace(line)
			if len(line) > 0 || long {
				rec := Record{Problem: fmt.Sprintf("the line has more than %d bytes", MaxLine)}
				if !long {
					rec = decodeLine(line)
				}
				rec.Place = Place{name, n}
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

// readLine reads a line; one that is too long it reads over.
func readLine(r *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > MaxLine; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, long, err
		}
	}
}

// jsonLine is a line, of a message or an event.
type jsonLine struct {
	Room   *string `json:"room"`
	Author *string `json:"author"`
	At     *string `json:"at"`
	Text   *string `json:"text"`
	ID     string  `json:"id"`
	Thread string  `json:"thread"`

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
	return Record{
		Kind: KindMessage, Room: *l.Room, At: at, Author: *l.Author, Text: *l.Text,
		Key: l.ID, Thread: l.Thread,
	}
}

func decodeEvent(line []byte) Record {
	var e events.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Record{Problem: "it is no event: " + err.Error()}
	}
	if u, bad := e.Payload.(events.Unreadable); bad {
		return Record{Problem: "the event cannot be read: " + u.Err.Error()}
	}
	if !events.Owns(e.Actor, e.ID) {
		return Record{Problem: "the id of the event does not carry the mark of its actor"}
	}
	e = Respelled(e)
	return Record{Kind: KindEvent, Event: &e, At: e.ID.Timestamp(), Author: e.Actor}
}

// Respelled returns an event with its data spelled as the log spells it: on its way as JSON it may
// have been spaced and escaped anew.
func Respelled(e events.Event) events.Event {
	again, err := events.New(e.ID, e.Stream, e.Actor, e.Region, e.Payload)
	if err != nil || again.Type != e.Type || again.Version != e.Version {
		return e // it cannot be read, or is of an older version
	}
	return again
}

// jsonProblem says what is wrong with a JSON text, without quoting it.
func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Sprintf("%s must be a %s", wrong.Field, strings.TrimPrefix(wrong.Type.String(), "*"))
	case errors.As(err, &wrong):
		return "it must be a JSON object"
	default:
		return "it is not JSON"
	}
}

// linesOf is a source of lines in memory.
func linesOf(name string, text []byte) Lines {
	return Lines{name, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }}
}
