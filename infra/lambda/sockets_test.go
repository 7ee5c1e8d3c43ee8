package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"parley/events/dynamolocal/dynamotest"
	"parley/functions/live"
	"parley/functions/live/dynamoconns"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// meeting returns the path of a room of ada with other members.
func (c *cloud) meeting(others ...user) string {
	c.t.Helper()
	room := c.roomWithPosts(0)
	for _, u := range others {
		u.must("PUT", room+"/members/"+u.name, "{}")
	}
	c.settle()
	return room
}

// TestSocketConversation runs through the real binary: frames of real sockets in; answers of the live
// function and events from the stream function out.
func TestSocketConversation(t *testing.T) {
	c := newCloud(t, nil)
	ada, bob := c.user("ada"), c.user("bob")
	path := c.meeting(bob)
	room := strings.TrimPrefix(path, "/v1/rooms/")
	a, b := ada.socket(), bob.socket()
	start := a.ask(fields{"action": "subscribe", "rooms": []string{room}})
	if start["type"] != "subscribed" || start["positions"].(fields)[room] != 2.0 {
		t.Fatalf("ada is answered %v", start)
	}
	if f := b.ask(fields{"action": "subscribe"}); f["type"] != "subscribed" || fmt.Sprint(f["rooms"]) != "["+room+"]" {
		t.Fatalf("bob is answered %v", f)
	}

	// One sends by socket and the other by HTTP, and both receive both.
	sent := a.ask(fields{"action": "send", "room": room, "text": "by socket " + secret})
	if m, _ := sent["message"].(fields); sent["type"] != "sent" || m["author"] != "ada" || sent["repeat"] != false {
		t.Fatalf("ada is answered %v", sent)
	}
	bob.post(path, "by HTTP")
	c.settle()
	for _, u := range []*client{a, b} {
		first, second := u.awaitText("by socket "+secret), u.awaitText("by HTTP")
		if first["position"] != 3.0 || second["position"] != 4.0 || first["room"] != room || second["cursor"] == nil {
			t.Errorf("%s receives %v and %v", u.name, first, second)
		}
	}
	pong := a.ask(fields{"action": "ping"})
	if pong["type"] != "pong" || pong["positions"].(fields)[room] != 4.0 {
		t.Errorf("a pong is %v", pong)
	}

	// A client that was away catches up; typing is delivered.
	late := ada.socket()
	if f := late.ask(fields{"action": "catchup", "cursor": start["cursor"]}); f["type"] != "caught_up" || f["more"] != false || f["reset"] != false {
		t.Errorf("a catchup ends with %v", f)
	}
	if got := late.received(); got != "by socket "+secret+" by HTTP" {
		t.Errorf("a catch-up delivers %q", got)
	}
	b.send(`{"action":"typing","room":"` + room + `"}`)
	a.await("bob's typing", func(f fields) bool { return f["type"] == "typing" && f["user"] == "bob" })

	// A banned user gets the ban, and nothing after it.
	ada.must("PUT", path+"/bans/bob", "{}")
	c.settle()
	b.await("his removal", func(f fields) bool { return f["type"] == "removed" && f["room"] == room })
	ada.post(path, "among us")
	c.settle()
	a.awaitText("among us")
	if pong := b.ask(fields{"action": "ping"}); len(pong["positions"].(fields)) != 0 || strings.Contains(b.received(), "among us") {
		t.Errorf("the banned user gets %q, and the positions %v", b.received(), pong["positions"])
	}
	if f := b.ask(fields{"action": "subscribe", "rooms": []string{room}}); f["type"] != "error" || f["problem"].(fields)["status"] != 403.0 {
		t.Errorf("the banned user is answered %v", f)
	}
	// Two messages to two, a ban to two with the removal, and one more to one.
	if n := c.counted(config.Stream, config.Pushed); n != 8 {
		t.Errorf("%d frames were counted as pushed", n)
	}
	if n := c.counted(config.Live, config.Accepted); n > 1 {
		t.Errorf("%d messages were counted as sent by socket", n) // the other process may have done it
	}
}

