package operate

import (
	"context"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// ownerHandlers give rooms an owner.
type ownerHandlers struct{ *handlers }

func (h ownerHandlers) register(a *api.API) {
	command(a, api.Operation{
		ID: "putOwner", Method: "PUT", Path: "/v1/ops/rooms/{room}/owners/{user}", Codes: []int{404},
		Summary: "Make a user a member and owner of a room",
		Detail: "Also of a private room, and of one that has no members left: after an import, or after its owners left in two regions " +
			"at the same time, nobody else can. The event's actor is the operator.",
	}, h.putOwner)
}

type ownerInput struct {
	Room string `path:"room"`
	User string `path:"user"`
	Key  string `header:"Idempotency-Key" doc:"A ULID you minted, carrying your mark: sent again with it, the command appends one event."`
}

func (h ownerHandlers) putOwner(ctx context.Context, in *ownerInput) (*api.Response[wire.Accepted], error) {
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return nil, err
	}
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	rooms, err := projections.LoadRooms(ctx, h.Views, room)
	if err != nil {
		return nil, err
	}
	member, err := projections.LoadMember(ctx, h.Views, room, in.User)
	if err != nil {
		return nil, err
	}
	var change events.Payload = events.MemberJoined{User: in.User, Role: events.RoleOwner}
	switch {
	case !rooms[0].Exists():
		return nil, api.NotYet("room_not_found", "room not found; if it is new, retry in a moment, until it has reached this region")
	case events.IsDirect(room):
		return nil, api.Fail(http.StatusConflict, "direct_room", "a direct room has no owner; its two users are its members for good")
	case member.Banned:
		return nil, api.Fail(http.StatusConflict, "member_banned", "the user is banned; make another user the owner, who can lift the ban")
	case member.Can(events.RoleOwner):
		return api.OK(wire.Accepted{Event: member.Since, Repeat: true}), nil
	case member.In:
		change = events.MemberRoleChanged{User: in.User, Role: events.RoleOwner}
	}
	by := api.CallerOf(ctx).User
	id, err := h.newID(by, in.Key, member.Since)
	if err != nil {
		return nil, err
	}
	e, err := events.New(id, events.RoomStream(room), by, h.Region, change)
	if err != nil {
		return nil, err
	}
	if _, _, err := h.Log.Append(ctx, e); err != nil {
		return nil, err
	}
	return api.OK(wire.Accepted{Event: id}), h.act(ctx, "room.owner", room, in.User)
}
