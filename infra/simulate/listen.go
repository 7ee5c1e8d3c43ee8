package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"parley/events"
	"parley/functions/live"
	"parley/functions/wire"
	"parley/projections"
)

// listener is a client with a socket. It does what functions/live/README.md asks of clients, and knows what it
// has received like a client that catches up over HTTP.
type listener struct {
	follower
	world  *world
	region *region // that its socket is in
	conn   string  // "" while it has none
	opened int     // sockets so far

	last    map[events.Stream]uint64 // the last position without a gap before it
	caught  bool                     // up, since the socket was opened
	partial bool                     // an event came without its data
	held    bool                     // at the end of the last catch-up an event still waited for its key
	asked   string                   // the cursor of the catch-up under way
	pong    *wire.Frame              // the last
	answer  *wire.Frame              // to the last frame that was sent
}

// receive takes a frame from the server.
func (l *listener) receive(text []byte) {
	var f wire.Frame
	if err := json.Unmarshal(text, &f); err != nil {
		l.world.fail("frame", "%s receives a frame that is no JSON: %s", l.name, text)
		return
	}
	switch f.Type {
	case "event":
		l.event(f)
	case "removed":
		delete(l.last, events.RoomStream(f.Room))
		delete(l.high, events.RoomStream(f.Room))
		if l.pong != nil { // or its position would return with the next ping
			delete(l.pong.Positions, f.Room)
		}
	case "hello", "typing":
	default:
		l.answer = &f
	}
}

func (l *listener) event(f wire.Frame) {
	w, r := l.world, l.region
	var e wire.Event
	if err := json.Unmarshal(f.Event, &e); err != nil {
		w.fail("frame", "%s receives an event that is no JSON: %s", l.name, f.Event)
		return
	}
	name := eventName{f.Stream, e.ID, e.Type}
	w.trace.note(l.name, "deliver", e.ID.String(), "%s in %s at %d from %s, partial %v", e.Type, f.Stream, f.Position, r.name, f.Partial)
	found, err := events.Find(context.Background(), r.log, f.Stream, e.ID, false)
	found = slices.DeleteFunc(found, func(e2 events.Event) bool { return e2.Type != e.Type })
	if err != nil || len(found) == 0 {
		w.fail("invented", "%s receives a %s that %s does not have", l.name, e.Type, r.name)
		return
	}
	if !l.removalUnderWay(found[0]) {
		l.allowed(w, r, found[0], f.Position)
	}
	r.checkShows(context.Background(), name, e.Data, l.name)
	if l.partial = l.partial || f.Partial; !f.Partial {
		l.got[name] = true
	}
	if f.Position == 0 {
		return
	}
	l.high[f.Stream] = max(l.high[f.Stream], f.Position)
	if l.asked != "" && f.Cursor == l.asked {
		return
	}
	if last, known := l.last[f.Stream]; known && f.Position == last+1 || f.Position == 1 {
		l.last[f.Stream] = f.Position
	}
}

// removalUnderWay reports whether the user's membership of an event's room changed in the region behind the event: it
// has been accepted, or stands behind it in the feed. Then the socket listens until the change is pushed.
func (l *listener) removalUnderWay(e events.Event) bool {
	if kind, _ := e.Stream.Split(); kind != events.KindRoom {
		return false
	}
	entries, _, err := projections.ListFeed(context.Background(), l.region.views, e.Stream, 0, 1_000_000)
	if err != nil {
		return false
	}
	position := func(ref events.Ref) int {
		return slices.IndexFunc(entries, func(entry projections.FeedEntry) bool { return entry.Ref == ref })
	}
	at := position(e.Ref())
	for other, err := range l.region.log.Read(context.Background(), e.Stream, events.Range{Reverse: true}) {
		if err == nil && slices.Contains(projections.MembersOf(other), l.user) {
			if changed := position(other.Ref()); changed < 0 || changed > at {
				return true
			}
		}
	}
	return false
}

