package pebblelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
)

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
		from = append(eventKey(after.Stream, after.ID), 0)
	}
	for len(from) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, next, err := l.partPage(part, from)
		if err == nil {
			err = l.settle(ctx, rows)
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
			return nil, nil, err
		}
		rows = append(rows, newRow(key, value))
		size += len(key) + len(value)
		ok = it.Next()
	}
	return rows, nil, it.Error()
}

// newRow copies a row.
func newRow(key, value []byte) row {
	buf := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	return row{buf[:len(key):len(key)], buf[len(key):]}
}

// settle waits until all rows are durable.
func (l *Log) settle(ctx context.Context, rows []row) error {
	var newest uint64
	for _, row := range rows {
		if ent, err := splitEntry(row.value); err == nil {
			newest = max(newest, ent.position)
		}
	}
	return l.tail.settle(ctx, newest)
}
