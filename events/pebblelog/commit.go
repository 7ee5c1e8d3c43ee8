package pebblelog

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
)

// commit is what is written in one batch and made durable by one fsync.
type commit struct {
	batch    *pebble.Batch
	requests []*request
	records  []Record
	values   map[string][]byte // by key, what the batch writes
}

// startCommits starts the two goroutines that commit. One gathers: it takes what is queued and
// decides what becomes of it. The other commits. So the next commit is made ready while the disk
// works on the last one; but it is applied only after that one is durable, for once a commit has
// failed no other must follow it.
func (l *Log) startCommits(head uint64) {
	l.queue.init()
	gathered := make(chan *commit)
	applied := make(chan struct{})
	l.commits.Go(func() { l.gather(head, gathered, applied) })
	l.commits.Go(func() { l.commit(gathered, applied) })
}

// gather decides, commit by commit, until the queue is closed and empty. Each commit is decided
// when the one before has been applied and can be read.
func (l *Log) gather(head uint64, gathered chan<- *commit, applied <-chan struct{}) {
	defer close(gathered)
	for requests := l.queue.take(); requests != nil; requests = l.queue.take() {
		c := &commit{batch: l.db.NewBatch(), requests: requests, values: make(map[string][]byte, len(requests))}
		for _, r := range requests {
			for _, w := range r.writes {
				w.err = l.decide(c, w, &head)
			}
		}
		gathered <- c
		<-applied
	}
}

// commit makes each commit durable, shows it to the tail, and only then wakes its callers. A
// commit that holds only repeats and conflicts writes nothing, but it too comes after the
// commits that it may repeat.
func (l *Log) commit(gathered <-chan *commit, applied chan<- struct{}) {
	var stopped error
	for c := range gathered {
		err := stopped
		if err == nil {
			err = l.db.ApplyNoSyncWait(c.batch, pebble.Sync)
		}
		applied <- struct{}{}
		if err == nil {
			err = c.batch.SyncWait()
		}
		if err != nil && stopped == nil {
			stopped = fmt.Errorf("%w: %w", ErrStopped, err)
			l.tail.fail(stopped)
			l.queue.abandon(stopped)
		}
		if err != nil {
			c.finish(fmt.Errorf("%w: %w", events.ErrUnknownOutcome, err))
			continue
		}
		l.tail.publish(c.records)
		c.finish(nil)
		_ = c.batch.Close() // gives its memory back; the batch is done
	}
}

func (c *commit) finish(err error) {
	for _, r := range c.requests {
		r.finish(err)
	}
}

// decide says what becomes of a write, given what the log and the commit so far hold, and adds
// to the commit what is to be written.
func (l *Log) decide(c *commit, w *write, head *uint64) error {
	current, found, err := l.current(c, w.key)
	switch {
	case err != nil:
		return fmt.Errorf("look for the event: %w", err)
	case !found:
		return c.arrive(w, head, false)
	case w.replica:
		return c.merge(w, current, head)
	}
	stored, _, err := decode(w.key, current)
	if err != nil {
		return err
	}
	if !events.Same(stored, w.event) {
		return events.ErrConflict
	}
	w.stored, w.repeat = stored, true
	return nil
}

// current is the value of a key: of this commit, or of one before.
func (l *Log) current(c *commit, key []byte) (value []byte, found bool, err error) {
	if value, found = c.values[string(key)]; found {
		return value, true, nil
	}
	value, closer, err := l.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	value = append([]byte(nil), value...)
	return value, true, closer.Close()
}

// arrive adds an event to the commit, at the next position.
func (c *commit) arrive(w *write, head *uint64, modified bool) error {
	position := *head + 1
	setPosition(w.value, position)
	if err := c.set(w.key, w.value); err != nil {
		return err
	}
	if err := c.batch.Set(positionKey(position), arrival(w.key, modified), nil); err != nil {
		return err
	}
	*head = position
	c.records = append(c.records, Record{Position: position, Event: w.event, At: unixNano(w.at), Modified: modified})
	w.stored = w.event
	return nil
}

func (c *commit) set(key, value []byte) error {
	c.values[string(key)] = value
	return c.batch.Set(key, value, nil)
}
