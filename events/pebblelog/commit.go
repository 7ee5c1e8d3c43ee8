package pebblelog

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/pebblelog/window"
)

// commit is what is written in one batch and made durable by one fsync.
type commit struct {
	batch    *pebble.Batch
	requests []*request
	records  []Record
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
	d := decider{head: head, values: map[string][]byte{}, new: window.New()}
	for requests := l.queue.take(); requests != nil; requests = l.queue.take() {
		d.commit = &commit{batch: l.db.NewBatch(), requests: requests, records: make([]Record, 0, len(requests))}
		d.decide(l.db)
		gathered <- d.commit
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
