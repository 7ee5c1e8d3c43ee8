package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Stored is an event as a log keeps it: six texts, the attributes of an item in the event
// table. ID is the text of the event's [Ref], the sort key. Type carries the version behind a slash
// ("message.posted/1"), so that an item says by itself how to read it.
type Stored struct {
	Stream string
	ID     string
	Type   string
	Actor  string
	Region string
	Data   string
}

// Encode gives the stored form of an event: of one made with [New] the form to store, of one
// made with [Decode] the form it was read from, even if it could not be understood.
func Encode(e Event) Stored {
	return Stored{
		Stream: string(e.Stream),
		ID:     e.Ref().String(),
		Type:   joinType(e.Type, e.Version),
		Actor:  e.Actor,
		Region: e.Region,
		Data:   string(e.Data),
	}
}

// Decode reads a stored event. It fails only where the envelope itself is damaged, so that not
// even a key is known. An event whose payload cannot be read (of an unknown type, of a newer
// version, damaged, other than its key says) comes back whole with an [Unreadable] payload: one bad
// event must not hide the rest of its stream.
func Decode(s Stored) (Event, error) { return types.decode(s) }

func (t *table) decode(s Stored) (Event, error) {
	ref, err := ParseRef("id", s.ID)
	if err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	e := Event{
		ID:     ref.ID,
		Digest: ref.Digest,
		Stream: Stream(s.Stream),
		Actor:  s.Actor,
		Region: s.Region,
		Data:   json.RawMessage(s.Data),
	}
	if err := e.Stream.Validate(); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	e.Type, e.Version = splitType(s.Type)
	if ref.Digest != (Digest{}) && ref.Digest != digestOf(e) {
		e.Payload = Unreadable{errors.New("content does not match the digest in its key")}
		return e, nil
	}
	e.Payload = t.read(e)
	return e, nil
}

// joinType puts a version behind a wire name. Version 0 is a type that came without one.
func joinType(name string, version int) string {
	if version == 0 {
		return name
	}
	return name + "/" + strconv.Itoa(version)
}

// splitType undoes joinType. What joinType would not write is a name without a version, so
// that it is written again as it was read.
func splitType(text string) (name string, version int) {
	name, digits, _ := strings.Cut(text, "/")
	version, err := strconv.Atoi(digits)
	if err != nil || version < 1 || strconv.Itoa(version) != digits {
		return text, 0
	}
	return name, version
}

// read decodes the payload of an event, upgrades old versions, and validates it like a new one: a
// log may hold what another program wrote into it.
func (t *table) read(e Event) Payload {
	if e.Version < 1 {
		return Unreadable{errors.New("type has no version")}
	}
	row, ok := t.byName[e.Type]
	if !ok {
		return Unreadable{errors.New("unknown type")}
	}
	if e.Version > row.version {
		return Unreadable{fmt.Errorf("%s has version %d, this release reads up to %d", e.Type, e.Version, row.version)}
	}
	data := e.Data
	for v := e.Version; v < row.version; v++ {
		var err error
		if data, err = row.steps[v-1](data); err != nil {
			return Unreadable{fmt.Errorf("upgrade %s from version %d to %d: %w", e.Type, v, v+1, withoutText(err))}
		}
	}
	p, err := row.decode(data)
	if err != nil {
		return Unreadable{fmt.Errorf("decode %s: %w", e.Type, withoutText(err))}
	}
	if !encodes(data, p) {
		return Unreadable{fmt.Errorf("decode %s: data holds more than the payload, or an invalid id", e.Type)}
	}
	e.Payload = p
	if err := e.validate(row); err != nil {
		return Unreadable{fmt.Errorf("check %s: %w", e.Type, err)}
	}
	return p
}

// withoutText replaces a JSON error that may quote its input: user text must not get into logs.
func withoutText(err error) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &wrong):
		return fmt.Errorf("field %s has the wrong type", wrong.Field)
	default:
		return errors.New("not decodable")
	}
}

// encodes reports whether data is the JSON of p and nothing else. Decoding alone does not check
// that: it skips unknown fields, takes "TEXT" for "text" and reads a ULID with bad letters as
// another id. Then clients, who read the data, and views, which read the payload, would differ.
func encodes(data json.RawMessage, p Payload) bool {
	again, err := marshal(p)
	if err != nil {
		return false
	}
	return bytes.Equal(data, again) || sameJSON(data, again)
}

