package live

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

const (
	// notifyBatch is how many events are delivered before the frames of the next are made: frames
	// that wait for a socket are held in memory.
	notifyBatch = 100
	// deliveryTime is how long it takes, in multiples of Limits.Push, until an event that has arrived
	// is delivered, or the sockets that lack it are closed: several processes push side by side.
	deliveryTime = 2
	// maxOpened bounds what is sent of a room to who was not known to be a member. A sync returns all of it.
	maxOpened = 100
	// closing bounds the time for closing the sockets that could not be notified.
	closing = 2 * time.Second
)

// readAgain is how the connections of a user are read if that fails.
var readAgain = events.Backoff{First: 20 * time.Millisecond, Max: 320 * time.Millisecond, Attempts: 6}

// Push delivers what has arrived in this region to the sockets that listen, in the order of
// arrival; it is the notify stage of [parley/functions/stream]. It returns when all is delivered, or
// when Limits.Push is over: sockets that lack something by then are closed.
func (h *Handler) Push(ctx context.Context, what []projections.Happened) {
	h.setUp()
	ctx, cancel := context.WithTimeout(ctx, h.Limits.Push)
	defer cancel()
	what, err := h.expand(ctx, what)
	if err != nil {
		h.Logger.WarnContext(ctx, "push: cannot read late events", "error", err)
		return // clients see by the positions of a pong that something is missing
	}
	for some := range slices.Chunk(what, notifyBatch) {
		p := &push{Handler: h, ctx: ctx, frames: map[string][]Frame{}, closed: map[string]bool{}, rooms: map[string][]Listener{}, users: map[string][]Connection{}}
		p.changeMembers(some)
		for _, w := range some {
			p.add(w)
		}
		p.addRemoved()
		h.deliver(ctx, p.frames)
	}
}

// expand puts in place of the late notices of other regions what they name, without the texts of messages
// that were deleted since. The stream function has seen to that for what was folded just before.
func (h *Handler) expand(ctx context.Context, what []projections.Happened) ([]projections.Happened, error) {
	expanded := make([]projections.Happened, 0, len(what))
	for _, w := range what {
		named, err := projections.ExpandLate(ctx, h.Log, h.Region, w.Event)
		if err != nil {
			return nil, err
		}
		if _, late := w.Event.Payload.(events.EventLate); late {
			if named, err = projections.Redact(ctx, h.Views, named...); err != nil {
				return nil, err
			}
		}
		for _, e := range named {
			expanded = append(expanded, projections.Happened{Event: e, Position: w.Position})
		}
	}
	return expanded, nil
}

// push collects the frames of a batch, by connection.
type push struct {
	*Handler
	ctx     context.Context
	place   *projections.Cursor
	frames  map[string][]Frame // by connection, in their order
	closed  map[string]bool    // the connections that were closed
	rooms   map[string][]Listener
	users   map[string][]Connection
	removed []removed
}

type removed struct {
	room, conn string
	silent     bool // it did not listen, so that nothing is removed: its user was invited
}

// warn logs that an event will not be delivered to some client. The client finds out by the
// positions of a pong.
func (p *push) warn(what string, err error) {
	p.Logger.WarnContext(p.ctx, "push: "+what, "error", err)
}

// changeMembers subscribes connections to the rooms that their users have joined, and unsubscribes
// them from those that they have left, before any event is delivered.
func (p *push) changeMembers(what []projections.Happened) {
	type pair struct{ room, user string }
	changed := map[pair]projections.Happened{}
	var order []pair // of their first change: the same batch does the same
	for _, w := range what {
		for _, user := range projections.MembersOf(w.Event) {
			c := pair{w.Event.Stream.Name(), user}
			if _, there := changed[c]; !there {
				order = append(order, c)
			}
			changed[c] = w
		}
	}
	for _, c := range order {
		w := changed[c]
		connections := p.of(c.user)
		if len(connections) == 0 {
			continue
		}
		m, err := projections.LoadMember(p.ctx, p.Views, c.room, c.user)
		if err != nil {
			p.warn("cannot read a member", err)
			for _, conn := range connections {
				p.closeUnsure(conn.ID, err)
			}
			continue
		}
		if m.In {
			p.open(m, w)
		}
		for _, conn := range connections {
			if m.In {
				p.join(conn, c.room)
			} else {
				p.leave(conn, c.room, m.Invited != events.ID{})
			}
		}
	}
}

