package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/events"
	"parley/events/keys"
)

// The sources of entries. Ordinary subscribers have rules for Source; no rule of theirs matches
// ReplaySource, whose detail types are "<prefix>/message.posted", or ImportSource, whose detail types are
// "import/message.posted": what happened years ago elsewhere must not notify anybody today.
const (
	Source       = "parley"
	ReplaySource = "parley.replay"
	ImportSource = "parley.import"
	importPrefix = "import"
)

// The limits of one call to the bus, those of EventBridge's PutEvents. The size of an entry is
// that of its source, detail type and detail, and 14 bytes for its time.
const (
	MaxEntries   = 10
	MaxCallBytes = 1 << 20
)

// Entry is an event as it is put on the bus.
type Entry struct {
	Source     string          // Source, ReplaySource or ImportSource
	DetailType string          // the event's wire name; in a replay "<prefix>/" and that, of an imported event "import/" and that
	Detail     json.RawMessage // the event, in published_by the region whose bus this is, and in replay the replay's id
	Time       time.Time       // the time in the event's id
}

// Size is what the entry counts in bytes towards [MaxCallBytes].
func (e Entry) Size() int { return len(e.Source) + len(e.DetailType) + len(e.Detail) + 14 }

// Bus takes entries in calls of at most [MaxEntries] and [MaxCallBytes].
type Bus interface {
	// Publish returns an error for each entry that was refused, in their order, nil for the
	// others: an [ErrBusy], or one that says why the entry is refused for good; or one error if the call as a whole failed, and any of them may be on the bus. It
	// must not keep the slice, which is used again.
	Publish(ctx context.Context, entries []Entry) (refused []error, err error)
}

// ErrBusy: the bus refuses an entry for now, because it is throttled or fails. A later try can succeed. Test
// with errors.Is.
var ErrBusy = errors.New("the bus does not take an event for now")

// ReplayBus is a bus that takes entries of replays only: nothing that is published through it
// reaches ordinary subscribers. Make one with [NewReplayBus].
type ReplayBus struct{ bus Bus }

// NewReplayBus returns the part of a bus that replays may use.
func NewReplayBus(bus Bus) ReplayBus { return ReplayBus{bus} }

// Publish implements [Bus]. A call with an entry that ordinary subscribers could get fails.
func (b ReplayBus) Publish(ctx context.Context, entries []Entry) ([]error, error) {
	for _, e := range entries {
		prefix, name, _ := strings.Cut(e.DetailType, "/")
		if e.Source != ReplaySource || !ValidPrefix(prefix) || name == "" {
			return nil, errors.New("publish a replay: an entry is not of a replay")
		}
	}
	return b.bus.Publish(ctx, entries)
}

// MaxPrefix is the length of the longest prefix of a replay's detail types.
const MaxPrefix = 32

// ValidPrefix reports whether a replay's detail types may begin with prefix and a slash: it has 1 to
// [MaxPrefix] characters of a-z 0-9 -, like the name of a region, and is not that of imported events.
func ValidPrefix(prefix string) bool {
	return events.ValidateRegion("to", prefix) == nil && prefix != importPrefix
}

// Publisher makes events into entries and puts them on a bus.
type Publisher struct {
	Bus    Bus
	Region string // whose bus it is
	Source string // Source, or ReplaySource for a [ReplayBus]
	Prefix string // of the detail types: "" or "<prefix>/"
	Replay string // the id of the replay; "" if it is none
	// Open decrypts an event before it leaves; nil: the bus decrypts what it delivers.
	Open func(context.Context, events.Event) (events.Event, error)
}

// Entry returns the entry of an event, decrypted: here it leaves Parley for subscribers.
func (p *Publisher) Entry(ctx context.Context, e events.Event) (Entry, error) {
	if p.Open != nil {
		var err error
		if e, err = p.Open(ctx, e); err != nil {
			return Entry{}, err
		}
	}
	text, err := e.MarshalJSON()
	if err != nil {
		return Entry{}, fmt.Errorf("encode an event for the bus: %w", err)
	}
	detail := append(text[:len(text)-1], `,"published_by":"`...) // mostly there is room for it
	detail = append(detail, p.Region...)                         // a-z 0-9 -
	if p.Replay != "" {
		detail = append(append(detail, `","replay":"`...), p.Replay...) // a ULID
	}
	detail = append(detail, `"}`...)
	entry := Entry{Source: p.Source, DetailType: p.Prefix + e.Type, Detail: detail, Time: e.ID.Timestamp()}
	if p.Source == Source && events.Imported(e.ID) {
		entry.Source, entry.DetailType = ImportSource, importPrefix+"/"+e.Type
	}
	return entry, nil
}

