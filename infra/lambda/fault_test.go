package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/infra/lambda/config"
)

// talk makes a room and posts to it; it returns the room's path.
func (c *cloud) talk(posts int) string {
	c.t.Helper()
	ada := c.user("ada")
	room := "/v1/rooms/" + ada.must("POST", "/v1/rooms", `{"name":"Hello"}`).text("id")
	for i := range posts {
		ada.post(room, fmt.Sprint(secret, i))
	}
	return room
}

// The bus refuses some entries at first and one for good: only those are sent again, and that one
// is parked.
func TestBusRefuses(t *testing.T) {
	c := newCloud(t, nil)
	room := c.talk(14)
	batch := c.records.all(0)
	idOf := func(i int) string { return batch[i].DynamoDB.Keys["id"].(map[string]any)["S"].(string) }
	tried := map[string]int{}
	c.bus.set(func(e busEntry) string { // called under the lock of the bus
		tried[e.id()]++
		if e.id() == idOf(3) && tried[e.id()] < 3 || e.id() == idOf(12) {
			return "InternalFailure"
		}
		return ""
	}, nil)
	if failed := c.handle(batch); len(failed) != 0 {
		t.Fatalf("%d records failed", len(failed))
	}
	for i := range batch {
		want, there := 1, 1
		switch i {
		case 3:
			want = 3
		case 12:
			want, there = 5, 0
		}
		if tried[idOf(i)] != want || c.bus.counts()[idOf(i)] != there {
			t.Errorf("record %d was sent %d times, want %d; on the bus %d times", i, tried[idOf(i)], want, c.bus.counts()[idOf(i)])
		}
	}
	p := c.parked()["publish/"+idOf(12)+"/room/"+strings.TrimPrefix(room, "/v1/rooms/")]
	if p.Stage != "publish" || !strings.Contains(p.Error, "InternalFailure") {
		t.Errorf("parked are %v", c.parked())
	}
	if n := c.counted(config.Stream, config.Published); n != len(batch)-1 {
		t.Errorf("%d of %d were counted as published", n, len(batch))
	}
	c.checkFeed(room, 15)
}

// The bus goes away in the middle of a batch and stays away: before Lambda would kill it the
// function names the first record that is not on the bus, and what stands before is not sent again.
func TestBusAway(t *testing.T) {
	c := newCloud(t, nil)
	c.functions[config.Stream].timeout = 6 * time.Second
	room := c.talk(24)
	batch := c.records.all(0)
	c.bus.set(nil, func(call int) bool { return call > 1 })
	failed := c.handle(batch)
	if len(failed) != len(batch)-10 {
		t.Fatalf("%d of %d records failed, want all but 10", len(failed), len(batch))
	}
	if got := texts(c.user("ada").messages(room + "/messages")); strings.Count(got, secret) != 24 {
		t.Errorf("the views wait for the bus: %s", got)
	}
	c.bus.set(nil, func(call int) bool { return call == 1 }) // the SDK tries again
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
	if n := c.functions[config.Stream].starts; n != 1 {
		t.Errorf("the function was started %d times", n)
	}
}

// A table that is throttled stores nothing, and says when to come again.
func TestThrottled(t *testing.T) {
	var throttle atomic.Pointer[string] // the operations and table
	c := newCloud(t, func(call dynamotest.Call) dynamotest.Fault {
		if what := throttle.Load(); what != nil && strings.Contains(string(call.Body), `"`+*what+`"`) {
			return dynamotest.Throttle
		}
		return dynamotest.None
	})
	set := func(table string) { throttle.Store(&table) }
	ada := c.user("ada")
	room := c.talk(1)
	c.settle()
	id, err := events.NewClock(time.Now).Mint("ada")
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
	batch := c.records.all(0)
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

// An answer that is lost on its way is not an event that is lost, nor one that is there twice.
func TestLostAnswer(t *testing.T) {
	var lose atomic.Bool
	c := newCloud(t, func(call dynamotest.Call) dynamotest.Fault {
		if call.Operation == "PutItem" && lose.Swap(false) {
			return dynamotest.Lose
		}
		return dynamotest.None
	})
	room := c.talk(0)
	lose.Store(true)
	c.user("ada").post(room, "once")
	c.settle()
	if got := texts(c.user("ada").messages(room + "/messages")); got != "once" {
		t.Errorf("the room is %q", got)
	}
}

// A user who sends too much is told when to come again, by the process that counts it.
func TestRateLimited(t *testing.T) {
	c := newCloud(t, nil)
	c.functions[config.Command].env = append(c.functions[config.Command].env, "PARLEY_RATE=1")
	ada := c.user("ada")
	var refused reply
	for sent := 0; refused.status != http.StatusTooManyRequests && sent < 100; sent++ {
		refused = ada.do("PUT", "/v1/users/ada", `{"name":"Ada"}`)
	}
	if refused.text("code") != "rate_limited" || refused.headers["Retry-After"] == "" {
		t.Errorf("%d %v %s", refused.status, refused.headers, refused.body)
	}
}

// A table that does not answer costs the client her answer, but not the process: it says so
// before Lambda would kill it.
func TestTableHangs(t *testing.T) {
	var hang atomic.Bool
	released := make(chan struct{})
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if hang.Load() {
			<-released
		}
		return dynamotest.None
	})
	t.Cleanup(func() { close(released) })
	room := c.talk(1)
	hang.Store(true)
	ada := c.user("ada")
	for _, name := range []string{config.Command, config.Query, config.Stream} {
		c.functions[name].timeout = 3 * time.Second
	}
	for _, r := range []reply{ada.do("POST", room+"/messages", `{"text":"lost"}`), ada.get(room + "/messages")} {
		if r.status != http.StatusServiceUnavailable || r.headers["Retry-After"] == "" {
			t.Errorf("%s: %d %s", r.asked, r.status, r.body)
		}
	}
	if batch := c.records.all(0); len(c.handle(batch)) != len(batch) {
		t.Error("the stream function has handled something")
	}
	for name, starts := range map[string]int{config.Command: 1, config.Query: 1, config.Stream: 1} {
		if got := c.functions[name].starts; got != starts {
			t.Errorf("%s was started %d times", name, got)
		}
	}
}
