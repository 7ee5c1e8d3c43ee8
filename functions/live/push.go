package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

const (
	// told is how many events are told before the next are looked at: what waits for whom is held
	// in memory.
	told = 100
	// settle is how long it takes until all that arrived has surely been told, or its sockets closed:
	// several processes push side by side, each for as long as Limits.Push.
	settle = 2
	// closing bounds the time in which all are closed who could not be told.
	closing = 2 * time.Second
)

// eventFrame is an event on its way to a client.
type eventFrame struct {
	Room     string
	Stream   string
	Position uint64
	Cursor   string
	Event    any
	Partial  bool // the event goes without its data
}

// encodeEvent makes a frame of an event. One that is too large, or cannot be opened yet, goes without
// its data.
func (h *Handler) encodeEvent(f eventFrame) Frame {
	type wire struct {
		Type     string `json:"type"`
		Room     string `json:"room,omitempty"`
		Stream   string `json:"stream"`
		Position uint64 `json:"position,omitempty"`
		Cursor   string `json:"cursor,omitempty"`
		Partial  bool   `json:"partial,omitempty"`
		Event    any    `json:"event"`
	}
	w := wire{"event", f.Room, f.Stream, f.Position, f.Cursor, false, f.Event}
	out := encode(w)
	if !f.Partial && len(out.head) <= h.Limits.FrameBytes-api.MaxCursor {
		return out
	}
	var fields map[string]json.RawMessage
	if text, err := json.Marshal(f.Event); err == nil && json.Unmarshal(text, &fields) == nil {
		delete(fields, "data")
		w.Event = fields
	}
	w.Partial = true
	return encode(w)
}

// Push tells those who listen what has arrived in this region, in the order of arrival; it is the
// third stage of [parley/functions/stream]. It returns when all have been told, or when the time
// for it is up: sockets that could not be told everything are closed.
func (h *Handler) Push(ctx context.Context, what []projections.Happened) {
	h.setUp()
	ctx, cancel := context.WithTimeout(ctx, h.Limits.Push)
	defer cancel()
	what, err := projections.WithLate(ctx, h.Log, what)
	if err != nil {
		h.Logger.WarnContext(ctx, "push: late events cannot be looked up", "error", err)
		return // the positions of a pong tell that something is missing
	}
	for some := range slices.Chunk(what, told) {
		p := &push{Handler: h, ctx: ctx, frames: map[string][]Frame{}, over: map[string]bool{}, rooms: map[string][]Listener{}, users: map[string][]Connection{}}
		p.changeMembers(some)
		for _, w := range some {
			p.add(w)
		}
		p.tellRemoved()
		h.tell(ctx, p.frames)
	}
}

// push collects what to tell whom.
type push struct {
	*Handler
	ctx     context.Context
	place   *projections.Place
	frames  map[string][]Frame // by connection, in their order
	over    map[string]bool    // the connections that were closed
	rooms   map[string][]Listener
	users   map[string][]Connection
	removed []removed
}

type removed struct{ room, conn string }

// warn logs that somebody will not be told: she finds out by the positions of a pong.
func (p *push) warn(what string, err error) {
	p.Logger.WarnContext(p.ctx, "push: "+what, "error", err)
}

// membersOf names those whose membership an event may have changed.
func membersOf(w projections.Happened) []string {
	if p, ok := w.Event.Payload.(events.RoomCreated); ok {
		return append(slices.Clone(p.Direct), w.Event.Actor)
	}
	if w.About != "" {
		return []string{w.About}
	}
	return nil
}

// changeMembers makes connections listen to the rooms that their users have joined, and no longer
// to those that they have left, before anything is told.
func (p *push) changeMembers(what []projections.Happened) {
	type pair struct{ room, user string }
	changed := map[pair]bool{}
	for _, w := range what {
		if kind, room := w.Stream.Split(); kind == events.KindRoom {
			for _, user := range membersOf(w) {
				changed[pair{room, user}] = true
			}
		}
	}
	for c := range changed {
		connections := p.of(c.user)
		if len(connections) == 0 {
			continue
		}
		m, err := projections.LoadMember(p.ctx, p.Views, c.room, c.user)
		if err != nil {
			p.warn("a member cannot be looked up", err)
		}
		for _, conn := range connections {
			if err == nil && m.In {
				p.join(conn, c.room)
			} else {
				p.leave(conn, c.room)
			}
		}
	}
}

// join makes a connection that listens to all of its user's rooms listen to a new one.
func (p *push) join(conn Connection, room string) {
	if !conn.All {
		return
	}
	err := p.again(p.ctx, conn, func(c Connection) error {
		m, err := projections.LoadMember(p.ctx, p.Views, room, c.User)
		if err != nil || !m.In {
			return err
		}
		return p.Connections.Subscribe(p.ctx, c.ID, c.Revision, false, room)
	})
	if err != nil && !errors.Is(err, errOver) {
		p.warn("a connection cannot listen to a new room", err)
	}
}

// leave takes a room from a connection. If that fails the connection is given up: it must not hear
// what its user may no longer hear.
func (p *push) leave(conn Connection, room string) {
	rooms, err := p.Connections.Rooms(p.ctx, conn.ID)
	if err == nil {
		err = p.Connections.Unsubscribe(p.ctx, conn.ID, room)
	}
	if err != nil {
		p.over[conn.ID] = true
		p.giveUp(p.ctx, conn.ID, CodeGoingAway, err)
		return
	}
	if conn.All || slices.Contains(rooms, room) {
		p.removed = append(p.removed, removed{room, conn.ID})
	}
}

