package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/functions/stream"
	"parley/functions/wire"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// TestConversation runs through the real binary: HTTP events in, and records of the real change stream,
// from which views, feed and bus get all events.
func TestConversation(t *testing.T) {
	c := newCloud(t, nil)
	ada, bob := c.user("ada"), c.user("bob")
	room := "/v1/rooms/" + ada.must("POST", "/v1/rooms", `{"name":"Hello"}`).text("id")
	bob.must("PUT", room+"/members/bob", "{}") // at once: no stream has run
	first := ada.post(room, "first "+secret)
	second := bob.post(room, "second")
	third := ada.post(room, "third")
	edited := ada.must("PATCH", room+"/messages/"+first, `{"text":"first, edited"}`).text("event")
	for _, emoji := range []string{"👍", "#️⃣", "👩‍🚀"} {
		bob.must("PUT", room+"/messages/"+first+"/reactions/"+strings.ReplaceAll(emoji, "#", "%23"), "")
	}
	bob.must("DELETE", room+"/messages/"+second, "")

	// Before the stream function has run, only the included event is visible.
	if got := texts(ada.messages(room + "/messages?includes=" + edited)); got != "first, edited" {
		t.Errorf("before the stream has run, with the edit included, there is %q", got)
	}
	if got := ada.messages(room + "/messages"); len(got) != 0 {
		t.Errorf("before the stream has run there is %v", got)
	}
	c.settle()
	got := ada.messages(room + "/messages")
	if len(got) != 3 || got[0].ID != first || got[0].Text != "first, edited" || got[0].Author != "ada" ||
		!got[1].Deleted || got[2].ID != third || got[2].Text != "third" {
		t.Errorf("after the stream has run there is %v", got)
	}
	want := map[string][]string{"👍": {"bob"}, "#️⃣": {"bob"}, "👩‍🚀": {"bob"}}
	if !maps.EqualFunc(got[0].Reactions, want, slices.Equal) {
		t.Errorf("the reactions are %v", got[0].Reactions)
	}
	c.checkBus(10)
	c.checkSealed(secret)
	c.checkFeed(room, 10)
	for metric, function := range map[string]string{config.Accepted: config.Command, config.Projected: config.Stream, config.Published: config.Stream} {
		if n := c.counted(function, metric); n != 10 {
			t.Errorf("%s is %d, want 10", metric, n)
		}
	}
	if lag := c.counted(config.Stream, config.PublishedLag); lag <= 0 || lag > 10*60_000 {
		t.Errorf("the lags add up to %d ms", lag)
	}
	if n := len(c.functions[config.Command].Metrics.Lines()); n != 10 {
		t.Errorf("10 commands wrote %d lines of metrics", n)
	}
}

