package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"parley/events"
	"parley/functions/wire"
)

// The reasons for ending a session whose socket works.
var (
	errReset   = errors.New("everything must be reloaded")
	errPartial = errors.New("an event did not fit into a frame")
	errStuck   = errors.New("the server does not answer a request")
)

// patientPongs is how many pongs may come while a request is not answered.
const patientPongs = 3

// session is the protocol over one socket. Positions are valid within it only.
type session struct {
	*run
	at   *visit // of the region
	send func(ctx context.Context, frame any) error
	// pingSoon asks for a ping in a moment, because an event seems to be missing.
	pingSoon func()
	seq      *sequence

	asked      string                   // the cursor of the request for the catch-up in progress
	ref        int                      // of the last request
	unanswered int                      // pongs since that request
	tops       map[events.Stream]uint64 // of the parts of a subscribed or pong so far
	pong       *pong                    // the last
	caught     bool                     // up, once
	held       bool                     // at the end of the last catch-up an event still waited for its key
}

// pong is how far the region was when it was pinged.
type pong struct {
	cursor string
	tops   map[events.Stream]uint64
}

// listen delivers what comes over a socket until it ends; the error says why. Live reports whether
// the client had caught up.
func (r *run) listen(ctx context.Context, at *endpoint) (live bool, err error) {
	s, err := withToken(ctx, r.token, func(token string) (*socket, error) {
		return dial(ctx, r.http, at.socket, token, r.options.Timeout)
	})
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer func() {
		r.socket.Store(nil)
		cancel()
		_ = s.conn.CloseNow()
		work.Wait()
	}()
	o := r.options
	work.Go(func() { s.readAll(ctx, o.Ping+o.Timeout) })
	h := &session{run: r, at: r.visit(at, s.region), send: s.send, pingSoon: s.pingSoon, seq: newSequence(), tops: map[events.Stream]uint64{}}
	if err := h.subscribe(ctx); err != nil {
		return false, err
	}
	r.socket.Store(s)
	work.Go(func() { s.pingAll(ctx, o.Ping) })
	for {
		select {
		case f, ok := <-s.frames:
			if !ok {
				return h.caught, fmt.Errorf("listen: %w", s.err)
			}
			if err := h.handleFrame(ctx, f); err != nil {
				return h.caught, err
			}
		case <-ctx.Done():
			return h.caught, context.Cause(ctx)
		}
	}
}

// next is the ref of the next request.
func (s *session) next() json.RawMessage {
	s.ref++
	s.unanswered = 0
	return json.RawMessage(strconv.Itoa(s.ref))
}

// answers reports whether a frame answers the last request.
func (s *session) answers(f wire.Frame) bool { return string(f.Ref) == strconv.Itoa(s.ref) }

// subscribe asks for everything that happens from now on, in all rooms.
func (s *session) subscribe(ctx context.Context) error {
	return s.send(ctx, wire.Subscribe{Action: "subscribe", Ref: s.next()})
}

// handleFrame handles a frame.
func (s *session) handleFrame(ctx context.Context, f wire.Frame) error {
	switch f.Type {
	case "event":
		return s.handleEvent(ctx, f)
	case "subscribed":
		if s.addTops(f); f.Part {
			return nil
		}
		return s.catchUp(ctx, s.allTops())
	case "caught_up":
		if !s.answers(f) {
			return nil
		}
		return s.handleCaughtUp(ctx, f)
	case "pong":
		if s.addTops(f); f.Part {
			return nil
		}
		if tops := s.allTops(); !f.Incomplete {
			return s.handlePong(ctx, &pong{f.Cursor, tops})
		} else if s.caught && !s.seq.catchingUp() { // to what happened in the rooms that the socket does not listen to
			s.seq.beginCatchUp(tops)
			return s.askSince(ctx, s.Cursor())
		}
		return s.handleStuck()
	case "typing":
		return s.deliver(s.at, Typing{f.Room, f.User})
	case "bye":
		return s.refused(ctx, f)
	case "error":
		if !s.answers(f) {
			return nil // to typing or a ping
		}
		return s.refused(ctx, f)
	case "": // from API Gateway itself: it could not handle a frame
		if !s.caught || s.seq.catchingUp() {
			return errStuck
		}
		return nil
	default: // of a newer server, or also sent as an event
		return nil
	}
}

