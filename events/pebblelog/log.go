package pebblelog

import (
	"bytes"
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
	"parley/events/pebbledb"
)

// The errors of a Log beyond those of the contract, to be tested with errors.Is.
var (
	// ErrClosed: the log was closed.
	ErrClosed = fmt.Errorf("log is closed: %w", events.ErrUnavailable)
	// ErrStopped: an earlier commit could not be made durable. Nothing was stored. Reads still
	// answer; for appends close the log and open it again.
	ErrStopped = fmt.Errorf("log has stopped after a failed commit: %w", events.ErrUnavailable)
	// ErrAhead: the checkpoint is a position beyond the head. The follower has followed another log,
	// or the log's directory was restored to an earlier state.
	ErrAhead = fmt.Errorf("%w: it is beyond the head", events.ErrCheckpoint)
)

// Options are the settings of a Log. The zero value is ready to use.
type Options struct {
	FS     vfs.FS           // see [pebbledb.Options]
	Cache  *pebble.Cache    // see [pebbledb.Options]
	Logger *slog.Logger     // receives what goes wrong in the background; nil: nothing does
	Now    func() time.Time // when an event is accepted; by default time.Now
	// Corrupt is called when a read finds a damaged or missing table, see [pebbledb.Options]; may be nil.
	Corrupt func(error)
}

// Log is an [events.Log] in a directory. Make one with [Open]. Its methods are safe for
// concurrent use.
type Log struct {
	db   *pebble.DB
	disk *pebbledb.Disk // under db
	now  func() time.Time

	queue   queue
	commits sync.WaitGroup // the goroutine that commits

	tail tail

	reading   sync.RWMutex // held for reading while db is read, for writing to close it
	closed    bool         // guarded by reading
	closeOnce sync.Once
	closeErr  error
}

var (
	_ events.Log     = (*Log)(nil)
	_ events.Replica = (*Log)(nil)
)

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

// GetMany implements [events.Log].
func (l *Log) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	found := make(map[events.Key]events.Event, len(keys))
	var newest uint64
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("get events: %w", err)
		}
		e, ent, err := l.get(eventKey(key))
		if errors.Is(err, events.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get events: %w", err)
		}
		found[key] = e
		newest = max(newest, ent.position)
	}
	if err := l.tail.waitDurable(ctx, newest); err != nil {
		return nil, fmt.Errorf("get events: %w", err)
	}
	return found, nil
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
		return events.Event{}, entry{}, readError(err)
	}
	defer func() { _ = closer.Close() }()
	return decode(key, value)
}

// readError returns the error of a read. It is one of the disk, or of damage there, and other regions can
// answer.
func readError(err error) error {
	if err == nil || errors.Is(err, errDamaged) {
		return err
	}
	return events.Unavailable(err)
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
	return rows, more, l.waitRowsDurable(ctx, rows)
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
			return nil, false, readError(err)
		}
		key := it.Key()
		rows = append(rows, newRow(key, value))
		size += len(key) + len(value)
	}
	return rows, false, readError(it.Error())
}

// indexBytes is so large that a table's index is one block and a lookup reads one less.
const indexBytes = 256 << 10

// Open opens the log in dir, which is made if it is not there. The error wraps [pebbledb.ErrInUse]
// if the directory is open already.
func Open(dir string, o Options) (*Log, error) {
	l, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, o Options) (*Log, error) {
	l := &Log{now: o.Now}
	if l.now == nil {
		l.now = time.Now
	}
	var is bool
	if l.disk, is = o.FS.(*pebbledb.Disk); !is {
		l.disk = pebbledb.NewDisk(o.FS)
	}
	var err error
	l.db, err = pebbledb.Open(dir, pebbledb.Options{FS: l.disk, Cache: o.Cache, Logger: o.Logger, Corrupt: o.Corrupt}, func(p *pebble.Options) {
		for i := range p.Levels {
			p.Levels[i].IndexBlockSize = indexBytes
		}
	})
	if err != nil {
		return nil, err
	}
	head, err := lastPosition(l.db)
	if err != nil {
		return nil, errors.Join(err, l.db.Close())
	}
	l.tail.init(head)
	l.queue.init()
	l.commits.Go(func() { l.commitAll(head) })
	return l, nil
}

