package logtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"parley/events"
)

// Model is a Log in memory, with its change stream, plain enough to be seen to be right. The suites
// measure drivers against it; other packages' tests use it as a fake. Make one with [NewModel].
type Model struct {
	mu       sync.Mutex
	streams  map[events.Stream]map[events.Ref]accepted
	shards   [modelShards]modelShard // of the change stream
	inserted chan struct{}           // closed at the next insertion; nil: nobody waits
}

// accepted is what a log holds under one key.
type accepted struct {
	events.Stored
	at time.Time
}

var _ events.Log = (*Model)(nil)

// NewModel returns an empty log.
func NewModel() *Model {
	return &Model{streams: map[events.Stream]map[events.Ref]accepted{}}
}

// Append implements [events.Log].
func (m *Model) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	if err := e.Stream.Validate(); err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	there, repeat := m.streams[e.Stream][e.Ref()]
	if !repeat {
		m.insert(events.Record{Event: e, At: time.Now()})
		return e, false, nil
	}
	stored, err := events.Decode(there.Stored)
	if err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	return stored, true, nil
}

// get returns the event with a key, or ErrNotFound.
func (m *Model) get(ctx context.Context, key events.Key) (events.Event, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, fmt.Errorf("read events: %w", err)
	}
	m.mu.Lock()
	stored, ok := m.streams[key.Stream][key.Ref()]
	m.mu.Unlock()
	if !ok {
		return events.Event{}, events.ErrNotFound
	}
	return events.Decode(stored.Stored)
}

// GetMany implements [events.Log].
func (m *Model) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	found := map[events.Key]events.Event{}
	for _, key := range keys {
		e, err := m.get(ctx, key)
		if errors.Is(err, events.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[key] = e
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get events: %w", err)
	}
	return found, nil
}

// Read implements [events.Log]. It yields the stream as it was when the iteration began.
func (m *Model) Read(ctx context.Context, stream events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(events.Event{}, fmt.Errorf("read stream: %w", err))
			return
		}
		for _, ref := range m.refs(stream, r) {
			if e, err := m.get(ctx, events.Key{Stream: stream, ID: ref.ID, Digest: ref.Digest}); !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Scan implements [events.Log]. Each stream is yielded as it was when its turn came.
func (m *Model) Scan(ctx context.Context, part events.Part, after events.Key) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := cmp.Or(part.Validate(), ctx.Err()); err != nil {
			yield(events.Event{}, fmt.Errorf("scan log: %w", err))
			return
		}
		for _, stream := range m.names() {
			if stream < after.Stream || !part.Holds(stream) {
				continue
			}
			var r events.Range
			if stream == after.Stream {
				r.After = events.PrecedingID(after.ID)
			}
			for e, err := range m.Read(ctx, stream, r) {
				if err == nil && stream == after.Stream && e.Ref().Compare(after.Ref()) <= 0 {
					continue
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// names are the streams, in order.
func (m *Model) names() []events.Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.streams))
}

// refs are the events of a stream that lie in a range, in the order in which it wants them.
func (m *Model) refs(stream events.Stream, r events.Range) []events.Ref {
	var refs []events.Ref
	m.mu.Lock()
	for ref := range m.streams[stream] {
		after := r.After == (events.ID{}) || ref.ID.Compare(r.After) > 0
		before := r.Before == (events.ID{}) || ref.ID.Compare(r.Before) < 0
		if after && before {
			refs = append(refs, ref)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(refs, events.Ref.Compare)
	if r.Reverse {
		slices.Reverse(refs)
	}
	if r.Limit > 0 {
		refs = refs[:min(r.Limit, len(refs))]
	}
	return refs
}
