package dynamoconns

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	ddb "parley/events/dynamodb"
	"parley/functions/live"
)

// roomsAtOnce is how many rooms one transaction takes: of its 100 items, one is the connection and
// one the set of rooms.
const roomsAtOnce = 98

// Subscribe implements [live.Connections]: in transactions of 98 rooms, each of which holds only
// if the revision still is the expected one.
func (c *Connections) Subscribe(ctx context.Context, conn string, revision uint64, all bool, rooms ...string) error {
	const what = "subscribe"
	if err := checkKeys(rooms...); err != nil {
		return failed(what, err)
	}
	it, err := c.get(ctx, connKey(conn), conn)
	if err != nil {
		return failed(what, err)
	}
	if len(it) == 0 {
		return live.ErrGone
	}
	there, err := connOf(conn, it)
	if err != nil {
		return failed(what, err)
	}
	if there.Revision != revision {
		return live.ErrChanged
	}
	s := subscription{there, it[attrExpires], all && !there.All}
	if rooms = distinct(rooms); len(rooms) == 0 && !s.all {
		return nil
	}
	for {
		n := min(len(rooms), roomsAtOnce)
		if err := c.subscribe(ctx, s, rooms[:n]); err != nil {
			return err
		}
		if s.all, rooms = false, rooms[n:]; len(rooms) == 0 {
			return nil
		}
	}
}

// distinct removes duplicates: a transaction accepts an item once.
func distinct(rooms []string) []string {
	rooms = slices.Clone(rooms)
	slices.Sort(rooms)
	return slices.Compact(rooms)
}

// subscription is a connection as it was read, and whether it is to listen to all.
type subscription struct {
	conn    live.Connection
	expires types.AttributeValue
	all     bool
}

func (c *Connections) subscribe(ctx context.Context, s subscription, rooms []string) error {
	writes := []types.TransactWriteItem{c.guard(s)}
	if len(rooms) > 0 {
		writes = append(writes, types.TransactWriteItem{Update: &types.Update{
			TableName:                 &c.table,
			Key:                       roomsKey(s.conn.ID),
			UpdateExpression:          aws.String("ADD #rooms :rooms SET #expires = :expires"),
			ExpressionAttributeNames:  map[string]string{"#rooms": attrRooms, "#expires": attrExpires},
			ExpressionAttributeValues: item{":rooms": set(rooms), ":expires": s.expires},
		}})
	}
	for _, room := range rooms {
		writes = append(writes, types.TransactWriteItem{Put: &types.Put{
			TableName: &c.table, Item: listenerItem(room, s.conn, s.expires),
		}})
	}
	refused, err := c.transact(ctx, writes)
	switch {
	case err != nil:
		return failed("subscribe", err)
	case len(refused) == 0:
		return nil
	case len(refused[0].Item) == 0:
		return live.ErrGone
	default:
		return live.ErrChanged
	}
}

