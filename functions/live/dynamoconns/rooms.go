package dynamoconns

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

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

// distinct sorts out what is given twice: a transaction takes no item twice.
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

// guard lets a transaction hold only if nothing was taken from the connection since it was read.
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

// Unsubscribe implements [live.Connections]. It raises the revision first: what is subscribed
// after that, with the new one, may stay or be taken.
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
	return c.take(ctx, conn, taken)
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
	return c.take(ctx, conn, rooms)
}

// raise raises the revision of a connection, and ends that it listens to all, if it is there.
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

// take takes rooms from a connection. If it has no set of rooms any more it has no rooms.
func (c *Connections) take(ctx context.Context, conn string, rooms []string) error {
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
