package pebblelog

import (
	"context"
	"fmt"
	"sync"
)

// What a tail keeps in memory for followers that are close behind is bounded by both.
const (
	recentRecords = 2048
	recentBytes   = 2 << 20 // of data; the rest of a record is small
)

// tail is what followers wait at: the last durable position, and the records just before it.
type tail struct {
	mu      sync.Mutex
	head    uint64
	first   uint64   // the position of the oldest record in recent; head+1 if there is none
	recent  []Record // the record of a position stands at the position modulo the length
	bytes   int
	changed chan struct{} // closed and made anew whenever head or err changes
	err     error         // why there will be no more
}

func (t *tail) init(head uint64) {
	t.head, t.first = head, head+1
	t.recent = make([]Record, recentRecords)
	t.changed = make(chan struct{})
}

func (t *tail) at(position uint64) *Record { return &t.recent[position%uint64(len(t.recent))] }

// publish shows records that have become durable, and wakes those who wait.
func (t *tail) publish(records []Record) {
	if len(records) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		if r.Position-t.first == uint64(len(t.recent)) {
			t.forget()
		}
		*t.at(r.Position) = r
		t.head = r.Position
		t.bytes += len(r.Event.Data)
		for t.bytes > recentBytes {
			t.forget()
		}
	}
	t.wake()
}

// forget drops the oldest record from memory.
func (t *tail) forget() {
	oldest := t.at(t.first)
	t.bytes -= len(oldest.Event.Data)
	*oldest = Record{}
	t.first++
}

// fail says why there will be no more records, and wakes those who wait.
func (t *tail) fail(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = why
	t.wake()
}

func (t *tail) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// view is the state of a tail at one moment.
type view struct {
	records []Record // after the position that was asked for, if they are in memory
	head    uint64
	changed <-chan struct{}
	err     error
}

func (t *tail) look(after, limit uint64) view {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := view{head: t.head, changed: t.changed, err: t.err}
	if after >= t.head || after+1 < t.first {
		return v
	}
	n := min(limit, t.head-after)
	v.records = make([]Record, 0, n)
	for position := after + 1; position <= after+n; position++ {
		v.records = append(v.records, *t.at(position))
	}
	return v
}

// settle waits until a position is durable. Position 0 always is.
func (t *tail) settle(ctx context.Context, position uint64) error {
	for {
		v := t.look(position, 0)
		switch {
		case position <= v.head:
			return nil
		case v.err != nil:
			return fmt.Errorf("the event may not be durable: %w", v.err)
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