// refused is the error that ends the session. If the token has expired the next session asks for
// another.
func (s *session) refused(ctx context.Context, f wire.Frame) error {
	err := refusal(f)
	if unauthenticated(err) {
		s.token.forget(ctx)
		return fmt.Errorf("listen: %s", asProblem(err).Code)
	}
	return err
}

// addTops adds the positions of a frame to those of the parts before it.
func (s *session) addTops(f wire.Frame) {
	for room, top := range f.Positions {
		s.tops[events.RoomStream(room)] = top
	}
	if f.Own > 0 {
		s.tops[events.UserStream(s.options.User)] = f.Own
	}
}

// allTops returns the positions that have come in parts.
func (s *session) allTops() map[events.Stream]uint64 {
	tops := s.tops
	s.tops = map[events.Stream]uint64{}
	return tops
}

func (s *session) handleEvent(ctx context.Context, f wire.Frame) error {
	if s.seq.catchingUp() && f.Cursor == s.asked {
		s.unanswered = 0
		return s.deliverAll(s.seq.addCaughtUp(happenedOf(f)))
	}
	if err := s.deliverAll(s.seq.addLive(happenedOf(f))); err != nil {
		return err
	}
	if s.caught && s.seq.gap() && !s.seq.catchingUp() {
		return s.catchUp(ctx, nil)
	}
	return nil
}

// deliverAll calls the handler with events.
func (s *session) deliverAll(ready []happened) error {
	for _, h := range ready {
		if err := s.deliverEvent(s.at, h); err != nil {
			return err
		}
	}
	return nil
}

// catchUp asks for everything that happened since the cursor. The answer covers all up to tops.
func (s *session) catchUp(ctx context.Context, tops map[events.Stream]uint64) error {
	if err := s.report(Status{State: CatchingUp, Region: s.at.region}); err != nil {
		return err
	}
	s.seq.beginCatchUp(tops)
	return s.askSince(ctx, s.Cursor())
}

func (s *session) askSince(ctx context.Context, cursor string) error {
	limit := catchUpBy
	s.asked = cursor
	return s.send(ctx, wire.CatchUp{Action: "catchup", Ref: s.next(), Cursor: cursor, Limit: &limit})
}

func (s *session) handleCaughtUp(ctx context.Context, f wire.Frame) error {
	if f.Reset {
		return errReset
	}
	s.setCursor(f.Cursor)
	if f.More {
		return s.askSince(ctx, f.Cursor)
	}
	s.held = f.Held
	s.dedup.complete()
	if err := s.deliverAll(s.seq.endCatchUp()); err != nil {
		return err
	}
	if s.seq.gap() { // an event came meanwhile, behind one that is still missing
		return s.catchUp(ctx, nil)
	}
	s.caught = true
	return s.report(Status{State: Live, Region: s.at.region, Over: OverSocket})
}

// handlePong judges the pong before this one: events that were on their way then have come by now.
// If nothing is missing up to its positions, its cursor is safe; what is missing is lost.
func (s *session) handlePong(ctx context.Context, now *pong) error {
	if err := s.handleStuck(); err != nil {
		return err
	}
	before := s.pong
	if s.pong = now; !s.caught || s.seq.catchingUp() {
		s.pong = nil
		return nil
	}
	if s.seq.missing(now.tops) {
		s.pingSoon()
	}
	switch {
	case before == nil:
		return nil
	case s.held || s.seq.missing(before.tops): // no position shows what is held
		return s.catchUp(ctx, before.tops)
	default:
		s.setCursor(before.cursor)
		s.dedup.complete()
		return nil
	}
}

// handleStuck counts a pong, and fails if too many have come since a request that is not answered.
func (s *session) handleStuck() error {
	if s.unanswered++; s.unanswered > patientPongs && (!s.caught || s.seq.catchingUp()) {
		return errStuck
	}
	return nil
}

