package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"parley/events/dynamolocal/dynamotest"
	"parley/infra/lambda/config"
)

// TestKilled kills the stream function at every call it makes while it handles a batch, before
// the call happens and after, and hands the batch to the next process. In the end all is as if
// nothing had happened, but that an event may be on the bus more than once.
func TestKilled(t *testing.T) {
	var stream atomic.Pointer[host]
	var left atomic.Int64 // calls until the kill; 0: none
	dying := func() bool {
		if left.Load() == 0 || left.Add(-1) != 0 {
			return false
		}
		stream.Load().kill()
		return true
	}
	var happens atomic.Bool // what it was killed over
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if dying() && !happens.Load() {
			return dynamotest.Drop
		}
		return dynamotest.None
	})
	c.bus.set(nil, func(int) bool { return dying() && !happens.Load() })
	stream.Store(c.functions[config.Stream])
	ada := c.user("ada")
	room := c.talk(0)
	want, posts := []string{}, 0
	kills := 0
	for round := 0; ; round++ {
		for range 12 { // two calls to the bus
			text := fmt.Sprint("message-", posts)
			ada.post(room, text)
			want = append(want, text)
			posts++
		}
		batch := c.records.all(0)
		happens.Store(round%2 == 1)
		left.Store(int64(round/2 + 1))
		text, err := c.functions[config.Stream].invoke(payloadOf(t, batch))
		if left.Swap(0) > 0 { // it makes fewer calls
			if failed := failedOf(t, text, batch); err != nil || len(failed) > 0 {
				t.Fatalf("%d records failed, error %v", len(failed), err)
			}
			break
		}
		kills++
		if err != errExited { //nolint:errorlint // it is returned as it is
			t.Fatalf("killed in round %d, it answers %s, %v", round, text, err)
		}
		if failed := c.handle(batch); len(failed) > 0 {
			t.Fatalf("round %d: %d records failed after the kill", round, len(failed))
		}
	}
	if starts := c.functions[config.Stream].starts; kills < 8 || starts != kills+1 {
		t.Errorf("after %d kills it was started %d times", kills, starts)
	}
	t.Logf("killed %d times", kills)
	if got := texts(ada.messages(room + "/messages?limit=200")); !strings.HasSuffix(strings.Join(want, " | "), got) || got == "" {
		t.Errorf("the room is %s", got)
	}
	c.checkFeed(room, posts+1)
	if on := len(c.bus.counts()); on != posts+1 {
		t.Errorf("%d of %d events are on the bus", on, posts+1)
	}
	if parked := c.parked(); len(parked) != 0 {
		t.Errorf("parked are %v", parked)
	}
}
