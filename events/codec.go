package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Stored is an event as a log keeps it: six texts, the attributes of an item in the event
// table. Type carries the version behind a slash ("message.posted/1"), so that an item says
// by itself how to read it.
type Stored struct {
	Stream string
	ID     string
	Type   string
	Actor  string
	Region string
	Data   string
}

// Encode gives the stored form of an event.
func Encode(e Event) Stored {
	return Stored{
		Stream: string(e.Stream),
		ID:     e.ID.String(),
		Type:   e.Type + "/" + strconv.Itoa(e.Version),
		Actor:  e.Actor,
		Region: e.Region,
		Data:   string(e.Data),
	}
}

// Decode reads a stored event. It fails only where the envelope itself is damaged, so that not
// even a key is known. An event whose payload cannot be read (of an unknown type, of a newer
// version, damaged) comes back whole with an [Unreadable] payload: one bad event must not hide
// the rest of its stream.
func Decode(s Stored) (Event, error) {
	id, err := ParseID("id", s.ID)
	if err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	e := Event{
		ID:     id,
		Stream: Stream(s.Stream),
		Actor:  s.Actor,
		Region: s.Region,
		Data:   json.RawMessage(s.Data),
	}
	if err := e.Stream.Validate(); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	name, version, _ := strings.Cut(s.Type, "/")
	e.Type = name
	if e.Version, err = strconv.Atoi(version); err != nil || e.Version < 1 {
		e.Type, e.Version = s.Type, 0
		e.Payload = Unreadable{errors.New("type has no version")}
		return e, nil
	}
	e.Payload = types.read(e)
	return e, nil
}

// read decodes the payload of an event, bringing old versions up to date, and checks it as a
// new one would be checked: a log may hold what some other program wrote into it.
func (t *table) read(e Event) Payload {
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
			return Unreadable{fmt.Errorf("bring %s from version %d to %d: %w", e.Type, v, v+1, err)}
		}
	}
	p, err := row.decode(data)
	if err != nil {
		return Unreadable{fmt.Errorf("decode %s: %w", e.Type, withoutText(err))}
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

// marshal encodes a payload. HTML is not escaped: data is read by programs, and people type <.
func marshal(p Payload) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
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
}

// MarshalJSON gives the event as clients and subscribers see it:
// {"id","stream","type","version","actor","region","data"}.
func (e Event) MarshalJSON() ([]byte, error) {
	data := e.Data
	if !json.Valid(data) { // an unreadable event, on its way to an operator
		data, _ = json.Marshal(string(e.Data))
	}
	return json.Marshal(wire{e.ID.String(), e.Stream, e.Type, e.Version, e.Actor, e.Region, data})
}

// UnmarshalJSON reads what [Event.MarshalJSON] writes.
func (e *Event) UnmarshalJSON(text []byte) error {
	var w wire
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	got, err := Decode(Stored{
		Stream: string(w.Stream), ID: w.ID, Type: w.Type + "/" + strconv.Itoa(w.Version),
		Actor: w.Actor, Region: w.Region, Data: string(w.Data),
	})
	if err != nil {
		return err
	}
	*e = got
	return nil
}
