package dynamoview

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/projections"
)

// The attributes of an item. Some are words that expressions reserve: they need placeholders.
const (
	attrPartition = "partition"
	attrSort      = "sort"
	attrVersion   = "version"
	attrBody      = "body"
)

type item = map[string]types.AttributeValue

// itemOf returns the item that a view becomes when it is saved.
func itemOf(view projections.View) item {
	it := keyOf(view.Key)
	it[attrVersion] = number(view.Version + 1)
	body := view.Body
	if body == nil {
		body = []byte{} // the SDK writes nil as a null, which DynamoDB refuses
	}
	it[attrBody] = &types.AttributeValueMemberB{Value: body}
	return it
}

// keyOf returns the primary key of a view.
func keyOf(key projections.Key) item {
	return item{attrPartition: text(key.Partition), attrSort: text(key.Sort)}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

var (
	errKey     = errors.New("the keys of views must be UTF-8 and not empty")
	errDamaged = errors.New("stored item is damaged")
)

// checkKey refuses what DynamoDB cannot hold, or the SDK would turn into another key.
func checkKey(key projections.Key) error {
	if key.Partition == "" || key.Sort == "" || !utf8.ValidString(key.Partition) || !utf8.ValidString(key.Sort) {
		return errKey
	}
	return nil
}

// viewOf reads an item.
func viewOf(it item) (projections.View, error) {
	partition, okPartition := it[attrPartition].(*types.AttributeValueMemberS)
	sort, okSort := it[attrSort].(*types.AttributeValueMemberS)
	version, okVersion := it[attrVersion].(*types.AttributeValueMemberN)
	body, okBody := it[attrBody].(*types.AttributeValueMemberB)
	if !okPartition || !okSort || !okVersion || !okBody {
		return projections.View{}, errDamaged
	}
	n, err := strconv.ParseInt(version.Value, 10, 64)
	if err != nil || n < 1 {
		return projections.View{}, errDamaged
	}
	key := projections.Key{Partition: partition.Value, Sort: sort.Value}
	return projections.View{Key: key, Version: n, Body: body.Value}, nil
}
