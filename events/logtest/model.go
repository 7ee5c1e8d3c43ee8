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

	"parley/events"
)

// Model is a Log in memory, plain enough to be seen to be right. The suite measures drivers
// against it; other packages' tests use it as a fake. Make one with [NewModel].
type Model struct {
	mu      sync.Mutex
	streams map[events.Stream]map[events.ID]events.Stored
}

var _ events.Log = (*Model)(nil)

// NewModel returns an empty log.
func NewModel() *Model {
	return &Model{streams: map[events.Stream]map[events.ID]events.Stored{}}
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
	stream := m.streams[e.Stream]
	if stream == nil {
		stream = map[events.ID]events.Stored{}
		m.streams[e.Stream] = stream
	}
	there, repeat := stream[e.ID]
	if !repeat {
		stream[e.ID] = events.Encode(e)
		return e, false, nil
	}
	stored, err := events.Decode(there)
	if err != nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", err)
	}
	if !events.Same(stored, e) {
		return events.Event{}, false, fmt.Errorf("append event: %w", events.ErrConflict)
	}
	return stored, true, nil
}

// Get implements [events.Log].
func (m *Model) Get(ctx context.Context, stream events.Stream, id events.ID) (events.Event, error) {
	if err := ctx.Err(); err != nil {
		return events.Event{}, fmt.Errorf("get event: %w", err)
	}
	m.mu.Lock()
	stored, ok := m.streams[stream][id]
	m.mu.Unlock()
	if !ok {
		return events.Event{}, fmt.Errorf("get event: %w", events.ErrNotFound)
	}
	return events.Decode(stored)
}

// GetMany implements [events.Log].
func (m *Model) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	found := map[events.Key]events.Event{}
	for _, key := range keys {
		e, err := m.Get(ctx, key.Stream, key.ID)
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
		for _, id := range m.ids(stream, r) {
			if e, err := m.Get(ctx, stream, id); !yield(e, err) || err != nil {
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
				r.After = after.ID
			}
			for e, err := range m.Read(ctx, stream, r) {
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

// ids are the ids of a stream that lie in a range, in the order in which it wants them.
func (m *Model) ids(stream events.Stream, r events.Range) []events.ID {
	var ids []events.ID
	m.mu.Lock()
	for id := range m.streams[stream] {
		after := r.After == (events.ID{}) || id.Compare(r.After) > 0
		before := r.Before == (events.ID{}) || id.Compare(r.Before) < 0
		if after && before {
			ids = append(ids, id)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(ids, events.ID.Compare)
	if r.Reverse {
		slices.Reverse(ids)
	}
	if r.Limit > 0 {
		ids = ids[:min(r.Limit, len(ids))]
	}
	return ids
}
