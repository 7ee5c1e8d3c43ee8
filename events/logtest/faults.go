package logtest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"parley/events"
)

// Fault is a way in which one Append goes.
type Fault int

// The ways an Append goes.
const (
	Pass      Fault = iota // as the log would have it
	NotStored              // fails with [events.ErrThrottled]; nothing was stored
	Stored                 // is stored, and fails with [events.ErrUnknownOutcome]
)

// Faults is a Log whose calls fail on demand. Set the functions before the log is shared; they
// may be called from several goroutines at once.
type Faults struct {
	Log events.Log // does the work

	// OnAppend says how an Append goes. A nil function lets all pass.
	OnAppend func(e events.Event) Fault

	// OnRead is asked by GetMany for each key, by every Read once at its beginning
	// and once before each event, and by every Scan likewise, at its beginning for no stream.
	// The error it returns is what the call fails with. A nil function lets all pass.
	OnRead func(stream events.Stream) error
}

var _ events.Log = (*Faults)(nil)

// Script returns a function for OnAppend that lets the calls go as given, one after the other,
// and all further ones pass.
func Script(faults ...Fault) func(events.Event) Fault {
	var mu sync.Mutex
	return func(events.Event) Fault {
		mu.Lock()
		defer mu.Unlock()
		if len(faults) == 0 {
			return Pass
		}
		next := faults[0]
		faults = faults[1:]
		return next
	}
}

// Append implements [events.Log].
func (f *Faults) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	fault := Pass
	if f.OnAppend != nil {
		fault = f.OnAppend(e)
	}
	if fault == NotStored {
		return events.Event{}, false, fmt.Errorf("append event: %w", events.ErrThrottled)
	}
	stored, repeat, err := f.Log.Append(ctx, e)
	if fault == Stored && err == nil {
		return events.Event{}, false, fmt.Errorf("append event: %w", events.ErrUnknownOutcome)
	}
	return stored, repeat, err
}

// GetMany implements [events.Log].
func (f *Faults) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	for _, key := range keys {
		if err := f.read(key.Stream); err != nil {
			return nil, fmt.Errorf("get events: %w", err)
		}
	}
	return f.Log.GetMany(ctx, keys)
}

// Read implements [events.Log].
func (f *Faults) Read(ctx context.Context, stream events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := f.read(stream); err != nil {
			yield(events.Event{}, fmt.Errorf("read stream: %w", err))
			return
		}
		for e, err := range f.Log.Read(ctx, stream, r) {
			if fault := f.read(stream); fault != nil && err == nil {
				yield(events.Event{}, fmt.Errorf("read stream: %w", fault))
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Scan implements [events.Log].
func (f *Faults) Scan(ctx context.Context, part events.Part, after events.Key) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := f.read(""); err != nil {
			yield(events.Event{}, fmt.Errorf("scan log: %w", err))
			return
		}
		for e, err := range f.Log.Scan(ctx, part, after) {
			if fault := f.read(e.Stream); fault != nil && err == nil {
				yield(events.Event{}, fmt.Errorf("scan log: %w", fault))
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (f *Faults) read(stream events.Stream) error {
	if f.OnRead == nil {
		return nil
	}
	return f.OnRead(stream)
}

// Close closes the log below, if it can be closed.
func (f *Faults) Close() error {
	if c, ok := f.Log.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
