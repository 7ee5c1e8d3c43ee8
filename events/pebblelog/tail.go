package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/events"
)

// Record is one arrival of an event in this region.
type Record struct {
	// Position counts the arrivals in this region, from 1 without a gap.
	Position uint64
	// Event is what arrived. If its content was replaced later, it may be the present content
	// instead; that arrives once more, at its own position.
	Event events.Event
	// At is when the region in Event.Region accepted it. By it the last writer wins. If the same
	// was accepted again and replicated, it may be the later time.
	At time.Time
	// Modified: this arrival replaced other content of the same id, or its region.
	Modified bool
}

func unixNano(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// DamagedError says that the arrival at a position cannot be read. A follower that wants to go
// on without it asks for what comes after that position.
type DamagedError struct{ Position uint64 }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("arrival at position %d is damaged", e.Position)
}

// Head is the position of the last arrival, 0 if there was none.
func (l *Log) Head() uint64 {
	l.tail.mu.Lock()
	defer l.tail.mu.Unlock()
	return l.tail.head
}

// Tail returns the arrivals after a position, in their order and without a gap: at least one,
// at most limit, and no more than about 512 KB. It waits for the first until ctx ends. It shows
// nothing that is not durable. Errors: [ErrAhead], [ErrClosed], [ErrStopped] if all that was
// durable has been seen, a [DamagedError] if the first arrival cannot be read.
func (l *Log) Tail(ctx context.Context, after uint64, limit int) ([]Record, error) {
	records, err := l.follow(ctx, after, uint64(max(limit, 1)))
	if err != nil {
		return nil, fmt.Errorf("read tail: %w", err)
	}
	return records, nil
}

func (l *Log) follow(ctx context.Context, after, limit uint64) ([]Record, error) {
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
			return l.arrivals(ctx, after, min(limit, now.head-after))
		case now.err != nil:
			return nil, now.err
		}
		select {
		case <-now.changed:
		case <-ctx.Done():
		}
	}
}

// arrivals reads durable arrivals that have left memory.
func (l *Log) arrivals(ctx context.Context, after, limit uint64) ([]Record, error) {
	rows, _, err := l.scan(positionKey(after+1), positionKey(after+1+limit), false, int(limit))
	if err != nil {
		return nil, err
	}
	var records []Record
	var newest uint64 // content may have been replaced by a commit under way
	size := 0
	for next := after + 1; len(records) < len(rows) && size < pageBytes; next++ {
		r, ent, err := l.arrived(rows[len(records)], next)
		if errors.Is(err, errDamaged) {
			if len(records) > 0 {
				break
			}
			return nil, &DamagedError{next}
		}
		if err != nil {
			return nil, err
		}
		records = append(records, r)
		newest = max(newest, ent.position)
		size += len(ent.data)
	}
	if len(records) == 0 {
		return nil, &DamagedError{after + 1}
	}
	return records, l.tail.settle(ctx, newest)
}

// arrived makes the record of the arrival that is expected at a position.
func (l *Log) arrived(row row, position uint64) (Record, entry, error) {
	at, ok := splitPositionKey(row.key)
	key, modified, readable := splitArrival(row.value)
	if !ok || !readable || at != position {
		return Record{}, entry{}, errDamaged
	}
	e, ent, err := l.get(key)
	if errors.Is(err, events.ErrNotFound) {
		err = errDamaged
	}
	return Record{Position: position, Event: e, At: unixNano(ent.at), Modified: modified}, ent, err
}
