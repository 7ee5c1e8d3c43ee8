package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/functions/wire"
)

// TestSessions holds sessions with regions that lose, repeat, delay and reorder frames, that are cut
// off in the middle and get events in another order: each event is delivered once, those of a room
// in the order of their arrival, and a cursor is never beyond what was delivered.
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
		w.deliverEverything()
	})
}

// TestCalm asks for nothing more where nothing is wrong.
func TestCalm(t *testing.T) {
	asked := 0
	c := testClient(t)
	var updates []Update
	r := &run{Client: c, ctx: t.Context(), handle: func(_ context.Context, u Update) error {
		updates = append(updates, u)
		return nil
	}}
	region := &modelRegion{name: "here", tops: map[events.Stream]uint64{}, heard: map[events.ID]uint64{}}
	for range 5 {
		region.take(posted(t, modelRooms[0]))
	}
	s := &session{
		run: r, at: r.visit(nil, "here"), seq: newSequence(), tops: map[events.Stream]uint64{}, pingSoon: func() { t.Error("something seems to be missing") },
		send: func(context.Context, any) error { asked++; return nil },
	}
	take := func(f wire.Frame) {
		t.Helper()
		if err := s.handleFrame(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	take(wire.Frame{Type: "subscribed", Positions: region.positions()})
	take(wire.Frame{Type: "caught_up", Ref: json.RawMessage(strconv.Itoa(s.ref)), Cursor: "a"})
	for range 3 {
		region.take(posted(t, modelRooms[0]))
		take(eventFrame(region.journal[len(region.journal)-1], "x"))
		take(wire.Frame{Type: "pong", Cursor: fmt.Sprint("pong ", len(region.journal)), Positions: region.positions()})
	}
	if asked != 1 {
		t.Errorf("it caught up %d times", asked)
	}
	if got := c.Cursor(); got != "pong 7" { // the last but one: that is safe now
		t.Errorf("the cursor is %s", got)
	}
	// A pong of some rooms only says nothing of the others.
	take(wire.Frame{Type: "pong", Incomplete: true, Positions: region.positions()})
	take(wire.Frame{Type: "pong", Incomplete: true, Positions: region.positions()}) // while the first is not answered
	take(wire.Frame{Type: "caught_up", Ref: json.RawMessage(strconv.Itoa(s.ref)), Cursor: "b"})
	if got := c.Cursor(); asked != 2 || got != "b" {
		t.Errorf("it caught up %d times, to %s", asked, got)
	}
	want := "[{catching up here  <nil>} {live here socket <nil>}"
	if got := fmt.Sprint(updates[:2]); !strings.HasPrefix(got, want) || len(updates) != 5 {
		t.Errorf("the updates are %s and %d more", got, len(updates)-2)
	}
}

// TestWaitsForKeys: while a catch-up leaves out what waits for its key, positions do not show that it is missing. No
// cursor of a pong is kept, and each pong but the first leads to another catch-up.
func TestWaitsForKeys(t *testing.T) {
	asked := 0
	c := testClient(t)
	r := &run{Client: c, ctx: t.Context(), handle: func(context.Context, Update) error { return nil }}
	region := &modelRegion{name: "here", tops: map[events.Stream]uint64{}, heard: map[events.ID]uint64{}}
	region.take(posted(t, modelRooms[0]))
	s := &session{
		run: r, at: r.visit(nil, "here"), seq: newSequence(), tops: map[events.Stream]uint64{}, pingSoon: func() {},
		send: func(context.Context, any) error { asked++; return nil },
	}
	take := func(f wire.Frame) {
		t.Helper()
		if err := s.handleFrame(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	caughtUp := func(cursor string, held bool) {
		take(wire.Frame{Type: "caught_up", Ref: json.RawMessage(strconv.Itoa(s.ref)), Cursor: cursor, Held: held})
	}
	pongs := func(n int) {
		for i := range n {
			take(wire.Frame{Type: "pong", Cursor: fmt.Sprint("pong ", i), Positions: region.positions()})
		}
	}
	take(wire.Frame{Type: "subscribed", Positions: region.positions()})
	for round := range 3 {
		cursor := fmt.Sprint("before the held ", round)
		caughtUp(cursor, true)
		if pongs(2); c.Cursor() != cursor || asked != round+2 {
			t.Fatalf("round %d: the cursor is %q, after %d catch-ups", round, c.Cursor(), asked)
		}
	}
	caughtUp("behind", false)
	if pongs(2); c.Cursor() != "pong 0" || asked != 4 {
		t.Errorf("with the key: the cursor is %q, after %d catch-ups", c.Cursor(), asked)
	}
}

// TestHeld bounds what waits behind a gap; what does not fit is caught up on.
func TestHeld(t *testing.T) {
	s := newSequence()
	s.last["room/a"] = 1
	big := events.Event{Data: make([]byte, 100_000)}
	for i := range 20 {
		if got := s.addLive(happened{stream: "room/a", position: uint64(3 + i), event: big}); len(got) != 0 {
			t.Fatal("it hands on what stands behind a gap")
		}
	}
	if s.size > maxHeld || !s.lost {
		t.Errorf("it holds %d bytes, lost %t", s.size, s.lost)
	}
	s.beginCatchUp(nil)
	for i := range 21 {
		s.addCaughtUp(happened{stream: "room/a", position: uint64(2 + i)})
	}
	if rest := s.endCatchUp(); len(rest) != 0 || s.gap() || s.size != 0 {
		t.Errorf("behind the catch-up %d are left, gap %t, size %d", len(rest), s.gap(), s.size)
	}
}

// deliveries are what can become of a frame; most come as they should.
var deliveries = []string{"come", "come", "come", "come", "lost", "twice"}

// world is two regions and one client.
type world struct {
	t         *rapid.T
	all       []events.Event
	regions   [2]*modelRegion
	here      *modelRegion
	run       *run
	session   *session
	queue     []wire.Frame // on their way to the client
	asked     []any        // on their way to the region
	delivered map[events.ID]int
	last      map[string]uint64 // position delivered last in this session, by room
	nonce     int
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, delivered: map[events.ID]int{}}
	for i := range w.regions {
		w.regions[i] = &modelRegion{name: fmt.Sprint("region-", i), tops: map[events.Stream]uint64{}, heard: map[events.ID]uint64{}}
	}
	c := testClient(t)
	c.setCursor("0/0/first")
	w.run = &run{Client: c, ctx: context.Background(), handle: func(_ context.Context, u Update) error {
		if e, ok := u.(Event); ok {
			w.delivered[e.ID]++
			w.order(e)
		}
		return nil
	}}
	return w
}

// order holds that the events of a room are delivered in the order of their arrival.
func (w *world) order(e Event) {
	position := w.here.heard[e.ID]
	if position <= w.last[e.Room] {
		w.t.Fatalf("position %d was delivered after %d", position, w.last[e.Room])
	}
	w.last[e.Room] = position
}

// happen makes an event somewhere.
func (w *world) happen() {
	w.all = append(w.all, posted(w.t, rapid.SampledFrom(modelRooms).Draw(w.t, "room")))
}

// arrive makes any event arrive in any region.
func (w *world) arrive() {
	r := rapid.SampledFrom(w.regions[:]).Draw(w.t, "region")
	var waiting []events.Event
	for _, e := range w.all {
		if r.heard[e.ID] == 0 {
			waiting = append(waiting, e)
		}
	}
	if len(waiting) > 0 {
		r.take(waiting[rapid.IntRange(0, min(len(waiting)-1, 2)).Draw(w.t, "which")])
	}
}

// cursor is a new cursor for a place in the region's journal.
func (w *world) cursor(r *modelRegion, place int) string {
	w.nonce++
	which := 0
	if r == w.regions[1] {
		which = 1
	}
	return fmt.Sprintf("%d/%d/%d", which, place, w.nonce)
}

// place reads a cursor: where to go on in a region. In the other one that is before the first event
// that the one that gave it had not heard of.
func (w *world) place(r *modelRegion, cursor string) int {
	parts := strings.Split(cursor, "/")
	which, _ := strconv.Atoi(parts[0])
	place, _ := strconv.Atoi(parts[1])
	from := w.regions[which]
	if from == r {
		return place
	}
	known := map[events.ID]bool{}
	for _, id := range from.ids[:place] {
		known[id] = true
	}
	for i, id := range r.ids {
		if !known[id] {
			return i
		}
	}
	return len(r.ids)
}

// connect ends the session, if there is one, and begins another in any region.
func (w *world) connect() {
	w.here = rapid.SampledFrom(w.regions[:]).Draw(w.t, "region")
	w.queue, w.asked, w.last = nil, nil, map[string]uint64{}
	w.here.pushed = len(w.here.journal)
	w.session = &session{
		run: w.run, at: w.run.visit(nil, w.here.name), seq: newSequence(), tops: map[events.Stream]uint64{}, pingSoon: func() {},
		send: func(_ context.Context, what any) error {
			w.asked = append(w.asked, what)
			return nil
		},
	}
	if err := w.session.subscribe(w.run.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// push sends the next entry of the journal, if the client listens.
func (w *world) push(delivery string) {
	if w.here.pushed == len(w.here.journal) {
		return
	}
	f := eventFrame(w.here.journal[w.here.pushed], w.cursor(w.here, 0))
	if w.here.pushed++; w.subscribing() {
		return // it does not listen yet
	}
	switch delivery {
	case "twice":
		w.queue = append(w.queue, f, f)
	case "come":
		w.queue = append(w.queue, f)
	}
}

// answer answers what the client has asked.
func (w *world) answer() {
	if len(w.asked) == 0 {
		return
	}
	r := w.here
	ask := w.asked[0]
	w.asked = w.asked[1:]
	switch ask := ask.(type) {
	case wire.Subscribe:
		w.queue = append(w.queue, wire.Frame{Type: "subscribed", Ref: ask.Ref, Positions: r.positions(), Cursor: w.cursor(r, len(r.journal))})
	case wire.CatchUp:
		from := w.place(r, ask.Cursor)
		to := min(len(r.journal), from+rapid.IntRange(1, 5).Draw(w.t, "page"))
		for _, h := range r.journal[from:to] {
			w.queue = append(w.queue, eventFrame(h, ask.Cursor))
		}
		w.queue = append(w.queue, wire.Frame{Type: "caught_up", Ref: ask.Ref, Cursor: w.cursor(r, to), More: to < len(r.journal)})
	}
}

// subscribing reports whether the client has asked to subscribe, and is not answered yet.
func (w *world) subscribing() bool {
	if len(w.asked) == 0 {
		return false
	}
	_, ok := w.asked[0].(wire.Subscribe)
	return ok
}

func (w *world) ping() {
	if w.subscribing() {
		return
	}
	w.queue = append(w.queue, wire.Frame{Type: "pong", Cursor: w.cursor(w.here, len(w.here.journal)), Positions: w.here.positions()})
}

// deliver hands the client the next frame.
func (w *world) deliver() {
	if len(w.queue) == 0 {
		return
	}
	f := w.queue[0]
	w.queue = w.queue[1:]
	switch err := w.session.handleFrame(w.run.ctx, f); {
	case errors.Is(err, errStuck):
		w.connect()
	case err != nil:
		w.t.Fatalf("%s: %v", f.Type, err)
	}
}

// drain hands the client all that is under way, and answers what it asks.
func (w *world) drain() {
	for len(w.queue)+len(w.asked) > 0 {
		w.answer()
		w.deliver()
		w.check()
	}
}

// swap makes a live event overtake what is before it.
func (w *world) swap() {
	if n := len(w.queue); n > 1 && w.queue[n-1].Type == "event" && w.queue[n-1].Cursor != w.session.asked {
		w.queue[n-1], w.queue[n-2] = w.queue[n-2], w.queue[n-1]
	}
}

// check holds what must hold at any time.
func (w *world) check() {
	for id, times := range w.delivered {
		if times != 1 {
			w.t.Fatalf("%s was delivered %d times", id, times)
		}
	}
	if s := w.session; s.caught && (s.seq.size > 0 || s.seq.lost) && len(w.queue)+len(w.asked) == 0 {
		w.t.Fatal("there is a gap, and nobody asks for what is missing")
	}
	cursor := w.run.Cursor()
	from := w.regions[cursor[0]-'0']
	for _, id := range from.ids[:w.place(from, cursor)] {
		if w.delivered[id] == 0 {
			w.t.Fatalf("%s stands before the cursor and was not delivered", id)
		}
	}
}

// deliverEverything lets everything arrive, and be delivered by a healthy region.
func (w *world) deliverEverything() {
	for _, r := range w.regions {
		for _, e := range w.all {
			if r.heard[e.ID] == 0 {
				r.take(e)
			}
		}
	}
	for range 6 { // a catch-up that covers what is held, another, and two pongs that show what is lost
		w.ping()
		for w.here.pushed < len(w.here.journal) {
			w.push("come")
		}
		w.drain()
	}
	if len(w.delivered) != len(w.all) {
		w.t.Fatalf("%d events were delivered, not %d", len(w.delivered), len(w.all))
	}
	if w.run.status.State != Live {
		w.t.Fatalf("in the end it is %s", w.run.status.State)
	}
}

// TestDedup recognises duplicates, and drops only the oldest events.
func TestDedup(t *testing.T) {
	m := newDedup(3, 10)
	judge := func(e events.Event) verdict {
		v, key, digest := m.judge(happened{event: e})
		if v == fresh {
			m.remember(key, digest)
		}
		return v
	}
	first := posted(t, modelRooms[0])
	if got := judge(first); got != fresh {
		t.Errorf("a new event is %d", got)
	}
	if got := judge(first); got != duplicate {
		t.Errorf("one that comes again is %d", got)
	}
	other := first
	other.Stream = events.RoomStream(modelRooms[1])
	if got := judge(other); got != fresh {
		t.Errorf("one with its id in another room is %d", got)
	}
	other = first
	other.Region, other.Data = "two", json.RawMessage(`{"text":"bye"}`)
	if got := judge(other); got != fresh {
		t.Errorf("one with its id and other content is %d", got)
	}
	for _, again := range []events.Event{first, other} {
		if got := judge(again); got != duplicate {
			t.Errorf("one of the two that comes again is %d", got)
		}
	}
	if got, _, _ := m.judge(happened{event: first, partial: true}); got != duplicate {
		t.Errorf("one without its data is %d", got)
	}
	m.oldest = time.Now().Add(time.Hour)
	for range 2 {
		judge(posted(t, modelRooms[0]))
	}
	if got := judge(first); got != fresh {
		t.Errorf("one that should be forgotten is %d", got)
	}
	if len(m.digests) != 3 || len(m.order) != 3 || len(m.further) > 0 {
		t.Errorf("it remembers %d events", len(m.digests))
	}
}

// TestDedupReachesBehindTheCursor remembers what another region may deliver again, however many events a
// catch-up in the middle of it brings, up to the bound.
func TestDedupReachesBehindTheCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newDedup(3, 100)
		deliver := func(n int) (all []happened) {
			for range n {
				h := happened{event: posted(t, modelRooms[0])}
				_, key, digest := m.judge(h)
				m.remember(key, digest)
				all = append(all, h)
			}
			return all
		}
		knows := func(all []happened) (n int) {
			for _, h := range all {
				if v, _, _ := m.judge(h); v == duplicate {
					n++
				}
			}
			return n
		}
		first := deliver(20)
		m.complete()
		time.Sleep(time.Hour) // without a network
		deliver(50)
		if n := knows(first); n != 20 {
			t.Errorf("in a catch-up after an hour it knows %d of 20", n)
		}
		m.complete()
		deliver(1)
		if n := knows(first); n != 0 || len(m.order) != 51 || len(m.digests) != 51 {
			t.Errorf("after the catch-up it knows %d of 20 old ones, and %d in all", n, len(m.order))
		}
		deliver(200)
		if len(m.order) != 100 || len(m.digests) != 100 {
			t.Errorf("it remembers %d events, more than the bound", len(m.order))
		}
	})
}

// TestSpelling takes what encoders of JSON may escape as the same.
func TestSpelling(t *testing.T) {
	m := newDedup(10, 10)
	e := posted(t, modelRooms[0])
	e.Data = json.RawMessage(`{"text":"a<b & \u2028"}`)
	_, key, digest := m.judge(happened{event: e})
	m.remember(key, digest)
	e.Data = json.RawMessage(`{"text":"a\u003cb \u0026 ` + "\u2028" + `"}`)
	if got, _, _ := m.judge(happened{event: e}); got != duplicate {
		t.Errorf("it is %d", got)
	}
}