// connections returns the connections of the region.
func (c *cloud) connections() *dynamoconns.Connections {
	return dynamoconns.New(c.aws, connectionsTable)
}

// TestSocketGone: the next delivery detects a socket that is gone, and its connection is removed; so is
// that of a client that disconnects.
func TestSocketGone(t *testing.T) {
	c := newCloud(t, nil)
	ada, bob := c.user("ada"), c.user("bob")
	path := c.meeting(bob)
	room := strings.TrimPrefix(path, "/v1/rooms/")
	a, lost, left := ada.socket(), bob.socket(), bob.socket()
	for _, u := range []*client{a, lost, left} {
		if f := u.ask(fields{"action": "subscribe", "rooms": []string{room}}); f["type"] != "subscribed" {
			t.Fatalf("%s is answered %v", u.name, f)
		}
	}
	c.gateway.Lose(lost.conn)
	if err := left.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	ada.post(path, "who is there?")
	c.settle()
	a.awaitText("who is there?")
	eventually(t, "both connections are removed", func() bool {
		listeners, err := c.connections().Listeners(t.Context(), room)
		if err != nil {
			t.Fatal(err)
		}
		return len(listeners) == 1 && listeners[0].Conn == a.conn
	})
	for _, conn := range []string{lost.conn, left.conn} {
		if _, err := c.connections().Get(t.Context(), conn); err != live.ErrGone { //nolint:errorlint // it is returned as it is
			t.Errorf("a connection that is gone is there: %v", err)
		}
	}
	if n := c.counted(config.Stream, config.Gone); n < 1 || n > 2 {
		t.Errorf("%d frames went to sockets that are gone", n)
	}
}

// TestSocketRefusals covers refused handshakes and frames.
func TestSocketRefusals(t *testing.T) {
	c := newCloud(t, nil)
	ada := c.user("ada")
	for _, header := range []http.Header{{"Authorization": {"Bearer x.y.z"}}, {"Authorization": {"Bearer " + awstest.NewIssuer(t).Token("eve")}}} {
		if _, response, err := c.dial("eve", header); err == nil || response == nil || response.StatusCode != http.StatusUnauthorized {
			t.Errorf("with a bad token: %v", err)
		}
	}
	plain, _, err := c.dial("ada", nil) // the token comes in the first frame, and no subprotocol is offered
	if err != nil {
		t.Fatal(err)
	}
	plain.awaitHello(fields{"action": "auth", "token": ada.token})
	browser, response, err := c.dial("ada", nil, live.Protocol, "bearer."+ada.token)
	if err != nil || response.Header.Get("Sec-WebSocket-Protocol") != live.Protocol {
		t.Fatalf("%v, %v", response, err)
	}
	browser.awaitHello(fields{"action": "auth"})
	for text, want := range map[string]string{
		`{"action":"ring","ref":1}`:                  "action",
		`{"action":"subscribe","rooms":"x","ref":2}`: "rooms",
		`{"action":"catchup","cursor":"x","ref":3}`:  "cursor",
	} {
		browser.send(text)
		browser.await("a problem with "+want, func(f fields) bool { return f["type"] == "error" && strings.Contains(fmt.Sprint(f["problem"]), want) })
	}
	large := `{"action":"ping","ref":"` + strings.Repeat("x", 40<<10) + `"}`
	for name, tt := range map[string]struct {
		token bool
		send  func(*client)
		code  live.Code // "" if the gateway closes it
	}{
		"no JSON":                  {true, func(u *client) { u.send("hello") }, live.CodeBadFrame},
		"half of it":               {true, func(u *client) { u.send(`{"action":"ping"`) }, live.CodeBadFrame},
		"nothing":                  {true, func(u *client) { u.send("") }, live.CodeBadFrame},
		"no token":                 {false, func(u *client) { u.send(`{"action":"ping"}`) }, live.CodeUnauthorized},
		"a bad token":              {false, func(u *client) { u.send(`{"action":"auth","token":"x"}`) }, live.CodeUnauthorized},
		"a large frame":            {true, func(u *client) { u.send(large) }, ""},
		"a large one of fragments": {true, func(u *client) { c.gateway.Message(u.conn, []byte(large)) }, live.CodeFrameTooLarge},
		"binary":                   {true, func(u *client) { _ = u.ws.Write(t.Context(), websocket.MessageBinary, []byte("{}")) }, ""},
	} {
		header := http.Header{}
		if tt.token {
			header.Set("Authorization", "Bearer "+ada.token)
		}
		u, _, err := c.dial("ada", header)
		if err != nil {
			t.Fatal(err)
		}
		tt.send(u)
		if code := u.awaitClosed(); code != string(tt.code) {
			t.Errorf("%s: it is closed with %q, want %q", name, code, tt.code)
		}
		eventually(t, name+": the connection is removed", func() bool {
			_, err := c.connections().Get(t.Context(), u.conn)
			return err == live.ErrGone //nolint:errorlint // it is returned as it is
		})
	}
}

