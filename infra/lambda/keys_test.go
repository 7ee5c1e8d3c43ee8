package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamolocal/dynamotest"
	"parley/functions/operate"
	"parley/infra/lambda/config"
)

// items are all there are in a table.
func (c *cloud) items(table string) []map[string]types.AttributeValue {
	c.t.Helper()
	out, err := dynamodb.NewFromConfig(c.aws).Scan(c.t.Context(), &dynamodb.ScanInput{TableName: aws.String(table), ConsistentRead: aws.Bool(true)})
	if err != nil || out.LastEvaluatedKey != nil {
		c.t.Fatalf("scan %s: %v", table, err)
	}
	return out.Items
}

// holds reports whether a text stands anywhere in a table.
func (c *cloud) holds(table, text string) bool {
	c.t.Helper()
	for _, it := range c.items(table) {
		for _, value := range it {
			switch v := value.(type) {
			case *types.AttributeValueMemberS:
				if strings.Contains(v.Value, text) {
					return true
				}
			case *types.AttributeValueMemberB:
				if strings.Contains(string(v.Value), text) {
					return true
				}
			}
		}
	}
	return false
}

// checkSealed checks that what users said stands sealed in all tables, and open on the bus.
func (c *cloud) checkSealed(text string) {
	c.t.Helper()
	for _, table := range []string{eventsTable, viewsTable, keysTable} {
		if c.holds(table, text) {
			c.t.Errorf("%s holds %q in plain text", table, text)
		}
	}
	for _, table := range []string{eventsTable, viewsTable} {
		if !c.holds(table, `{"sealed":"`) {
			c.t.Errorf("%s holds nothing that is sealed", table)
		}
	}
	if !slices.ContainsFunc(c.bus.entries(), func(e busEntry) bool { return strings.Contains(e.Detail, text) }) {
		c.t.Errorf("nothing on the bus says %q", text)
	}
}

// restart ends a function's process: the next knows only what is stored, as any does after a while.
func (c *cloud) restart(name string) {
	if p := c.functions[name].process.Load(); p != nil {
		p.end()
	}
}

