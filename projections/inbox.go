package projections

import (
	"cmp"
	"context"
	"slices"

	"parley/events"
)

// Inboxes is the projection of a user's read markers: one view per user and room. The rest of
// an inbox is put together when it is read: which rooms from [Members], the last message from
// the timeline, the unread count from the timeline and the feed, see [CountUnread]. A message thus costs its room's
// members nothing.
var Inboxes Projection = &projection[marker, *marker]{
	name:   "inbox",
	stream: userOf,
	keys: func(e events.Event) []Key {
		switch p := e.Payload.(type) {
		case events.RoomRead:
			return []Key{markerKey(e.Actor, p.Room)}
		case events.RoomMarkedUnread:
			return []Key{markerKey(e.Actor, p.Room)}
		}
		return nil
	},
}

func markerKey(user, room string) Key { return Key{"inbox/" + user, room} }

// marker is the view of how far a user has read a room. The latest mark as unread counts, and of the read markers
// after it the greatest. Which one is after which follows from the ids of their events, so markers that may count
// once more are kept until a mark as unread that is still under way can have arrived.
type marker struct {
	UpTo   events.ID         `json:"up_to,omitzero"`  // the greatest of a release that did not count; before any mark as unread
	Unread latest[events.ID] `json:"unread,omitzero"` // from which message on
	Read   []readMark        `json:"read,omitempty"`  // those that a later one does not exceed; the first is the greatest
}

// readMark is a read marker as it was set.
type readMark struct {
	Ref  events.Ref `json:"id"`
	UpTo events.ID  `json:"up_to"`
	Seen int64      `json:"seen"`
}

// exceeds reports whether a is further than b: up to a later message, or with more of those before it, of which all
// count as seen where the number is not known.
func (a readMark) exceeds(b readMark) bool {
	return cmp.Or(a.UpTo.Compare(b.UpTo), cmp.Compare(uint64(a.Seen), uint64(b.Seen))) > 0
}

// maxMarks bounds the markers that are kept. Commands add none that changes nothing, so more than one is there only
// while regions have not received each other's.
const maxMarks = 64

func (m *marker) fold(_ Key, e events.Event) {
	switch p := e.Payload.(type) {
	case events.RoomRead:
		if p.Seen == nil {
			m.UpTo = greatest(m.UpTo, p.UpTo)
		} else {
			m.Read = append(m.Read, readMark{e.Ref(), p.UpTo, *p.Seen})
		}
	case events.RoomMarkedUnread:
		m.Unread.set(e.Ref(), p.From)
	}
	m.dropSuperseded()
}

// dropSuperseded drops the markers before the latest mark as unread, and those that a later one exceeds or equals.
func (m *marker) dropSuperseded() {
	slices.SortFunc(m.Read, func(a, b readMark) int { return b.Ref.Compare(a.Ref) })
	var kept []readMark
	for _, mark := range m.Read {
		if mark.Ref.Compare(m.Unread.Ref) > 0 && (len(kept) == 0 || mark.exceeds(kept[len(kept)-1])) {
			kept = append(kept, mark)
		}
	}
	slices.Reverse(kept)
	m.Read = kept[:min(len(kept), maxMarks)]
}

// ReadMarker is how far a user has read a room.
type ReadMarker struct {
	UpTo  events.ID // the last message that is read; zero if none is
	Seen  int64     // see [events.RoomRead]
	Event events.ID // that set it; zero if there is none, or one of a release that did not count
	// MarkedUnread is the event by which the user marked the room as unread last; zero if none.
	MarkedUnread events.ID
}

// Covers reports whether setting a marker would change nothing.
func (m ReadMarker) Covers(upTo events.ID, seen int64) bool {
	return m.Event != (events.ID{}) && !readMark{UpTo: upTo, Seen: seen}.exceeds(readMark{UpTo: m.UpTo, Seen: m.Seen})
}

func (m *marker) read() ReadMarker {
	out := ReadMarker{UpTo: m.UpTo, Seen: events.SeenUnknown, MarkedUnread: m.Unread.Ref.ID}
	if out.MarkedUnread != (events.ID{}) {
		out.UpTo, out.Event = events.PrecedingID(m.Unread.Value), out.MarkedUnread
	}
	if len(m.Read) > 0 && m.Read[0].UpTo.Compare(out.UpTo) >= 0 {
		first := m.Read[0]
		out.UpTo, out.Seen, out.Event = first.UpTo, first.Seen, first.Ref.ID
	}
	return out
}

// LoadMarkers reads how far a user has read each of the rooms.
func LoadMarkers(ctx context.Context, views Views, user string, rooms ...string) ([]ReadMarker, error) {
	keys := make([]Key, len(rooms))
	for i, room := range rooms {
		keys[i] = markerKey(user, room)
	}
	states, err := load[marker](ctx, views, keys)
	if err != nil {
		return nil, err
	}
	markers := make([]ReadMarker, len(states))
	for i, state := range states {
		markers[i] = state.read()
	}
	return markers, nil
}

// InboxEntry is one room of a user's inbox.
type InboxEntry struct {
	Room   Room
	Member Member
	ReadTo events.ID // the user's read marker; zero if there is none
	Last   *Message  // nil if there is none
	Unread Unread
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
		e.Room, e.ReadTo = rooms[i], markers[i].UpTo
		last, err := ListMessages(ctx, views, ids[i], events.Range{Reverse: true, Limit: 1})
		if err != nil {
			return err
		}
		if len(last) == 1 {
			e.Last = &last[0]
		}
		e.Unread, err = CountUnread(ctx, views, e.Member, markers[i], e.Last)
		return err
	})
}
