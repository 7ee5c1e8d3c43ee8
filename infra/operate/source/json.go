package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// utf8Reader reads text of any Unicode encoding as UTF-8, without a byte order mark. Text that begins with
// an ASCII character, as JSON does, shows its encoding also without a mark.
func utf8Reader(r io.Reader) *bufio.Reader {
	in := bufio.NewReaderSize(r, 64<<10)
	head, _ := in.Peek(3) // the error comes again
	endian := unicode.LittleEndian
	switch {
	case bytes.Equal(head, []byte("\ufeff")):
		_, _ = in.Discard(len(head)) // was peeked
		return in
	case len(head) < 2 || (head[0] != 0xfe || head[1] != 0xff) && (head[0] != 0xff || head[1] != 0xfe) && (head[0] != 0) == (head[1] != 0):
		return in
	case head[0] == 0xfe || head[0] == 0:
		endian = unicode.BigEndian
	}
	return bufio.NewReaderSize(transform.NewReader(in, unicode.UTF16(endian, unicode.UseBOM).NewDecoder()), 64<<10)
}

// lenientReader passes JSON on without what other programs write and Go does not read: commas before a
// closing bracket or in a row, control characters in texts, backslashes that escape nothing. A run of
// spaces becomes one.
type lenientReader struct {
	in              *bufio.Reader
	inText, escaped bool
	comma, space    bool // it is held back; it was passed on
	last            byte // passed on outside texts, other than a space
	rest            []byte
	buf             [8]byte
}

// Read implements [io.Reader].
func (r *lenientReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.rest) > 0 {
			copied := copy(p[n:], r.rest)
			r.rest, n = r.rest[copied:], n+copied
			continue
		}
		c, err := r.in.ReadByte()
		if err != nil && n > 0 {
			return n, nil // it comes again
		}
		if err != nil {
			return 0, err
		}
		r.rest = r.pass(r.buf[:0], c)
	}
	return n, nil
}

// pass appends what stands for the next byte.
func (r *lenientReader) pass(out []byte, c byte) []byte {
	switch {
	case r.escaped:
		r.escaped = false
		if strings.IndexByte(`"\/bfnrtu`, c) < 0 {
			out = append(out, '\\')
		}
		if c < ' ' {
			return fmt.Appendf(out, `u%04x`, c)
		}
		return append(out, c)
	case r.inText && c < ' ':
		return fmt.Appendf(out, `\u%04x`, c)
	case r.inText:
		r.escaped = c == '\\'
		if c == '"' {
			r.inText, r.last = false, c
		}
		return append(out, c)
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		if r.space || r.comma {
			return out
		}
		r.space = true
		return append(out, ' ')
	case c == ',':
		r.comma = r.comma || strings.IndexByte("\x00[{:", r.last) < 0
		return out
	}
	if r.comma && c != ']' && c != '}' {
		out = append(out, ',')
	}
	r.comma, r.space, r.last, r.inText = false, false, c, c == '"'
	return append(out, c)
}

// object is a JSON object of another program. Each field is understood by itself: one that has an
// unexpected form is as if it were missing, and its name is remembered.
type object struct {
	fields map[string]json.RawMessage
	odd    []string
}

// decodeObject decodes one JSON value that must be an object. The problem is what is wrong with it.
func decodeObject(raw []byte) (o *object, problem string) {
	o = &object{}
	if err := json.Unmarshal(raw, &o.fields); err != nil {
		lenient, readErr := io.ReadAll(&lenientReader{in: bufio.NewReader(bytes.NewReader(raw))})
		if again := json.Unmarshal(lenient, &o.fields); readErr != nil || again != nil {
			return nil, jsonProblem(err)
		}
	}
	if o.fields == nil {
		return nil, "it must be a JSON object"
	}
	if !utf8.Valid(raw) {
		o.odd = append(o.odd, "bytes that are not UTF-8")
	}
	return o, ""
}

// jsonProblem says what is wrong with a JSON text, without quoting it.
func jsonProblem(err error) string {
	if syntax, is := errors.AsType[*json.SyntaxError](err); is {
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	}
	if _, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		return "it must be a JSON object"
	}
	return "not JSON"
}