// missing reports whether an event is missing, as far as the client can see.
func (l *listener) missing() bool {
	for stream, high := range l.high {
		if l.last[stream] < high {
			return true
		}
	}
	return l.partial
}

// send sends a frame, and returns the answer; nil if the socket is closed, by now.
func (l *listener) send(s Step, frame any) *wire.Frame {
	w, r := l.world, l.region
	l.answer = nil
	p := r.any(&r.servers, s, "frame")
	ctx, end := p.begin(s, "frame")
	f, err := p.enter(ctx, "frame", l.conn)
	if err == nil && f != refuse && !r.failing {
		_ = p.f.Live().Frame(ctx, l.conn, []byte(bodyOf(frame))) // if it fails there is no answer
	}
	err = p.leave(f, errRefused)
	if end(); err != nil || l.answer == nil || l.conn == "" {
		if l.conn != "" && w.settling && w.faultsOf(s) == 0 {
			w.fail("frame", "%s gets no answer from %s: %v", l.name, r.name, err)
		}
		l.drop(s)
		return nil
	}
	if l.answer.Type == "error" {
		if p := l.answer.Problem; p.Status < 500 {
			w.fail("frame", "%s is refused by %s: %+v", l.name, r.name, p)
		}
		l.drop(s)
		return nil
	}
	return l.answer
}

// listen opens a socket in a region, and catches up. A follower that is erased may do so as well.
func (l *listener) listen(s Step, r *region) {
	l.drop(s)
	w := l.world
	l.opened++
	l.region, l.conn = r, fmt.Sprint(l.user, "-", l.opened)
	l.last, l.high, l.caught, l.pong, l.asked = map[events.Stream]uint64{}, map[events.Stream]uint64{}, false, nil, ""
	r.sockets.add(l.conn, l.receive, func(live.Code) { l.conn = "" })
	p := r.any(&r.servers, s, "connect")
	ctx, end := p.begin(s, "connect")
	f, err := p.enter(ctx, "connect", l.conn)
	if err == nil && f != refuse && !r.failing {
		err = p.f.Live().Connect(ctx, l.conn, http.Header{"Authorization": {"Bearer " + tokenOf(l.user)}})
	}
	left := p.leave(f, errRefused)
	if end(); err != nil || left != nil || f == refuse || r.failing {
		l.drop(s)
		return
	}
	w.trace.note(l.name, "note", "", "opens a socket in %s", r.name)
	subscribed := l.send(s, wire.Subscribe{Action: "subscribe"})
	if subscribed == nil {
		return
	}
	l.tops(*subscribed)
	l.catchUp(s)
}

// tops takes the positions of an answer.
func (l *listener) tops(f wire.Frame) {
	for room, top := range f.Positions {
		stream := events.RoomStream(room)
		l.high[stream] = max(l.high[stream], top)
	}
	own := events.UserStream(l.user)
	l.high[own] = max(l.high[own], f.Own)
}

// catchUp catches up from the cursor: over the socket, and over HTTP if an event came without its data.
func (l *listener) catchUp(s Step) {
	began := l.cursor
	for limit := 1 + s.C%40; ; {
		l.asked = l.cursor
		up := l.send(s, wire.CatchUp{Action: "catchup", Cursor: l.cursor, Limit: &limit})
		if up == nil {
			l.cursor = began
			return
		}
		if up.Reset {
			l.world.fail("reset", "%s is answered a reset in %s", l.name, l.region.name)
		}
		if l.cursor, l.held = up.Cursor, up.Held; !up.More {
			break
		}
	}
	l.asked = ""
	if l.partial {
		l.cursor, l.partial = began, false
		if l.held = l.follow(l.world, s, l.region); l.cursor == began {
			l.partial = true // it failed
			return
		}
	}
	l.at, l.rebuilds = l.region, l.region.rebuilds
	for stream, high := range l.high {
		l.last[stream] = max(l.last[stream], high)
	}
	l.caught = true
}

