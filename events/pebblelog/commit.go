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

// commitAll commits what is queued until the queue is closed and empty, one commit after the
// other: each is decided when the one before is durable and can be read. What arrives while the
// disk works on one is in the next. To decide the next one meanwhile was tried: the commits are
// then smaller and more, and cost more than they save.
//
// Each commit is shown to the tail once it is durable, and only then are its callers woken. A
// commit that holds only repeats and conflicts writes nothing. Once one has failed no other may
// follow it.
func (l *Log) commitAll(head uint64) {
	d := decider{head: head, values: map[string][]byte{}, new: window.New()}
	for requests := l.queue.take(); requests != nil; requests = l.queue.take() {
		d.commit = &commit{batch: l.db.NewBatch(), requests: requests, records: make([]Record, 0, len(requests))}
		d.decide(l.db)
		// In two steps: Apply alone would end the process over an fsync that fails.
		err := l.db.ApplyNoSyncWait(d.commit.batch, pebble.Sync)
		if err == nil {
			err = d.commit.batch.SyncWait()
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
