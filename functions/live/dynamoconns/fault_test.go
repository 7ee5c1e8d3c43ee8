package dynamoconns_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	ddb "parley/events/dynamodb"
	"parley/events/dynamolocal/dynamotest"
	"parley/functions/live"
	"parley/functions/live/dynamoconns"
	"parley/projections"
)

// filled makes a table with a connection that listens to two rooms, and returns the connections
// with a fault in the way of some calls of an operation, and with none.
func filled(t *testing.T, operation string, fault dynamotest.Fault, times int64) (bad, good *dynamoconns.Connections) {
	t.Helper()
	place := dynamotest.Open(t)
	good = dynamoconns.New(createTable(t, place), table)
	connect(t, good, "secret-conn", "secret-user")
	must(t, good.Subscribe(t.Context(), "secret-conn", 0, true, "secret-one", "secret-two"))
	var calls atomic.Int64
	bad = dynamoconns.New(dynamotest.Spoil(t, place, func(c dynamotest.Call) dynamotest.Fault {
		if c.Operation == operation && calls.Add(1) <= times {
			return fault
		}
		return dynamotest.None
	}).Config(region), table)
	return bad, good
}

// steps are all operations, each with the calls to DynamoDB that it makes.
var steps = []struct {
	name  string
	calls []string
	do    func(context.Context, *dynamoconns.Connections) error
}{
	{"Put", []string{"PutItem"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		return c.Put(ctx, live.Connection{ID: "secret-new", User: "secret-user"})
	}},
	{"Get", []string{"GetItem"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		_, err := c.Get(ctx, "secret-conn")
		return err
	}},
	{"Touch", []string{"UpdateItem"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		return c.Touch(ctx, "secret-conn", time.Now().Add(time.Hour))
	}},
	{"Subscribe", []string{"GetItem", "TransactWriteItems"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		return c.Subscribe(ctx, "secret-conn", 0, false, "secret-three")
	}},
	{"Unsubscribe", []string{"UpdateItem", "GetItem", "TransactWriteItems"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		return c.Unsubscribe(ctx, "secret-conn", "secret-one")
	}},
	{"UnsubscribeAll", []string{"UpdateItem", "GetItem", "TransactWriteItems"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		return c.UnsubscribeAll(ctx, "secret-conn")
	}},
	{"Rooms", []string{"GetItem"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		_, err := c.Rooms(ctx, "secret-conn")
		return err
	}},
	{"Listeners", []string{"Query"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		_, err := c.Listeners(ctx, "secret-one")
		return err
	}},
	{"Of", []string{"Query", "BatchGetItem"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		_, err := c.Of(ctx, "secret-user")
		return err
	}},
	{"Delete", []string{"DeleteItem", "GetItem", "BatchWriteItem"}, func(ctx context.Context, c *dynamoconns.Connections) error {
		return c.Delete(ctx, "secret-conn")
	}},
}

// A short fault is not noticed. One that lasts is returned as a retryable error that names no user.
// The same call succeeds once the fault has ended.
func TestFaults(t *testing.T) {
	faults := map[dynamotest.Fault]string{
		dynamotest.Throttle: "Throttle", dynamotest.Fail: "Fail", dynamotest.Drop: "Drop", dynamotest.Lose: "Lose",
	}
	for _, step := range steps {
		for _, call := range step.calls {
			for fault, name := range faults {
				t.Run(step.name+"/"+call+"/"+name, func(t *testing.T) {
					t.Parallel()
					bad, good := filled(t, call, fault, 2)
					if err := step.do(t.Context(), bad); err != nil {
						t.Errorf("two faults are noticed: %v", err)
					}
					whole(t, good)
					if fault == dynamotest.Throttle || fault == dynamotest.Fail {
						return // nothing is stored, as with Drop
					}
					bad, good = filled(t, call, fault, 1<<30)
					err := step.do(t.Context(), bad)
					if !errors.Is(err, projections.ErrUnavailable) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "spoiled") {
						t.Errorf("the error is %v", err)
					}
					must(t, again(t, good, step.do))
					whole(t, good)
				})
			}
		}
	}
}

// again does a step when nothing goes wrong any more. The revision may have been raised, or the
// connection be gone.
func again(t *testing.T, c *dynamoconns.Connections, do func(context.Context, *dynamoconns.Connections) error) error {
	t.Helper()
	err := do(t.Context(), c)
	if errors.Is(err, live.ErrChanged) || errors.Is(err, live.ErrGone) {
		return nil
	}
	return err
}

// whole checks that connection and rooms agree.
func whole(t *testing.T, c *dynamoconns.Connections) {
	t.Helper()
	has := roomsOf(t, c, "secret-conn")
	for _, room := range []string{"secret-one", "secret-two", "secret-three"} {
		if slices.Contains(has, room) != slices.Contains(listeners(t, c, room), "secret-conn") {
			t.Errorf("it has %q, and %s disagrees", has, room)
		}
	}
	if _, err := c.Get(t.Context(), "secret-conn"); errors.Is(err, live.ErrGone) && len(has) > 0 {
		t.Errorf("it is gone and has %q", has)
	}
}

// between stands between the driver and DynamoDB, and may answer in its place.
type between struct {
	client aws.HTTPClient
	answer func(operation string, body []byte) (status int, text string)
}

