package client

import (
	"context"
	"errors"
	"math/rand/v2"
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
	limit   int // of the events in the next page
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
		c.dropIdle()
	}()
	r := &run{Client: c, ctx: ctx, handle: handle, limit: mostEvents, sockets: sockets{off: c.options.NoSocket}}
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
	_ = r.endpoints.pause(r.ctx, pause)
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
	if r.status.Over != OverPoll { // else it only looked whether sockets work by now
		if err := r.say(Status{State: CatchingUp, Err: err}); err != nil {
			return err
		}
	}
	return sleep(ctx, rand.N(crowdPause))
}
