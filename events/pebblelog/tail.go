package pebblelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"parley/events"
)

// The change stream of a Log has one shard: the events in the order in which they were inserted
// here. A checkpoint is a position in it, in decimal; positions are dense from 1, and "" is 0.

// A page of the change stream, and of every other read, is bounded by both.
const (
	pageRows  = 256
	pageBytes = 512 << 10
)

// Head returns the position of the last durable insertion, 0 if there is none.
func (l *Log) Head() uint64 {
	l.tail.mu.Lock()
	defer l.tail.mu.Unlock()
	return l.tail.head
}

// Next implements [events.Follower]: at most limit records, no more than about 512 KB of them, and
// nothing that is not durable. Any number of goroutines may call it. Further errors: [ErrAhead],
// [ErrClosed], and [ErrStopped] once every durable record has been read.
func (l *Log) Next(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	return l.nextOf(ctx, events.Part{}, checkpoint, limit, wait)
}

func (l *Log) nextOf(ctx context.Context, part events.Part, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	records, err := l.next(ctx, part, checkpoint, uint64(max(limit, 1)), wait)
	if err != nil {
		return nil, fmt.Errorf("read change stream: %w", err)
	}
	return records, nil
}

// Lane is a reader of the change stream that needs the records of a part of the streams. Make one with
// [Log.Lane].
type Lane struct {
	*Log
	part events.Part
}

// Lane returns a reader that decodes only what it needs: of records of streams outside of the part, Event
// may have a Stream and nothing else. It returns them all the same, so that checkpoints go on.
func (l *Log) Lane(part events.Part) *Lane { return &Lane{l, part} }

// Next implements [events.Follower], see [Log.Lane].
func (l *Lane) Next(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	return l.nextOf(ctx, l.part, checkpoint, limit, wait)
}

func (l *Log) next(ctx context.Context, part events.Part, checkpoint string, limit uint64, wait bool) ([]events.Record, error) {
	after, err := ParsePosition(checkpoint)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now := l.tail.look(after, limit)
		switch {
		case errors.Is(now.err, ErrClosed):
			return nil, now.err
		case after > now.head:
			return nil, ErrAhead
		case len(now.records) > 0:
			return now.records, nil
		case after < now.head:
			return l.readRecords(part, after, min(limit, now.head-after))
		case now.err != nil:
			return nil, now.err
		case !wait:
			return nil, nil
		}
		select {
		case <-now.changed:
		case <-ctx.Done():
		}
	}
}

// readRecords reads durable records that have left memory.
func (l *Log) readRecords(part events.Part, after, limit uint64) ([]events.Record, error) {
	rows, _, err := l.scan(positionKey(after+1), positionKey(after+1+limit), false, int(limit))
	if err != nil {
		return nil, err
	}
	var records []events.Record
	size := 0
	rows = slices.DeleteFunc(rows, func(r row) bool { return len(r.key) != len(positionKey(0)) })
	for next := after + 1; size < pageBytes && (len(rows) > 0 || len(records) == 0); next++ {
		var found row
		if len(rows) > 0 {
			if at, _ := splitPositionKey(rows[0].key); at == next {
				found, rows = rows[0], rows[1:]
			}
		}
		r, ent, err := l.readRecord(part, found, next)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
		size += len(ent.data)
	}
	return records, nil
}

// readRecord decodes the row at a position. A row that is missing or damaged, or that names an
// event which is not there, becomes a record with an error. An event of a stream outside of the part is
// not looked up.
func (l *Log) readRecord(part events.Part, row row, position uint64) (events.Record, entry, error) {
	sequence := formatPosition(position)
	r := events.Record{Sequence: sequence, Number: events.Number(sequence)}
	key, replica, ok := splitArrival(row.value)
	if ok {
		k, _ := splitEventKey(key)
		r.Event.Stream = k.Stream
		if !part.Holds(k.Stream) {
			return r, entry{}, nil
		}
		e, ent, err := l.get(key)
		if err == nil {
			r.Event, r.Replica, r.At = e, replica, unixNano(ent.at)
			return r, ent, nil
		}
		if !errors.Is(err, events.ErrNotFound) && !errors.Is(err, errDamaged) {
			return events.Record{}, entry{}, err
		}
	}
	r.At, r.Err = time.Now(), fmt.Errorf("record at position %d is damaged", position)
	var err error
	r.Raw, err = json.Marshal(row.value) // base 64
	return r, entry{}, err
}