// notes says which fields were not understood, "" if there are none.
func (o *object) notes() string {
	if len(o.odd) == 0 {
		return ""
	}
	return "not understood: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(o.odd))), ", ")
}

// raw returns a field, nil if it is missing or null.
func (o *object) raw(name string) json.RawMessage {
	if raw := o.fields[name]; string(raw) != "null" {
		return raw
	}
	return nil
}

func (o *object) isOdd(name string) { o.odd = append(o.odd, name) }

// scalar returns a text, or a number as it is written.
func scalar(raw json.RawMessage) (text string, ok bool) {
	switch {
	case len(raw) == 0:
		return "", false
	case raw[0] == '"':
		return text, json.Unmarshal(raw, &text) == nil
	default:
		return string(raw), raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'
	}
}

// text returns a field that is a text or a number; "" if it is missing.
func (o *object) text(name string) string {
	raw := o.raw(name)
	text, ok := scalar(raw)
	if !ok && raw != nil {
		o.isOdd(name)
	}
	return text
}

// flag returns a field that is a boolean in whatever form; the second result is whether it says anything.
func (o *object) flag(name string) (value, says bool) {
	raw := o.raw(name)
	if raw == nil {
		return false, false
	}
	text, ok := scalar(raw)
	if !ok {
		text = string(raw)
	}
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes":
		return true, true
	case "false", "0", "no", "":
		return false, true
	}
	o.isOdd(name)
	return false, false
}

// time returns a field that is a time, zero if it is missing: in RFC 3339, or in Unix seconds.
func (o *object) time(name string) time.Time {
	text := o.text(name)
	at, ok := parseTime(text)
	if !ok && text != "" {
		o.isOdd(name)
	}
	return at
}

// object returns a field that is an object; an empty one if it is missing.
func (o *object) object(name string) *object {
	raw := o.raw(name)
	inner, problem := decodeObject(raw)
	if problem != "" {
		if raw != nil {
			o.isOdd(name)
		}
		return &object{}
	}
	return inner
}

// list returns the elements of a field that is a list. One element may stand without the brackets.
func (o *object) list(name string) (elements []json.RawMessage) {
	raw := o.raw(name)
	switch {
	case raw == nil:
	case json.Unmarshal(raw, &elements) == nil:
	case raw[0] == '{' || raw[0] == '"':
		elements = []json.RawMessage{raw}
	default:
		o.isOdd(name)
	}
	return elements
}

// objects returns the elements of a list that are objects.
func (o *object) objects(name string) (elements []*object) {
	for _, raw := range o.list(name) {
		if element, problem := decodeObject(raw); problem == "" {
			elements = append(elements, element)
		} else {
			o.isOdd(name)
		}
	}
	return elements
}

// texts returns the elements of a list that are texts or numbers. All is whether there are no others.
func (o *object) texts(name string) (texts []string, all bool) {
	before := len(o.odd)
	for _, raw := range o.list(name) {
		if text, ok := scalar(raw); ok {
			texts = append(texts, text)
		} else {
			o.isOdd(name)
		}
	}
	return texts, len(o.odd) == before
}

// parseTime reads a time in RFC 3339, or a number of seconds since 1970. A number that is too great for
// seconds is one of milliseconds or microseconds.
func parseTime(text string) (time.Time, bool) {
	text = strings.TrimSpace(text)
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, true
	}
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	nanos, partErr := strconv.ParseUint((part + "000000000")[:9], 10, 64)
	if err != nil || partErr != nil || len(part) > 9 || seconds < 0 && nanos > 0 {
		float, err := strconv.ParseFloat(text, 64)
		if err != nil || math.Abs(float) > 1e17 {
			return time.Time{}, false
		}
		seconds, nanos = int64(math.Floor(float)), uint64(math.Round((float-math.Floor(float))*1e6))*1000
	}
	switch {
	case seconds >= 1e17:
		return time.Time{}, false
	case seconds >= 1e15:
		return time.UnixMicro(seconds).UTC(), true
	case seconds >= 1e12:
		return time.UnixMilli(seconds).UTC(), true
	}
	return time.Unix(seconds, int64(nanos)).UTC(), true
}
