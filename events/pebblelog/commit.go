package pebblelog

import (
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
		c := l.newCommit(requests)
		l.decide(c, &head)
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

func (l *Log) newCommit(requests []*request) *commit {
	return &commit{batch: l.db.NewBatch(), requests: requests, values: make(map[string][]byte, len(requests))}
}

// decide says what becomes of each write, given what the log and the commit so far hold, and
// adds to the commit what is to be written. One iterator serves all lookups of a commit; nearly
// all ids are new, so its filters save the way to the disk.
func (l *Log) decide(c *commit, head *uint64) {
	it, err := l.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err == nil {
		defer func() { _ = it.Close() }() // its error has been met in a lookup
	}
	for _, r := range c.requests {
		for _, w := range r.writes {
			if w.err = err; err == nil {
				w.err = c.decide(w, it, head)
			}
		}
	}
}

func (c *commit) decide(w *write, it *pebble.Iterator, head *uint64) error {
	current, err := c.current(w.key, it)
	switch {
	case err != nil:
		return fmt.Errorf("look for the event: %w", err)
	case current == nil:
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

// current is the value of a key in this commit or in one before, or nil. It is valid until the
// next lookup.
func (c *commit) current(key []byte, it *pebble.Iterator) ([]byte, error) {
	if value := c.values[string(key)]; value != nil {
		return value, nil
	}
	if !it.SeekPrefixGE(key) {
		return nil, it.Error()
	}
	return it.ValueAndErr()
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