// add adds the frame of an event to those of all who listen.
func (p *push) add(w projections.Happened) {
	kind, name := w.Stream.Split()
	switch kind {
	case events.KindRoom:
		listeners := p.listeners(name)
		if len(listeners) > 0 {
			f := p.frameOf(w, w.Position)
			for _, l := range listeners {
				p.put(l.Conn, l.User, l.Expires, f)
			}
		}
		for _, r := range p.removed { // those who are out are told just that
			if r.room == name {
				p.tellOut(w, r.conn)
			}
		}
	case events.KindUser:
		if connections := p.of(name); len(connections) > 0 {
			f := p.frameOf(w, w.Position)
			for _, c := range connections {
				if c.All {
					p.put(c.ID, c.User, c.Expires, f)
				}
			}
		}
	}
}

// tellOut tells a connection of a user who has left the room what was about her.
func (p *push) tellOut(w projections.Happened, conn string) {
	for _, c := range p.of(w.About) {
		if c.ID == conn {
			p.put(c.ID, c.User, c.Expires, p.frameOf(w, 0))
		}
	}
}

// frameOf makes the frame of an event, but for the cursor of whoever gets it.
func (p *push) frameOf(w projections.Happened, position uint64) Frame {
	if p.place == nil {
		p.place = p.settled(p.ctx)
	}
	event, err := api.EventOf(p.ctx, p.Keys, w.Event)
	if err != nil {
		p.warn("an event cannot be opened", err)
	}
	f := eventFrame{Stream: string(w.Stream), Position: position, Event: event, Partial: err != nil}
	if kind, name := w.Stream.Split(); kind == events.KindRoom {
		f.Room = name
	}
	if p.place == nil {
		return p.encodeEvent(f)
	}
	f.Cursor = someCursor
	out := p.encodeEvent(f)
	head, tail, _ := bytes.Cut(out.head, []byte(someCursor))
	return Frame{head: head, tail: tail, place: p.place, cursors: p.Cursors}
}

// someCursor stands where the cursor of each user will; nothing before it in a frame can hold it.
const someCursor = "*"

// put adds a frame to those of a connection, or closes it if its token has expired.
func (p *push) put(conn, user string, expires time.Time, f Frame) {
	switch {
	case p.over[conn]:
		return
	case !expires.After(p.Now()):
		p.over[conn] = true
		delete(p.frames, conn)
		p.giveUp(p.ctx, conn, CodeExpired, nil)
		return
	case f.place != nil:
		f.user = user
	}
	p.frames[conn] = append(p.frames[conn], f)
}

// tellRemoved tells the connections that a room was taken from, behind all else.
func (p *push) tellRemoved() {
	for _, r := range p.removed {
		if !p.over[r.conn] {
			p.frames[r.conn] = append(p.frames[r.conn], encode(removedFrame{"removed", r.room}))
		}
	}
}

type removedFrame struct {
	Type string `json:"type"`
	Room string `json:"room"`
}

func (p *push) listeners(room string) []Listener {
	listeners, known := p.rooms[room]
	if !known {
		var err error
		if listeners, err = p.Connections.Listeners(p.ctx, room); err != nil {
			p.warn("the listeners of a room cannot be looked up", err)
		}
		p.rooms[room] = listeners
	}
	return listeners
}

func (p *push) of(user string) []Connection {
	if user == "" {
		return nil
	}
	connections, known := p.users[user]
	if !known {
		var err error
		if connections, err = p.Connections.Of(p.ctx, user); err != nil {
			p.warn("the connections of a user cannot be looked up", err)
		}
		p.users[user] = connections
	}
	return connections
}

// tell posts frames to connections: to many at the same time, to each in order. Whoever cannot be
// told all of them within the time is closed.
func (h *Handler) tell(ctx context.Context, frames map[string][]Frame) {
	connections := make([]string, 0, len(frames))
	for conn := range frames {
		connections = append(connections, conn)
	}
	var next atomic.Int64
	var working sync.WaitGroup
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closing, cancel) })()
	for range min(h.Limits.Posts, len(connections)) {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(connections); i = int(next.Add(1)) - 1 {
				h.tellOne(ctx, over, connections[i], frames[connections[i]])
			}
		})
	}
	working.Wait()
}

// tellOne posts frames until ctx ends, and closes the socket then, until over.
func (h *Handler) tellOne(ctx, over context.Context, conn string, frames []Frame) {
	for _, f := range frames {
		err := ctx.Err()
		if err == nil {
			err = h.Sockets.Post(ctx, conn, f)
		}
		if err != nil {
			h.giveUp(over, conn, CodeSlow, err)
			return
		}
	}
}

// passed is a place up to which all has been told. It is looked up once a second.
type passed struct {
	mu    sync.Mutex
	at    time.Time
	place *projections.Place
}

// settled returns a place that clients may come back to: all before it has been told, or the
// sockets that were not told were closed. It is some seconds ago: what arrived since may still be
// on its way, as several processes push side by side. Nil: it is not known.
func (h *Handler) settled(ctx context.Context) *projections.Place {
	h.passed.mu.Lock()
	defer h.passed.mu.Unlock()
	now := h.Now()
	if h.passed.place != nil && now.Sub(h.passed.at) < time.Second {
		return h.passed.place
	}
	place, err := h.syncer().At(ctx, now.Add(-settle*h.Limits.Push))
	if err != nil {
		h.Logger.WarnContext(ctx, "push: a place to come back to cannot be looked up", "error", err)
		return h.passed.place
	}
	h.passed.at, h.passed.place = now, &place
	return h.passed.place
}
