package client

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
)

// TestSessions holds sessions with regions that lose, repeat, delay and reorder frames, that are cut
// off in the middle and hear of events in another order: each event is told once, those of a room
// in the order of their arrival, and a cursor is never beyond what was told.
func TestSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.connect()
		actions := []func(){
			w.happen, w.arrive, w.arrive, w.answer, w.ping, w.deliver, w.deliver, w.drain, w.swap,
			func() { w.push(rapid.SampledFrom(deliveries).Draw(t, "delivery")) },
			func() { w.push("come") },
			func() {
				if rapid.IntRange(0, 19).Draw(t, "luck") == 0 {
					w.connect()
				}
			},
		}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			actions[rapid.IntRange(0, len(actions)-1).Draw(t, "action")]()
			w.check()
		}
		w.settle()
	})
}

// TestCalm asks for nothing more where nothing is wrong.
func TestCalm(t *testing.T) {
	asked := 0
	c := testClient(t)
	var told []Update
	r := &run{Client: c, ctx: t.Context(), handle: func(_ context.Context, u Update) error {
		told = append(told, u)
		return nil
	}}
	region := &modelRegion{name: "here", tops: map[string]uint64{}, heard: map[events.ID]uint64{}}
	for range 5 {
		region.take(posted(t, modelRooms[0]))
	}
	s := &session{
		run: r, at: r.visit(nil, "here"), seq: newSequence(), tops: map[string]uint64{}, pingSoon: func() { t.Error("something seems to be missing") },
		send: func(context.Context, map[string]any) error { asked++; return nil },
	}
	take := func(f frame) {
		t.Helper()
		if err := s.take(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	take(frame{Type: "subscribed", Positions: region.positions()})
	take(frame{Type: "caught_up", Ref: s.ref, Cursor: "a"})
	for range 3 {
		region.take(posted(t, modelRooms[0]))
		take(frame{Type: "event", Cursor: "x", wireHappened: region.journal[len(region.journal)-1]})
		take(frame{Type: "pong", Cursor: fmt.Sprint("pong ", len(region.journal)), Positions: region.positions()})
	}
	if asked != 1 {
		t.Errorf("it caught up %d times", asked)
	}
	if got := c.Cursor(); got != "pong 7" { // the last but one: that is safe now
		t.Errorf("the cursor is %s", got)
	}
	want := "[{catching up here  <nil>} {live here socket <nil>}"
	if got := fmt.Sprint(told[:2]); !strings.HasPrefix(got, want) || len(told) != 5 {
		t.Errorf("it told %s and %d more", got, len(told)-2)
	}
}

// TestHeld bounds what waits behind a gap; what does not fit is caught up on.
func TestHeld(t *testing.T) {
	s := newSequence()
	s.last["room/a"] = 1
	big := events.Event{Data: make([]byte, 100_000)}
	for i := range 20 {
		if got := s.live(happened{stream: "room/a", position: uint64(3 + i), event: big}); len(got) != 0 {
			t.Fatal("it hands on what stands behind a gap")
		}
	}
	if s.size > maxHeld || !s.lost {
		t.Errorf("it holds %d bytes, lost %t", s.size, s.lost)
	}
	s.asking(nil)
	for i := range 21 {
		s.told(happened{stream: "room/a", position: uint64(2 + i)})
	}
	if rest := s.caughtUp(); len(rest) != 0 || s.gap() || s.size != 0 {
		t.Errorf("behind the catch-up %d are left, gap %t, size %d", len(rest), s.gap(), s.size)
	}
}
