package dynamoconns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	ddb "parley/events/dynamodb"
	"parley/functions/live"
	"parley/projections"
)

// touchEvery is how much later than the stored time a frame must come for a write.
const touchEvery = time.Minute

// cachedTimes is for how many connections a process caches when the last frame came.
const cachedTimes = 10_000

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
	seen, err := lru.New[string, time.Time](cachedTimes)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Connections{db: ddb.NewClient(cfg), table: table, seen: seen}
}

// Put implements [live.Connections]. The entry of the user is written first: an entry without a
// connection is ignored.
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

// get reads an item of a connection. It is empty if the connection does not exist.
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

// Touch implements [live.Connections]. It writes only if the stored time, as far as this process has
// cached it, is a minute old.
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
		return failed("store that a frame came", err)
	}
	c.seen.Add(conn, at)
	return nil
}

// isRefused reports that the condition of a write does not hold.
func isRefused(err error) bool {
	return errors.As(err, new(*types.ConditionalCheckFailedException))
}

// Delete implements [live.Connections]. The set of rooms is deleted last: until then another Delete
// can finish what one has begun.
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

// CreateTable makes the table of connections where it is not there yet, billed by request, with
// its time to live, and waits until it can be used. It fails if there is a table of the name that
// has other keys. On AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	if err := create(ctx, ddb.NewClient(cfg), table); err != nil {
		return fmt.Errorf("create the table of connections: %w", err)
	}
	return nil
}

func create(ctx context.Context, db *dynamodb.Client, table string) error {
	if _, err := ddb.Create(ctx, db, ddb.Keyed(table, attrPartition, attrSort)); err != nil {
		return err
	}
	// The process that made the table may have stopped before this.
	out, err := db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil || out.TimeToLiveDescription.TimeToLiveStatus != types.TimeToLiveStatusDisabled {
		return err
	}
	_, err = db.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrExpires), Enabled: aws.Bool(true)},
	})
	return err
}

// failure is the error of a call.
type failure struct{ ddb.Failure }

// Is reports as [projections.ErrUnavailable] the failures of calls that may succeed later.
func (f failure) Is(target error) bool {
	return target == projections.ErrUnavailable &&
		(f.Passing() || errors.As(f.Err, new(*types.TransactionCanceledException)))
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, failure{ddb.Failure{Err: err}})
}

// The bounds of batches: what one call takes, and how many calls are made side by side.
const (
	batchWrites  = 25
	batchesAside = 8
)

// deleteAll deletes items, whether they are there or not.
func (c *Connections) deleteAll(ctx context.Context, keys []item) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batchesAside)
	for batch := range slices.Chunk(keys, batchWrites) {
		group.Go(func() error { return c.deleteBatch(ctx, batch) })
	}
	return group.Wait()
}

func (c *Connections) deleteBatch(ctx context.Context, keys []item) error {
	var left []types.WriteRequest
	for _, key := range keys {
		left = append(left, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key}})
	}
	return ddb.UntilProcessed(ctx, len(left), func() (int, error) {
		out, err := c.db.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{c.table: left}})
		if err != nil {
			return 0, err
		}
		left = out.UnprocessedItems[c.table]
		return len(left), nil
	})
}

// getAll reads items; those that are not there are left out.
func (c *Connections) getAll(ctx context.Context, keys []item) (found []item, err error) {
	for batch := range slices.Chunk(keys, ddb.BatchKeys) {
		err := ddb.BatchGet(ctx, c.db, c.table, batch, func(items []item) error {
			found = append(found, items...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
