package dynamoconns

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	lru "github.com/hashicorp/golang-lru/v2"

	"parley/events/dynamotable"
	"parley/functions/live"
)

// touchEvery is how much newer a frame must be than what is stored to be worth a write.
const touchEvery = time.Minute

// remembered bounds of how many connections a process knows when they were seen.
const remembered = 10_000

// Connections keeps connections in a DynamoDB table. It implements [live.Connections]; make one
// with [New].
type Connections struct {
	db    *dynamodb.Client
	table string
	seen  *lru.Cache[string, time.Time] // not later than what is stored
}

var _ live.Connections = (*Connections)(nil)

// New returns the connections that a table holds, see [CreateTable]. Unless cfg has a retryer of
// its own, a call is tried 6 times within about a second.
func New(cfg aws.Config, table string) *Connections {
	seen, err := lru.New[string, time.Time](remembered)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Connections{db: dynamotable.NewClient(cfg), table: table, seen: seen}
}

// Put implements [live.Connections]. The entry of the user is written first: one that leads to no
// connection of hers is passed over.
func (c *Connections) Put(ctx context.Context, conn live.Connection) error {
	if err := checkKeys(conn.ID); err != nil {
		return failed("store a connection", err)
	}
	expires := forgetAt(time.Now())
	if conn.User != "" {
		entry := userKey(conn.User, conn.ID)
		entry[attrExpires] = expires
		if err := c.put(ctx, entry); err != nil {
			return failed("store a connection", err)
		}
	}
	if err := c.put(ctx, connItem(conn, expires)); err != nil {
		return failed("store a connection", err)
	}
	c.seen.Add(conn.ID, conn.Seen)
	return nil
}

func (c *Connections) put(ctx context.Context, it item) error {
	_, err := c.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &c.table, Item: it})
	return err
}

// Get implements [live.Connections].
func (c *Connections) Get(ctx context.Context, conn string) (live.Connection, error) {
	it, err := c.get(ctx, connKey(conn), conn)
	if err != nil {
		return live.Connection{}, failed("get a connection", err)
	}
	if len(it) == 0 {
		return live.Connection{}, live.ErrGone
	}
	got, err := connOf(conn, it)
	if err != nil {
		return live.Connection{}, failed("get a connection", err)
	}
	c.seen.Add(conn, got.Seen)
	return got, nil
}

// get reads an item of a connection; there is none if the id cannot be one.
func (c *Connections) get(ctx context.Context, key item, conn string) (item, error) {
	if checkKeys(conn) != nil {
		return nil, ctx.Err()
	}
	out, err := c.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &c.table, Key: key, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// Touch implements [live.Connections]. It writes if what is stored is older by a minute, as far as
// this process knows; what it does not write is no news to anyone who counts in minutes.
func (c *Connections) Touch(ctx context.Context, conn string, at time.Time) error {
	if seen, ok := c.seen.Get(conn); ok && at.Sub(seen) < touchEvery {
		return ctx.Err()
	}
	if checkKeys(conn) != nil {
		return nil
	}
	_, err := c.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 &c.table,
		Key:                       connKey(conn),
		UpdateExpression:          aws.String("SET #seen = :at"),
		ConditionExpression:       aws.String("attribute_exists(#partition) AND (attribute_not_exists(#seen) OR #seen < :at)"),
		ExpressionAttributeNames:  map[string]string{"#partition": attrPartition, "#seen": attrSeen},
		ExpressionAttributeValues: item{":at": number(at.UnixNano())},
	})
	if err != nil && !isRefused(err) {
		return failed("note that a frame came", err)
	}
	c.seen.Add(conn, at)
	return nil
}

// isRefused reports that the condition of a write does not hold.
func isRefused(err error) bool {
	return errors.As(err, new(*types.ConditionalCheckFailedException))
}

// Delete implements [live.Connections]. The set of rooms goes last: until then another Delete
// finishes what one has begun.
func (c *Connections) Delete(ctx context.Context, conn string) error {
	if checkKeys(conn) != nil {
		return nil
	}
	if err := c.delete(ctx, conn); err != nil {
		return failed("delete a connection", err)
	}
	return nil
}

func (c *Connections) delete(ctx context.Context, conn string) error {
	c.seen.Remove(conn)
	out, err := c.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &c.table, Key: connKey(conn), ReturnValues: types.ReturnValueAllOld,
	})
	if err != nil {
		return err
	}
	rooms, err := c.rooms(ctx, conn)
	if err != nil {
		return err
	}
	var keys []item
	for _, room := range rooms {
		keys = append(keys, listenerKey(room, conn))
	}
	if user := (&reader{item: out.Attributes}).text(attrUser); user != "" {
		keys = append(keys, userKey(user, conn))
	}
	if err := c.deleteAll(ctx, keys); err != nil || len(rooms) == 0 {
		return err
	}
	_, err = c.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &c.table, Key: roomsKey(conn)})
	return err
}