// From the moment in which the stream function has handled user.erased, nobody can read what she
// wrote: not in the views, not in the log, not on the bus. Nothing of anybody else is touched.
func TestErase(t *testing.T) {
	c := newCloud(t, nil)
	ada, bob, op := c.user("ada"), c.user("bob"), c.operator("olga")
	ada.must("PUT", "/v1/users/ada", `{"name":"`+secret+`"}`)
	room := c.talk(3)
	bob.must("PUT", room+"/members/bob", "{}")
	kept := bob.post(room, "I am Bob "+secret)
	c.settle()
	c.checkSealed(secret)
	if got := texts(bob.messages(room + "/messages")); strings.Count(got, secret) != 4 {
		t.Fatalf("the room is %q", got)
	}

	op.must("POST", "/v1/ops/users/ada/erase", "")
	c.settle()
	c.settle() // the region's own word that it is done
	if r := op.get("/v1/ops/users/ada/erasure"); !strings.Contains(string(r.body), `{"region":"eu-west-1","acknowledged":true}`) {
		t.Errorf("%s: %s", r.asked, r.body)
	}
	c.checkKeys("ada", "erased")
	c.restart(config.Query)
	c.restart(config.Command)
	for _, path := range []string{room + "/messages", room + "/messages?as_of=" + kept} { // the second is of the log
		for _, m := range bob.messages(path) {
			if m.Erased != (m.Author == "ada") || (m.Text == "") != m.Erased {
				t.Errorf("%s has %+v", path, m)
			}
		}
	}
	if r := bob.get("/v1/users/ada"); strings.Contains(string(r.body), secret) || !strings.Contains(string(r.body), `"erased":true`) {
		t.Errorf("%s: %s", r.asked, r.body)
	}
	if r := ada.do("POST", room+"/messages", `{"text":"I am back"}`); r.status != http.StatusForbidden || r.text("code") != "user_erased" {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	c.checkReplayed(op, room)
}

// checkKeys checks what a user has in the table of keys: the sort keys of its items.
func (c *cloud) checkKeys(user string, want ...string) {
	c.t.Helper()
	var got []string
	for _, it := range c.items(keysTable) {
		if it["user"].(*types.AttributeValueMemberS).Value == user {
			got = append(got, it["key"].(*types.AttributeValueMemberS).Value)
		}
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("in the table of keys %s has %q", user, got)
	}
}

// checkReplayed replays a room and checks that of ada's messages nothing is on the bus, and Bob's are.
func (c *cloud) checkReplayed(op user, room string) {
	c.t.Helper()
	before := len(c.bus.entries())
	job := op.start(fmt.Sprintf(`{"kind":"replay","to":"again","rate":1000,"room":%q}`, strings.TrimPrefix(room, "/v1/rooms/")))
	c.work(config.Replayer, replayQueue)
	if r := op.get(job); r.text("state") != operate.StateDone {
		c.t.Errorf("the job is %s", r.body)
	}
	erased, open := 0, 0
	for _, e := range c.bus.entries()[before:] {
		switch {
		case e.DetailType != "again/message.posted":
		case strings.Contains(e.Detail, `"actor":"ada"`) && strings.Contains(e.Detail, `"text":null`):
			erased++
		case strings.Contains(e.Detail, `"actor":"bob"`) && strings.Contains(e.Detail, secret):
			open++
		default:
			c.t.Errorf("on the bus is %s", e.Detail)
		}
	}
	if erased != 3 || open != 1 {
		c.t.Errorf("replayed are %d erased and %d open messages", erased, open)
	}
}

// While KMS is away nobody who is new can say anything, and nothing is stored; what was said is read
// by who knows the key, and waits for KMS elsewhere. No event is parked for it.
func TestKMSAway(t *testing.T) {
	c := newCloud(t, nil)
	room := c.talk(1)
	ada, eve := c.user("ada"), c.user("eve")
	eve.must("PUT", room+"/members/eve", "{}")
	away := func(string, int) (int, string) { return http.StatusInternalServerError, "KMSInternalException" }
	c.kms.set(away)
	if r := eve.do("POST", room+"/messages", `{"text":"lost"}`); r.status != http.StatusServiceUnavailable || r.headers["Retry-After"] == "" || r.text("code") != "unavailable" {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	c.checkKeys("eve")
	ada.post(room, "kept") // this process knows her key
	batch := c.records.all(0)
	if failed := c.handle(batch); len(failed) != len(batch) { // what goes in one call to the bus
		t.Errorf("of %d records %d failed", len(batch), len(failed))
	}
	if r := ada.get(room + "/messages"); r.status != http.StatusServiceUnavailable {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	c.kms.set(nil)
	if failed := c.handle(batch); len(failed) != 0 {
		t.Errorf("%d records failed", len(failed))
	}
	eve.post(room, "mine")
	c.settle()
	if got := texts(ada.messages(room + "/messages")); got != secret+"0 | kept | mine" {
		t.Errorf("the room is %q", got)
	}
	if parked := c.parked(); len(parked) > 0 {
		t.Errorf("parked are %v", parked)
	}
}

// A key that this function may not use is said in the log, with what to look at.
func TestKMSDenied(t *testing.T) {
	c := newCloud(t, nil)
	room := c.talk(0)
	c.kms.set(func(string, int) (int, string) { return http.StatusBadRequest, "AccessDeniedException" })
	if r := c.user("ada").do("POST", room+"/messages", `{"text":"`+secret+`"}`); r.status != http.StatusInternalServerError {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	eventually(t, "it is logged", func() bool {
		said := strings.Join(c.functions[config.Command].logs.lines(), "\n")
		return strings.Contains(said, "KMS says AccessDeniedException: is the key that PARLEY_KMS_KEY names there and enabled")
	})
}

// A table of keys that is throttled, or in which the erasing breaks off, holds up the stream and
// nothing else: the batch comes again until she is erased.
func TestEraseFails(t *testing.T) {
	var breaks atomic.Bool
	c := newCloud(t, func(call dynamotest.Call) dynamotest.Fault {
		if breaks.Load() && call.Operation == "DeleteItem" && strings.Contains(string(call.Body), keysTable) {
			return dynamotest.Throttle
		}
		return dynamotest.None
	})
	room := c.talk(1)
	c.settle()
	breaks.Store(true)
	c.operator("olga").must("POST", "/v1/ops/users/ada/erase", "")
	batch := c.records.all(0)
	if failed := c.handle(batch); len(failed) != len(batch) {
		t.Errorf("of %d records %d failed", len(batch), len(failed))
	}
	if got := c.user("ada").messages(room + "/messages"); len(got) != 1 || !got[0].Erased { // the mark is there
		t.Errorf("there is %v", got)
	}
	breaks.Store(false)
	if failed := c.handle(batch); len(failed) > 0 {
		t.Errorf("%d records failed", len(failed))
	}
	c.checkKeys("ada", "erased")
}