// closeUnsure closes a socket of which it is not known whether it may, or must, listen to a room: no position would show
// the client that something is missing. It reconnects and catches up.
func (p *push) closeUnsure(conn string, cause error) {
	p.closed[conn] = true
	p.closeUndelivered(p.ctx, conn, CodeGoingAway, cause)
}

// open adds what happened in a room before the membership arrived that makes it visible, and sorts after
// that: to the connections of its user that listen to all rooms.
func (p *push) open(m projections.Member, w projections.Happened) {
	if m.Since != w.Event.ID && w.Event.Type != "member.unbanned" {
		return
	}
	opened, err := p.syncer().Opened(p.ctx, m, w.Event.Ref(), time.Time{}, 0, maxOpened)
	if err != nil {
		p.warn("cannot read what happened before a membership arrived", err)
		return // the client sees the gap in the positions
	}
	for _, o := range opened {
		shown, err := projections.Redact(p.ctx, p.Views, o.Event)
		if err != nil {
			p.warn("cannot read a message", err)
			continue
		}
		f := p.frameOf(projections.Happened{Event: shown[0], Position: o.Position}, o.Position)
		for _, c := range p.of(m.User) {
			if c.All {
				p.put(c.ID, c.User, c.Expires, f)
			}
		}
	}
}

// join subscribes a connection that listens to all rooms of its user to a new one.
func (p *push) join(conn Connection, room string) {
	if !conn.All {
		return
	}
	err := p.retryChanged(p.ctx, conn, func(c Connection) error {
		m, err := projections.LoadMember(p.ctx, p.Views, room, c.User)
		if err != nil || !m.In {
			return err
		}
		return p.Connections.Subscribe(p.ctx, c.ID, c.Revision, false, room)
	})
	if err != nil && !errors.Is(err, errClosed) {
		p.warn("cannot subscribe a connection to a new room", err)
		p.closeUnsure(conn.ID, err)
	}
}

// leave unsubscribes a connection from a room. If that fails the socket is closed: its user may not
// get the room's events any more.
func (p *push) leave(conn Connection, room string, invited bool) {
	rooms, err := p.Connections.Rooms(p.ctx, conn.ID)
	if err == nil {
		err = p.Connections.Unsubscribe(p.ctx, conn.ID, room)
	}
	if err != nil {
		p.closeUnsure(conn.ID, err)
		return
	}
	if listened := slices.Contains(rooms, room); conn.All || listened {
		p.removed = append(p.removed, removed{room, conn.ID, invited && !listened})
	}
}

