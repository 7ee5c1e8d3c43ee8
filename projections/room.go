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
	Created  events.ID      `json:"created,omitzero"` // of a direct room the least of its creations
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
			r.update(e.ID, p)
		}
	case events.RoomArchived:
		r.Archived.set(e.ID, true)
	case events.RoomUnarchived:
		r.Archived.set(e.ID, false)
	}
}

func (r *room) create(e events.Event, p events.RoomCreated) {
	if !events.CreatesRoom(e, p) {
		return
	}
	if r.Created = least(r.Created, e.ID); r.Created == e.ID {
		r.By, r.Direct = e.Actor, p.Direct
	}
	r.Name.set(e.ID, p.Name)
	r.Topic.set(e.ID, p.Topic)
	r.Private.set(e.ID, p.Private)
}

func (r *room) update(id events.ID, p events.RoomUpdated) {
	if p.Name != nil {
		r.Name.set(id, *p.Name)
	}
	if p.Topic != nil {
		r.Topic.set(id, *p.Topic)
	}
	if p.Private != nil {
		r.Private.set(id, *p.Private)
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

// Exists reports whether the room was created, as far as this region has heard.
func (r Room) Exists() bool { return r.Created != (events.ID{}) }

func (r *room) read(id string) Room {
	return Room{
		ID: id, Created: r.Created, By: r.By, Direct: r.Direct,
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
