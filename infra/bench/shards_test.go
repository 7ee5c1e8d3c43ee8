package main

import (
	"testing"

	"parley/events/dynamolocal/dynamotest"
)

// TestUnitsOfColdRooms fails if a message costs more in a room that no process has in a cache: the stream
// function may read the head of its feed, and nothing that depends on how many messages it had.
func TestUnitsOfColdRooms(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it counts, for some seconds")
	}
	const most = 1 // read unit a message; the head is read eventually consistent, for a half
	for _, h := range []history{{100, 2}, {10, 100}} {
		c, err := h.measure(t.Context(), dynamotest.Open(t))
		if err != nil {
			t.Fatal(err)
		}
		if c.read > most || c.views > mostFull {
			t.Errorf("in %d rooms with %d messages each, one more costs %.2f read units and %.2f write units in the views", h.rooms, h.messages, c.read, c.views)
		}
	}
}