// TestRegion covers what the functions share: a heartbeat that goes through log, stream and views to
// health, a drained region, the rate limit, and the document, which is the same whichever function
// answers.
func TestRegion(t *testing.T) {
	c := newCloud(t, nil)
	op, ada := c.operator("olga"), c.user("ada")
	for range 2 {
		answer, err := c.functions[config.Beat].Invoke([]byte(`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`))
		if err != nil || !json.Valid(answer) {
			t.Fatalf("%s, %v", answer, err)
		}
	}
	c.settle()
	var report struct {
		Region, Status string
		Frontiers      map[string]float64
	}
	r := ada.get("/health")
	r.into(&report)
	if r.status != http.StatusOK || report.Status != "ok" || report.Region != inRegion {
		t.Errorf("%d %s", r.status, r.body)
	}
	if beat, ok := report.Frontiers[inRegion]; !ok || beat < 0 || beat > 60 {
		t.Errorf("the frontiers are %v", report.Frontiers)
	}
	if n := c.counted(config.Beat, config.Accepted); n != 2*8 {
		t.Errorf("%d beats were counted, want two in each of eight streams", n)
	}
	for _, tt := range []struct {
		method, says string
		status       int
	}{{"PUT", "drained", http.StatusServiceUnavailable}, {"DELETE", "ok", http.StatusOK}} {
		op.must(tt.method, "/v1/ops/drain", "")
		for _, path := range []string{"/health", "/health/0a1b2c3d-0000-11ef-8000-0123456789ab"} { // Route 53 asks such a one
			if r := op.get(path); r.status != tt.status || r.text("status") != tt.says {
				t.Errorf("after %s %s answers %d %s", tt.method, path, r.status, r.body)
			}
		}
		if r := op.get("/v1/rooms"); r.status != http.StatusOK {
			t.Errorf("after %s a request is answered %d", tt.method, r.status)
		}
	}
	if r := (user{c, "eve", awstest.NewIssuer(t).Token("eve")}).do("POST", "/v1/rooms", `{"name":"x"}`); r.status != http.StatusUnauthorized {
		t.Errorf("a token of another issuer: %d %s", r.status, r.body)
	}
	var documents [2]string
	for i, name := range []string{config.Command, config.Query} {
		text, err := c.functions[name].Invoke([]byte(`{"rawPath":"/openapi.json","requestContext":{"http":{"method":"GET"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		documents[i] = awstest.ReadHTTPAnswer(t, text).Body
	}
	if documents[0] != documents[1] || !strings.Contains(documents[0], `"postMessage"`) || !strings.Contains(documents[0], `"listMessages"`) {
		t.Errorf("the documents have %d and %d bytes", len(documents[0]), len(documents[1]))
	}
	limited := c.functions[config.Command]
	limited.Stop()
	limited.Env = append(limited.Env, "PARLEY_RATE=1")
	for sent := 0; r.status != http.StatusTooManyRequests && sent < 100; sent++ {
		r = ada.do("PUT", "/v1/users/ada", `{"name":"Ada"}`)
	}
	if r.text("code") != "rate_limited" || r.headers["Retry-After"] == "" {
		t.Errorf("%d %v %s", r.status, r.headers, r.body)
	}
}

// TestBadEvents invokes all functions with malformed events: they answer or fail the invocation, and the
// same process answers the next one.
func TestBadEvents(t *testing.T) {
	c := newCloud(t, nil)
	for _, name := range config.Functions {
		f := c.functions[name]
		for _, payload := range []string{
			``, `{`, `null`, `[]`, `{}`, `7`, `"text"`, `{"Records":null}`, `{"Records":[]}`, `{"Records":[7]}`, `{"Records":[{}]}`,
			`{"Records":[{"dynamodb":{"NewImage":7}}]}`, `{"requestContext":{"http":{"method":""}}}`,
			`{"requestContext":{"http":{"method":"POST"}},"body":"%","isBase64Encoded":true}`,
			`{"rawPath":"\u0000%zz//..","rawQueryString":"%","headers":{"":"","a b":"\n"},"requestContext":{"http":{"method":"G T"}}}`,
			`{"rawPath":"/v1/rooms","headers":{"authorization":"Bearer x.y.z","content-type":";"},"body":"` + strings.Repeat("x", 100_000) + `","requestContext":{"http":{"method":"POST"}}}`,
		} {
			_, err := f.Invoke([]byte(payload))
			if err == awstest.ErrExited { //nolint:errorlint // it is returned as it is
				t.Errorf("%s: the process does not survive %.100s", name, payload)
			}
			if name == config.Stream && err == nil {
				t.Errorf("the stream function takes %s", payload)
			}
		}
		if f.Starts() != 1 {
			t.Errorf("%s was started %d times", name, f.Starts())
		}
	}
}

// item returns an item of texts.
func item(texts map[string]string) map[string]types.AttributeValue {
	out := map[string]types.AttributeValue{}
	for name, text := range texts {
		out[name] = &types.AttributeValueMemberS{Value: text}
	}
	return out
}

// posted returns the item of a message, as a former release wrote it.
func posted(room, id, actor, text string) map[string]types.AttributeValue {
	return item(map[string]string{
		"stream": "room/" + room, "id": id, "type": "message.posted/1", "actor": actor, "region": inRegion,
		"data": `{"text":"` + text + `"}`,
	})
}

// keyed returns the item of a message, as the log writes it.
func (c *cloud) keyed(room, id, actor, text string) map[string]types.AttributeValue {
	c.t.Helper()
	e, err := events.Decode(events.Stored{Stream: "room/" + room, ID: id, Type: "message.posted/1", Actor: actor, Region: inRegion, Data: `{"text":"` + text + `"}`})
	if err != nil {
		c.t.Fatal(err)
	}
	return with(posted(room, id, actor, text), "id", &types.AttributeValueMemberS{Value: e.WithDigest().Ref().String()})
}

// with changes an attribute of an item.
func with(item map[string]types.AttributeValue, name string, value types.AttributeValue) map[string]types.AttributeValue {
	item[name] = value
	return item
}

func (c *cloud) put(item map[string]types.AttributeValue) {
	c.t.Helper()
	_, err := dynamodb.NewFromConfig(c.aws).PutItem(c.t.Context(), &dynamodb.PutItemInput{TableName: aws.String(eventsTable), Item: item})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) remove(room, id string) {
	c.t.Helper()
	_, err := dynamodb.NewFromConfig(c.aws).DeleteItem(c.t.Context(), &dynamodb.DeleteItemInput{
		TableName: aws.String(eventsTable), Key: item(map[string]string{"stream": "room/" + room, "id": id}),
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestPoison puts items that are not events into the table. Each is parked once, and all other records
// are handled.
func TestPoison(t *testing.T) {
	c := newCloud(t, nil)
	ada := c.user("ada")
	room := ada.must("POST", "/v1/rooms", `{"name":"Hello"}`).text("id")
	path := "/v1/rooms/" + room
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	mint := func() string {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		return id.String()
	}
	ada.post(path, "before")
	s := func(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }
	changed, removed, both := mint(), mint(), mint()
	c.put(posted(room, changed, "ada", "what was overwritten"))
	c.put(posted(room, removed, "ada", "what was removed"))
	c.put(c.keyed(room, both, "ada", "what two regions accepted"))
	c.put(with(c.keyed(room, both, "ada", "what two regions accepted"), "region", s("elsewhere"))) // the last writer wins
	c.put(with(posted(room, mint(), "ada", "with more"), "more", &types.AttributeValueMemberL{Value: []types.AttributeValue{
		&types.AttributeValueMemberB{Value: []byte{0, 1}}, &types.AttributeValueMemberBOOL{Value: true}, &types.AttributeValueMemberSS{Value: []string{"a"}},
	}}))
	for _, poison := range []map[string]types.AttributeValue{
		with(posted(room, mint(), "ada", ""), "data", &types.AttributeValueMemberN{Value: "7"}),
		with(posted(room, mint(), "ada", ""), "data", &types.AttributeValueMemberM{Value: item(map[string]string{"text": "x"})}),
		with(posted(room, mint(), "ada", "x"), "actor", &types.AttributeValueMemberNULL{Value: true}),
		with(posted(room, mint(), "ada", "x"), "data", s("{")),
		with(posted(room, mint(), "ada", "x"), "data", s(`{"text":7}`)),
		with(posted(room, mint(), "ada", "x"), "type", s("message.sung/1")),
		with(posted(room, mint(), "ada", "x"), "type", s("message.posted/99")),
		with(posted(room, mint(), "ada", "x"), "type", s("message.posted")),
		with(posted(room, mint(), "ada", "x"), "stream", s("nonsense")),
		with(posted(room, mint(), "ada", "x"), "id", s("not a ULID")),
		item(map[string]string{"stream": "room/" + room, "id": mint()}),
	} {
		c.put(poison)
	}
	c.remove(room, removed)
	c.put(posted(room, changed, "ada", "what took its place"))
	forged := c.keyed(room, both, "ada", "what two regions accepted")
	c.put(with(forged, "data", s(`{"text":"what took its place"}`)))
	ada.post(path, "after")

	const poisonous = 14 // the removal is one, and each of the two changes
	batch := c.stream.Read(2)
	for range 2 { // a batch may come again
		if failed := c.handle(batch); len(failed) != 0 {
			t.Fatalf("%d of %d records failed", len(failed), len(batch))
		}
	}
	parked := c.parked()
	for key, p := range parked {
		if p.Stage != "decode" || p.Error == "" || p.Tries != 2 || len(p.Record) < 20 {
			t.Errorf("%s: %+v", key, p)
		}
	}
	if n := c.counted(config.Stream, config.Parked); len(parked) != poisonous || n != 2*poisonous {
		t.Errorf("%d are parked, %d were counted, want %d", len(parked), n, poisonous)
	}
	if got := texts(ada.messages(path + "/messages")); got != "before | what was overwritten | what was removed | what two regions accepted | with more | after" {
		t.Errorf("the room is %q", got)
	}
	c.checkFeed(path, 7)
	if counts := c.bus.Counts(); len(counts) != 7 || counts[changed] != 2 || counts[both] != 4 { // a duplicate is one
		t.Errorf("on the bus are %v", counts)
	}
}

// TestErase: once the stream function has handled user.erased, the user's content cannot be read from the
// views, the log or the bus. Content of other users stays.
func TestErase(t *testing.T) {
	c := newCloud(t, nil)
	ada, bob, op := c.user("ada"), c.user("bob"), c.operator("olga")
	ada.must("PUT", "/v1/users/ada", `{"name":"`+secret+`"}`)
	room := c.roomWithPosts(3)
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
	if r := op.get("/v1/ops/users/ada/erasure"); !strings.Contains(r.body, `{"region":"eu-west-1","acknowledged":true}`) {
		t.Errorf("%s: %s", r.asked, r.body)
	}
	c.checkKeys("ada", "erased")
	c.functions[config.Query].Stop()
	c.functions[config.Command].Stop()
	for _, path := range []string{room + "/messages", room + "/messages?as_of=" + kept} { // the second is of the log
		for _, m := range bob.messages(path) {
			if m.Erased != (m.Author == "ada") || (m.Text == "") != m.Erased {
				t.Errorf("%s has %+v", path, m)
			}
		}
	}
	if r := bob.get("/v1/users/ada"); strings.Contains(r.body, secret) || !strings.Contains(r.body, `"erased":true`) {
		t.Errorf("%s: %s", r.asked, r.body)
	}
	if r := ada.do("POST", room+"/messages", `{"text":"I am back"}`); r.status != http.StatusForbidden || r.text("code") != "user_erased" {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	c.checkReplayed(op, room)
}

// checkKeys checks the sort keys of a user in the table of keys.
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

// checkReplayed replays a room and checks that ada's messages are erased on the bus, and bob's are not.
func (c *cloud) checkReplayed(op user, room string) {
	c.t.Helper()
	before := len(c.bus.Entries())
	job := op.start(fmt.Sprintf(`{"kind":"replay","to":"again","rate":1000,"room":%q}`, strings.TrimPrefix(room, "/v1/rooms/")))
	if c.queues.Waiting(jobQueue) > 0 {
		c.t.Error("a replay is in the queue of the worker, which may not publish")
	}
	c.work(config.Replayer, replayQueue)
	if r := op.get(job); r.text("state") != wire.JobDone {
		c.t.Errorf("the job is %s", r.body)
	}
	erased, open := 0, 0
	for _, e := range c.bus.Entries()[before:] {
		if e.Source != stream.ReplaySource || e.EventBusName != awstest.BusName {
			c.t.Errorf("on the bus is %+v", e)
		}
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
