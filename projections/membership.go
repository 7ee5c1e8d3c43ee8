package projections

import (
	"context"
	"math"
	"slices"
	"time"

	"parley/events"
)

// since returns since when a room's feed is read if the cursor says nothing of it.
func (p *pass) since(m Member) time.Time {
	base, joined := p.base(), m.Since.Timestamp().Add(-recordSkew)
	if p.to.Entered && joined.Before(base) && joined.After(base.Add(-lookBack)) {
		return joined
	}
	return base
}

// expandMembership returns what a change of the user's membership makes known: the change itself if the
// user is not a member now, else what happened in the room before the membership arrived here, though it
// sorts after it. What arrived later is in the room's own feed.
func (p *pass) expandMembership(ctx context.Context, s *source, e newEntry, event events.Event) ([]part, error) {
	m := s.members[e.Stream.Name()]
	if !m.In {
		return []part{{Happened{Event: event}, 1}}, p.passOver(ctx, e)
	}
	since := p.since(m) // what arrived later is read from the room's feed
	var parts []part
	if p.to.Entered && e.at.Before(since) {
		parts = append(parts, part{Happened{Event: event}, 1})
	}
	if m.Since != e.Ref.ID && e.Type != "member.unbanned" {
		return parts, nil
	}
	feed := events.RoomStream(m.Room)
	head, err := loadHead(ctx, p.Views, feed, true)
	if err != nil || head == nil {
		return parts, err
	}
	if _, listed := p.to.Places[tagOf(feed, head.Epoch)]; listed {
		return parts, nil // the user was a member before
	}
	opened, err := p.Opened(ctx, m, e.Ref, since, max(s.place.Part, 1)-1, p.room()+1)
	for _, h := range opened {
		parts = append(parts, part{h, h.Position + 1})
	}
	return parts, err
}

// Opened returns what happened in a room before the event by which a membership became known arrived there,
// though it sorts after the membership's beginning: at most so many events, those behind a position. If
// until is not zero, only what arrived before until. What stands behind the event in the room's feed is read
// from there.
func (s Syncer) Opened(ctx context.Context, m Member, by events.Ref, until time.Time, after uint64, most int) ([]Happened, error) {
	feed, since := events.RoomStream(m.Room), m.Since.Timestamp().Add(-recordSkew).UnixMilli()
	var entries []newEntry
	for one, err := range segments(ctx, s.Views, feed, Range{Reverse: true}) {
		if err != nil {
			return nil, err
		}
		if one.At < since {
			break
		}
		for _, e := range slices.Backward(entriesOf([]*segment{one}, 0, math.MaxInt)) {
			switch {
			case e.Ref == by:
				entries = entries[:0]
			case e.Ref.ID.Compare(m.Since) > 0 && (until.IsZero() || e.at.Before(until)):
				entries = append(entries, e)
			}
		}
	}
	slices.Reverse(entries)
	entries = slices.DeleteFunc(entries, func(e newEntry) bool { return e.Position <= after })
	if entries = entries[:min(len(entries), most)]; len(entries) == 0 {
		return nil, nil
	}
	found, err := s.eventsOf(ctx, feed, entries)
	if err != nil {
		return nil, err
	}
	var opened []Happened
	for _, e := range entries {
		event, there := found[e.Ref.In(feed)]
		if there && !slices.Contains(MembersOf(event), m.User) { // those were delivered
			opened = append(opened, Happened{event, e.Position})
		}
	}
	return opened, nil
}

// passedTag tags up to where the changes of the user's membership were delivered while the user was no
// member of a room. That says nothing of what else is in the room's feed.
func passedTag(feed events.Stream, epoch string) FeedTag { return tagOf("passed/"+feed, epoch) }

// passOver notes that a change of the membership of a user who is no member was delivered: if the user
// joins soon, it is not delivered again from the room's feed.
func (p *pass) passOver(ctx context.Context, e newEntry) error {
	since := e.at.Add(-Window).UnixMilli()
	for segment, err := range segments(ctx, p.Views, e.Stream, Range{Reverse: true}) {
		if err != nil {
			return err
		}
		if segment.At < since {
			break
		}
		for i, there := range segment.Entries {
			if there.Ref != e.Ref {
				continue
			}
			tag := passedTag(e.Stream, segment.Epoch)
			if place := p.to.Places[tag]; place.Position < segment.First+uint64(i) {
				p.to.Places[tag] = Place{Position: segment.First + uint64(i), At: unixMilli(segment.At)}
			}
			return nil
		}
	}
	return nil
}
