package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"parley/events"
	"parley/events/keys"
)

// Source is the source of all that is replayed. What subscribers get every day has the source
// "parley": no rule of theirs matches this one.
const Source = "parley.replay"

// The limits of one call to the bus, those of EventBridge's PutEvents.
const (
	maxEntries   = 10
	maxCallBytes = 1 << 20
)

// Entry is an event as it is replayed.
type Entry struct {
	Source     string          // always [Source]
	DetailType string          // "<prefix>/message.posted"
	Detail     json.RawMessage // as it was published, and in replay the replay's id
	Time       time.Time       // the time in the event's id
}

// Bus takes what is replayed, in calls of at most 10 entries and 1 MiB. It must refuse entries
// that [Entry.Replayed] does: it has no other way to subscribers.
type Bus interface {
	// Publish returns an error for each entry that was refused, in their order, nil for the
	// others; or one error if the call as a whole failed, and any of them may be on the bus. It
	// must not keep the slice.
	Publish(ctx context.Context, entries []Entry) (refused []error, err error)
}

// Replayed returns an error for what ordinary subscribers might get.
func (e Entry) Replayed() error {
	prefix, name, _ := strings.Cut(e.DetailType, "/")
	if e.Source != Source || checkPrefix(prefix) != nil || name == "" {
		return errors.New("not an entry of a replay")
	}
	return nil
}

func (e Entry) size() int { return len(e.Source) + len(e.DetailType) + len(e.Detail) + 14 }

// checkPrefix says what is wrong with what a replay's detail types begin with.
func checkPrefix(prefix string) error {
	if events.ValidateRegion("to", prefix) != nil { // the same characters, and as many
		return events.Invalid("to", fmt.Sprintf("must be what stands before the slash in the replay's detail types: 1 to %d characters of a-z 0-9 -", maxPrefix))
	}
	return nil
}

// publisher puts events on the bus under a prefix.
type publisher struct {
	bus                    Bus
	keys                   *keys.Ring
	prefix, region, replay string

	entries []Entry // of the next call
	bytes   int
}

// add is the edge at which an event leaves for those who asked for a replay, opened.
func (p *publisher) add(ctx context.Context, e events.Event) error {
	if p.keys != nil {
		var err error
		if e, err = p.keys.ShowEvent(ctx, e); err != nil {
			return err
		}
	}
	text, err := e.MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode an event for the bus: %w", err)
	}
	detail := append(make([]byte, 0, len(text)+80), text[:len(text)-1]...)
	detail = fmt.Appendf(detail, `,"published_by":%q,"replay":%q}`, p.region, p.replay) // a-z 0-9 -, and a ULID
	entry := Entry{Source: Source, DetailType: p.prefix + "/" + e.Type, Detail: detail, Time: e.ID.Timestamp()}
	if err := entry.Replayed(); err != nil {
		return Permanent(err)
	}
	p.entries, p.bytes = append(p.entries, entry), p.bytes+entry.size()
	return nil
}

// publishTries is how often an entry is sent before it is given up.
const publishTries = 5

// flush makes one call, sends again only what was refused, and counts what is refused for good.
func (p *publisher) flush(ctx context.Context) (published, refused int64, err error) {
	left := p.entries
	p.entries, p.bytes = nil, 0
	for try := 1; ; try++ {
		answers, err := p.bus.Publish(ctx, left)
		if err != nil && try == publishTries {
			return 0, 0, fmt.Errorf("publish a replay: %w", err)
		}
		if err == nil {
			var again []Entry
			for i, refusal := range answers {
				if refusal == nil {
					published++
				} else {
					again = append(again, left[i])
				}
			}
			left = again
		}
		if len(left) == 0 || try == publishTries {
			return published, int64(len(left)), nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(rand.N(10*time.Millisecond) << try):
		}
	}
}
