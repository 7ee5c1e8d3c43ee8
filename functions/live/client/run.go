package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// run is one call of [Client.Run].
type run struct {
	*Client
	ctx     context.Context // of Run; that of a handler is derived from it
	handle  Handler
	status  Status // the last that was reported
	sockets sockets
	failed  int // turns, in a row
	limit   int // of the events in the next page
}

// handlerError is an error of the application's.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// errBetter ends a turn at an endpoint because there is a better one.
var errBetter = errors.New("a preferred endpoint is healthy again")

// Run delivers updates to the handler until ctx ends, the handler fails or a new token is refused,
// which is the error. It uses a socket, or long polls where sockets do not work, falls back to
// another endpoint where one fails, and retries forever. It may be called again after it has
// returned, and resumes where it was.
func (c *Client) Run(ctx context.Context, handle Handler) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("client: Run is running already")
	}
	defer c.running.Store(false)
	watch, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { c.endpoints.watch(watch, c.isWell) })
	defer func() {
		stop()
		work.Wait()
		c.dropIdle()
	}()
	r := &run{Client: c, ctx: ctx, handle: handle, limit: mostEvents, sockets: sockets{off: c.options.NoSocket}}
	for {
		at := r.endpoints.current()
		if err := r.turnEnded(r.turnAt(at)); err != nil {
			return err
		}
	}
}

// turnEnded decides by the error of a turn what comes next, and backs off. Its own error ends Run.
func (r *run) turnEnded(err error) error {
	var own *handlerError
	switch {
	case errors.As(err, &own):
		return own.err
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case err == nil:
		return nil
	case errors.Is(err, errReset), IsProblem(err, "invalid_cursor"):
		r.setCursor("")
	case errors.Is(err, errBetter):
		return r.unwrap(r.report(Status{State: CatchingUp}))
	case unauthenticated(err):
		return err
	default:
		state := CatchingUp
		if r.endpoints.down() {
			state = Offline
		}
		if err := r.report(Status{State: state, Err: err}); err != nil {
			return r.unwrap(err)
		}
	}
	r.failed++
	pause := turnBackoff.Delay(r.failed)
	var p *Problem
	if errors.As(err, &p) && !p.regional() {
		pause = max(pause, p.retryAfter)
	}
	_ = r.endpoints.pause(r.ctx, pause)
	return nil
}

// unwrap returns an error of the application as it was.
func (r *run) unwrap(err error) error {
	var own *handlerError
	if errors.As(err, &own) {
		return own.err
	}
	return err
}