// guard makes a transaction fail if rooms were removed from the connection since it was read.
func (c *Connections) guard(s subscription) types.TransactWriteItem {
	const same = "#revision = :revision"
	names := map[string]string{"#revision": attrRevision}
	values := item{":revision": number(s.conn.Revision)}
	if !s.all {
		return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
			TableName: &c.table, Key: connKey(s.conn.ID), ConditionExpression: aws.String(same),
			ExpressionAttributeNames: names, ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}}
	}
	names["#all"], values[":all"] = attrAll, &types.AttributeValueMemberBOOL{Value: true}
	return types.TransactWriteItem{Update: &types.Update{
		TableName: &c.table, Key: connKey(s.conn.ID), ConditionExpression: aws.String(same),
		UpdateExpression:         aws.String("SET #all = :all"),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

// Unsubscribe implements [live.Connections]. It increments the revision first: rooms that are
// subscribed after that, with the new revision, may stay or be removed.
func (c *Connections) Unsubscribe(ctx context.Context, conn string, rooms ...string) error {
	const what = "unsubscribe"
	if there, err := c.raise(ctx, conn, false); err != nil || !there {
		return err
	}
	listens, err := c.rooms(ctx, conn)
	if err != nil {
		return failed(what, err)
	}
	var taken []string
	for _, room := range distinct(rooms) {
		if slices.Contains(listens, room) {
			taken = append(taken, room)
		}
	}
	return c.removeRooms(ctx, conn, taken)
}

// UnsubscribeAll implements [live.Connections].
func (c *Connections) UnsubscribeAll(ctx context.Context, conn string) error {
	if there, err := c.raise(ctx, conn, true); err != nil || !there {
		return err
	}
	rooms, err := c.rooms(ctx, conn)
	if err != nil {
		return failed("unsubscribe from all", err)
	}
	return c.removeRooms(ctx, conn, rooms)
}

// raise increments the revision of a connection, if it exists. With all it no longer listens to all
// rooms.
func (c *Connections) raise(ctx context.Context, conn string, all bool) (there bool, err error) {
	if checkKeys(conn) != nil {
		return false, ctx.Err()
	}
	in := &dynamodb.UpdateItemInput{
		TableName:                 &c.table,
		Key:                       connKey(conn),
		UpdateExpression:          aws.String("ADD #revision :one"),
		ConditionExpression:       aws.String("attribute_exists(#revision)"),
		ExpressionAttributeNames:  map[string]string{"#revision": attrRevision},
		ExpressionAttributeValues: item{":one": number(int64(1))},
	}
	if all {
		in.UpdateExpression = aws.String("ADD #revision :one SET #all = :no")
		in.ExpressionAttributeNames["#all"] = attrAll
		in.ExpressionAttributeValues[":no"] = &types.AttributeValueMemberBOOL{Value: false}
	}
	switch _, err := c.db.UpdateItem(ctx, in); {
	case err == nil:
		return true, nil
	case isRefused(err):
		return false, nil
	default:
		return false, failed("raise the revision of a connection", err)
	}
}

// removeRooms removes rooms from a connection. If the set of rooms is gone there are none.
func (c *Connections) removeRooms(ctx context.Context, conn string, rooms []string) error {
	for some := range slices.Chunk(rooms, roomsAtOnce) {
		writes := []types.TransactWriteItem{{Update: &types.Update{
			TableName:                 &c.table,
			Key:                       roomsKey(conn),
			UpdateExpression:          aws.String("DELETE #rooms :rooms"),
			ConditionExpression:       aws.String("attribute_exists(#expires)"),
			ExpressionAttributeNames:  map[string]string{"#rooms": attrRooms, "#expires": attrExpires},
			ExpressionAttributeValues: item{":rooms": set(some)},
		}}}
		for _, room := range some {
			writes = append(writes, types.TransactWriteItem{Delete: &types.Delete{TableName: &c.table, Key: listenerKey(room, conn)}})
		}
		if refused, err := c.transact(ctx, writes); err != nil {
			return failed("unsubscribe", err)
		} else if len(refused) > 0 {
			return nil
		}
	}
	return nil
}

// Rooms implements [live.Connections].
func (c *Connections) Rooms(ctx context.Context, conn string) ([]string, error) {
	rooms, err := c.rooms(ctx, conn)
	if err != nil {
		return nil, failed("list the rooms of a connection", err)
	}
	return rooms, nil
}

func (c *Connections) rooms(ctx context.Context, conn string) ([]string, error) {
	it, err := c.get(ctx, roomsKey(conn), conn)
	if err != nil {
		return nil, err
	}
	v, there := it[attrRooms]
	rooms, ok := v.(*types.AttributeValueMemberSS)
	switch {
	case ok:
		return rooms.Value, nil
	case there:
		return nil, errDamaged
	default:
		return nil, nil
	}
}

// Listeners implements [live.Connections].
func (c *Connections) Listeners(ctx context.Context, room string) ([]live.Listener, error) {
	var listeners []live.Listener
	err := c.query(ctx, "room/", room, func(it item) error {
		l, err := listenerOf(it)
		listeners = append(listeners, l)
		return err
	})
	if err != nil {
		return nil, failed("list the listeners of a room", err)
	}
	return listeners, nil
}

// Of implements [live.Connections].
func (c *Connections) Of(ctx context.Context, user string) ([]live.Connection, error) {
	conns, err := c.of(ctx, user)
	if err != nil {
		return nil, failed("list the connections of a user", err)
	}
	return conns, nil
}

func (c *Connections) of(ctx context.Context, user string) ([]live.Connection, error) {
	var keys []item
	err := c.query(ctx, "user/", user, func(it item) error {
		r := &reader{item: it}
		keys = append(keys, connKey(r.text(attrSort)))
		return r.err()
	})
	if err != nil {
		return nil, err
	}
	found, err := c.getAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	var conns []live.Connection
	for _, it := range found {
		conn, err := connOf(strings.TrimPrefix((&reader{item: it}).text(attrPartition), "conn/"), it)
		if err != nil {
			return nil, err
		}
		if conn.User == user {
			conns = append(conns, conn)
		}
	}
	return conns, nil
}

// query calls f with each item of a partition, in pages of 1 MB.
func (c *Connections) query(ctx context.Context, kind, id string, f func(item) error) error {
	if checkKeys(id) != nil {
		return ctx.Err()
	}
	pages := dynamodb.NewQueryPaginator(c.db, &dynamodb.QueryInput{
		TableName:                 &c.table,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    aws.String("#partition = :partition"),
		ExpressionAttributeNames:  map[string]string{"#partition": attrPartition},
		ExpressionAttributeValues: item{":partition": text(kind + id)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, it := range page.Items {
			if err := f(it); err != nil {
				return err
			}
		}
	}
	return nil
}

// transact writes items in one transaction, and retries if it conflicts with another. It returns the
// reasons if a condition does not hold.
func (c *Connections) transact(ctx context.Context, writes []types.TransactWriteItem) ([]types.CancellationReason, error) {
	for try := 1; ; try++ {
		_, err := c.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes})
		var cancelled *types.TransactionCanceledException
		if !errors.As(err, &cancelled) {
			return nil, err
		}
		for _, reason := range cancelled.CancellationReasons {
			if aws.ToString(reason.Code) == "ConditionalCheckFailed" {
				return cancelled.CancellationReasons, nil
			}
		}
		if try == ddb.Backoff.Attempts {
			return nil, err
		}
		if err := ddb.Backoff.Wait(ctx, try); err != nil {
			return nil, err
		}
	}
}
