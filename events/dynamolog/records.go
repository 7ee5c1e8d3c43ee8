package dynamolog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"parley/events"
)

// streamRecord is a record of a table's stream as Lambda is invoked with it.
type streamRecord struct {
	EventName string `json:"eventName"` // "INSERT", "MODIFY" or "REMOVE"
	DynamoDB  struct {
		SequenceNumber string                     `json:"SequenceNumber"`
		NewImage       map[string]json.RawMessage `json:"NewImage"`
	} `json:"dynamodb"`
}

// ParseRecords decodes the payload with which the event source mapping of the table's stream
// invokes Lambda, {"Records":[…]}, all of one shard. Sequence is DynamoDB's sequence number; At is
// zero. It fails only if the payload does not have that form. A record that is not an event has Err
// set, so that the records around it can be handled.
func ParseRecords(payload []byte) ([]events.Record, error) {
	var batch struct {
		Records []json.RawMessage `json:"Records"`
	}
	if err := json.Unmarshal(payload, &batch); err != nil || batch.Records == nil {
		return nil, errors.New("parse records of a stream: the payload is not of the form {\"Records\":[…]}")
	}
	records := make([]events.Record, len(batch.Records))
	for i, raw := range batch.Records {
		var r streamRecord
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("record %d of %d is not a record of a DynamoDB stream", i+1, len(batch.Records))
		}
		if r.DynamoDB.SequenceNumber == "" {
			return nil, fmt.Errorf("record %d of %d has no SequenceNumber", i+1, len(batch.Records))
		}
		image, err := textsOf(r.DynamoDB.NewImage)
		records[i] = recordOf(r.EventName, r.DynamoDB.SequenceNumber, image, err)
		if records[i].Err != nil {
			records[i].Raw = raw
		}
	}
	return records, nil
}

// textsOf returns the attributes of an image in DynamoDB's JSON, {"id":{"S":"…"}}. It skips
// attributes that do not belong to an event, whatever their types.
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

// recordOf decodes a record of a stream, as Lambda or [ChangeReader] read it. Broken is the error of
// decoding its image, or nil. An item is modified where two regions accepted one command: the last
// writer's Region stays, all else is the same. That is a duplicate like any other.
func recordOf(name, sequence string, image map[string]string, broken error) events.Record {
	r := events.Record{Sequence: sequence, Number: events.Number(sequence[strings.LastIndexByte(sequence, '=')+1:]), Err: broken}
	switch {
	case broken != nil:
		return r
	case name == "REMOVE":
		r.Err = errors.New("an event was removed from the append-only log")
		return r
	case name != "INSERT" && name != "MODIFY":
		r.Err = errors.New("the record has an unknown kind")
		return r
	}
	r.Replica = image[attrReplica] != ""
	r.Event, r.Err = decode(image)
	if name == "MODIFY" && r.Err == nil && (r.Event.Digest == events.Digest{} || r.Event.Digest != r.Event.WithDigest().Digest) {
		r.Err = errors.New("an event was changed in the append-only log")
	}
	return r
}

// records decodes the next records of a shard. Their checkpoints differ only in the last number, so
// the part before it is encoded once.
func (r *ChangeReader) records(m member, batch []types.Record) ([]events.Record, error) {
	upToHere := frontier{append([]member(nil), r.state.members...)}
	upToHere.read(m.id, "")
	checkpoint := upToHere.encode(r.identity)
	records := make([]events.Record, len(batch))
	for i, raw := range batch {
		if raw.Dynamodb == nil || !validSequence(aws.ToString(raw.Dynamodb.SequenceNumber)) {
			return nil, fmt.Errorf("%w: a record has no sequence number", events.ErrUnavailable)
		}
		image, err := textsOfImage(raw.Dynamodb.NewImage)
		records[i] = recordOf(string(raw.EventName), checkpoint+*raw.Dynamodb.SequenceNumber, image, err)
		if records[i].Err != nil {
			records[i].Raw = rawRecord(raw)
		}
	}
	return records, nil
}

// textsOfImage returns the attributes of an image, as textsOf does.
func textsOfImage(image map[string]types.AttributeValue) (map[string]string, error) {
	texts := make(map[string]string, len(image))
	for name, value := range image {
		if !isAttribute(name) {
			continue
		}
		switch v := value.(type) { // the types of package dynamodbstreams, unlike those of textOf
		case *types.AttributeValueMemberS:
			texts[name] = v.Value
		case *types.AttributeValueMemberB:
			texts[name] = string(v.Value)
		default:
			return nil, noText(name)
		}
	}
	return texts, nil
}

// rawRecord returns a record in the JSON form that Lambda receives, without its time, size and source.
func rawRecord(r types.Record) json.RawMessage {
	image := map[string]any{
		"SequenceNumber": aws.ToString(r.Dynamodb.SequenceNumber),
		"StreamViewType": r.Dynamodb.StreamViewType,
		"Keys":           plainImage(r.Dynamodb.Keys),
	}
	if r.Dynamodb.NewImage != nil {
		image["NewImage"] = plainImage(r.Dynamodb.NewImage)
	}
	raw, err := json.Marshal(map[string]any{
		"eventID":   aws.ToString(r.EventID),
		"eventName": r.EventName,
		"dynamodb":  image,
	})
	if err != nil { // cannot happen: it is made of maps and texts
		panic(errors.Join(errors.New("marshal a record"), err))
	}
	return raw
}

func plainImage(image map[string]types.AttributeValue) map[string]any {
	plain := make(map[string]any, len(image))
	for name, value := range image {
		plain[name] = plainValue(value)
	}
	return plain
}

// plainValue returns a value in DynamoDB's JSON, {"S":"…"}; null if its type is unknown.
func plainValue(value types.AttributeValue) any {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberB:
		return map[string]any{"B": v.Value}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberNULL:
		return map[string]any{"NULL": v.Value}
	case *types.AttributeValueMemberSS:
		return map[string]any{"SS": v.Value}
	case *types.AttributeValueMemberNS:
		return map[string]any{"NS": v.Value}
	case *types.AttributeValueMemberBS:
		return map[string]any{"BS": v.Value}
	case *types.AttributeValueMemberM:
		return map[string]any{"M": plainImage(v.Value)}
	case *types.AttributeValueMemberL:
		list := make([]any, len(v.Value))
		for i, element := range v.Value {
			list[i] = plainValue(element)
		}
		return map[string]any{"L": list}
	default:
		return nil
	}
}
