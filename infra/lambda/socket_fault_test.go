package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/events/dynamolocal/dynamotest"
	"parley/functions/live"
	"parley/infra/lambda/config"
)

// TestPushFails lets everything fail that pushing needs: what happens is projected and published
// all the same, within its time, and who was not told is closed.
func TestPushFails(t *testing.T) {
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

	c.gateway.setRefuse(func(string) int { return http.StatusInternalServerError })
	handled("the-gateway-fails")
	c.gateway.setRefuse(nil)
	if code := u.awaitClosed(); code != "" {
		t.Errorf("the gateway that fails has told her %q", code)
	}

	u = join()
	hang := make(chan struct{})
	c.gateway.setRefuse(func(string) int { <-hang; return 0 })
	handled("the-gateway-hangs")
	close(hang)
	c.gateway.setRefuse(nil)
	u.send(`{"action":"ping"}`) // she could not be told, nor closed, but is forgotten
	if code := u.awaitClosed(); code != string(live.CodeSlow) {
		t.Errorf("after the gateway hung she is closed with %q", code)
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
