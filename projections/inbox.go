package projections

import (
	"context"
	"maps"
	"math"
	"slices"

	"parley/events"
)

// Inboxes is the projection of a user's read markers: one view per user and room. The rest of
// an inbox is put together when it is read: which rooms from [Members], the last message from
// the timeline, the unread count from the feed. A message thus costs its room's members nothing.
var Inboxes Projection = &projection[marker, *marker]{
	name:   "inbox",
	stream: userOf,
	keys: func(e events.Event) []Key {
		if p, ok := e.Payload.(events.RoomRead); ok {
			return []Key{markerKey(e.Actor, p.Room)}
		}
		return nil
	},
}

func markerKey(user, room string) Key { return Key{"inbox/" + user, room} }

// marker is the view of how far a user has read a room: the greatest wins.
type marker struct {
	UpTo events.ID `json:"up_to"`
}

func (m *marker) fold(_ Key, e events.Event) {
	if p, ok := e.Payload.(events.RoomRead); ok && p.UpTo.Compare(m.UpTo) > 0 {
		m.UpTo = p.UpTo
	}
}

// LoadMarkers reads how far a user has read each of the rooms; zero if never.
func LoadMarkers(ctx context.Context, views Views, user string, rooms ...string) ([]events.ID, error) {
	keys := make([]Key, len(rooms))
	for i, room := range rooms {
		keys[i] = markerKey(user, room)
	}
	states, err := load[marker](ctx, views, keys)
	if err != nil {
		return nil, err
	}
	ids := make([]events.ID, len(rooms))
	for i, state := range states {
		ids[i] = state.UpTo
	}
	return ids, nil
}

// InboxEntry is one room of a user's inbox.
type InboxEntry struct {
	Room   Room
	Member Member
	ReadTo events.ID // the user's read marker; zero if there is none
	Last   *Message  // nil if there is none
	Unread int       // messages by others that arrived after ReadTo, at most MaxUnread
}

// LoadInbox reads the inbox of a user: one entry a room, in the order of the rooms' ids, at most
// limit, those behind after. The second result is the after of the next page, "" if there is none. A
// page of a user who has left many rooms may be shorter than limit, or empty, with more to come: it
// reads at most [MaxRows].
func LoadInbox(ctx context.Context, views Views, user, after string, limit int) ([]InboxEntry, string, error) {
	var entries []InboxEntry
	after, err := EachRoomOf(ctx, views, user, after, MaxRows, func(m Member) bool {
		switch {
		case !m.In:
		case len(entries) == limit:
			return false
		default:
			entries = append(entries, InboxEntry{Member: m})
		}
		return true
	})
	if err != nil {
		return nil, "", err
	}
	if err := fillInbox(ctx, views, user, entries); err != nil {
		return nil, "", err
	}
	return entries, after, nil
}

func fillInbox(ctx context.Context, views Views, user string, entries []InboxEntry) error {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.Member.Room
	}
	rooms, err := LoadRooms(ctx, views, ids...)
	if err != nil {
		return err
	}
	markers, err := LoadMarkers(ctx, views, user, ids...)
	if err != nil {
		return err
	}
	return each(ctx, len(entries), roomsAtOnce, func(ctx context.Context, i int) error {
		e := &entries[i]
		e.Room, e.ReadTo = rooms[i], markers[i]
		last, err := ListMessages(ctx, views, ids[i], events.Range{Reverse: true, Limit: 1})
		if err != nil {
			return err
		}
		if len(last) == 1 {
			e.Last = &last[0]
		}
		since := e.ReadTo
		if since == (events.ID{}) {
			since = e.Member.Since
		}
		e.Unread, err = CountUnread(ctx, views, ids[i], user, since)
		return err
	})
}

const (
	// MaxUnread is where counting unread messages stops.
	MaxUnread = 100
	// unreadScan bounds the entries that are scanned for unread messages.
	unreadScan = 2000
)

// CountUnread counts the messages by others that arrived in this region after the event since, up to
// MaxUnread; of messages with one id it counts the first that arrived. A message that arrived late is
// counted, though it sorts before. If since is not among the last entries (it arrived long ago, or has not
// arrived yet), the messages that sort after it are counted.
func CountUnread(ctx context.Context, views Views, room, user string, since events.ID) (int, error) {
	unread, before := map[events.ID]bool{}, map[events.ID]bool{} // what stands behind since in the feed, and what before
	sortedAfter, scanned, passed := 0, 0, false
	// Two messages may have one id. The first of them may have arrived before since, and the first with the
	// id since before the one that was found: of ids from then on, Unix ms, where something arrived late.
	earliest := int64(math.MaxInt64)
	for s, err := range segments(ctx, views, events.RoomStream(room), Range{Reverse: true}) {
		if err != nil {
			return 0, err
		}
		for _, e := range slices.Backward(s.Entries) {
			at := e.Ref.ID.Timestamp().UnixMilli()
			counts := e.isMessage() && e.Actor != user
			switch {
			case e.Ref.ID == since:
				maps.Copy(unread, before)
				clear(before)
				if passed = true; s.At > at+recordSkew.Milliseconds() {
					earliest = min(earliest, at)
				}
			case counts && passed:
				before[e.Ref.ID] = true
			case counts && !unread[e.Ref.ID]:
				unread[e.Ref.ID] = true
				if e.Ref.ID.Compare(since) > 0 {
					sortedAfter++
				} else {
					earliest = min(earliest, at)
				}
			}
		}
		scanned += len(s.Entries)
		if sortedAfter >= MaxUnread || scanned >= unreadScan || passed && s.At < earliest-recordSkew.Milliseconds() {
			break
		}
	}
	for id := range before {
		delete(unread, id)
	}
	if passed {
		return min(len(unread), MaxUnread), nil
	}
	return min(sortedAfter, MaxUnread), nil
}
