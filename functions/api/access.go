package api

import (
	"context"
	"net/http"
	"strings"

	"parley/events"
	"parley/projections"
)

// Access is a room and what a user is in it.
type Access struct {
	Room   projections.Room
	Member projections.Member
}

// ParseRoom reads a room id from the named field; lower case is taken.
func ParseRoom(field, text string) (string, error) {
	id := strings.TrimPrefix(text, "direct-")
	room := strings.TrimSuffix(text, id) + strings.ToUpper(id)
	if err := events.ValidateRoomID(field, room); err != nil {
		return "", err
	}
	return room, nil
}

// See returns the room if the user may know of it: a private room is invisible to all but its
// members, as if it were not there. Whoever is banned is told so, and nothing else.
func See(ctx context.Context, known *projections.Known, views projections.Views, room, user string) (Access, error) {
	r, m, err := known.LoadAccess(ctx, views, room, user)
	switch {
	case err != nil:
		return Access{}, err
	case !r.Exists(), r.Private && !m.In:
		return Access{}, NotYet("room_not_found", "there is no such room, or it is private and you are no member; a new room takes a moment to reach other regions")
	case m.Banned:
		return Access{}, Fail(http.StatusForbidden, "banned", "you are banned from this room")
	default:
		return Access{r, m}, nil
	}
}

// As refuses whoever is not a member whose role may do what role may.
func (a Access) As(role events.Role) error {
	switch {
	case !a.Member.In:
		return Fail(http.StatusForbidden, "not_a_member", "join the room first: PUT /v1/rooms/{room}/members/{you}")
	case !a.Member.Can(role):
		return Fail(http.StatusForbidden, "role_too_low", "this takes the role "+string(role)+" or above")
	default:
		return nil
	}
}

// Open refuses changes in an archived room.
func (a Access) Open() error {
	if a.Room.Archived {
		return Fail(http.StatusConflict, "room_archived", "the room is archived; its owner can open it again with PATCH {\"archived\":false}")
	}
	return nil
}