// turnAt takes a turn at an endpoint, and ends it when a better one is healthy.
func (r *run) turnAt(at *endpoint) error {
	here, end := context.WithCancelCause(r.ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer end(nil)
	work.Go(func() {
		if r.endpoints.awaitBetter(here, at) == nil {
			end(errBetter)
		}
	})
	err := r.turn(here, at)
	if errors.Is(err, context.Canceled) && context.Cause(here) == errBetter {
		return errBetter
	}
	return err
}

// turn gets one page of events. When there are no more it listens: over a socket until that ends, or
// by a long poll for the next page.
func (r *run) turn(ctx context.Context, at *endpoint) error {
	if r.Cursor() == "" {
		return r.reset(ctx, at)
	}
	socket := r.sockets.wanted()
	wait := time.Duration(0)
	if r.status.State == Live && !socket {
		wait = min(r.options.Wait, max(r.sockets.resting(), time.Second))
	}
	region, more, err := r.page(ctx, at, wait)
	if err != nil {
		r.sockets.excuse()
		return err
	}
	r.failed = 0
	r.sockets.judge()
	switch {
	case more:
		return r.report(Status{State: CatchingUp, Region: region})
	case !r.sockets.wanted():
		return r.report(Status{State: Live, Region: region, Over: OverPoll})
	}
	began := time.Now()
	live, err := r.listen(ctx, at)
	return r.socketEnded(ctx, at, live && time.Since(began) > shortLife, err)
}

// crowdPause spreads the reconnects of clients whose sockets ended at the same moment.
const crowdPause = time.Second

// socketEnded decides by how a socket ended what comes next.
func (r *run) socketEnded(ctx context.Context, at *endpoint, lasted bool, err error) error {
	var own *handlerError
	var bye *byeError
	switch {
	case errors.As(err, &own), errors.Is(err, errReset), ctx.Err() != nil, unauthenticated(err), IsProblem(err, "invalid_cursor"):
		return err
	case errors.As(err, &bye) && bye.code == "going_away":
		r.endpoints.failed(at)
		return err
	case errors.Is(err, errPartial):
		r.sockets.rest(partialRest)
	case !lasted:
		r.sockets.suspect = true
	default:
		r.sockets.failures = 0
	}
	if r.status.Over != OverPoll { // else it only tried whether sockets work by now
		if err := r.report(Status{State: CatchingUp, Err: err}); err != nil {
			return err
		}
	}
	return events.Sleep(ctx, rand.N(crowdPause))
}

// mostEvents is how many events a page has at most. On a slow connection it has fewer.
const mostEvents = 100

// page gets a page of what happened, and delivers it.
func (r *run) page(ctx context.Context, at *endpoint, wait time.Duration) (region string, more bool, err error) {
	seconds := int(wait / time.Second)
	a, err := r.once(ctx, at, request{
		method: http.MethodGet, wait: wait,
		path: "/v1/sync?limit=" + strconv.Itoa(r.limit) + "&wait=" + strconv.Itoa(seconds) + "&cursor=" + url.QueryEscape(r.Cursor()),
	})
	if err != nil {
		r.limit = max(1, r.limit/4) // the page may have been too large for the connection
		return "", false, err
	}
	r.limit = min(2*r.limit, mostEvents)
	var p syncPage
	if err := json.Unmarshal(a.body, &p); err != nil {
		return "", false, fmt.Errorf("read a page of sync: %w", err)
	}
	if p.Reset {
		return "", false, errReset
	}
	v := r.visit(at, a.region)
	for _, f := range p.Events {
		if err := r.deliverEvent(v, happenedOf(f)); err != nil {
			return "", false, err
		}
	}
	r.setCursor(p.Cursor)
	if !p.More {
		r.dedup.complete()
	}
	return a.region, p.More, nil
}

// reset lets the application load everything, after a cursor was taken from the same region. Events
// that were delivered before are delivered again: another region may not have had them.
func (r *run) reset(ctx context.Context, at *endpoint) error {
	a, err := r.once(ctx, at, request{method: http.MethodGet, path: "/v1/sync"})
	if err != nil {
		return err
	}
	var p syncPage
	if err := json.Unmarshal(a.body, &p); err != nil {
		return fmt.Errorf("read a cursor: %w", err)
	}
	r.dedup = newDedup(dedupSize, dedupMost)
	if err := r.report(Status{State: CatchingUp, Region: a.region}); err != nil {
		return err
	}
	if err := r.deliver(r.visit(at, a.region), Reset{}); err != nil {
		return err
	}
	r.setCursor(p.Cursor)
	return nil
}

// deliverEvent calls the handler with an event unless it is a duplicate.
func (r *run) deliverEvent(v *visit, h happened) error {
	if h.unknown {
		return nil
	}
	verdict, key, digest := r.dedup.judge(h)
	switch {
	case verdict == duplicate:
		return nil
	case h.partial:
		return errPartial
	}
	r.see(h.event.ID)
	if err := r.deliver(v, Event{h.event, h.room}); err != nil {
		return err
	}
	r.dedup.remember(key, digest)
	return nil
}

// deliver calls the handler with an update. If that got an answer from another region the error is
// errReset.
func (r *run) deliver(v *visit, u Update) error {
	if err := r.handle(v.ctx, u); err != nil {
		return &handlerError{err}
	}
	if v.strayed.Load() {
		return errReset
	}
	return nil
}

// report calls the handler with a status, if it has changed.
func (r *run) report(s Status) error {
	if s.State == r.status.State && s.Region == r.status.Region && s.Over == r.status.Over {
		return nil
	}
	r.status = s
	if err := r.handle(r.ctx, s); err != nil {
		return &handlerError{err}
	}
	return nil
}

const (
	shortLife   = 10 * time.Second // of a socket: if it ends sooner, sockets may not work here
	partialRest = 5 * time.Second  // without sockets, while an event is polled that did not fit into a frame
)

// socketBackoff is how long to do without sockets where they do not work.
var socketBackoff = events.Backoff{First: time.Minute, Max: 30 * time.Minute}

// sockets decides whether to try a socket. If two in a row did not open, or ended soon, although the
// API answers, the client falls back to long polls for a while.
type sockets struct {
	off      bool // [Options.NoSocket]
	failures int  // in a row
	suspect  bool // the last one ended soon: because of the region, or because sockets do not work
	until    time.Time
}

// wanted reports whether to try a socket now.
func (s *sockets) wanted() bool { return !s.off && s.resting() <= 0 }

// resting is how long to do without one.
func (s *sockets) resting() time.Duration {
	if s.off {
		return time.Hour
	}
	return time.Until(s.until)
}

func (s *sockets) rest(d time.Duration) { s.until = time.Now().Add(d) }

// excuse notes that the last socket ended because of the region.
func (s *sockets) excuse() { s.suspect = false }

// judge notes that the region answers: if the last socket ended soon, sockets do not work.
func (s *sockets) judge() {
	if !s.suspect {
		return
	}
	s.suspect = false
	if s.failures++; s.failures > 1 {
		s.rest(socketBackoff.Delay(s.failures - 1))
	}
}

// syncPage is a [wire.SyncPage] whose events are not decoded yet, as in a frame: one that this
// version cannot read must not spoil the page.
type syncPage struct {
	wire.SyncPage
	Events []wire.Frame `json:"events"`
}
