package api

import (
	"context"
	"net/http"
	"strings"

	"parley/events"
	"parley/projections"
)

// Access is a room and the membership of a user in it.
type Access struct {
	Room   projections.Room
	Member projections.Member
}

// ParseRoom reads a room id from the named field. Lower case is accepted.
func ParseRoom(field, text string) (string, error) {
	id := strings.TrimPrefix(text, "direct-")
	room := strings.TrimSuffix(text, id) + strings.ToUpper(id)
	if err := events.ValidateRoomID(field, room); err != nil {
		return "", err
	}
	return room, nil
}

// See returns the room if the user may know of it: a private room is invisible to all but its
// members, as if it did not exist. A banned user gets the problem banned, and nothing else.
func See(ctx context.Context, known *projections.AccessCache, views projections.Views, room, user string) (Access, error) {
	return see(ctx, known, views, room, user, false)
}

// SeeInvited is [See] for the answer to an invitation: it also returns a private room to which the user
// is invited.
func SeeInvited(ctx context.Context, known *projections.AccessCache, views projections.Views, room, user string) (Access, error) {
	return see(ctx, known, views, room, user, true)
}

func see(ctx context.Context, known *projections.AccessCache, views projections.Views, room, user string, invited bool) (Access, error) {
	r, m, err := known.Load(ctx, views, room, user)
	switch {
	case err != nil:
		return Access{}, err
	case !r.Exists(), r.Private && !m.In && !(invited && m.Invited != (events.ID{})):
		return Access{}, NotYet("room_not_found", "room not found, or private and you are not a member; if it is new, retry in a moment, until it has reached this region")
	case m.Banned:
		return Access{}, Fail(http.StatusForbidden, "banned", "you are banned from this room; ask one of its admins to lift the ban")
	default:
		return Access{r, m}, nil
	}
}

// RequireRole refuses users who are not a member with the role, or one above it.
func (a Access) RequireRole(role events.Role) error {
	switch {
	case !a.Member.In:
		return Fail(http.StatusForbidden, "not_a_member", "you are not a member of the room; join it first: PUT /v1/rooms/{room}/members/{you}")
	case !a.Member.Can(role):
		return Fail(http.StatusForbidden, "role_too_low", "you need the role "+string(role)+" or above; ask an owner of the room for it")
	default:
		return nil
	}
}

// RequireActive refuses changes in an archived room.
func (a Access) RequireActive() error {
	if a.Room.Archived {
		return Fail(http.StatusConflict, "room_archived", "the room is archived; an owner can reopen it with PATCH {\"archived\":false}")
	}
	return nil
}
