package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/infra/lambda/config"
)

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// TestSocketKilled kills the live function at every call to DynamoDB that it makes for a frame that
// sends, before the call happens and after. The client, who hears only that something went wrong,
// sends again under the same id: each message is there once.
func TestSocketKilled(t *testing.T) {
	var live atomic.Pointer[host]
	var left atomic.Int64 // calls until the kill; 0: none
	var happens atomic.Bool
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if left.Load() == 0 || left.Add(-1) != 0 {
			return dynamotest.None
		}
		live.Load().kill()
		if happens.Load() {
			return dynamotest.None
		}
		return dynamotest.Drop
	})
	c.gateway.live = c.gateway.live[:1] // the one that is killed
	live.Store(c.functions[config.Live])
	ada := c.user("ada")
	room := strings.TrimPrefix(c.meeting(), "/v1/rooms/")
	u := ada.socket()
	if f := u.ask(fields{"action": "subscribe"}); f["type"] != "subscribed" {
		t.Fatalf("she is answered %v", f)
	}
	clock := events.NewClock(time.Now)
	kills, want := 0, []string{}
	for round := 0; ; round++ {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("message-", round)
		want = append(want, text)
		happens.Store(round%2 == 1)
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
			t.Fatalf("round %d: after the kill she is answered %v", round, again)
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

// count is how many frames have come with a message of the gateway's own.
func (u *client) count(message string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.got {
		if f["message"] == message {
			n++
		}
	}
	return n
}
