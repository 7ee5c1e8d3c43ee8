package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/events/dynamolocal/dynamotest"
	"parley/functions/live"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// TestBusAway makes the bus fail from the middle of a batch on: before Lambda would kill it, the function
// reports the first record that is not on the bus, and the records before it are not sent again.
func TestBusAway(t *testing.T) {
	t.Parallel()
	c := newCloud(t, nil)
	c.functions[config.Stream].Timeout = 6 * time.Second
	room := c.roomWithPosts(24)
	batch := c.stream.Read(0)
	c.bus.Set(nil, func(call int) bool { return call > 1 })
	failed := c.handle(batch)
	if len(failed) != len(batch)-10 {
		t.Fatalf("%d of %d records failed, want all but 10", len(failed), len(batch))
	}
	if got := texts(c.user("ada").messages(room + "/messages")); strings.Count(got, secret) != 24 {
		t.Errorf("the views wait for the bus: %s", got)
	}
	c.bus.Set(nil, func(call int) bool { return call == 1 }) // the SDK tries again
	if n := c.counted(config.Stream, config.Unfinished); n != 1 {
		t.Errorf("%d batches were counted as unfinished", n)
	}
	if failed = c.handle(failed); len(failed) != 0 {
		t.Fatalf("%d records failed", len(failed))
	}
	if n := c.counted(config.Stream, config.Unfinished); n != 1 {
		t.Errorf("a batch that is handled is counted as unfinished")
	}
	c.checkBus(25)
	c.checkFeed(room, 25)
	if n := c.functions[config.Stream].Starts(); n != 1 {
		t.Errorf("the function was started %d times", n)
	}
}

// TestThrottled throttles a table: nothing is stored, and the answer has Retry-After.
func TestThrottled(t *testing.T) {
	t.Parallel()
	var throttle atomic.Pointer[string] // the operations and table
	c := newCloud(t, func(call dynamotest.Call) dynamotest.Fault {
		if what := throttle.Load(); what != nil && strings.Contains(string(call.Body), `"`+*what+`"`) {
			return dynamotest.Throttle
		}
		return dynamotest.None
	})
	set := func(table string) { throttle.Store(&table) }
	ada := c.user("ada")
	room := c.roomWithPosts(1)
	c.settle()
	id, err := c.clock().Mint("ada")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(r reply, code string) {
		t.Helper()
		if r.status != http.StatusServiceUnavailable || r.headers["Retry-After"] == "" || r.text("code") != code ||
			r.headers["Content-Type"] != "application/problem+json" {
			t.Errorf("%s: %d %v %s", r.asked, r.status, r.headers, r.body)
		}
	}
	message := room + "/messages/" + id.String()
	set(eventsTable)
	refused(ada.do("PUT", message, `{"text":"second"}`), "throttled")
	if r := ada.get("/health"); r.status != http.StatusServiceUnavailable || r.headers["Retry-After"] == "" {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	set("")
	if r := ada.get(message + "?includes=" + id.String()); r.status != http.StatusNotFound {
		t.Errorf("what was refused is there: %d %s", r.status, r.body)
	}
	if r := ada.do("PUT", message, `{"text":"second"}`); r.status != http.StatusCreated {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	set(viewsTable)
	refused(ada.get(room+"/messages"), "views_unavailable")
	batch := c.stream.Read(0)
	if failed := c.handle(batch); len(batch) != 1 || len(failed) != 1 {
		t.Errorf("of %d records %d failed", len(batch), len(failed))
	}
	if n := c.counted(config.Stream, config.Unfinished); n != 1 {
		t.Errorf("%d batches were counted as unfinished", n)
	}
	set("")
	if failed := c.handle(batch); len(failed) != 0 {
		t.Errorf("%d records failed", len(failed))
	}
	if got := texts(ada.messages(room + "/messages")); got != secret+"0 | second" {
		t.Errorf("the room is %q", got)
	}
	c.checkBus(3)
}

// TestTableHangs lets a table not answer: the functions answer 503 before Lambda would kill the process.
func TestTableHangs(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	released := make(chan struct{})
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if hang.Load() {
			<-released
		}
		return dynamotest.None
	})
	t.Cleanup(func() { close(released) })
	room := c.roomWithPosts(1)
	hang.Store(true)
	ada := c.user("ada")
	for _, name := range []string{config.Command, config.Query, config.Stream} {
		c.functions[name].Timeout = 3 * time.Second
	}
	for _, r := range []reply{ada.do("POST", room+"/messages", `{"text":"lost"}`), ada.get(room + "/messages")} {
		if r.status != http.StatusServiceUnavailable || r.headers["Retry-After"] == "" {
			t.Errorf("%s: %d %s", r.asked, r.status, r.body)
		}
	}
	if batch := c.stream.Read(0); len(c.handle(batch)) != len(batch) {
		t.Error("the stream function has handled something")
	}
	for name, starts := range map[string]int{config.Command: 1, config.Query: 1, config.Stream: 1} {
		if got := c.functions[name].Starts(); got != starts {
			t.Errorf("%s was started %d times", name, got)
		}
	}
}

