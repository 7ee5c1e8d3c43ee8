package dynamolog

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"parley/events"
)

// changes reads records that come next in a shard. Their checkpoints differ in their last number
// only, so each costs no more than its length.
func (s *Stream) changes(m member, records []types.Record) ([]Change, error) {
	upToHere := frontier{append([]member(nil), s.state.members...)}
	upToHere.read(m.id, "")
	checkpoint := upToHere.encode(s.identity)
	changes := make([]Change, len(records))
	for i, r := range records {
		if r.Dynamodb == nil || !validSequence(aws.ToString(r.Dynamodb.SequenceNumber)) {
			return nil, fmt.Errorf("%w: a record has no sequence number", events.ErrUnavailable)
		}
		image, err := textsOfImage(r.Dynamodb.NewImage)
		changes[i] = change(string(r.EventName), checkpoint+*r.Dynamodb.SequenceNumber, image, err)
		if changes[i].Err != nil {
			changes[i].Raw = rawRecord(r)
		}
	}
	return changes, nil
}

// textsOfImage returns the attributes of an image, as textsOf does.
func textsOfImage(image map[string]types.AttributeValue) (map[string]string, error) {
	texts := make(map[string]string, len(image))
	for name, value := range image {
		if !isAttribute(name) {
			continue
		}
		switch v := value.(type) {
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

// rawRecord returns a record as Lambda would be given it, but for its time, its size and where it
// comes from.
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
	if err != nil { // maps and texts can be marshalled
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

// plainValue returns a value as DynamoDB's JSON has it, {"S":"…"}; null if it is of a new kind.
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
