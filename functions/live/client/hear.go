package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// mostEvents is how many events a page has at most. On a slow line it has fewer.
const mostEvents = 100

// page takes a page of what happened.
func (r *run) page(ctx context.Context, at *endpoint, wait time.Duration) (region string, more bool, err error) {
	seconds := int(wait / time.Second)
	a, err := r.once(ctx, at, request{
		method: http.MethodGet, wait: wait,
		path: "/v1/sync?limit=" + strconv.Itoa(r.limit) + "&wait=" + strconv.Itoa(seconds) + "&cursor=" + url.QueryEscape(r.Cursor()),
	})
	if err != nil {
		r.limit = max(1, r.limit/4) // a page may have been too much for the line
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
