package projections

import (
	"context"
	"slices"
	"time"

	"parley/events"
)

// Unread is how many messages of a room a user has not read: those by others, neither deleted nor imported, that
// arrived after the user's read marker and latest join.
type Unread struct {
	Count   int  // at most MaxUnread
	AtLeast bool // there may be more
}

const (
	// MaxUnread is where counting unread messages stops.
	MaxUnread = 100
	// unreadRows bounds the messages that are searched for unread ones: others may be the user's own, deleted or
	// imported.
	unreadRows = 1000
	// unreadEntries bounds the entries of a feed that are searched.
	unreadEntries = 2000
	// aheadOfArrival is how long before the time in its id an event may arrive, by clocks that are ahead.
	aheadOfArrival = recordSkew + 10*time.Second
)

// CountUnread counts what a member has not read; last is the last message of the room, nil if there is none. What
// sorts after the marker, or after the beginning of the membership, is in the timeline. What sorts before the marker
// and arrived after it was set is known by its number: the head of the feed counts the messages that have arrived,
// and the marker those that had been seen. Regions that have received the same events have the same numbers, in
// whichever order the events arrived.
func CountUnread(ctx context.Context, views Views, m Member, marker ReadMarker, last *Message) (Unread, error) {
	c := unreadCount{views: views, room: m.Room, user: m.User, after: marker.UpTo}
	if m.Since.Compare(marker.UpTo) > 0 && m.Since.Compare(marker.MarkedUnread) > 0 {
		c.after, marker.Seen = m.Since, events.SeenUnknown // what was there before is not the member's to read
	}
	head, err := loadHead(ctx, views, events.RoomStream(m.Room), true)
	if err != nil {
		return Unread{}, err
	}
	c.unseen = head.messages() - max(marker.Seen, 0)
	if head.messages() == events.SeenUnknown {
		c.unseen, marker.Seen = events.SeenUnknown, events.SeenUnknown
	}
	if last != nil && last.ID.Compare(c.after) > 0 {
		if err := c.sortedAfter(ctx); err != nil || c.AtLeast {
			return c.Unread, err
		}
	}
	if marker.Seen != events.SeenUnknown && c.unseen > c.rows {
		err = c.arrivedLate(ctx, head)
	}
	return c.Unread, err
}

// unreadCount is a count that is under way.
type unreadCount struct {
	Unread
	views      Views
	room, user string
	after      events.ID
	unseen     int64 // messages that have arrived since the marker was set, or ever; SeenUnknown if the feed does not say
	rows       int64 // messages of the timeline that sort after; imported ones are in neither
}

// add counts a message, and reports whether to go on.
func (c *unreadCount) add(m *message) bool {
	if m.Post.Author != c.user && m.Deleted == (events.ID{}) {
		c.Count++
		c.AtLeast = c.Count >= MaxUnread
	}
	return !c.AtLeast
}

// sortedAfter counts the messages that sort after, the last first. Before as many as are unseen there are only imported
// ones.
func (c *unreadCount) sortedAfter(ctx context.Context) error {
	const page = 100
	r := events.Range{After: c.after, Reverse: true, Limit: page}
	for range unreadRows / page {
		states, ids, err := listStates(ctx, c.views, c.room, r)
		if err != nil {
			return err
		}
		for i, state := range states {
			if events.Imported(ids[i]) {
				if c.unseen != events.SeenUnknown && c.rows >= c.unseen {
					return nil
				}
				continue
			}
			if c.rows++; !c.add(state) {
				return nil
			}
		}
		if len(states) < page {
			return nil
		}
		r = behind(r, ids[len(ids)-1])
	}
	c.Count, c.AtLeast = max(c.Count, 1), true
	return nil
}

// arrivedLate counts the messages that sort before the marker and are unseen. In a region where they arrived in another
// order than in the marker's, the last to arrive are taken for them.
func (c *unreadCount) arrivedLate(ctx context.Context, head *segment) error {
	feed, oldest := events.RoomStream(c.room), c.after.Timestamp().Add(-aheadOfArrival).UnixMilli()
	late, sortAfter, searched := c.unseen-c.rows, int64(0), 0
	var before []Key
	known := map[events.ID]bool{}
	for s, err := range segments(ctx, c.views, feed, Range{Reverse: true, Stale: true, Before: segmentKey(feed, head.end()).Sort}) {
		if err != nil {
			return err
		}
		for _, e := range slices.Backward(s.Entries) {
			if !e.canBeUnread() {
				continue
			}
			switch order := e.Ref.ID.Compare(c.after); {
			case order > 0:
				sortAfter++
			case order < 0 && !known[e.Ref.ID]:
				known[e.Ref.ID] = true
				before = append(before, messageKey(c.room, e.Ref.ID))
			}
		}
		if s.At < oldest { // nothing before it sorts after the marker
			if late = c.unseen - sortAfter; int64(len(before)) >= late {
				break
			}
		}
		if searched += len(s.Entries); searched >= unreadEntries {
			break
		}
	}
	if late <= 0 {
		return nil
	}
	if int64(len(before)) < late && searched >= unreadEntries {
		c.Count, c.AtLeast = max(c.Count, 1), true
		return nil
	}
	states, err := load[message](ctx, c.views, before[:min(late, int64(len(before)), MaxUnread)])
	for _, state := range states {
		if state.Post != nil && !c.add(state) {
			break
		}
	}
	return err
}

// CountSeen returns how many messages of a room, up to and including one, have arrived in this region, for
// [events.RoomRead]. It is [events.SeenUnknown] if the message has not arrived yet, or long ago.
func CountSeen(ctx context.Context, views Views, room string, upTo events.ID) (int64, error) {
	oldest := upTo.Timestamp().Add(-aheadOfArrival).UnixMilli()
	seen, searched, found := int64(events.SeenUnknown), 0, false
	for s, err := range segments(ctx, views, events.RoomStream(room), Range{Reverse: true}) {
		if err != nil {
			return 0, err
		}
		if searched == 0 { // the head
			if seen = s.messages(); seen == events.SeenUnknown {
				break
			}
		}
		for _, e := range s.Entries {
			found = found || e.Ref.ID == upTo
			if e.canBeUnread() && e.Ref.ID.Compare(upTo) > 0 {
				seen--
			}
		}
		if searched += len(s.Entries); searched >= unreadEntries {
			return events.SeenUnknown, nil
		}
		if s.At < oldest {
			break
		}
	}
	if !found {
		return events.SeenUnknown, nil
	}
	return seen, nil
}
