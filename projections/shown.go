package projections

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"parley/events"
	"parley/events/keys"
)

// ShowEvents returns events as they may be shown, in their order: without the texts of messages that
// are deleted by now, and everything else decrypted, see [keys.Ring.Show]. It is what every event
// passes on its way out that was not folded just before; see [Arrival.Deleted] for those.
//
// It reads the view of each message that a text of es belongs to, once, with a request for each room:
// without any such text it reads nothing. A deletion that has not reached this region's views yet is not
// known.
func ShowEvents(ctx context.Context, views Views, ring *keys.Ring, es ...events.Event) ([]events.Event, error) {
	es, err := Redact(ctx, views, es...)
	if err != nil {
		return nil, err
	}
	return ring.ShowEvents(ctx, es...)
}

// Redact is [ShowEvents] without decrypting.
func Redact(ctx context.Context, views Views, es ...events.Event) ([]events.Event, error) {
	var keys []Key
	for _, e := range es {
		if key, has := textOf(e); has {
			keys = append(keys, key)
		}
	}
	states, err := loadMessages(ctx, views, keys)
	if err != nil {
		return nil, err
	}
	shown := make([]events.Event, len(es))
	for i, e := range es {
		shown[i] = e
		if key, has := textOf(e); has && states[key].hides(e) {
			shown[i] = redacted(e)
		}
	}
	return shown, nil
}

// loadMessages reads views of messages; keys may repeat. Mostly those of a room are neighbours, where a range
// costs less than each by its key.
func loadMessages(ctx context.Context, views Views, keys []Key) (map[Key]*message, error) {
	slices.SortFunc(keys, compareKeys)
	keys = slices.Compact(keys)
	var rooms [][]Key
	for first, i := 0, 1; i <= len(keys); i++ {
		if i == len(keys) || keys[i].Partition != keys[first].Partition {
			rooms, first = append(rooms, keys[first:i]), i
		}
	}
	ranges := make([][]View, len(rooms))
	if err := each(ctx, len(rooms), roomsAtOnce, func(ctx context.Context, i int) (err error) {
		of := rooms[i]
		if n := len(of); n > 1 {
			r := Range{From: of[0].Sort, Before: next(of[n-1].Sort), Limit: n + n/2}
			ranges[i], err = views.Query(ctx, of[0].Partition, r)
		}
		return err
	}); err != nil {
		return nil, err
	}
	states := make(map[Key]*message, len(keys))
	for _, view := range slices.Concat(ranges...) {
		if _, sought := slices.BinarySearchFunc(keys, view.Key, compareKeys); !sought {
			continue
		}
		state, err := decode[message](view.Body)
		if err != nil {
			return nil, err
		}
		states[view.Key] = state
	}
	missing := slices.DeleteFunc(keys, func(key Key) bool { return states[key] != nil })
	more, err := load[message](ctx, views, missing)
	for i, state := range more {
		states[missing[i]] = state
	}
	return states, err
}

func compareKeys(a, b Key) int {
	return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Sort, b.Sort))
}

// textOf returns the view of the message that the event has a text of.
func textOf(e events.Event) (Key, bool) {
	switch p := e.Payload.(type) {
	case events.MessagePosted:
		return messageKey(e.Stream.Name(), e.ID), true
	case events.MessageEdited:
		return messageKey(e.Stream.Name(), p.Message), true
	default:
		return Key{}, false
	}
}

// hides reports whether the text of an event that touches the message must not be shown: the message
// is deleted, by a deletion that counts or will count once the message is here.
func (m *message) hides(e events.Event) bool {
	return m.Deleted != (events.ID{}) || m.Takebacks[e.Actor] != (events.ID{})
}

// redacted returns an event without its texts.
func redacted(e events.Event) events.Event {
	out, err := e.WithContent(func(string, events.Content) (events.Content, error) { return events.Deleted(), nil })
	if err != nil { // a text that is missing can be encoded
		panic(err)
	}
	return out
}
