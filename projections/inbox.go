package projections

import (
	"context"

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

// Entry is one room of a user's inbox.
type Entry struct {
	Room   Room
	Member Member
	ReadTo events.ID // the user's read marker; zero if she never read
	Last   *Message  // nil if there is none
	Unread int       // messages by others that arrived after what she read, at most MaxUnread
}

// LoadInbox reads the inbox of a user: of her rooms, in the order of their ids beginning behind
// after, at most limit. The second result is where the next page begins, "" if there is none.
func LoadInbox(ctx context.Context, views Views, user, after string, limit int) ([]Entry, string, error) {
	var entries []Entry
	for len(entries) <= limit {
		want := limit + 1 - len(entries)
		members, err := ListRoomsOf(ctx, views, user, after, want)
		if err != nil {
			return nil, "", err
		}
		for _, m := range members {
			after = m.Room
			if m.In {
				entries = append(entries, Entry{Member: m})
			}
		}
		if len(members) < want {
			break
		}
	}
	after = ""
	if len(entries) > limit { // one more than wanted: there is another page
		entries = entries[:limit]
		after = entries[limit-1].Member.Room
	}
	if err := fillInbox(ctx, views, user, entries); err != nil {
		return nil, "", err
	}
	return entries, after, nil
}

func fillInbox(ctx context.Context, views Views, user string, entries []Entry) error {
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
	return each(ctx, len(entries), func(ctx context.Context, i int) error {
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
