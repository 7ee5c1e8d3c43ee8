package dynamokeys

import (
	"errors"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/keys"
)

// The attributes of items. Two are words that expressions reserve: they need placeholders.
const (
	attrUser    = "user"
	attrKey     = "key"
	attrWrapped = "wrapped"
)

// erased is the sort key of the mark. No id of a key is written so.
const erased = "erased"

type item = map[string]types.AttributeValue

var (
	errUser    = errors.New("a user must be UTF-8 and not empty")
	errDamaged = errors.New("stored item is damaged")
)

// checkUser refuses what DynamoDB cannot hold, or the SDK would turn into another key.
func checkUser(user string) error {
	if user == "" || !utf8.ValidString(user) {
		return errUser
	}
	return nil
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// primary is the primary key of what a user has under a sort key.
func primary(user, sort string) item { return item{attrUser: text(user), attrKey: text(sort)} }

func itemOf(user string, key keys.Wrapped) item {
	it := primary(user, key.ID.String())
	it[attrWrapped] = &types.AttributeValueMemberB{Value: key.Bytes}
	return it
}

// textOf reads an attribute of the primary key, "" if it is none.
func textOf(it item, attribute string) string {
	s, is := it[attribute].(*types.AttributeValueMemberS)
	if !is {
		return ""
	}
	return s.Value
}

// keyOf undoes itemOf.
func keyOf(it item) (keys.Wrapped, error) {
	id, err := keys.ParseID(textOf(it, attrKey))
	wrapped, is := it[attrWrapped].(*types.AttributeValueMemberB)
	if err != nil || !is {
		return keys.Wrapped{}, errDamaged
	}
	return keys.Wrapped{ID: id, Bytes: wrapped.Value}, nil
}
