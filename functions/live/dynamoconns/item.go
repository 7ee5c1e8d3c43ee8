package dynamoconns

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/functions/live"
)

// The attributes of items. Many are words that expressions reserve: they need placeholders.
const (
	attrPartition = "partition"
	attrSort      = "sort"
	attrUser      = "user"
	attrScopes    = "scopes"
	attrUntil     = "until"
	attrOpened    = "opened"
	attrSeen      = "seen"
	attrAll       = "all"
	attrRevision  = "revision"
	attrRooms     = "rooms"
	attrExpires   = "expires"
)

// The sort keys of what a connection has.
const (
	sortConnection = "connection"
	sortRooms      = "rooms"
)

// keep is how long items are kept: longer than a socket lives.
var keep = live.DefaultLimits.Life + time.Hour

type item = map[string]types.AttributeValue

func keyOf(partition, sort string) item {
	return item{attrPartition: text(partition), attrSort: text(sort)}
}

func connKey(conn string) item           { return keyOf("conn/"+conn, sortConnection) }
func roomsKey(conn string) item          { return keyOf("conn/"+conn, sortRooms) }
func listenerKey(room, conn string) item { return keyOf("room/"+room, conn) }
func userKey(user, conn string) item     { return keyOf("user/"+user, conn) }

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number[N int64 | uint64](n N) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: fmt.Sprint(n)}
}

func set(texts []string) types.AttributeValue { return &types.AttributeValueMemberSS{Value: texts} }

// putTime adds a time to an item, if it is one.
func putTime(it item, attribute string, at time.Time) {
	if !at.IsZero() {
		it[attribute] = number(at.UnixNano())
	}
}

// forgetAt is the time to live of what is stored now.
func forgetAt(now time.Time) types.AttributeValue { return number(now.Add(keep).Unix()) }

// connItem is the item of a connection.
func connItem(c live.Connection, expires types.AttributeValue) item {
	it := connKey(c.ID)
	it[attrRevision] = number(c.Revision)
	it[attrAll] = &types.AttributeValueMemberBOOL{Value: c.All}
	it[attrExpires] = expires
	if c.User != "" {
		it[attrUser] = text(c.User)
	}
	if len(c.Scopes) > 0 {
		it[attrScopes] = text(strings.Join(c.Scopes, " "))
	}
	putTime(it, attrUntil, c.Expires)
	putTime(it, attrOpened, c.Opened)
	putTime(it, attrSeen, c.Seen)
	return it
}

// listenerItem is the item of a connection that listens to a room.
func listenerItem(room string, c live.Connection, expires types.AttributeValue) item {
	it := listenerKey(room, c.ID)
	it[attrExpires] = expires
	if c.User != "" {
		it[attrUser] = text(c.User)
	}
	putTime(it, attrUntil, c.Expires)
	return it
}

var (
	errKey     = errors.New("ids of connections, rooms and users must be UTF-8 and not empty")
	errDamaged = errors.New("stored item is damaged")
)

// checkKeys refuses what DynamoDB cannot hold, or the SDK would turn into another key.
func checkKeys(ids ...string) error {
	for _, id := range ids {
		if id == "" || !utf8.ValidString(id) {
			return errKey
		}
	}
	return nil
}

// reader reads the attributes of an item, and keeps whether one has the wrong type.
type reader struct {
	item   item
	broken bool
}

func (r *reader) text(attribute string) string {
	v, there := r.item[attribute]
	s, ok := v.(*types.AttributeValueMemberS)
	if !ok {
		r.broken = r.broken || there
		return ""
	}
	return s.Value
}

func (r *reader) number(attribute string) string {
	v, there := r.item[attribute]
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		r.broken = r.broken || there
		return ""
	}
	return n.Value
}

func (r *reader) time(attribute string) time.Time {
	n := r.number(attribute)
	if n == "" {
		return time.Time{}
	}
	nanos, err := strconv.ParseInt(n, 10, 64)
	r.broken = r.broken || err != nil
	return time.Unix(0, nanos).UTC()
}

func (r *reader) bool(attribute string) bool {
	v, there := r.item[attribute]
	b, ok := v.(*types.AttributeValueMemberBOOL)
	if !ok {
		r.broken = r.broken || there
		return false
	}
	return b.Value
}

func (r *reader) err() error {
	if r.broken {
		return errDamaged
	}
	return nil
}

// connOf reads the item of a connection.
func connOf(conn string, it item) (live.Connection, error) {
	r := &reader{item: it}
	c := live.Connection{
		ID: conn, User: r.text(attrUser), Scopes: strings.Fields(r.text(attrScopes)), Expires: r.time(attrUntil),
		Opened: r.time(attrOpened), Seen: r.time(attrSeen), All: r.bool(attrAll),
	}
	revision, err := strconv.ParseUint(r.number(attrRevision), 10, 64)
	r.broken = r.broken || err != nil
	c.Revision = revision
	return c, r.err()
}

// listenerOf reads the item of a listener.
func listenerOf(it item) (live.Listener, error) {
	r := &reader{item: it}
	l := live.Listener{Conn: r.text(attrSort), User: r.text(attrUser), Expires: r.time(attrUntil)}
	r.broken = r.broken || l.Conn == ""
	return l, r.err()
}
