package pebblelog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/pebbledb/window"
)

// write is one event on its way into the log, and what became of it.
type write struct {
	event   events.Event
	replica bool // another region has accepted it
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
	w := &write{event: e, at: at.UnixNano(), key: eventKey(e.Key())}
	w.value = encodeEntry(w.at, e)
	return w, nil
}

// request is what one caller wants committed, and the channel for its outcome.
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

// maxCommit bounds the writes of one commit, except those of its last request, and so the size
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

// commit is what is written in one batch and made durable by one fsync.
type commit struct {
	batch    *pebble.Batch
	requests []*request
	records  []events.Record
}

// commitAll commits what is queued until the queue is closed and empty, one commit after the
// other: each is decided when the one before is durable and can be read. What arrives while the
// disk works on one is in the next. To decide the next one meanwhile was tried: the commits are
// then smaller and more, and cost more than they save.
//
// Each commit is shown to the tail once it is durable, and only then are its callers woken. A
// commit that holds only repeats writes nothing. Once one has failed no other may
// follow it.
func (l *Log) commitAll(head uint64) {
	d := decider{head: head, values: map[string][]byte{}, new: window.New()}
	for requests := l.queue.take(); requests != nil; requests = l.queue.take() {
		d.commit = &commit{batch: l.db.NewBatch(), requests: requests, records: make([]events.Record, 0, len(requests))}
		d.decide(l.db)
		err := l.db.Apply(d.commit.batch, pebble.Sync)
		if err == nil {
			err = l.disk.Err() // a frozen disk seems to sync
		}
		if err != nil {
			stopped := fmt.Errorf("%w: %w", ErrStopped, err)
			l.tail.fail(stopped)
			l.queue.abandon(stopped)
			d.commit.finish(fmt.Errorf("%w: %w", events.ErrUnknownOutcome, stopped))
			return
		}
		l.tail.publish(d.commit.records)
		d.commit.finish(nil)
		_ = d.commit.batch.Close() // gives its memory back; the batch is done
	}
}

func (c *commit) finish(err error) {
	for _, r := range c.requests {
		r.finish(err)
	}
}

// decider says what becomes of each write of a commit, given what the log and the commit so far
// hold, and adds to the commit what is to be written.
type decider struct {
	commit *commit
	head   uint64            // the last position given out
	it     *pebble.Iterator  // over the log before the commit
	values map[string][]byte // by key, what the commit writes
	new    *window.Windows   // tells, of streams that grow, which keys are new

	positionKey, arrival []byte // memory to be used again
}

// decide decides all writes of the commit. One iterator serves all lookups: nearly all ids are
// new, and its filters, unlike those of a Get, save the way to the disk on every level.
func (d *decider) decide(db *pebble.DB) {
	var err error
	if d.it, err = db.NewIter(&pebble.IterOptions{UseL6Filters: true}); err == nil {
		defer func() { _ = d.it.Close() }() // its error has been met in a lookup
	}
	clear(d.values)
	if err == nil {
		err = d.track()
	}
	for _, r := range d.commit.requests {
		for _, w := range r.writes {
			if w.err = err; err == nil {
				w.err = d.write(w)
			}
		}
	}
}

// write inserts an event unless its key is there. A damaged value does not count: the key says
// what it was, and it is stored again.
func (d *decider) write(w *write) error {
	current, err := d.current(w)
	if err != nil {
		return fmt.Errorf("look for the event: %w", err)
	}
	if _, damaged := splitEntry(current); damaged != nil {
		return d.arrive(w)
	}
	w.repeat = true
	if w.replica {
		return nil
	}
	w.stored, _, err = decode(w.key, current)
	return err
}

// track begins to track the streams that were found to grow, before anything of this commit is
// written to them.
func (d *decider) track() error {
	for _, stream := range d.new.Due() {
		_, upper := bounds(events.Stream(stream), events.Range{})
		floor := ""
		if d.it.SeekLT(upper) {
			floor = string(d.it.Key()) // it may be of the stream before: that is below all of this one's
		}
		if err := d.it.Error(); err != nil {
			return err
		}
		d.new.Track(stream, floor)
	}
	return nil
}

// current is the value of a key in the commit or in the log before it, or nil. It is valid until
// the next lookup.
func (d *decider) current(w *write) ([]byte, error) {
	key := w.key
	if d.new.Absent(string(w.event.Stream), string(key)) {
		return nil, nil
	}
	if value := d.values[string(key)]; value != nil {
		return value, nil
	}
	if !d.it.SeekPrefixGE(key) {
		d.new.Missed(string(w.event.Stream))
		return nil, d.it.Error()
	}
	return d.it.ValueAndErr()
}

// arrive adds an event to the commit, at the next position.
func (d *decider) arrive(w *write) error {
	position := d.head + 1
	setPosition(w.value, position)
	key := string(w.key)
	d.values[key] = w.value
	d.new.Add(string(w.event.Stream), key)
	if err := d.commit.batch.Set(w.key, w.value, nil); err != nil {
		return err
	}
	d.positionKey = appendPositionKey(d.positionKey[:0], position)
	d.arrival = appendArrival(d.arrival[:0], w.key, w.replica)
	if err := d.commit.batch.Set(d.positionKey, d.arrival, nil); err != nil {
		return err
	}
	d.head = position
	sequence := formatPosition(position)
	d.commit.records = append(d.commit.records, events.Record{
		Event: w.event, Replica: w.replica, Sequence: sequence, Number: events.Number(sequence), At: unixNano(w.at),
	})
	w.stored = w.event
	return nil
}
