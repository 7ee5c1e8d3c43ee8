package command

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Commands) registerRooms(a *api.API) {
	const tag = "rooms"
	api.Command(a, api.Operation{
		ID: "createRoom", Method: "POST", Path: "/v1/rooms", Tag: tag,
		Summary: "Create a room under an id the server mints",
		Detail:  "You become its owner and can post to it at once. The answer is the room as it was created.",
		Creates: true,
	}, func(ctx context.Context, in *createInput) (*api.Response[wire.Room], error) {
		return h.create(ctx, in.Key, keyField, in.Body)
	})
	api.Command(a, api.Operation{
		ID: "putRoom", Method: "PUT", Path: "/v1/rooms/{room}", Tag: tag,
		Summary: "Create a room under an id you minted",
		Detail:  "The id is made like that of a message. The answer is the room as it was created.",
		Creates: true,
	}, func(ctx context.Context, in *putRoomInput) (*api.Response[wire.Room], error) {
		return h.create(ctx, in.Room, "room", in.Body)
	})
	api.Command(a, api.Operation{
		ID: "changeRoom", Method: "PATCH", Path: "/v1/rooms/{room}", Tag: tag,
		Summary: "Change a room's name, topic or privacy, or archive it",
		Detail:  "Takes an admin; to archive or reopen it, an owner. `archived` must come alone: one command is one event.",
		Codes:   []int{404},
	}, h.change)
	api.Command(a, api.Operation{
		ID: "openDirect", Method: "PUT", Path: "/v1/direct/{user}", Tag: tag,
		Summary: "Open the direct room with a user",
		Detail:  "Its id follows from the two user ids: one room, in every region. How many you can open in an hour, or users invite, is limited: `too_many_contacts`.",
		Creates: true,
	}, h.direct)
}

type createInput struct {
	Keyed
	Body wire.NewRoom
}

type putRoomInput struct {
	Room string `path:"room"`
	Body wire.NewRoom
}

func (h *Commands) create(ctx context.Context, id, idField string, body wire.NewRoom) (*api.Response[wire.Room], error) {
	user := api.CallerOf(ctx).User
	minted := id == ""
	if minted {
		fresh, err := h.Clock.Mint(user)
		if err != nil {
			return nil, err
		}
		id = fresh.String()
	}
	room, err := events.ParseID(idField, id)
	if err != nil {
		return nil, err
	}
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room.String()), actor: user, id: id, idField: idField, minted: minted,
		payload: events.RoomCreated{Name: body.Name, Topic: body.Topic, Private: body.Private},
		allow:   allowed,
	})
	if err != nil {
		return nil, err
	}
	return api.Created(done.repeat, roomCreated(done.event, events.RoleOwner)), nil
}

func allowed(context.Context) error { return nil }

// roomCreated is a room as its creation made it. It reads no view, so the answer cannot fail once the
// event is in the log.
func roomCreated(e events.Event, role events.Role) wire.Room {
	r := projections.Room{ID: e.Stream.Name(), Created: e.ID, By: e.Actor}
	if p, ok := e.Payload.(events.RoomCreated); ok {
		r.Name, r.Topic, r.Private, r.Direct = p.Name, p.Topic, p.Private, p.Direct
	}
	return api.RoomOf(r, projections.Member{Role: role})
}

type directInput struct {
	Keyed
	User string `path:"user"`
}

func (h *Commands) direct(ctx context.Context, in *directInput) (*api.Response[wire.Room], error) {
	user := api.CallerOf(ctx).User
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	if in.User == user {
		return nil, events.Invalid("user", "must be another user than yourself")
	}
	id := events.DirectRoom(user, in.User)
	users := []string{user, in.User}
	slices.Sort(users)
	var room projections.Room
	var member projections.Member
	done, err := h.do(ctx, command{
		stream: events.RoomStream(id), actor: user, id: in.Key, idField: keyField,
		payload: events.RoomCreated{Private: true, Direct: users},
		allow: func(ctx context.Context) (err error) {
			room, member, err = h.known.Load(ctx, h.Views, id, user)
			if err == nil && room.Exists() {
				return already{room.Created}
			}
			if err != nil {
				return err
			}
			return h.contact(ctx, user)
		},
	})
	switch {
	case errors.As(err, &already{}):
		return api.Created(true, api.RoomOf(room, member)), nil
	case err != nil:
		return nil, err
	default:
		return api.Created(done.repeat, roomCreated(done.event, events.RoleMember)), nil
	}
}

type changeInput struct {
	Keyed
	Room string `path:"room"`
	Body wire.RoomChange
}

func (h *Commands) change(ctx context.Context, in *changeInput) (*api.Response[wire.Accepted], error) {
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return nil, err
	}
	update := events.RoomUpdated{Name: in.Body.Name, Topic: in.Body.Topic, Private: in.Body.Private}
	var payload events.Payload = update
	role := events.RoleAdmin
	if archived := in.Body.Archived; archived != nil {
		if update != (events.RoomUpdated{}) {
			return nil, events.Invalid("archived", "must come alone: one command is one event")
		}
		role, payload = events.RoleOwner, events.RoomUnarchived{}
		if *archived {
			payload = events.RoomArchived{}
		}
	}
	user := api.CallerOf(ctx).User
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room), actor: user, id: in.Key, idField: keyField, payload: payload,
		allow: func(ctx context.Context) error {
			access, err := api.See(ctx, h.known, h.Views, room, user)
			if err != nil {
				return err
			}
			if err := access.RequireRole(role); err != nil {
				return err
			}
			if in.Body.Archived != nil {
				return notDirect(room)
			}
			if err := access.RequireActive(); err != nil {
				return err
			}
			return notDirect(room)
		},
	})
	if err != nil {
		return nil, err
	}
	return api.OK(done.accepted()), nil
}

func notDirect(room string) error {
	if events.IsDirect(room) {
		return api.Fail(http.StatusConflict, "direct_room", "members and settings of a direct room cannot be changed; create a room instead")
	}
	return nil
}
