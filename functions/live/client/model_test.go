package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"parley/events"
)

// deliveries are what can become of a frame; most come as they should.
var deliveries = []string{"come", "come", "come", "come", "lost", "twice"}

// world is two regions and one client.
type world struct {
	t       *rapid.T
	all     []events.Event
	regions [2]*modelRegion
	here    *modelRegion
	run     *run
	session *session
	queue   []frame          // on their way to the client
	asked   []map[string]any // on their way to the region
	told    map[events.ID]int
	last    map[string]uint64 // position told last in this session, by room
	nonce   int
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, told: map[events.ID]int{}}
	for i := range w.regions {
		w.regions[i] = &modelRegion{name: fmt.Sprint("region-", i), tops: map[string]uint64{}, heard: map[events.ID]uint64{}}
	}
	c := testClient(t)
	c.setCursor("0/0/first")
	w.run = &run{Client: c, ctx: context.Background(), handle: func(_ context.Context, u Update) error {
		if e, ok := u.(Event); ok {
			w.told[e.ID]++
			w.order(e)
		}
		return nil
	}}
	return w
}

// order holds that what is told of a room comes in the order of its arrival.
func (w *world) order(e Event) {
	position := w.here.heard[e.ID]
	if position <= w.last[e.Room] {
		w.t.Fatalf("position %d was told after %d", position, w.last[e.Room])
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
		run: w.run, at: w.run.visit(nil, w.here.name), seq: newSequence(), tops: map[string]uint64{}, pingSoon: func() {},
		send: func(_ context.Context, what map[string]any) error {
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
	f := frame{Type: "event", wireHappened: w.here.journal[w.here.pushed], Cursor: w.cursor(w.here, 0)}
	if w.here.pushed++; len(w.asked) > 0 && w.asked[0]["action"] == "subscribe" {
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
	ask, r := w.asked[0], w.here
	w.asked = w.asked[1:]
	ref := ask["ref"].(int)
	switch ask["action"] {
	case "subscribe":
		w.queue = append(w.queue, frame{Type: "subscribed", Ref: ref, Positions: r.positions(), Cursor: w.cursor(r, len(r.journal))})
	case "catchup":
		asked := ask["cursor"].(string)
		from := w.place(r, asked)
		to := min(len(r.journal), from+rapid.IntRange(1, 5).Draw(w.t, "page"))
		for _, h := range r.journal[from:to] {
			w.queue = append(w.queue, frame{Type: "event", wireHappened: h, Cursor: asked})
		}
		w.queue = append(w.queue, frame{Type: "caught_up", Ref: ref, Cursor: w.cursor(r, to), More: to < len(r.journal)})
	}
}

func (w *world) ping() {
	if len(w.asked) > 0 && w.asked[0]["action"] == "subscribe" {
		return
	}
	w.queue = append(w.queue, frame{Type: "pong", Cursor: w.cursor(w.here, len(w.here.journal)), Positions: w.here.positions()})
}

// deliver hands the client the next frame.
func (w *world) deliver() {
	if len(w.queue) == 0 {
		return
	}
	f := w.queue[0]
	w.queue = w.queue[1:]
	switch err := w.session.take(w.run.ctx, f); {
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
	for id, times := range w.told {
		if times != 1 {
			w.t.Fatalf("%s was told %d times", id, times)
		}
	}
	if s := w.session; s.caught && s.seq.gap() && len(w.queue)+len(w.asked) == 0 {
		w.t.Fatal("there is a gap, and nobody asks for what is missing")
	}
	cursor := w.run.Cursor()
	from := w.regions[cursor[0]-'0']
	for _, id := range from.ids[:w.place(from, cursor)] {
		if w.told[id] == 0 {
			w.t.Fatalf("%s stands before the cursor and was not told", id)
		}
	}
}

// settle lets all arrive and be told, by a region that works.
func (w *world) settle() {
	for _, r := range w.regions {
		for _, e := range w.all {
			if r.heard[e.ID] == 0 {
				r.take(e)
			}
		}
	}
	for range 6 { // a catch-up that covers what is held, another, and two pongs that tell what is lost
		w.ping()
		for w.here.pushed < len(w.here.journal) {
			w.push("come")
		}
		w.drain()
	}
	if len(w.told) != len(w.all) {
		w.t.Fatalf("%d events were told, not %d", len(w.told), len(w.all))
	}
	if w.run.status.State != Live {
		w.t.Fatalf("in the end it is %s", w.run.status.State)
	}
}