// callCounts counts the calls of functions to DynamoDB.
type callCounts struct {
	mu     sync.Mutex
	made   map[string]int // of the table of connections
	others int
}

func (c *callCounts) note(call dynamotest.Call) dynamotest.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Contains(string(call.Body), `"`+connectionsTable+`"`) {
		c.made[call.Operation]++
	} else {
		c.others++
	}
	return dynamotest.None
}

// take returns the calls since it was last called.
func (c *callCounts) take() (connections string, others int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.made)) {
		all = append(all, fmt.Sprint(name, " ", c.made[name]))
	}
	c.made, others, c.others = map[string]int{}, c.others, 0
	return strings.Join(all, ", "), others
}

// TestSocketCalls counts the calls of sockets to DynamoDB, on which COSTS.md is based.
func TestSocketCalls(t *testing.T) {
	made := &callCounts{made: map[string]int{}}
	c := newCloud(t, made.note)
	ada, bob := c.user("ada"), c.user("bob")
	path := c.meeting(bob)
	room := strings.TrimPrefix(path, "/v1/rooms/")
	var a *client
	send := func() { a.ask(fields{"action": "send", "room": room, "text": "x"}) }
	settled := func(do func()) func() {
		return func() {
			do()
			made.take()
			c.settle()
		}
	}
	settled(func() { bob.post(path, "first") })() // so that caches are filled
	for _, tt := range []struct {
		what        string
		do          func()
		connections string // what is asked of the table of connections
		others      int    // how many other calls there may be
	}{
		{"push to nobody", settled(func() { bob.post(path, "x") }), "Query 1", 4},
		{"connect", func() { a = ada.socket() }, "GetItem 1, PutItem 2, Query 1", 0},
		{"subscribe", func() { a.ask(fields{"action": "subscribe"}) }, "GetItem 3, TransactWriteItems 2", 6}, // the user's rooms, three heads, the heartbeats, the generations
		{"ping", func() { a.ask(fields{"action": "ping"}) }, "GetItem 2", 5},
		{"send for the first time", send, "GetItem 1", 7}, // it creates the user's key
		{"send", send, "GetItem 1", 4},                    // another process reads the key
		{"push", settled(send), "Query 1", 10},            // the first reads the key, and the heads of feeds
		{"push again", settled(send), "Query 1", 8},
		{"disconnect", func() {
			_ = a.ws.CloseNow()
			eventually(t, "the connection is removed", func() bool {
				rooms, err := c.connections().Rooms(t.Context(), a.conn)
				return err == nil && len(rooms) == 0
			})
		}, "BatchWriteItem 1, DeleteItem 2, GetItem 1", 0},
	} {
		made.take()
		tt.do()
		got, others := made.take()
		if got != tt.connections || others > tt.others {
			t.Errorf("%s makes the calls %s to the connections, and %d others; want %s, and at most %d", tt.what, got, others, tt.connections, tt.others)
		}
	}
}