const (
	maxFrame  = 64 << 10 // bytes; a server sends at most half of it
	maxFrames = 32       // that are read ahead of the handler
	catchUpBy = 200      // events in one answer to a catchup
	moment    = time.Second
)

// What a client may send: below the server's 20 frames a second, and 100 after a pause.
const (
	framesPerSecond = 10
	framesAtOnce    = 50
)

// socket is one connection to GET /v1/live, after its hello.
type socket struct {
	conn    *websocket.Conn
	region  string
	frames  chan wire.Frame // closed when nothing more comes
	err     error           // why; set before frames is closed
	hurry   chan struct{}   // ping soon
	limiter *rate.Limiter
	timeout time.Duration
}

// byeError is why the server closed the socket.
type byeError struct{ code, detail string }

func (e *byeError) Error() string { return "the server closed the socket: " + e.code + ": " + e.detail }

// dial opens a socket and waits for its hello. The error is a [Problem] where the handshake was
// answered with one, or the server refused the token.
func dial(ctx context.Context, client *http.Client, url, token string, timeout time.Duration) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			text, _ := io.ReadAll(response.Body) // its beginning, which the library has kept
			return nil, problemOf(response.StatusCode, response.Header, text)
		}
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	conn.SetReadLimit(maxFrame)
	s := &socket{
		conn: conn, frames: make(chan wire.Frame, maxFrames), hurry: make(chan struct{}, 1),
		limiter: rate.NewLimiter(framesPerSecond, framesAtOnce), timeout: timeout,
	}
	if err := s.hello(ctx); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	return s, nil
}

// hello waits for the server's hello.
func (s *socket) hello(ctx context.Context) error {
	if err := s.send(ctx, wire.Auth{Action: "auth", Ref: json.RawMessage("0")}); err != nil {
		return err
	}
	for {
		f, err := s.read(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("wait for hello: %w", err)
		case f.Type == "hello":
			s.region = f.Region
			return nil
		case f.Type == "error" || f.Type == "bye":
			return refusal(f)
		}
	}
}

// refusal is the error in a frame.
func refusal(f wire.Frame) error {
	switch {
	case f.Type == "error" && f.Problem != nil:
		return &Problem{Problem: *f.Problem}
	case f.Code == "unauthorized" || f.Code == "expired":
		return &Problem{Problem: wire.Problem{Status: http.StatusUnauthorized, Code: f.Code, Detail: f.Detail}}
	default:
		return &byeError{f.Code, f.Detail}
	}
}

// send sends a frame, as soon as the rate allows.
func (s *socket) send(ctx context.Context, frame any) error {
	if err := s.limiter.Wait(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(frame)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, text)
}

func (s *socket) read(ctx context.Context) (f wire.Frame, err error) {
	_, text, err := s.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, errors.New("cannot decode a frame")
	}
	return f, nil
}

// readAll reads frames until the socket or ctx ends, at most maxFrames ahead of the handler: if the
// server cannot send, it closes the socket. If nothing comes for the time of silence, in spite of
// pings, the connection is dead.
func (s *socket) readAll(ctx context.Context, silence time.Duration) {
	defer close(s.frames)
	for {
		limit, cancel := context.WithTimeout(ctx, silence)
		f, err := s.read(limit)
		cancel()
		if err != nil {
			s.err = err
			return
		}
		select {
		case s.frames <- f:
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
	}
}

// pingAll pings at intervals, and a moment after an event seemed to be missing, until ctx ends.
func (s *socket) pingAll(ctx context.Context, every time.Duration) {
	for {
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-s.hurry:
			_ = events.Sleep(ctx, moment)
		case <-ctx.Done():
		}
		timer.Stop()
		if s.send(ctx, wire.Ping{Action: "ping"}) != nil {
			return // the reader finds out why
		}
	}
}

// pingSoon makes the next ping come in a moment.
func (s *socket) pingSoon() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// Typing notifies a room that the user is typing, if a socket is open.
func (c *Client) Typing(ctx context.Context, room string) {
	if s := c.socket.Load(); s != nil {
		_ = s.send(ctx, wire.SendTyping{Action: "typing", Room: room})
	}
}
