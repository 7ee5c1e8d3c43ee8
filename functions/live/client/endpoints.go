package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// forgetFailures is how long an endpoint must be healthy before its failures are forgotten: an
// endpoint that flaps is not used every time.
const forgetFailures = time.Minute

// endpoint is where requests can be sent: the global name, or that of a region.
type endpoint struct {
	url      string
	socket   string    // where its sockets are
	down     bool      // as far as is known
	failures int       // each soon after the one before
	since    time.Time // the last one
	again    time.Time // when to try it again
	asked    bool      // its health is being probed
}

// endpoints chooses where to send requests: to the first healthy one in the order of preference. One
// that has failed is skipped until a probe finds it healthy or, if nobody probes, until a backoff is
// over.
type endpoints struct {
	mu      sync.Mutex
	all     []*endpoint
	watched bool          // failed endpoints are being probed
	changed chan struct{} // closed and replaced when one fails or is healthy again
}

func newEndpoints(all []*endpoint) *endpoints {
	return &endpoints{all: all, changed: make(chan struct{})}
}

// places makes endpoints from their URLs.
func places(urls, sockets []string) (all []*endpoint, err error) {
	if len(sockets) > 0 && len(sockets) != len(urls) {
		return nil, errors.New("there must be as many Sockets as Endpoints, or none")
	}
	for i, url := range urls {
		e := &endpoint{url: strings.TrimRight(url, "/")}
		scheme, _, _ := strings.Cut(url, "://")
		if scheme != "http" && scheme != "https" {
			return nil, errors.New("an endpoint must begin with http:// or https://")
		}
		e.socket = "ws" + strings.TrimPrefix(e.url, "http") + "/v1/live"
		if len(sockets) > 0 {
			e.socket = sockets[i]
		}
		all = append(all, e)
	}
	return all, nil
}

// current is the best endpoint; if none is healthy, the one to be tried next.
func (s *endpoints) current() *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := s.all[0]
	for _, e := range s.all {
		if !e.down || (!s.watched && !time.Now().Before(e.again)) {
			return e
		}
		if e.again.Before(best.again) {
			best = e
		}
	}
	return best
}

// failed notes that an endpoint did not answer as it should. Requests that fail together count as one
// failure.
func (s *endpoints) failed(e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if e.down && now.Before(e.again) {
		return
	}
	if now.Sub(e.since) > forgetFailures {
		e.failures = 0
	}
	e.down, e.since = true, now
	e.failures++
	e.again = now.Add(turnBackoff.Delay(e.failures))
	s.wakeWaiters()
}

// wakeWaiters wakes those who wait for a change. The lock is held.
func (s *endpoints) wakeWaiters() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// works notes that an endpoint is healthy.
func (s *endpoints) works(e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.down {
		e.down = false
		s.wakeWaiters()
	}
}

// down reports whether no endpoint is known to work.
func (s *endpoints) down() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if !e.down {
			return false
		}
	}
	return true
}

// awaitBetter waits until an endpoint is healthy that is preferred to the one in use, or ctx ends.
func (s *endpoints) awaitBetter(ctx context.Context, used *endpoint) error {
	for {
		s.mu.Lock()
		changed, better := s.changed, false
		for _, e := range s.all[:slices.Index(s.all, used)] {
			better = better || !e.down
		}
		s.mu.Unlock()
		if better {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause waits, or returns early with the context's error. If no endpoint is known to work it returns
// as soon as one does.
func (s *endpoints) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for before := s.down(); ; {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if before && !s.down() {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch probes the health of failed endpoints, with backoff, until ctx ends.
func (s *endpoints) watch(ctx context.Context, isWell func(ctx context.Context, url string) bool) {
	var asking sync.WaitGroup
	s.watching(true)
	defer func() {
		asking.Wait()
		s.watching(false)
	}()
	for {
		due, next, changed := s.due()
		for _, e := range due {
			asking.Go(func() { s.asked(e, isWell(ctx, e.url)) })
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *endpoints) watching(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = is
}

// due returns the failed endpoints to probe now, when to probe the next one, and a channel that is
// closed at a change.
func (s *endpoints) due() (due []*endpoint, next time.Time, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	next = now.Add(time.Hour)
	for _, e := range s.all {
		switch {
		case !e.down || e.asked:
		case now.Before(e.again):
			if e.again.Before(next) {
				next = e.again
			}
		default:
			e.asked = true
			due = append(due, e)
		}
	}
	return due, next, s.changed
}

// asked notes the health of an endpoint.
func (s *endpoints) asked(e *endpoint, well bool) {
	s.mu.Lock()
	e.asked = false
	s.mu.Unlock()
	if well {
		s.works(e)
	} else {
		s.failed(e)
	}
}
