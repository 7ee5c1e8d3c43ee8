package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"parley/events"
)

// The limits of one call to the bus, those of EventBridge's PutEvents. The size of an entry is
// that of its source, detail type and detail, and 14 bytes for its time.
const (
	MaxEntries   = 10
	MaxCallBytes = 1 << 20
)

// tries is how often an entry is sent before its event is parked.
const tries = 5

// Entry is an event as it is put on the bus.
type Entry struct {
	Source     string          // always "parley"
	DetailType string          // the event's wire name
	Detail     json.RawMessage // the event, and in published_by the region whose bus this is
	Time       time.Time       // the time in the event's id
}

func (e Entry) size() int { return len(e.Source) + len(e.DetailType) + len(e.Detail) + 14 }

// Bus takes entries in calls of at most [MaxEntries] and [MaxCallBytes].
type Bus interface {
	// Publish returns an error for each entry that was refused, in their order, nil for the
	// others; or one error if the call as a whole failed, and any of them may be on the bus. It
	// must not keep the slice, which is used again.
	Publish(ctx context.Context, entries []Entry) (refused []error, err error)
}

// publish puts a batch on the bus. If that fails it returns the first arrival that is not
// known to be there, and the error.
func (h *Handler) publish(ctx context.Context, batch []arrival) (arrival, error) {
	call := make([]Entry, 0, MaxEntries)
	first, bytes := 0, 0 // the first of batch in this call, and its size
	sent := make([]arrival, 0, MaxEntries)
	flush := func(next int) error {
		if err := h.call(ctx, sent, call); err != nil {
			return err
		}
		call, sent, bytes, first = call[:0], sent[:0], 0, next
		return nil
	}
	for i, a := range batch {
		if h.OwnOnly && a.Event.Region != h.Region {
			continue
		}
		entry, err := h.entry(a.Event)
		if err != nil {
			return batch[first], err
		}
		if len(call) == MaxEntries || len(call) > 0 && bytes+entry.size() > MaxCallBytes {
			if err := flush(i); err != nil {
				return batch[first], err
			}
		}
		call, sent, bytes = append(call, entry), append(sent, a), bytes+entry.size()
	}
	if len(call) > 0 {
		if err := flush(len(batch)); err != nil {
			return batch[first], err
		}
	}
	return arrival{}, nil
}

// call makes one call, sends again only what was refused, and parks what is refused for good.
func (h *Handler) call(ctx context.Context, batch []arrival, entries []Entry) error {
	for try := 1; ; try++ {
		refused, err := h.Bus.Publish(ctx, entries)
		if err != nil && try == tries {
			return err // the bus is away: the batch must come again
		}
		if err == nil {
			if batch, entries, err = h.refused(ctx, batch, entries, refused, try == tries); err != nil {
				return err
			}
		}
		if len(entries) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(10*time.Millisecond) << try):
		}
	}
}

// refused returns those entries that must be sent again; after the last try it parks them.
func (h *Handler) refused(ctx context.Context, batch []arrival, entries []Entry, refused []error, last bool) ([]arrival, []Entry, error) {
	var again []arrival
	var entriesAgain []Entry
	for i, err := range refused {
		if err == nil {
			h.passed(ctx, batch[i].Event, Published)
			continue
		}
		if !last {
			again, entriesAgain = append(again, batch[i]), append(entriesAgain, entries[i])
		} else if err := h.Park(ctx, "publish", Record{Event: batch[i].Event}, err); err != nil {
			return nil, nil, err
		}
	}
	return again, entriesAgain, nil
}

// entry is the edge at which an event leaves for subscribers.
func (h *Handler) entry(e events.Event) (Entry, error) {
	text, err := e.MarshalJSON()
	if err != nil {
		return Entry{}, fmt.Errorf("encode an event for the bus: %w", err)
	}
	detail := append(text[:len(text)-1], `,"published_by":"`...) // mostly there is room for it
	detail = append(detail, h.Region...)                         // a-z 0-9 -
	detail = append(detail, `"}`...)
	return Entry{Source: "parley", DetailType: e.Type, Detail: detail, Time: e.ID.Timestamp()}, nil
}