func (b between) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	status, text := b.answer(operation, body)
	if status == 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		return b.client.Do(r)
	}
	header := http.Header{"Content-Type": {"application/x-amz-json-1.0"}}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// What DynamoDB does only now and then, and DynamoDB Local never: a transaction that meets another,
// and items of a batch that were not processed.
func TestHeldUp(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	good := dynamoconns.New(cfg, table)
	left := map[string]int{"TransactWriteItems": 2, "BatchWriteItem": 2, "BatchGetItem": 2, "UpdateItem": 2}
	cfg.HTTPClient = between{cfg.HTTPClient, func(operation string, body []byte) (int, string) {
		if left[operation]--; left[operation] < 0 {
			return 0, ""
		}
		switch operation {
		case "TransactWriteItems":
			return http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"secret","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict"}]}`
		case "UpdateItem":
			return http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"secret"}`
		}
		var asked struct{ RequestItems json.RawMessage }
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Error(err)
		}
		return http.StatusOK, `{"UnprocessedItems":` + string(asked.RequestItems) + `,"UnprocessedKeys":` + string(asked.RequestItems) + `}`
	}}
	bad := dynamoconns.New(cfg, table)
	connect(t, good, "conn", "ada")
	must(t, bad.Subscribe(t.Context(), "conn", 0, true, "one", "two"))
	if got, err := bad.Of(t.Context(), "ada"); err != nil || len(got) != 1 || !got[0].All {
		t.Errorf("of the user are %v, %v", got, err)
	}
	must(t, bad.Unsubscribe(t.Context(), "conn", "one"))
	must(t, bad.Delete(t.Context(), "conn"))
	if got := listeners(t, good, "two"); len(got) > 0 {
		t.Errorf("there are still the listeners %q", got)
	}
	if got, err := good.Of(t.Context(), "ada"); err != nil || len(got) > 0 {
		t.Errorf("of the user are %v, %v", got, err)
	}
	left = map[string]int{"TransactWriteItems": 1 << 30, "BatchGetItem": 1 << 30}
	connect(t, good, "conn", "ada")
	if err := bad.Subscribe(t.Context(), "conn", 0, true, "one"); !errors.Is(err, projections.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	if _, err := bad.Of(t.Context(), "ada"); !errors.Is(err, projections.ErrUnavailable) {
		t.Error(err)
	}
}

// An item that something else has written fails its operation, and no other.
func TestDamaged(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	c := dynamoconns.New(cfg, table)
	db := dynamodb.NewFromConfig(cfg)
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	for _, keys := range [][2]string{{"conn/a", "connection"}, {"conn/a", "rooms"}, {"room/r", "a"}, {"user/u", "a"}} {
		_, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: map[string]types.AttributeValue{
			"partition": text(keys[0]), "sort": text(keys[1]), "revision": text("x"), "until": text("x"), "rooms": text("x"),
			"user": &types.AttributeValueMemberBOOL{},
		}})
		must(t, err)
	}
	for what, err := range map[string]error{
		"Get":       discard(c.Get(t.Context(), "a")),
		"Rooms":     discard(c.Rooms(t.Context(), "a")),
		"Listeners": discard(c.Listeners(t.Context(), "r")),
		"Of":        discard(c.Of(t.Context(), "u")),
		"Subscribe": c.Subscribe(t.Context(), "a", 0, false, "room"),
	} {
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func discard[T any](_ T, err error) error { return err }

// A table whose maker got no further than to make it is given its time to live.
func TestTableHalfMade(t *testing.T) {
	cfg := dynamotest.Open(t).Config("here")
	db := ddb.NewClient(cfg)
	_, err := ddb.Create(t.Context(), db, ddb.Keyed(table, "partition", "sort"))
	must(t, err)
	for range 2 {
		must(t, dynamoconns.CreateTable(t.Context(), cfg, table))
		out, err := db.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: aws.String(table)})
		must(t, err)
		if d := out.TimeToLiveDescription; d.TimeToLiveStatus != types.TimeToLiveStatusEnabled {
			t.Errorf("the time to live is %s", d.TimeToLiveStatus)
		}
	}
}

// The table has its time to live, and is made once.
func TestTable(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	must(t, dynamoconns.CreateTable(t.Context(), cfg, table))
	out, err := dynamodb.NewFromConfig(cfg).DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: aws.String(table)})
	must(t, err)
	if d := out.TimeToLiveDescription; aws.ToString(d.AttributeName) != "expires" || d.TimeToLiveStatus != types.TimeToLiveStatusEnabled {
		t.Errorf("the time to live is %s, %s", aws.ToString(d.AttributeName), d.TimeToLiveStatus)
	}
	c := dynamoconns.New(cfg, table)
	connect(t, c, "conn", "ada")
	must(t, c.Subscribe(t.Context(), "conn", 0, false, "room"))
	all, err := dynamodb.NewFromConfig(cfg).Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	must(t, err)
	if len(all.Items) != 4 {
		t.Errorf("there are %d items", len(all.Items))
	}
	for _, it := range all.Items {
		if _, ok := it["expires"].(*types.AttributeValueMemberN); !ok {
			t.Errorf("%v stays for ever", it)
		}
	}
}