// ping asks what there is, and catches up on what is missing since the last pong.
func (l *listener) ping(s Step) {
	if l.conn == "" {
		return
	}
	before := l.pong
	pong := l.send(s, wire.Ping{Action: "ping"})
	if pong == nil {
		return
	}
	l.pong = pong
	if before != nil {
		l.tops(*before)
	}
	if l.missing() || l.held || !l.caught {
		l.world.trace.note(l.name, "note", "", "misses something")
		l.checkGap()
		l.catchUp(s)
		return
	}
	if before != nil {
		l.cursor, l.at, l.rebuilds = before.Cursor, l.region, l.region.rebuilds
	}
}

// checkGap checks, where nothing fails, that the socket has received whatever the region has handled since it was opened.
func (l *listener) checkGap() {
	w, r := l.world, l.region
	if !l.caught || l.partial || w.schedule.Faults > 0 || w.schedule.Interleaved || r.lost {
		return
	}
	for _, stream := range slices.Sorted(maps.Keys(l.last)) { // of a room that was joined since, the first is not known
		last, high := l.last[stream], l.high[stream]
		if kind, _ := stream.Split(); last >= high || last == 0 && kind == events.KindRoom {
			continue
		}
		entries, _, err := projections.ListFeed(context.Background(), r.views, stream, last, int(high-last))
		if err != nil {
			w.fail("views", "cannot read a feed of %s: %v", r.name, err)
		}
		for _, e := range entries {
			if _, handled := w.first[place{r.index, e.Ref.In(stream)}]; handled {
				w.fail("socket-gap", "%s has %d of %d events of %s in %s, and nothing has failed", l.name, last, high, stream, r.name)
			}
		}
	}
}

// drop loses the socket. The region may learn of it, or not.
func (l *listener) drop(s Step) {
	if l.conn == "" {
		return
	}
	conn, r := l.conn, l.region
	l.conn = ""
	r.sockets.remove(conn)
	if s.C%3 == 0 {
		return
	}
	p := r.any(&r.servers, s, "disconnect")
	ctx, end := p.begin(s, "disconnect")
	defer end()
	_ = p.f.Live().Disconnect(ctx, conn)
}

func (s *sockets) add(conn string, receive func([]byte), shut func(live.Code)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[conn], s.shut[conn] = receive, shut
}

func (s *sockets) remove(conn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
	delete(s.shut, conn)
}

// The steps of clients with sockets. Two at the same time would be two clients.

func (w *world) withListener(s Step, do func(*listener)) {
	l := w.listeners[s.A%len(w.listeners)]
	if l.busy {
		return
	}
	l.busy = true
	do(l)
	l.busy = false
}

func (w *world) listen(s Step) {
	w.withListener(s, func(l *listener) { l.listen(s, w.region(s.B)) })
}

func (w *world) ping(s Step) {
	w.withListener(s, func(l *listener) {
		if l.conn == "" {
			l.listen(s, w.region(s.B))
		}
		l.ping(s)
	})
}

func (w *world) drop(s Step) { w.withListener(s, func(l *listener) { l.drop(s) }) }

// checkListeners lets every client with a socket find what it misses: nothing is missing then.
func (w *world) checkListeners(logs [][]events.Event) {
	s := Step{N: -150}
	for i, l := range w.listeners {
		for range 4 { // the first ping may show that the socket is closed
			if l.conn == "" {
				l.listen(s, w.region(int(mix(w.schedule.Seed, uint64(i), 8)>>1)))
			}
			l.ping(s)
		}
		if w.failed() {
			return
		}
		if e, misses := l.misses(w, l.region, logs[0]); misses {
			w.fail("socket-missed", "%s, in %s, never receives the %s %s that %s accepted", l.name, l.region.name, e.Type, e.Ref(), e.Region)
			return
		}
	}
}
