package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
)

// The errors of a Log beyond those of the contract, to be tested with errors.Is.
var (
	// ErrInUse: the directory is open already, in this process or another.
	ErrInUse = errors.New("log directory is in use")
	// ErrClosed: the log was closed.
	ErrClosed = fmt.Errorf("log is closed: %w", events.ErrUnavailable)
	// ErrStopped: an earlier commit could not be made durable. Nothing was stored. Reads still
	// answer; for appends close the log and open it again.
	ErrStopped = fmt.Errorf("log has stopped after a failed commit: %w", events.ErrUnavailable)
	// ErrAhead: a follower asks for what comes after a position that was never given out. What
	// it has followed was another log, or the log's directory was set back.
	ErrAhead = errors.New("position lies beyond the head of the tail")
)

// Options are settings of a Log. The zero Options are good.
type Options struct {
	// FS is where the directory lies; nil is the file system.
	FS vfs.FS
	// Cache holds blocks, and may be shared by several logs; nil is one of 32 MB. Pebble books
	// what a log has in memory (256 KB at rest, up to 8 MB under load) as taken from it: much
	// smaller, and under load nothing is left for blocks.
	Cache *pebble.Cache
	// Logger is told of trouble in the background; nil is silent.
	Logger *slog.Logger
	// Now tells when an event is accepted; nil is time.Now.
	Now func() time.Time
}

// Log is an [events.Log] in a directory. Make one with [Open]. Its methods are safe for
// concurrent use.
type Log struct {
	db    *pebble.DB
	lock  *pebble.Lock
	cache *pebble.Cache // the log's own, or nil
	now   func() time.Time

	queue   queue
	commits sync.WaitGroup // the goroutine that commits

	tail tail

	reading   sync.RWMutex // held for reading by whoever reads db, for writing to close it
	closed    bool         // guarded by reading
	closeOnce sync.Once
	closeErr  error
}

var _ events.Log = (*Log)(nil)

// Append implements [events.Log]. An error that comes of ctx also wraps
// [events.ErrUnknownOutcome] if the event may be stored.
func (l *Log) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	w, err := newWrite(e, l.now())
	if err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	r := newRequest([]*write{w})
	if err := l.queue.put(r); err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	if err := r.wait(ctx); err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	if w.err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", w.err)
	}
	return w.stored, w.repeat, nil
}

// Err returns why the log takes no appends any more: [ErrStopped] or [ErrClosed]. It returns nil
// as long as it does.
func (l *Log) Err() error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.closed
}

// Get implements [events.Log].
func (l *Log) Get(ctx context.Context, stream events.Stream, id events.ID) (events.Event, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, fmt.Errorf("get event: %w", err)
	}
	e, ent, err := l.get(eventKey(stream, id))
	if err == nil {
		err = l.tail.settle(ctx, ent.position)
	}
	if err != nil {
		return events.Event{}, fmt.Errorf("get event: %w", err)
	}
	return e, nil
}

// GetMany implements [events.Log].
func (l *Log) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	found := make(map[events.Key]events.Event, len(keys))
	for _, key := range keys {
		e, err := l.Get(ctx, key.Stream, key.ID)
		if errors.Is(err, events.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[key] = e
	}
	return found, ctx.Err()
}

// get reads the event of a key, which may not be durable yet.
func (l *Log) get(key []byte) (events.Event, entry, error) {
	l.reading.RLock()
	defer l.reading.RUnlock()
	if l.closed {
		return events.Event{}, entry{}, ErrClosed
	}
	value, closer, err := l.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return events.Event{}, entry{}, events.ErrNotFound
	}
	if err != nil {
		return events.Event{}, entry{}, err
	}
	defer func() { _ = closer.Close() }()
	return decode(key, value)
}

// Read implements [events.Log].
func (l *Log) Read(ctx context.Context, stream events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := l.read(ctx, stream, r, yield); err != nil {
			yield(events.Event{}, fmt.Errorf("read stream: %w", err))
		}
	}
}

// read yields a stream page by page, so that no iterator stays open while the consumer takes
// its time. It returns nil if the consumer wants no more.
func (l *Log) read(ctx context.Context, stream events.Stream, r events.Range, yield func(events.Event, error) bool) error {
	lower, upper := bounds(stream, r)
	for left := r.Limit; r.Limit == 0 || left > 0; {
		rows, more, err := l.page(ctx, lower, upper, r.Reverse, left)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, _, err := decode(row.key, row.value)
			if err != nil {
				return err
			}
			if !yield(e, nil) {
				return nil
			}
		}
		if !more {
			return nil
		}
		left -= len(rows)
		if last := rows[len(rows)-1].key; r.Reverse {
			upper = last
		} else {
			lower = append(last, 0)
		}
	}
	return nil
}

// A page is bounded by what comes first.
const (
	pageRows  = 256
	pageBytes = 512 << 10
)

type row struct{ key, value []byte }

// page reads the first rows, or in reverse the last ones, within [lower, upper), and waits until
// they are durable. More reports whether the page was cut short.
func (l *Log) page(ctx context.Context, lower, upper []byte, reverse bool, limit int) (rows []row, more bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	rows, more, err = l.scan(lower, upper, reverse, limit)
	if err != nil {
		return nil, false, err
	}
	return rows, more, l.settle(ctx, rows)
}

func (l *Log) scan(lower, upper []byte, reverse bool, limit int) (rows []row, more bool, err error) {
	l.reading.RLock()
	defer l.reading.RUnlock()
	if l.closed {
		return nil, false, ErrClosed
	}
	if string(lower) >= string(upper) {
		return nil, false, nil
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()

	if limit == 0 || limit > pageRows {
		limit = pageRows
	}
	first, next := it.First, it.Next
	if reverse {
		first, next = it.Last, it.Prev
	}
	size := 0
	for ok := first(); ok; ok = next() {
		if len(rows) == limit || size > pageBytes {
			return rows, true, nil
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, false, err
		}
		key := it.Key()
		rows = append(rows, newRow(key, value))
		size += len(key) + len(value)
	}
	return rows, false, it.Error()
}
