package command

import (
	"context"
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
		Detail:  "201. You become its owner and can post to it straight away.",
		Codes:   []int{403, 409},
	}, func(ctx context.Context, in *createInput) (*output[api.Room], error) {
		return h.create(ctx, in.Key, keyField, in.Body)
	})
	api.Command(a, api.Operation{
		ID: "putRoom", Method: "PUT", Path: "/v1/rooms/{room}", Tag: tag,
		Summary: "Create a room under an id you minted",
		Detail:  "201; 200 if it had been created before. The id is made like that of a message.",
		Codes:   []int{403, 409},
	}, func(ctx context.Context, in *putRoomInput) (*output[api.Room], error) {
		return h.create(ctx, in.Room, "room", in.Body)
	})
	api.Command(a, api.Operation{
		ID: "changeRoom", Method: "PATCH", Path: "/v1/rooms/{room}", Tag: tag,
		Summary: "Change a room's name, topic or privacy, or archive it",
		Detail:  "Takes an admin; to archive or open it again, an owner. `archived` must come alone: one command is one event.",
		Codes:   []int{403, 404, 409},
	}, h.change)
	api.Command(a, api.Operation{
		ID: "openDirect", Method: "PUT", Path: "/v1/direct/{user}", Tag: tag,
		Summary: "Open the direct room with a user",
		Detail:  "201; 200 if it was open. Its id follows from the two user ids: one room, in every region.",
		Codes:   []int{409},
	}, h.direct)
}

type roomBody struct {
	Name    string `json:"name" doc:"1 to 100 characters, on one line."`
	Topic   string `json:"topic,omitempty" doc:"At most 500 characters, on one line."`
	Private bool   `json:"private,omitempty" doc:"Invisible to all but its members; they must be added."`
}

type createInput struct {
	keyed
	Body roomBody
}

type putRoomInput struct {
	Room string `path:"room"`
	Body roomBody
}

func (h *commands) create(ctx context.Context, id, idField string, body roomBody) (*output[api.Room], error) {
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
	return h.created(ctx, command{
		stream: events.RoomStream(room.String()), actor: user, id: id, idField: idField,
		payload: events.RoomCreated{Name: body.Name, Topic: body.Topic, Private: body.Private},
		allow:   allowed,
	})
}

func allowed(context.Context) error { return nil }

// created does a command that brings a room into being and answers with the room.
func (h *commands) created(ctx context.Context, c command) (*output[api.Room], error) {
	done, err := h.do(ctx, c)
	if err != nil {
		return nil, err
	}
	views := projections.WithEvents(h.Views, done.event)
	room, member, err := projections.LoadAccess(ctx, views, c.stream.Name(), c.actor)
	if err != nil {
		return nil, err
	}
	return created(done.repeat, api.RoomOf(room, member)), nil
}

type directInput struct {
	keyed
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
	room, member, err := projections.LoadAccess(ctx, h.Views, id, user)
	if err != nil {
		return nil, err
	}
	if room.Exists() {
		return created(true, api.RoomOf(room, member)), nil
	}
	users := []string{user, in.User}
	slices.Sort(users)
	return h.created(ctx, command{
		stream: events.RoomStream(id), actor: user, id: in.Key, idField: keyField,
		payload: events.RoomCreated{Private: true, Direct: users},
		allow:   allowed,
	})
}

type changeInput struct {
	keyed
	Room string `path:"room"`
	Body struct {
		Name     *string `json:"name,omitempty"`
		Topic    *string `json:"topic,omitempty"`
		Private  *bool   `json:"private,omitempty"`
		Archived *bool   `json:"archived,omitempty" doc:"Alone; takes an owner."`
	}
}

func (h *commands) change(ctx context.Context, in *changeInput) (*output[api.Accepted], error) {
	room, err := api.ParseRoom(in.Room)
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
			access, err := api.See(ctx, h.Views, room, user)
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