// TestKilled kills the stream function at every call it makes for a batch, before the call has an effect
// and after, and hands the batch to the next process. In the end the views and the feed are as without
// kills; an event may be on the bus more than once.
func TestKilled(t *testing.T) {
	var stream atomic.Pointer[awstest.Function]
	var left atomic.Int64 // calls until the kill; 0: none
	dying := func() bool {
		if left.Load() == 0 || left.Add(-1) != 0 {
			return false
		}
		stream.Load().Kill()
		return true
	}
	var faulty atomic.Bool // what it was killed over
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if dying() && !faulty.Load() {
			return dynamotest.Drop
		}
		return dynamotest.None
	})
	c.bus.Set(nil, func(int) bool { return dying() && !faulty.Load() })
	stream.Store(c.functions[config.Stream])
	ada := c.user("ada")
	room := c.roomWithPosts(0)
	want, posts := []string{}, 0
	kills := 0
	for round := 0; ; round++ {
		for range 12 { // two calls to the bus
			text := fmt.Sprint("message-", posts)
			ada.post(room, text)
			want = append(want, text)
			posts++
		}
		batch := c.stream.Read(0)
		faulty.Store(round%2 == 1)
		left.Store(int64(round/2 + 1))
		text, err := c.functions[config.Stream].Invoke(awstest.Payload(t, batch))
		if left.Swap(0) > 0 { // it makes fewer calls
			if failed := awstest.Failed(t, text, batch, awstest.Record.Sequence); err != nil || len(failed) > 0 {
				t.Fatalf("%d records failed, error %v", len(failed), err)
			}
			break
		}
		kills++
		if err != awstest.ErrExited { //nolint:errorlint // it is returned as it is
			t.Fatalf("killed in round %d, it answers %s, %v", round, text, err)
		}
		if failed := c.handle(batch); len(failed) > 0 {
			t.Fatalf("round %d: %d records failed after the kill", round, len(failed))
		}
	}
	if starts := c.functions[config.Stream].Starts(); kills < 8 || starts != kills+1 {
		t.Errorf("after %d kills it was started %d times", kills, starts)
	}
	t.Logf("killed %d times", kills)
	if got := texts(ada.messages(room + "/messages?limit=200")); !strings.HasSuffix(strings.Join(want, " | "), got) || got == "" {
		t.Errorf("the room is %s", got)
	}
	c.checkFeed(room, posts+1)
	if on := len(c.bus.Counts()); on != posts+1 {
		t.Errorf("%d of %d events are on the bus", on, posts+1)
	}
	if parked := c.parked(); len(parked) != 0 {
		t.Errorf("parked are %v", parked)
	}
}

