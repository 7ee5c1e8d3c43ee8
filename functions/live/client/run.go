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
)

// run is one call of Run.
type run struct {
	*Client
	ctx     context.Context // of Run: what handlers are called with is derived from it
	handle  Handler
	status  Status // as it was told last
	sockets sockets
	failed  int // turns, in a row
}

// handlerError is an error of the application's.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }

// errBetter ends a turn at an endpoint because there is a better one.
var errBetter = errors.New("a preferred endpoint is well again")

// Run tells the handler what happens until ctx ends, the handler fails or the token is refused for
// good, which is the error. Over a socket, or by long poll where sockets do not work; at another
// endpoint where one fails; and if need be it goes on trying for ever. It can be called again, and
// goes on where it was, but not twice at a time.
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
		if c.options.HTTP == nil {
			c.http.CloseIdleConnections()
		}
	}()
	r := &run{Client: c, ctx: ctx, handle: handle, sockets: sockets{off: c.options.NoSocket}}
	for {
		at := r.endpoints.current()
		if err := r.ended(r.turnAt(at)); err != nil {
			return err
		}
	}
}

// ended judges how a turn ended, and waits before the next. The error ends Run.
func (r *run) ended(err error) error {
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
		return r.unwrap(r.say(Status{State: CatchingUp}))
	case unauthenticated(err):
		return err
	default:
		state := CatchingUp
		if r.endpoints.down() {
			state = Offline
		}
		if err := r.say(Status{State: state, Err: err}); err != nil {
			return r.unwrap(err)
		}
	}
	r.failed++
	pause := backoff(r.failed, firstPause, longestPause)
	var p *Problem
	if errors.As(err, &p) && !p.regional() {
		pause = max(pause, p.after)
	}
	_ = sleep(r.ctx, pause)
	return nil
}

// unwrap gives an error of the application's as it was.
func (r *run) unwrap(err error) error {
	var own *handlerError
	if errors.As(err, &own) {
		return own.err
	}
	return err
}

// turnAt takes a turn at an endpoint, for as long as there is no better one.
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

// turn catches up by one page, and once there is no more listens: over a socket until that ends,
// or by waiting for the next page.
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
		return r.say(Status{State: CatchingUp, Region: region})
	case !r.sockets.wanted():
		return r.say(Status{State: Live, Region: region, Over: OverPoll})
	}
	began := time.Now()
	live, err := r.listen(ctx, at)
	return r.over(ctx, at, live && time.Since(began) > shortLife, err)
}

// crowdPause is over what time those come back whose sockets ended at the same moment.
const crowdPause = time.Second

// over judges how a socket ended.
func (r *run) over(ctx context.Context, at *endpoint, lasted bool, err error) error {
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
	if err := r.say(Status{State: CatchingUp, Err: err}); err != nil {
		return err
	}
	return sleep(ctx, rand.N(crowdPause))
}

// page takes a page of what happened.
func (r *run) page(ctx context.Context, at *endpoint, wait time.Duration) (region string, more bool, err error) {
	seconds := int(wait / time.Second)
	a, err := r.once(ctx, at, request{
		method: http.MethodGet, wait: wait,
		path: "/v1/sync?limit=100&wait=" + strconv.Itoa(seconds) + "&cursor=" + url.QueryEscape(r.Cursor()),
	})
	if err != nil {
		return "", false, err
	}
	var p syncPage
	if err := json.Unmarshal(a.body, &p); err != nil {
		return "", false, fmt.Errorf("read a page of sync: %w", err)
	}
	if p.Reset {
		return "", false, errReset
	}
	v := r.visit(at, a.region)
	for _, w := range p.Events {
		if err := r.hear(v, w.read()); err != nil {
			return "", false, err
		}
	}
	r.setCursor(p.Cursor)
	return a.region, p.More, nil
}

// reset lets the application load everything, behind a cursor of the region it loads from. Who was
// told something by one region and loads from another may have to be told again.
func (r *run) reset(ctx context.Context, at *endpoint) error {
	a, err := r.once(ctx, at, request{method: http.MethodGet, path: "/v1/sync"})
	if err != nil {
		return err
	}
	var p syncPage
	if err := json.Unmarshal(a.body, &p); err != nil {
		return fmt.Errorf("read a cursor: %w", err)
	}
	r.memory = newMemory(remembered)
	if err := r.say(Status{State: CatchingUp, Region: a.region}); err != nil {
		return err
	}
	if err := r.tell(r.visit(at, a.region), Reset{}); err != nil {
		return err
	}
	r.setCursor(p.Cursor)
	return nil
}

// hear hands an event to the handler unless it was told already.
func (r *run) hear(v *visit, h happened) error {
	if h.unknown {
		return nil
	}
	verdict, key, digest := r.memory.judge(h)
	switch {
	case verdict == repeat:
		return nil
	case h.partial:
		return errPartial
	}
	r.see(h.event.ID)
	if err := r.tell(v, Event{h.event, h.room, verdict == replaced}); err != nil {
		return err
	}
	r.memory.remember(key, digest)
	return nil
}

// tell hands an update to the handler. If that asked another region the error is errReset.
func (r *run) tell(v *visit, u Update) error {
	if err := r.handle(v.ctx, u); err != nil {
		return &handlerError{err}
	}
	if v.strayed.Load() {
		return errReset
	}
	return nil
}

// say tells how the client stands, if that has changed.
func (r *run) say(s Status) error {
	if s.State == r.status.State && s.Region == r.status.Region && s.Over == r.status.Over {
		return nil
	}
	r.status = s
	if err := r.handle(r.ctx, s); err != nil {
		return &handlerError{err}
	}
	return nil
}