// Snapshot implements [events.Replica]. It follows the change stream from its beginning, which is
// never trimmed, and leaves out what is damaged.
func (l *Log) Snapshot(ctx context.Context, do func([]events.Record) error) (string, error) {
	head := l.Head()
	for after := uint64(0); after < head; {
		batch, err := l.Next(ctx, formatPosition(after), int(min(head-after, maxCommit)), false)
		if err != nil {
			return "", err
		}
		after += uint64(len(batch))
		good := batch[:0]
		for _, r := range batch {
			if r.Err == nil {
				good = append(good, r)
			}
		}
		if err := do(good); err != nil {
			return "", err
		}
	}
	return formatPosition(head), nil
}

// Replicate implements [events.Replica].
func (l *Log) Replicate(ctx context.Context, records []events.Record) error {
	if err := l.replicate(ctx, records); err != nil {
		return fmt.Errorf("replicate events: %w", err)
	}
	return nil
}

// maxRequest bounds the writes of one request, and so the size of a commit's batch.
const maxRequest = 128

func (l *Log) replicate(ctx context.Context, records []events.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var writes []*write
	var requests []*request
	for _, r := range records {
		w, err := newWrite(r.Event, r.At)
		if err != nil {
			return err
		}
		w.replica = true
		writes = append(writes, w)
	}
	for n := min(len(writes), maxRequest); n > 0; n = min(len(writes), maxRequest) {
		requests = append(requests, newRequest(writes[:n]))
		writes = writes[n:]
	}
	if err := l.queue.put(requests...); err != nil {
		return err
	}
	for _, r := range requests {
		if err := r.wait(ctx); err != nil {
			return err
		}
		for _, w := range r.writes {
			if w.err != nil {
				return w.err
			}
		}
	}
	return nil
}

// ParsePosition returns the position that a checkpoint stands for. Its error wraps
// [events.ErrCheckpoint].
func ParsePosition(checkpoint string) (uint64, error) {
	if checkpoint == "" {
		return 0, nil
	}
	position, err := strconv.ParseUint(checkpoint, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: it must be a position", events.ErrCheckpoint)
	}
	return position, nil
}

func formatPosition(position uint64) string { return strconv.FormatUint(position, 10) }

func unixNano(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// The cache of recent records, for followers that are close behind, is bounded by both.
const (
	recentRecords = 2048
	recentBytes   = 2 << 20 // of data; the rest of a record is small
)

// tail is what followers wait at: the last durable position, and a cache of the records before it.
type tail struct {
	mu      sync.Mutex
	head    uint64
	first   uint64          // the position of the oldest record in recent; head+1 if there is none
	recent  []events.Record // the record of a position is at the position modulo the length
	bytes   int
	changed chan struct{} // closed and replaced whenever head or err changes
	err     error         // why there will be no more
}

func (t *tail) init(head uint64) {
	t.head, t.first = head, head+1
	t.recent = make([]events.Record, recentRecords)
	t.changed = make(chan struct{})
}

func (t *tail) at(position uint64) *events.Record {
	return &t.recent[position%uint64(len(t.recent))]
}

// publish shows the records that follow head and have become durable, and wakes followers.
func (t *tail) publish(records []events.Record) {
	if len(records) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		t.head++
		if t.head-t.first == uint64(len(t.recent)) {
			t.dropOldest()
		}
		*t.at(t.head) = r
		t.bytes += len(r.Event.Data)
		for t.bytes > recentBytes {
			t.dropOldest()
		}
	}
	t.wake()
}

// dropOldest drops the oldest record from the cache.
func (t *tail) dropOldest() {
	oldest := t.at(t.first)
	t.bytes -= len(oldest.Event.Data)
	*oldest = events.Record{}
	t.first++
}

// fail sets why there will be no more records, and wakes followers.
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
	records []events.Record // after the position that was asked for, if they are cached
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
	v.records = make([]events.Record, 0, n)
	for position := after + 1; position <= after+n; position++ {
		v.records = append(v.records, *t.at(position))
	}
	return v
}

// waitDurable waits until a position is durable. Position 0 always is.
func (t *tail) waitDurable(ctx context.Context, position uint64) error {
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