// sameJSON compares the values of two JSON texts: spaces, escapes and the order of fields may
// differ.
func sameJSON(a, b []byte) bool {
	x, errX := parseJSON(a)
	y, errY := parseJSON(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func parseJSON(text []byte) (value any, err error) {
	if !utf8.Valid(text) { // the decoder would replace bad bytes
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return value, dec.Decode(&value)
}

// marshal encodes without escaping HTML: data is read by programs, and people type <.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// wire is an event as clients and subscribers see it.
type wire struct {
	ID      string          `json:"id"`
	Stream  Stream          `json:"stream"`
	Type    string          `json:"type"`
	Version int             `json:"version"`
	Actor   string          `json:"actor"`
	Region  string          `json:"region"`
	Data    json.RawMessage `json:"data"`

	Deleted    bool `json:"deleted,omitempty"`
	Unreadable bool `json:"unreadable,omitempty"`
}

// MarshalJSON gives the event as clients and subscribers see it:
// {"id","stream","type","version","actor","region","data"}, and "deleted" or "unreadable" where a
// content is withheld, see [Deleted] and [Unopened]. Data is an object; data that is
// none (of an unreadable event, on its way to an operator) is given as a string; bytes in it that
// are not UTF-8 cannot be, and are replaced.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.plain() {
		return e.appendJSON(make([]byte, 0, len(e.Data)+224)), nil
	}
	data := e.Data
	if !isObject(data) {
		var err error
		if data, err = marshal(string(e.Data)); err != nil {
			return nil, fmt.Errorf("encode data of an event: %w", err)
		}
	}
	return marshal(wire{ID: e.ID.String(), Stream: e.Stream, Type: e.Type, Version: e.Version, Actor: e.Actor, Region: e.Region, Data: data})
}

// plain reports whether the event can be written as JSON without a look at its parts: one that
// was made or read by this package has nothing in its envelope that needs an escape, and data
// that is JSON. Only breaks between lines are not wanted, as subscribers may read line by line.
func (e Event) plain() bool {
	_, known := types.of(e.Payload)
	return known && bytes.IndexByte(e.Data, '\n') < 0 && bytes.IndexByte(e.Data, '\r') < 0
}

func (e Event) appendJSON(b []byte) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, e.ID.String()...)
	b = append(b, `","stream":"`...)
	b = append(b, e.Stream...)
	b = append(b, `","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, int64(e.Version), 10)
	b = append(b, `,"actor":"`...)
	b = append(b, e.Actor...)
	b = append(b, `","region":"`...)
	b = append(b, e.Region...)
	b = append(b, `","data":`...)
	b = append(b, e.Data...)
	if bytes.Contains(e.Data, []byte("null")) { // as withheld content is
		isDeleted, isUnopened := e.Withheld()
		if isDeleted {
			b = append(b, `,"deleted":true`...)
		}
		if isUnopened {
			b = append(b, `,"unreadable":true`...)
		}
	}
	return append(b, '}')
}

func isObject(data json.RawMessage) bool {
	return len(data) > 0 && data[0] == '{' && utf8.Valid(data) && json.Valid(data)
}

// UnmarshalJSON reads what [Event.MarshalJSON] writes. JSON on its way may be spaced and escaped
// anew, by encoding/json too, so Data may be spelled differently; by [Same] a readable event is
// the same. Its Digest is that of Data as it was read.
func (e *Event) UnmarshalJSON(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("decode event: not UTF-8")
	}
	var w wire
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("decode event: %w", withoutText(err))
	}
	data := string(w.Data)
	if strings.HasPrefix(data, `"`) {
		if err := json.Unmarshal(w.Data, &data); err != nil {
			return fmt.Errorf("decode data of an event: %w", withoutText(err))
		}
	}
	id, err := ParseID("id", w.ID)
	if err != nil {
		return fmt.Errorf("decode event: %w", err)
	}
	got, err := Decode(Stored{
		Stream: string(w.Stream), ID: id.String(), Type: joinType(w.Type, w.Version),
		Actor: w.Actor, Region: w.Region, Data: data,
	})
	if err != nil {
		return err
	}
	*e, err = got.WithDigest().WithContent(func(_ string, c Content) (Content, error) {
		switch {
		case c.form == erased && w.Deleted:
			return Deleted(), nil
		case c.form == erased && w.Unreadable:
			return Unopened(), nil
		default:
			return c, nil
		}
	})
	return err
}
