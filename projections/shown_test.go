package projections_test

import (
	"math/rand/v2"
	"testing"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// The messages of an answer may be neighbours in their rooms or far apart, and not in the views yet: the text
// of each is shown exactly if it is not deleted.
func TestRedactHidesTheDeleted(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	rooms := []events.Stream{events.RoomStream(plain), events.RoomStream(makeID(2, "ada", 1).String()), events.RoomStream(makeID(3, "ada", 1).String())}
	var posted []events.Event
	var arrived []projections.Arrival
	deleted := map[events.ID]bool{}
	make := func(ms uint64, i int, payload events.Payload) events.Event {
		e, err := events.New(makeID(ms, "ada", uint32(i)), rooms[i%len(rooms)], "ada", "eu", payload)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for i := range 300 {
		e := make(uint64(1000+i*i), i, events.MessagePosted{Text: events.Plain("hello")})
		posted = append(posted, e)
		if i%7 == 0 {
			continue // it has not arrived
		}
		arrived = append(arrived, projections.Arrival{Event: e})
		if i%5 == 0 {
			deleted[e.ID] = true
			arrived = append(arrived, projections.Arrival{Event: make(200_000, i, events.MessageDeleted{Message: e.ID})})
		}
	}
	if failures, err := projections.NewEngine(logOf(t), views, projections.Timeline).Apply(t.Context(), arrived); err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	for _, n := range []int{1, 3, 40, 300} {
		var some []events.Event
		for _, i := range rand.Perm(len(posted))[:n] {
			some = append(some, posted[i], posted[i])
		}
		shown, err := projections.Redact(t.Context(), views, some...)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range shown {
			text := e.Payload.(events.MessagePosted).Text
			if hidden := text == events.Deleted(); e.ID != some[i].ID || hidden != deleted[e.ID] {
				t.Fatalf("of %d, message %d is hidden: %v, deleted: %v", n, i, hidden, deleted[some[i].ID])
			}
		}
	}
}
