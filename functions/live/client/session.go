package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Why a session ends although nothing is wrong with the socket.
var (
	errReset   = errors.New("all must be loaded again")
	errPartial = errors.New("an event did not fit into a frame")
	errStuck   = errors.New("the server does not answer what it was asked")
)

// patientPongs is how many pongs may come while a question is not answered.
const patientPongs = 3

// session is what is heard over one socket. Positions mean something within it only.
type session struct {
	*run
	at   *visit // of the region
	send func(ctx context.Context, what map[string]any) error
	// pingSoon asks for a ping in a moment: something seems to be missing.
	pingSoon func()
	seq      *sequence

	asked      string            // the cursor that the catch-up under way was asked with
	ref        int               // of what was asked last
	unanswered int               // pongs since then
	tops       map[string]uint64 // of the frames of a subscribed or pong that comes in parts
	pong       *pong             // the last
	caught     bool              // up, once
}

// pong is how far the region was when it was pinged.
type pong struct {
	cursor string
	tops   map[string]uint64
}

// listen hears over a socket until it ends; the error says why. Live says whether it ever was.
func (r *run) listen(ctx context.Context, at *endpoint) (live bool, err error) {
	s, err := r.connect(ctx, at)
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
	h := &session{run: r, at: r.visit(at, s.region), send: s.send, pingSoon: s.pingSoon, seq: newSequence(), tops: map[string]uint64{}}
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
			if err := h.take(ctx, f); err != nil {
				return h.caught, err
			}
		case <-ctx.Done():
			return h.caught, context.Cause(ctx)
		}
	}
}

// connect opens a socket, with a new token if the one it has is refused.
func (r *run) connect(ctx context.Context, at *endpoint) (*socket, error) {
	refused := ""
	for {
		token, err := r.token.get(ctx, refused)
		if err != nil {
			return nil, fmt.Errorf("get a token: %w", err)
		}
		s, err := dial(ctx, r.http, at.socket, token, r.options.Timeout)
		if refused != "" || !unauthenticated(err) {
			return s, err
		}
		refused = token
	}
}

// next is the ref of the next question.
func (s *session) next() int {
	s.ref++
	s.unanswered = 0
	return s.ref
}

// subscribe asks for all that happens from now on, in whatever room.
func (s *session) subscribe(ctx context.Context) error {
	return s.send(ctx, map[string]any{"action": "subscribe", "ref": s.next()})
}

// take takes a frame.
func (s *session) take(ctx context.Context, f frame) error {
	switch f.Type {
	case "event":
		return s.event(ctx, f)
	case "subscribed":
		if f.tops(s.options.User, s.tops); f.Part {
			return nil
		}
		return s.catchUp(ctx, s.allTops())
	case "caught_up":
		if f.Ref != s.ref {
			return nil
		}
		return s.caughtUp(ctx, f)
	case "pong":
		if f.tops(s.options.User, s.tops); f.Part {
			return nil
		}
		return s.ponged(ctx, &pong{f.Cursor, s.allTops()})
	case "typing":
		return s.tell(s.at, Typing{f.Room, f.User})
	case "bye":
		return s.refused(f)
	case "error":
		if f.Ref != s.ref {
			return nil // of typing or a ping
		}
		return s.refused(f)
	case "": // API Gateway itself: a frame of ours could not be handled
		if !s.caught || s.seq.catching() {
			return errStuck
		}
		return nil
	default: // what a newer server says, or what comes as an event, too
		return nil
	}
}

// refused is the error that ends the session. A token that has expired meanwhile is asked for anew.
func (s *session) refused(f frame) error {
	err := refusal(f)
	if unauthenticated(err) {
		s.token.forget()
		return fmt.Errorf("listen: %s", asProblem(err).Code)
	}
	return err
}

// allTops returns the positions that have come in parts.
func (s *session) allTops() map[string]uint64 {
	tops := s.tops
	s.tops = map[string]uint64{}
	return tops
}

func (s *session) event(ctx context.Context, f frame) error {
	if s.seq.catching() && f.Cursor == s.asked {
		s.unanswered = 0
		return s.hand(s.seq.told(f.read()))
	}
	if err := s.hand(s.seq.live(f.read())); err != nil {
		return err
	}
	if s.caught && s.seq.gap() && !s.seq.catching() {
		return s.catchUp(ctx, nil)
	}
	return nil
}

// hand hands events to the handler.
func (s *session) hand(ready []happened) error {
	for _, h := range ready {
		if err := s.hear(s.at, h); err != nil {
			return err
		}
	}
	return nil
}

// catchUp asks for all that happened since the cursor; what stands up to tops is part of it.
func (s *session) catchUp(ctx context.Context, tops map[string]uint64) error {
	if err := s.say(Status{State: CatchingUp, Region: s.at.region}); err != nil {
		return err
	}
	s.seq.asking(tops)
	return s.ask(ctx, s.Cursor())
}

func (s *session) ask(ctx context.Context, cursor string) error {
	s.asked = cursor
	return s.send(ctx, map[string]any{"action": "catchup", "cursor": cursor, "limit": catchUpBy, "ref": s.next()})
}

func (s *session) caughtUp(ctx context.Context, f frame) error {
	if f.Reset {
		return errReset
	}
	s.setCursor(f.Cursor)
	if f.More {
		return s.ask(ctx, f.Cursor)
	}
	if err := s.hand(s.seq.caughtUp()); err != nil {
		return err
	}
	if s.seq.gap() { // something came meanwhile, behind what is still missing
		return s.catchUp(ctx, nil)
	}
	s.caught = true
	return s.say(Status{State: Live, Region: s.at.region, Over: OverSocket})
}

// ponged judges the pong before this one: what was on its way then has come by now. So if nothing
// is missing up to its positions its cursor is safe, and what is missing is lost.
func (s *session) ponged(ctx context.Context, now *pong) error {
	if s.unanswered++; s.unanswered > patientPongs && (!s.caught || s.seq.catching()) {
		return errStuck
	}
	before := s.pong
	if s.pong = now; !s.caught || s.seq.catching() {
		s.pong = nil
		return nil
	}
	if s.seq.missing(now.tops) {
		s.pingSoon()
	}
	switch {
	case before == nil:
		return nil
	case s.seq.missing(before.tops):
		return s.catchUp(ctx, before.tops)
	default:
		s.setCursor(before.cursor)
		return nil
	}
}
