package projections

import (
	"context"

	"parley/events"
)

// Rooms is the projection of what a room is: one view per room.
var Rooms Projection = &projection[room, *room]{
	name:   "room",
	stream: roomOf,
	keys: func(e events.Event) []Key {
		switch e.Payload.(type) {
		case events.RoomCreated, events.RoomUpdated, events.RoomArchived, events.RoomUnarchived:
			return []Key{roomKey(e.Stream.Name())}
		default:
			return nil
		}
	},
}

func roomKey(room string) Key { return Key{"room/" + room, "room"} }

// room is the view of a room. The latest setting of each field wins, its creation being the first.
type room struct {
	Created  events.Ref     `json:"created,omitzero"` // the least of its creations
	By       string         `json:"by,omitempty"`
	Direct   []string       `json:"direct,omitempty"`
	Name     latest[string] `json:"name,omitzero"`
	Topic    latest[string] `json:"topic,omitzero"`
	Private  latest[bool]   `json:"private,omitzero"`
	Archived latest[bool]   `json:"archived,omitzero"`
}

func (r *room) fold(_ Key, e events.Event) {
	switch p := e.Payload.(type) {
	case events.RoomCreated:
		r.create(e, p)
	case events.RoomUpdated:
		if !events.IsDirect(e.Stream.Name()) {
			r.update(e.Ref(), p)
		}
	case events.RoomArchived:
		r.Archived.set(e.Ref(), true)
	case events.RoomUnarchived:
		r.Archived.set(e.Ref(), false)
	}
}

func (r *room) create(e events.Event, p events.RoomCreated) {
	if !events.CreatesRoom(e, p) {
		return
	}
	if r.Created = least(r.Created, e.Ref()); r.Created == e.Ref() {
		r.By, r.Direct = e.Actor, p.Direct
	}
	r.Name.set(e.Ref(), p.Name)
	r.Topic.set(e.Ref(), p.Topic)
	r.Private.set(e.Ref(), p.Private)
}

func (r *room) update(ref events.Ref, p events.RoomUpdated) {
	if p.Name != nil {
		r.Name.set(ref, *p.Name)
	}
	if p.Topic != nil {
		r.Topic.set(ref, *p.Topic)
	}
	if p.Private != nil {
		r.Private.set(ref, *p.Private)
	}
}

// Room is a room as its readers see it.
type Room struct {
	ID       string
	Created  events.ID // the event that created it; the time in it is the time of creation
	By       string    // who created it
	Name     string
	Topic    string
	Private  bool
	Archived bool
	Direct   []string // the two users of a direct room, else empty
}

// Exists reports whether the event that created the room has reached this region.
func (r Room) Exists() bool { return r.Created != (events.ID{}) }

func (r *room) read(id string) Room {
	return Room{
		ID: id, Created: r.Created.ID, By: r.By, Direct: r.Direct,
		Name: r.Name.Value, Topic: r.Topic.Value, Private: r.Private.Value, Archived: r.Archived.Value,
	}
}

// LoadRooms reads rooms by their ids, in that order; see [Room.Exists].
func LoadRooms(ctx context.Context, views Views, ids ...string) ([]Room, error) {
	keys := make([]Key, len(ids))
	for i, id := range ids {
		keys[i] = roomKey(id)
	}
	states, err := load[room](ctx, views, keys)
	if err != nil {
		return nil, err
	}
	rooms := make([]Room, len(ids))
	for i, state := range states {
		rooms[i] = state.read(ids[i])
	}
	return rooms, nil
}

// RoomText is a text of a room that is not sealed.
type RoomText struct {
	Room, Field, Text string // the field is name or topic
}

// TextsGiven reads the names and topics that rooms have now and a user gave them. It looks at the
// first rooms, by id, that the user was ever a member of, at most limit, and reports whether there
// are more.
func TextsGiven(ctx context.Context, log events.Log, views Views, user string, limit int) (given []RoomText, more bool, err error) {
	members, err := ListRoomsOf(ctx, views, user, "", limit+1)
	if err != nil {
		return nil, false, err
	}
	if more = len(members) > limit; more {
		members = members[:limit]
	}
	keys := make([]Key, len(members))
	for i, m := range members {
		keys[i] = roomKey(m.Room)
	}
	rooms, err := load[room](ctx, views, keys)
	if err != nil {
		return nil, false, err
	}
	for i, r := range rooms {
		name := members[i].Room
		for _, text := range []struct {
			field string
			latest[string]
		}{{"name", r.Name}, {"topic", r.Topic}} {
			if text.Value == "" {
				continue
			}
			key := text.Ref.In(events.RoomStream(name))
			found, err := log.GetMany(ctx, []events.Key{key})
			if err != nil {
				return nil, false, err
			}
			if found[key].Actor == user {
				given = append(given, RoomText{name, text.field, text.Value})
			}
		}
	}
	return given, more, nil
}