// TestKMSAway makes KMS unavailable: a user without a cached key cannot post, and nothing is stored. Other
// processes retry until KMS is available, and no event is parked.
func TestKMSAway(t *testing.T) {
	c := newCloud(t, nil)
	room := c.roomWithPosts(1)
	ada, eve := c.user("ada"), c.user("eve")
	eve.must("PUT", room+"/members/eve", "{}")
	away := func(string, int) (int, string) { return http.StatusInternalServerError, "KMSInternalException" }
	c.kms.Set(away)
	if r := eve.do("POST", room+"/messages", `{"text":"lost"}`); r.status != http.StatusServiceUnavailable || r.headers["Retry-After"] == "" || r.text("code") != "unavailable" {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	c.checkKeys("eve")
	ada.post(room, "kept") // the process has cached the key
	batch := c.stream.Read(0)
	if failed := c.handle(batch); len(failed) != len(batch) { // what goes in one call to the bus
		t.Errorf("of %d records %d failed", len(batch), len(failed))
	}
	if r := ada.get(room + "/messages"); r.status != http.StatusServiceUnavailable {
		t.Errorf("%s: %d %s", r.asked, r.status, r.body)
	}
	c.kms.Set(nil)
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

// TestPushFails makes all that delivery to sockets needs fail: events are projected and published all the
// same, in time, and sockets that missed a frame are closed.
func TestPushFails(t *testing.T) {
	t.Parallel()
	var throttled atomic.Bool
	c := newCloud(t, func(call dynamotest.Call) dynamotest.Fault {
		if throttled.Load() && strings.Contains(string(call.Body), `"`+connectionsTable+`"`) {
			return dynamotest.Throttle
		}
		return dynamotest.None
	})
	ada := c.user("ada")
	path := c.meeting()
	handled := func(what string) {
		t.Helper()
		ada.post(path, what)
		start := time.Now()
		c.settle()
		if took := time.Since(start); took > live.DefaultLimits.Push+30*time.Second {
			t.Errorf("%s: the batch took %s", what, took)
		}
	}
	join := func() *client {
		u := ada.socket()
		if f := u.ask(fields{"action": "subscribe"}); f["type"] != "subscribed" {
			t.Fatalf("ada is answered %v", f)
		}
		return u
	}
	u := join()
	throttled.Store(true)
	handled("the-table-is-throttled")
	throttled.Store(false)

	c.gateway.Refuse(func(string) int { return http.StatusInternalServerError })
	handled("the-gateway-fails")
	c.gateway.Refuse(nil)
	if code := u.awaitClosed(); code != "" {
		t.Errorf("while the gateway fails, the socket gets the code %q", code)
	}

	u = join()
	hang := make(chan struct{})
	c.gateway.Refuse(func(string) int { <-hang; return 0 })
	handled("the-gateway-hangs")
	close(hang)
	c.gateway.Refuse(nil)
	// The socket could be neither notified nor closed, but its connection is removed: the next frame
	// closes it, if the late answer of the gateway has not.
	_ = u.ws.Write(t.Context(), websocket.MessageText, []byte(`{"action":"ping"}`))
	if code := u.awaitClosed(); code != string(live.CodeSlow) {
		t.Errorf("after the gateway hung the socket is closed with %q", code)
	}

	u = join()
	handled("all-is-well")
	u.awaitText("all-is-well")
	if got := texts(ada.messages(path + "/messages")); strings.Count(got, "|") != 3 {
		t.Errorf("the room is %s", got)
	}
	c.checkBus(5)
	if n := c.counted(config.Stream, config.Unsent); n < 2 {
		t.Errorf("%d frames were counted as not taken", n)
	}
}

// TestSocketKilled kills the live function at every call to DynamoDB that it makes for a send frame, before
// the call has an effect and after. The client, which gets only the gateway's error, retries with the
// same id: each message is there once.
func TestSocketKilled(t *testing.T) {
	var live atomic.Pointer[awstest.Function]
	var left atomic.Int64 // calls until the kill; 0: none
	var faulty atomic.Bool
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if left.Load() == 0 || left.Add(-1) != 0 {
			return dynamotest.None
		}
		live.Load().Kill()
		if faulty.Load() {
			return dynamotest.None
		}
		return dynamotest.Drop
	})
	c.gateway.Functions = c.gateway.Functions[:1] // the one that is killed
	live.Store(c.functions[config.Live])
	ada := c.user("ada")
	room := strings.TrimPrefix(c.meeting(), "/v1/rooms/")
	u := ada.socket()
	if f := u.ask(fields{"action": "subscribe"}); f["type"] != "subscribed" {
		t.Fatalf("the answer is %v", f)
	}
	clock := c.clock()
	kills, want := 0, []string{}
	for round := 0; ; round++ {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("message-", round)
		want = append(want, text)
		faulty.Store(round%2 == 1)
		left.Store(int64(round/2 + 1))
		u.send(fmt.Sprintf(`{"action":"send","room":%q,"id":%q,"text":%q,"ref":%d}`, room, id, text, round))
		answer := u.await("an answer", func(f fields) bool {
			return f["ref"] == float64(round) || f["message"] == "Internal server error" && kills < u.count("Internal server error")
		})
		survived := left.Swap(0) > 0
		if answer["type"] != "sent" {
			kills++
		} else if survived {
			break // it makes fewer calls
		}
		if again := u.ask(fields{"action": "send", "room": room, "id": id.String(), "text": text}); again["type"] != "sent" {
			t.Fatalf("round %d: after the kill the answer is %v", round, again)
		}
	}
	if kills < 4 {
		t.Errorf("it was killed %d times", kills)
	}
	t.Logf("killed %d times", kills)
	c.settle()
	for _, text := range want {
		u.awaitText(text)
	}
	if got := texts(ada.messages("/v1/rooms/" + room + "/messages?limit=200")); got != strings.Join(want, " | ") {
		t.Errorf("the room is %s", got)
	}
	c.checkFeed(room, len(want)+1)
}
