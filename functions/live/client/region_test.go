package client

import (
	"context"
	"encoding/json"
	"time"

	"parley/events"
)

var (
	modelRooms = []string{"01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"}
	modelClock = events.NewClock(time.Now)
)

// modelRegion is a region's journal.
type modelRegion struct {
	name    string
	journal []wireHappened
	ids     []events.ID
	tops    map[string]uint64
	pushed  int                  // entries that were pushed
	heard   map[events.ID]uint64 // the positions of what has arrived
}

func (r *modelRegion) take(e events.Event) {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	stream := string(e.Stream)
	r.tops[stream]++
	r.heard[e.ID] = r.tops[stream]
	r.ids = append(r.ids, e.ID)
	r.journal = append(r.journal, wireHappened{Room: e.Stream.Name(), Stream: stream, Position: r.tops[stream], Event: text})
}

func (r *modelRegion) positions() map[string]uint64 {
	p := map[string]uint64{}
	for stream, top := range r.tops {
		p[events.Stream(stream).Name()] = top
	}
	return p
}

// posted makes an event.
func posted(t interface{ Fatal(...any) }, room string) events.Event {
	id, err := modelClock.Mint("bob")
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.New(id, events.RoomStream(room), "bob", "one", events.MessagePosted{Text: events.Plain("hello")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// testClient makes a client that reaches nobody.
func testClient(t interface{ Fatal(...any) }) *Client {
	c, err := New(Options{
		Endpoints: []string{"http://unused"}, User: "ada",
		Token: func(context.Context) (string, error) { return "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
