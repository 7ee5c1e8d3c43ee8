package dynamolog

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"parley/events"
)

// The attributes of an item, all strings:
//
//	stream   partition key   "room/<id>"            31 bytes, 38 of two users' room
//	id       sort key        its Ref, "<ULID>.<digest>"   43, 26 if a former release stored it
//	type                     "message.posted/2"     16
//	actor                    the user who did it    1 to 120
//	region                   which accepted it      1 to 32
//	data                     the payload, JSON      {"text":{"sealed":"…"}}, 22 more than base64 of the
//	                                                sealed text, which has 37 bytes more than the text
//
// A text that is not UTF-8 is stored as binary, because DynamoDB's strings must be UTF-8. Only an event
// that this release cannot decode has one.
//
// DynamoDB counts the bytes of names (27 in all) and values. A write costs one write unit for
// each begun KB, in every region, so a message of up to 545 bytes of text costs one for any author and
// region. A strongly consistent read costs one read unit for each begun 4 KB.
const (
	attrStream = "stream"
	attrID     = "id"
	attrType   = "type"
	attrActor  = "actor"
	attrRegion = "region"
	attrData   = "data"

	attrReplica = "replica" // only of what [Log.Replicate] stored, see [events.Record]
)

// isAttribute reports whether an attribute belongs to an event.
func isAttribute(name string) bool {
	switch name {
	case attrStream, attrID, attrType, attrActor, attrRegion, attrData, attrReplica:
		return true
	default:
		return false
	}
}

// maxItem is DynamoDB's limit for the size of an item in bytes, names and values.
const maxItem = 400 << 10

// itemOf returns the item of an event.
func itemOf(e events.Event) map[string]types.AttributeValue {
	s := events.Encode(e)
	item := keyOf(e.Key())
	item[attrType] = valueOf(s.Type)
	item[attrActor] = valueOf(s.Actor)
	item[attrRegion] = valueOf(s.Region)
	item[attrData] = valueOf(s.Data)
	return item
}

// keyOf returns the primary key of an event.
func keyOf(k events.Key) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		attrStream: &types.AttributeValueMemberS{Value: string(k.Stream)},
		attrID:     &types.AttributeValueMemberS{Value: k.Ref().String()},
	}
}

// valueOf returns the stored form of a text.
func valueOf(text string) types.AttributeValue {
	if !utf8.ValidString(text) {
		return &types.AttributeValueMemberB{Value: []byte(text)}
	}
	return &types.AttributeValueMemberS{Value: text}
}

// textOf reverses valueOf.
func textOf(value types.AttributeValue) (text string, ok bool) {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return v.Value, true
	case *types.AttributeValueMemberB:
		return string(v.Value), true
	default:
		return "", false
	}
}

// eventOf decodes an item. It fails only if the key cannot be decoded. If another attribute is not a
// text, the event is [events.Unreadable]: it must not hide the rest of its stream.
func eventOf(item map[string]types.AttributeValue) (events.Event, error) {
	texts := make(map[string]string, len(item))
	var broken error
	for name, value := range item {
		if !isAttribute(name) {
			continue
		}
		text, ok := textOf(value)
		if !ok {
			broken = noText(name)
		}
		texts[name] = text
	}
	e, err := decode(texts)
	if err == nil && broken != nil {
		e.Payload = events.Unreadable{Err: broken}
	}
	return e, err
}

func noText(name string) error { return fmt.Errorf("attribute %q of an event is not a string", name) }

// decode decodes an event from the attributes of an item of the table or of a record of its stream.
// It fails only if the key cannot be decoded, see [events.Decode]. It ignores unknown attributes.
func decode(item map[string]string) (events.Event, error) {
	return events.Decode(events.Stored{
		Stream: item[attrStream],
		ID:     item[attrID],
		Type:   item[attrType],
		Actor:  item[attrActor],
		Region: item[attrRegion],
		Data:   item[attrData],
	})
}

// isTooLarge reports whether DynamoDB rejected an item for its size. Its error code is the one for
// every invalid request.
func isTooLarge(item map[string]types.AttributeValue, err error) bool {
	if !isInvalid(err) {
		return false
	}
	size := 0
	for name, value := range item {
		text, _ := textOf(value)
		size += len(name) + len(text)
	}
	return size > maxItem
}

// isInvalid reports whether an error is DynamoDB's code for an invalid request.
func isInvalid(err error) bool {
	var refusal smithy.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode() == "ValidationException"
}
