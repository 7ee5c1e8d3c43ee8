package pebblelog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"parley/events"
)

// write is one event on its way into the log, and what became of it.
type write struct {
	event   events.Event
	replica bool // another region has accepted it: the last writer wins
	at      int64
	key     []byte
	value   []byte

	stored events.Event
	repeat bool
	err    error
}

func newWrite(e events.Event, at time.Time) (*write, error) {
	if err := e.Stream.Validate(); err != nil {
		return nil, err
	}
	w := &write{event: e, at: at.UnixNano(), key: eventKey(e.Stream, e.ID)}
	w.value = encodeEntry(w.at, e)
	return w, nil
}

// request is what one caller wants committed, and the means to tell it the outcome.
type request struct {
	writes []*write
	err    error         // of the whole request; read it after done
	done   chan struct{} // closed when writes and err hold the outcome
}

func newRequest(writes []*write) *request {
	return &request{writes: writes, done: make(chan struct{})}
}

func (r *request) finish(err error) {
	r.err = err
	close(r.done)
}

// wait returns the outcome of the request as a whole. Once ctx ends it is unknown.
func (r *request) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", events.ErrUnknownOutcome, ctx.Err())
	}
}

// queue holds the requests that wait for the next commit.
type queue struct {
	mu      sync.Mutex
	ready   sync.Cond // as many wait as are wanted, or closed is set
	waiting []*request
	appends int // how many of them are of single callers
	want    int // how many appends a lingering commit waits for
	last    int // how many appends were taken last
	closed  error
}

func (q *queue) init() { q.ready.L = &q.mu }

// await lingers until so many appends wait, the queue is closed, or it has been long enough.
// q.mu must be held.
func (q *queue) await(want int) {
	if q.appends >= want {
		return
	}
	q.want = want
	timer := time.AfterFunc(linger, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.want = 0
		q.ready.Signal()
	})
	defer timer.Stop()
	for q.appends < q.want && q.closed == nil {
		q.ready.Wait()
	}
	q.want = 0
}

// put adds a request, or returns why there will be no more commits.
func (q *queue) put(requests ...*request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	q.waiting = append(q.waiting, requests...)
	q.appends += count(requests)
	if q.appends >= q.want {
		q.ready.Signal()
	}
	return nil
}

// maxCommit bounds the writes of one commit, but for those of its last request, and so the size
// of its batch.
const maxCommit = 1024

// linger is how long a commit waits for others at most. It passes only where fewer come than came
// before, or where the processor is so busy that they come slowly: then an fsync that is shared by
// a few more is worth it.
const linger = 4 * time.Millisecond

// take waits for requests and takes what is there, or returns nil if there will be no more.
//
// The callers of the last commit have just been woken; most of them are about to come again. So
// it lingers until as many have come: otherwise the first of them would get a commit to itself and
// all others the next, and each commit costs an fsync. Replicas are not counted, for they come when
// they are due, and take any commit.
func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && q.closed == nil {
		q.ready.Wait()
	}
	q.await(q.last)
	n := 0
	for writes := 0; n < len(q.waiting) && writes < maxCommit; n++ {
		writes += len(q.waiting[n].writes)
	}
	taken := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	q.last = count(taken)
	q.appends -= q.last
	if n == 0 {
		return nil
	}
	return taken
}

// count is how many requests are appends, whose callers come again as soon as they are answered.
func count(requests []*request) (appends int) {
	for _, r := range requests {
		if !r.writes[0].replica {
			appends++
		}
	}
	return appends
}

// close lets no more requests in. Those that wait are still to be taken.
func (q *queue) close(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = why
	}
	q.ready.Signal()
}

// abandon closes the queue and fails all requests that wait. Nothing of them was stored.
func (q *queue) abandon(why error) {
	q.close(why)
	q.mu.Lock()
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	for _, r := range waiting {
		r.finish(why)
	}
}