// lastPosition is the greatest position in the database. Positions are written in their order
// into one write-ahead log, so whatever a crash left is dense up to it.
func lastPosition(db *pebble.DB) (position uint64, err error) {
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{positionKind},
		UpperBound: []byte{positionKind + 1},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return 0, it.Error()
	}
	position, ok := splitPositionKey(it.Key())
	if !ok {
		return 0, errDamaged
	}
	return position, nil
}

// Close waits for the appends under way and closes the log. After it every method returns
// [ErrClosed]; followers that wait are woken with it. Closing again does nothing.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.queue.close(ErrClosed)
		l.commits.Wait()
		l.tail.fail(ErrClosed)

		l.reading.Lock()
		defer l.reading.Unlock()
		l.closed = true
		if err := l.db.Close(); err != nil {
			l.closeErr = fmt.Errorf("close log: %w", err)
		}
	})
	return l.closeErr
}

// Scan implements [events.Log]. A part is the streams whose names hash to it; the others are
// passed over by seeking, so that many parts cost a seek for each stream and part.
func (l *Log) Scan(ctx context.Context, part events.Part, after events.Key) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		err := part.Validate()
		if err == nil {
			err = l.scanPart(ctx, part, after, yield)
		}
		if err != nil {
			yield(events.Event{}, fmt.Errorf("scan log: %w", err))
		}
	}
}

// scanPart yields a part page by page. It returns nil if the consumer wants no more.
func (l *Log) scanPart(ctx context.Context, part events.Part, after events.Key, yield func(events.Event, error) bool) error {
	from := []byte{eventKind}
	if after != (events.Key{}) {
		from = append(eventKey(after), 0)
	}
	for len(from) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, next, err := l.partPage(part, from)
		if err == nil {
			err = l.waitRowsDurable(ctx, rows)
		}
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
		from = next
	}
	return nil
}

// pageSkips bounds the streams that one page passes over.
const pageSkips = 4096

// partPage reads the first rows of a part from a key on, and where the next page begins: nil if
// there is none.
func (l *Log) partPage(part events.Part, from []byte) (rows []row, next []byte, err error) {
	l.reading.RLock()
	defer l.reading.RUnlock()
	if l.closed {
		return nil, nil, ErrClosed
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{eventKind + 1}})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()

	size, skips := 0, 0
	var stream []byte // the keys of the stream that is being read begin with it
	for ok := it.First(); ok; {
		key := it.Key()
		if len(rows) == pageRows || size > pageBytes || skips == pageSkips {
			return rows, bytes.Clone(key), nil
		}
		if stream == nil || !bytes.HasPrefix(key, stream) {
			end := bytes.IndexByte(key, separator)
			if end < 0 {
				return nil, nil, errDamaged
			}
			stream = append(stream[:0], key[:end+1]...)
			if !part.Holds(events.Stream(key[1:end])) {
				stream[end]++
				ok = it.SeekGE(stream)
				stream = nil
				skips++
				continue
			}
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, readError(err)
		}
		rows = append(rows, newRow(key, value))
		size += len(key) + len(value)
		ok = it.Next()
	}
	return rows, nil, readError(it.Error())
}

// newRow copies a row.
func newRow(key, value []byte) row {
	buf := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	return row{buf[:len(key):len(key)], buf[len(key):]}
}

// waitRowsDurable waits until all rows are durable.
func (l *Log) waitRowsDurable(ctx context.Context, rows []row) error {
	var newest uint64
	for _, row := range rows {
		if ent, err := splitEntry(row.value); err == nil {
			newest = max(newest, ent.position)
		}
	}
	return l.tail.waitDurable(ctx, newest)
}