// add adds the frame of an event to those of every connection that listens.
func (p *push) add(w projections.Happened) {
	kind, name := w.Event.Stream.Split()
	switch kind {
	case events.KindRoom:
		listeners := p.listeners(name)
		if len(listeners) > 0 {
			f := p.frameOf(w, w.Position)
			for _, l := range listeners {
				p.put(l.Conn, l.User, l.Expires, f)
			}
		}
		for _, r := range p.removed {
			if r.room == name {
				p.addOwnRemoval(w, r.conn)
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

// addOwnRemoval adds an event to a connection that no longer listens to the room if the event may have changed the
// membership of its user: the removal itself, and what a sync lists before it.
func (p *push) addOwnRemoval(w projections.Happened, conn string) {
	for _, user := range projections.MembersOf(w.Event) {
		for _, c := range p.of(user) {
			if c.ID == conn {
				p.put(c.ID, c.User, c.Expires, p.frameOf(w, 0))
			}
		}
	}
}

// frameOf makes the frame of an event, without the cursor, which is each user's own.
func (p *push) frameOf(w projections.Happened, position uint64) Frame {
	if p.place == nil {
		p.place = p.resumeCursor(p.ctx)
	}
	f := wire.EventFrame{Type: "event", Stream: w.Event.Stream, Position: position}
	if shown, err := p.show(w.Event); err == nil {
		f.Event = api.EventOf(shown)
	} else {
		f.Event, f.Partial = api.EventOf(w.Event), true
		f.Event.Data = nil
	}
	if kind, name := w.Event.Stream.Split(); kind == events.KindRoom {
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

// show decrypts an event. Where its key has not come yet that is an error: a sync waits for the key.
func (p *push) show(e events.Event) (events.Event, error) {
	missing, err := p.Keys.Misses(p.ctx, e)
	if missing {
		return e, keys.ErrMissing
	}
	var shown []events.Event
	if err == nil {
		shown, err = p.Keys.ShowEvents(p.ctx, e)
	}
	if err != nil {
		p.warn("cannot decrypt an event", err)
		return e, err
	}
	return shown[0], nil
}

// someCursor stands in for the cursor of each user. Nothing before it in a frame can contain it.
const someCursor = "*"

// put adds a frame to those of a connection, or closes its socket if the token has expired.
func (p *push) put(conn, user string, expires time.Time, f Frame) {
	switch {
	case p.closed[conn]:
		return
	case !expires.After(p.Now()):
		p.closed[conn] = true
		delete(p.frames, conn)
		p.closeUndelivered(p.ctx, conn, CodeExpired, nil)
		return
	case f.place != nil:
		f.user = user
	}
	p.frames[conn] = append(p.frames[conn], f)
}

// addRemoved adds the frame that a room was removed, behind all events.
func (p *push) addRemoved() {
	for _, r := range p.removed {
		if !p.closed[r.conn] && !r.silent {
			p.frames[r.conn] = append(p.frames[r.conn], encode(wire.Removed{Type: "removed", Room: r.room}))
		}
	}
}

func (p *push) listeners(room string) []Listener {
	listeners, cached := p.rooms[room]
	if !cached {
		var err error
		if listeners, err = p.Connections.Listeners(p.ctx, room); err != nil {
			p.warn("cannot read the listeners of a room", err)
		}
		p.rooms[room] = listeners
	}
	return listeners
}

func (p *push) of(user string) []Connection {
	if user == "" {
		return nil
	}
	connections, cached := p.users[user]
	if !cached {
		var err error
		// Nothing shows a client that it lacks a room which its user has joined, or has one that was left.
		err = readAgain.Retry(p.ctx, func(error) bool { return true }, func() error {
			connections, err = p.Connections.Of(p.ctx, user)
			return err
		})
		if err != nil {
			p.warn("cannot read the connections of a user", err)
		}
		p.users[user] = connections
	}
	return connections
}

// deliver posts frames to connections: to many at the same time, to each in order. A socket that
// cannot get all of its frames before ctx ends is closed.
func (h *Handler) deliver(ctx context.Context, frames map[string][]Frame) {
	connections := slices.Collect(maps.Keys(frames))
	var next atomic.Int64
	var working sync.WaitGroup
	whileClosing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closing, cancel) })()
	for range min(h.Limits.Posts, len(connections)) {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(connections); i = int(next.Add(1)) - 1 {
				conn := connections[i]
				for _, f := range frames[conn] {
					err := ctx.Err()
					if err == nil {
						err = h.Sockets.Post(ctx, conn, f)
					}
					if err != nil {
						h.closeUndelivered(whileClosing, conn, CodeSlow, err)
						break
					}
				}
			}
		})
	}
	working.Wait()
}

// resumePoint caches what [Handler.resumeCursor] returns for a second.
type resumePoint struct {
	mu    sync.Mutex
	place *projections.Cursor
	at    time.Time
}

// resumeCursor returns a cursor before which every event was delivered, or its undeliverable
// sockets were closed. It lies some seconds back: what has arrived since may still be on its way,
// because several processes push side by side. It is nil if it cannot be read.
func (h *Handler) resumeCursor(ctx context.Context) *projections.Cursor {
	h.resume.mu.Lock()
	defer h.resume.mu.Unlock()
	now := h.Now()
	if h.resume.place != nil && now.Sub(h.resume.at) < time.Second {
		return h.resume.place
	}
	place, err := h.syncer().Behind(ctx, now.Add(-deliveryTime*h.Limits.Push), nil, nil)
	if err != nil {
		h.Logger.WarnContext(ctx, "push: cannot read a cursor to resume from", "error", err)
		return h.resume.place
	}
	h.resume.at, h.resume.place = now, &place
	return h.resume.place
}
