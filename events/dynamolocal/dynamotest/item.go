package dynamotest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Item is an item as a line of a golden file, in the JSON of DynamoDB's own API: {"id":{"S":"…"}}.
type Item map[string]types.AttributeValue

// MarshalJSON implements [json.Marshaler].
func (it Item) MarshalJSON() ([]byte, error) {
	attributes := map[string]map[string]any{}
	for name, value := range it {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			attributes[name] = map[string]any{"S": v.Value}
		case *types.AttributeValueMemberN:
			attributes[name] = map[string]any{"N": v.Value}
		case *types.AttributeValueMemberB:
			attributes[name] = map[string]any{"B": v.Value}
		case *types.AttributeValueMemberBOOL:
			attributes[name] = map[string]any{"BOOL": v.Value}
		case *types.AttributeValueMemberSS:
			attributes[name] = map[string]any{"SS": v.Value}
		default:
			return nil, fmt.Errorf("attribute %s is a %T", name, value)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(attributes)
	return b.Bytes(), err
}

// UnmarshalJSON implements [json.Unmarshaler].
func (it *Item) UnmarshalJSON(text []byte) error {
	var attributes map[string]struct {
		S, N *string
		B    []byte
		BOOL *bool
		SS   []string
	}
	if err := json.Unmarshal(text, &attributes); err != nil {
		return fmt.Errorf("read an item: %w", err)
	}
	*it = Item{}
	for name, a := range attributes {
		switch {
		case a.S != nil:
			(*it)[name] = &types.AttributeValueMemberS{Value: *a.S}
		case a.N != nil:
			(*it)[name] = &types.AttributeValueMemberN{Value: *a.N}
		case a.B != nil:
			(*it)[name] = &types.AttributeValueMemberB{Value: a.B}
		case a.BOOL != nil:
			(*it)[name] = &types.AttributeValueMemberBOOL{Value: *a.BOOL}
		case a.SS != nil:
			(*it)[name] = &types.AttributeValueMemberSS{Value: a.SS}
		default:
			return fmt.Errorf("attribute %s is of an unknown type", name)
		}
	}
	return nil
}