// publishTries is how often an entry is sent before it counts as refused for good.
const publishTries = 5

// publishBackoff is the wait between two tries.
var publishBackoff = events.Backoff{First: 20 * time.Millisecond, Max: 160 * time.Millisecond}

// Send makes one call for entries that are within its limits, and retries those that were refused.
// It calls done with the index of each entry as soon as its outcome is known: nil if it is on the
// bus, the refusal if it was refused for good. If the bus is unavailable or [ErrBusy], or done fails, that
// is the error, and any of the entries that done was not called for may be on the bus.
func (p *Publisher) Send(ctx context.Context, entries []Entry, done func(i int, refused error) error) error {
	left, at := entries, make([]int, len(entries)) // what is left to send, and where it is in entries
	for i := range at {
		at[i] = i
	}
	for try := 1; ; try++ {
		refused, err := p.Bus.Publish(ctx, left)
		if err != nil && try == publishTries {
			return err
		}
		if err == nil {
			var again []Entry
			var atAgain []int
			var busy error
			for i, refusal := range refused {
				switch {
				case refusal != nil && try < publishTries:
					again, atAgain = append(again, left[i]), append(atAgain, at[i])
				case errors.Is(refusal, ErrBusy):
					busy = refusal
				default:
					if err := done(at[i], refusal); err != nil {
						return err
					}
				}
			}
			if busy != nil {
				return busy
			}
			left, at = again, atAgain
		}
		if len(left) == 0 {
			return nil
		}
		if err := publishBackoff.Wait(ctx, try); err != nil {
			return err
		}
	}
}

// keyPatience is how long an event whose data key has not been replicated holds up the events behind
// it, from when a process first misses the key. Then the event is parked; retried, it is published.
const keyPatience = 30 * time.Second

// unpublishable reports whether an event cannot be decrypted, and more tries will hardly help.
func unpublishable(err error) bool {
	missing, is := errors.AsType[*keys.MissingError](err)
	return errors.Is(err, keys.ErrDamaged) || is && missing.For > keyPatience
}

// publish puts a batch on the bus, and parks what cannot be decrypted or is refused for good. If the
// bus is unavailable it returns the index of the first record that may not be published.
func (h *Handler) publish(ctx context.Context, batch []arrival) (unpublished int, err error) {
	p := Publisher{Bus: h.Bus, Region: h.Region, Source: Source}
	if !h.BusOpens {
		p.Open = h.Keys.OpenEvent
		all := make([]events.Event, len(batch))
		for i, a := range batch {
			all[i] = a.Shown()
		}
		h.Keys.WarmEvents(ctx, all...) // a thousand authors, one after the other, would take minutes
	}
	entries, sent := make([]Entry, 0, MaxEntries), make([]arrival, 0, MaxEntries) // of the next call
	first, bytes := 0, 0                                                          // where the call begins in batch, and its size
	send := func(next int) error {
		err := p.Send(ctx, entries, func(i int, refused error) error {
			if refused != nil {
				return h.Park(ctx, "publish", events.Record{Event: sent[i].Event}, refused)
			}
			h.passed(ctx, sent[i].Event, Published)
			return nil
		})
		if err == nil {
			entries, sent, first, bytes = entries[:0], sent[:0], next, 0
		}
		return err
	}
	for i, a := range batch {
		if h.OwnOnly && a.Event.Region != h.Region {
			continue
		}
		entry, err := p.Entry(ctx, a.Shown())
		if unpublishable(err) {
			if err := h.Park(ctx, "publish", events.Record{Event: a.Event}, err); err != nil {
				return batch[first].index, err
			}
			continue
		}
		if err != nil {
			return batch[first].index, err
		}
		if len(entries) == MaxEntries || len(entries) > 0 && bytes+entry.Size() > MaxCallBytes {
			if err := send(i); err != nil {
				return batch[first].index, err
			}
		}
		entries, sent, bytes = append(entries, entry), append(sent, a), bytes+entry.Size()
	}
	if len(entries) > 0 {
		if err := send(len(batch)); err != nil {
			return batch[first].index, err
		}
	}
	return 0, nil
}
