package command

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *commands) registerRooms(a *api.API) {
	const tag = "rooms"
	api.Command(a, api.Operation{
		ID: "createRoom", Method: "POST", Path: "/v1/rooms", Tag: tag,
		Summary: "Create a room under an id the server mints",
		Detail:  "You become its owner and can post to it straight away. The answer is the room as it was created.",
		Creates: true,
	}, func(ctx context.Context, in *createInput) (*output[api.Room], error) {
		return h.create(ctx, in.Key, keyField, in.Body)
	})
	api.Command(a, api.Operation{
		ID: "putRoom", Method: "PUT", Path: "/v1/rooms/{room}", Tag: tag,
		Summary: "Create a room under an id you minted",
		Detail:  "The id is made like that of a message. The answer is the room as it was created.",
		Creates: true,
	}, func(ctx context.Context, in *putRoomInput) (*output[api.Room], error) {
		return h.create(ctx, in.Room, "room", in.Body)
	})
	api.Command(a, api.Operation{
		ID: "changeRoom", Method: "PATCH", Path: "/v1/rooms/{room}", Tag: tag,
		Summary: "Change a room's name, topic or privacy, or archive it",
		Detail:  "Takes an admin; to archive or open it again, an owner. `archived` must come alone: one command is one event.",
		Codes:   []int{404},
	}, h.change)
	api.Command(a, api.Operation{
		ID: "openDirect", Method: "PUT", Path: "/v1/direct/{user}", Tag: tag,
		Summary: "Open the direct room with a user",
		Detail:  "Its id follows from the two user ids: one room, in every region.",
		Creates: true,
	}, h.direct)
}

type newRoom struct {
	Name    string `json:"name" doc:"1 to 100 characters, on one line." minLength:"1" maxLength:"100"`
	Topic   string `json:"topic,omitempty" doc:"At most 500 characters, on one line." maxLength:"500"`
	Private bool   `json:"private,omitempty" doc:"Invisible to all but its members; they must be added."`
}

type createInput struct {
	Keyed
	Body newRoom
}

type putRoomInput struct {
	Room string `path:"room"`
	Body newRoom
}

func (h *commands) create(ctx context.Context, id, idField string, body newRoom) (*output[api.Room], error) {
	user := api.CallerOf(ctx).User
	if id == "" {
		minted, err := h.Clock.Mint(user)
		if err != nil {
			return nil, err
		}
		id = minted.String()
	}
	room, err := events.ParseID(idField, id)
	if err != nil {
		return nil, err
	}
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room.String()), actor: user, id: id, idField: idField,
		payload: events.RoomCreated{Name: body.Name, Topic: body.Topic, Private: body.Private},
		allow:   allowed,
	})
	if err != nil {
		return nil, err
	}
	return created(done.repeat, roomCreated(done.event, events.RoleOwner)), nil
}

func allowed(context.Context) error { return nil }

// roomCreated is a room as its creation made it. It asks no view: the room is in the log, and an
// answer that says so must not fail.
func roomCreated(e events.Event, role events.Role) api.Room {
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

func (h *commands) direct(ctx context.Context, in *directInput) (*output[api.Room], error) {
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
			room, member, err = h.known.LoadAccess(ctx, h.Views, id, user)
			if err == nil && room.Exists() {
				return already{room.Created}
			}
			return err
		},
	})
	switch {
	case errors.As(err, &already{}):
		return created(true, api.RoomOf(room, member)), nil
	case err != nil:
		return nil, err
	default:
		return created(done.repeat, roomCreated(done.event, events.RoleMember)), nil
	}
}

type roomChange struct {
	Name     *string `json:"name,omitempty" doc:"1 to 100 characters, on one line." minLength:"1" maxLength:"100"`
	Topic    *string `json:"topic,omitempty" doc:"At most 500 characters, on one line." maxLength:"500"`
	Private  *bool   `json:"private,omitempty"`
	Archived *bool   `json:"archived,omitempty" doc:"Alone; takes an owner."`
}

type changeInput struct {
	Keyed
	Room string `path:"room"`
	Body roomChange
}

func (h *commands) change(ctx context.Context, in *changeInput) (*output[api.Accepted], error) {
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
			if err := access.As(role); err != nil {
				return err
			}
			if in.Body.Archived != nil {
				return notDirect(room)
			}
			if err := access.Open(); err != nil {
				return err
			}
			return notDirect(room)
		},
	})
	if err != nil {
		return nil, err
	}
	return ok(done.accepted()), nil
}

func notDirect(room string) error {
	if events.IsDirect(room) {
		return api.Fail(http.StatusConflict, "direct_room", "a direct room is what it is: its members and settings do not change")
	}
	return nil
}
