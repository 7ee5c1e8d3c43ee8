package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/events/dynamolocal/dynamotest"
)

// asked counts what the functions ask of DynamoDB.
type asked struct {
	mu     sync.Mutex
	made   map[string]int // of the table of connections
	others int
}

func (c *asked) note(call dynamotest.Call) dynamotest.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Contains(string(call.Body), `"`+connectionsTable+`"`) {
		c.made[call.Operation]++
	} else {
		c.others++
	}
	return dynamotest.None
}

// take returns what was asked since it was last called.
func (c *asked) take() (connections string, others int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.made)) {
		all = append(all, fmt.Sprint(name, " ", c.made[name]))
	}
	c.made, others, c.others = map[string]int{}, c.others, 0
	return strings.Join(all, ", "), others
}

// TestSocketCalls holds what sockets ask of DynamoDB against what README.md says they cost.
func TestSocketCalls(t *testing.T) {
	made := &asked{made: map[string]int{}}
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
	settled(func() { bob.post(path, "first") })() // so that what is remembered is
	for _, tt := range []struct {
		what        string
		do          func()
		connections string // what is asked of the table of connections
		others      int    // how many other calls there may be
	}{
		{"push to nobody", settled(func() { bob.post(path, "x") }), "Query 1", 4},
		{"connect", func() { a = ada.socket() }, "GetItem 1, PutItem 2", 0},
		{"subscribe", func() { a.ask(fields{"action": "subscribe"}) }, "GetItem 3, TransactWriteItems 2", 5},
		{"ping", func() { a.ask(fields{"action": "ping"}) }, "GetItem 2", 4},
		{"send for the first time", send, "GetItem 1", 7}, // she gets a key
		{"send", send, "GetItem 1", 4},                    // another process gets to know it
		{"push", settled(send), "Query 1", 10},            // the first looks up her key, and where clients may come back to
		{"push again", settled(send), "Query 1", 8},
		{"disconnect", func() {
			_ = a.ws.CloseNow()
			eventually(t, "she is forgotten", func() bool {
				rooms, err := c.connections().Rooms(t.Context(), a.conn)
				return err == nil && len(rooms) == 0
			})
		}, "BatchWriteItem 1, DeleteItem 2, GetItem 1", 0},
	} {
		made.take()
		tt.do()
		got, others := made.take()
		if got != tt.connections || others > tt.others {
			t.Errorf("%s asks %s of the connections, and %d of others; want %s, and at most %d", tt.what, got, others, tt.connections, tt.others)
		}
	}
}
