package operate

import (
	"encoding/json"
	"errors"

	"github.com/danielgtaylor/huma/v2"

	"parley/events"
)

// RawEvent is an event as the log has it, as JSON: what [events.Event] reads and writes.
type RawEvent json.RawMessage

// rawOf is an event for an operator.
func rawOf(e events.Event) (RawEvent, error) {
	text, err := e.MarshalJSON()
	return RawEvent(text), err
}

// MarshalJSON implements [json.Marshaler].
func (e RawEvent) MarshalJSON() ([]byte, error) { return e, nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (e *RawEvent) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '{' {
		return errors.New("not an object")
	}
	*e = append((*e)[:0], text...)
	return nil
}

// Schema implements [huma.SchemaProvider].
func (RawEvent) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "id, stream, type, version, actor, region and data, as Event. data is a string where it cannot be read.",
	}
}

// Object is any JSON object.
type Object json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (o Object) MarshalJSON() ([]byte, error) { return o, nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (o *Object) UnmarshalJSON(text []byte) error {
	*o = append((*o)[:0], text...)
	return nil
}

// Schema implements [huma.SchemaProvider].
func (Object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "By kind of job."}
}
