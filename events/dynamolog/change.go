package dynamolog

import (
	"encoding/json"
	"errors"
	"fmt"

	"parley/events"
)

// Change is one record of the event table's stream: an event that was appended.
type Change struct {
	Event events.Event
	// Replaced says that the event took the place of another with its id: its author sent one id
	// with two contents to two regions, and the last writer has won.
	Replaced bool
	// Sequence tells the record from others. In what Stream.Next returns it is also the
	// checkpoint up to and including the record.
	Sequence string

	// Err says why the record is no event; Raw, the record as it came, is then all there is.
	Err error
	Raw json.RawMessage
}

// record is a record of a table's stream as DynamoDB gives it to Lambda.
type record struct {
	EventName string `json:"eventName"` // "INSERT", "MODIFY" or "REMOVE"
	DynamoDB  struct {
		SequenceNumber string                     `json:"SequenceNumber"`
		NewImage       map[string]json.RawMessage `json:"NewImage"`
	} `json:"dynamodb"`
}

// ParseChanges reads what Lambda is invoked with by the event source mapping of the table's
// stream, {"Records":[…]}. It fails only where that is not its form: a record that is no event
// is a Change with an Err, and the records around it can be handled.
func ParseChanges(payload []byte) ([]Change, error) {
	var batch struct {
		Records []json.RawMessage `json:"Records"`
	}
	if err := json.Unmarshal(payload, &batch); err != nil || batch.Records == nil {
		return nil, errors.New("no records of a stream: not of the form {\"Records\":[…]}")
	}
	changes := make([]Change, len(batch.Records))
	for i, raw := range batch.Records {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("record %d of %d is not one of a DynamoDB stream", i+1, len(batch.Records))
		}
		if r.DynamoDB.SequenceNumber == "" {
			return nil, fmt.Errorf("record %d of %d has no SequenceNumber", i+1, len(batch.Records))
		}
		image, err := textsOf(r.DynamoDB.NewImage)
		changes[i] = change(r.EventName, r.DynamoDB.SequenceNumber, image, err)
		if changes[i].Err != nil {
			changes[i].Raw = raw
		}
	}
	return changes, nil
}

// textsOf returns the attributes of an image in DynamoDB's JSON, {"id":{"S":"…"}}. It passes over
// those that are not ours, whatever their types.
func textsOf(image map[string]json.RawMessage) (map[string]string, error) {
	texts := make(map[string]string, len(image))
	for name, raw := range image {
		if !isAttribute(name) {
			continue
		}
		var value struct {
			S *string
			B []byte
		}
		err := json.Unmarshal(raw, &value)
		switch {
		case err == nil && value.S != nil:
			texts[name] = *value.S
		case err == nil && value.B != nil:
			texts[name] = string(value.B)
		default:
			return nil, noText(name)
		}
	}
	return texts, nil
}

// change reads a record of a stream. This is the one place where records are understood. broken
// says why the image could not be read, if so.
func change(name, sequence string, image map[string]string, broken error) Change {
	c := Change{Sequence: sequence, Err: broken}
	switch {
	case broken != nil:
		return c
	case name == "REMOVE":
		c.Err = errors.New("an event was removed from the log, which only grows")
		return c
	case name != "INSERT" && name != "MODIFY":
		c.Err = errors.New("a record of an unknown kind")
		return c
	}
	c.Replaced = name == "MODIFY"
	c.Event, c.Err = decode(image)
	return c
}
