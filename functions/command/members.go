package command

import (
	"context"
	"errors"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *commands) registerMembers(a *api.API) {
	const member, ban = "/v1/rooms/{room}/members/{user}", "/v1/rooms/{room}/bans/{user}"
	codes := []int{404}
	api.Command(a, api.Operation{
		ID: "putMember", Method: "PUT", Path: member, Tag: "members", Codes: codes,
		Summary: "Join a room, or add a member",
		Detail:  "Anyone may join a public room. Adding others takes an admin, giving a role above member an owner.",
	}, h.putMember)
	api.Command(a, api.Operation{
		ID: "changeRole", Method: "PATCH", Path: member, Tag: "members", Codes: codes,
		Summary: "Give a member another role",
		Detail:  "Takes an owner. The last owner keeps the role.",
	}, h.changeRole)
	api.Command(a, api.Operation{
		ID: "removeMember", Method: "DELETE", Path: member, Tag: "members", Codes: codes,
		Summary: "Leave a room, or remove a member",
		Detail:  "Removing others takes an admin, and a role above theirs. The last owner can only leave a room that is hers alone.",
	}, h.removeMember)
	api.Command(a, api.Operation{
		ID: "banUser", Method: "PUT", Path: ban, Tag: "members", Codes: codes,
		Summary: "Ban a user from a room",
		Detail:  "Takes an admin, and a role above theirs. Whoever is banned is no longer a member and cannot come back.",
	}, h.ban)
	api.Command(a, api.Operation{
		ID: "unbanUser", Method: "DELETE", Path: ban, Tag: "members", Codes: codes,
		Summary: "Lift a ban",
		Detail:  "Takes an admin. It does not make the user a member again.",
	}, h.unban)
}

// MemberPath names a user in a room.
type MemberPath struct {
	Keyed
	Room string `path:"room"`
	User string `path:"user"`
}

// decide says what speaks against a command on a member, or that it is [already] so.
type decide func(ctx context.Context, access api.Access, user projections.Member) error

// onMember does a command on a member of a room.
func (h *commands) onMember(ctx context.Context, in MemberPath, payload events.Payload, decide decide) (*output[api.Accepted], error) {
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return nil, err
	}
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	caller := api.CallerOf(ctx).User
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room), actor: caller, id: in.Key, idField: keyField, payload: payload,
		allow: func(ctx context.Context) error {
			access, user, err := h.accessTo(ctx, room, caller, in.User)
			if err != nil {
				return err
			}
			return decide(ctx, access, user)
		},
	})
	var so already
	switch {
	case errors.As(err, &so):
		return ok(api.Accepted{Event: so.event.String(), Repeat: true}), nil
	case err != nil:
		return nil, err
	default:
		return ok(done.accepted()), nil
	}
}

// accessTo looks at the room, the caller and the user in question.
func (h *commands) accessTo(ctx context.Context, room, caller, user string) (api.Access, projections.Member, error) {
	access, err := api.See(ctx, h.known, h.Views, room, caller)
	if err != nil {
		return access, projections.Member{}, err
	}
	if err := notDirect(room); err != nil {
		return access, projections.Member{}, err
	}
	if user == caller {
		return access, access.Member, nil
	}
	member, err := projections.LoadMember(ctx, h.Views, room, user)
	return access, member, err
}

type newMember struct {
	Role string `json:"role,omitempty" enum:"owner,admin,member" doc:"Member if missing."`
}

type putMemberInput struct {
	MemberPath
	Body *newMember
}

func (h *commands) putMember(ctx context.Context, in *putMemberInput) (*output[api.Accepted], error) {
	joined := events.MemberJoined{User: in.User, Role: events.RoleMember}
	given := in.Body != nil && in.Body.Role != ""
	if given {
		joined.Role = events.Role(in.Body.Role)
	}
	return h.onMember(ctx, in.MemberPath, joined, func(_ context.Context, access api.Access, user projections.Member) error {
		switch {
		case user.In && given && user.Role != joined.Role:
			return api.Fail(http.StatusConflict, "already_member", "the user is a member with another role; PATCH changes it")
		case user.In:
			return already{user.Since}
		case user.Banned:
			return api.Fail(http.StatusConflict, "member_banned", "the user is banned; lift the ban first")
		default:
			return mayJoin(access, user, joined.Role)
		}
	})
}

// mayJoin says whether the caller may make the user a member with a role.
func mayJoin(access api.Access, user projections.Member, role events.Role) error {
	err := error(nil) // a private room was invisible, so one that she is no member of is public
	switch {
	case role != events.RoleMember:
		err = access.As(events.RoleOwner)
	case user.User != access.Member.User:
		err = access.As(events.RoleAdmin)
	}
	if err != nil {
		return err
	}
	return access.Open()
}

type roleChange struct {
	Role string `json:"role" enum:"owner,admin,member"`
}

type changeRoleInput struct {
	MemberPath
	Body roleChange
}

func (h *commands) changeRole(ctx context.Context, in *changeRoleInput) (*output[api.Accepted], error) {
	changed := events.MemberRoleChanged{User: in.User, Role: events.Role(in.Body.Role)}
	return h.onMember(ctx, in.MemberPath, changed, func(ctx context.Context, access api.Access, user projections.Member) error {
		if err := access.As(events.RoleOwner); err != nil {
			return err
		}
		switch {
		case !user.In:
			return memberNotFound()
		case user.Role == changed.Role:
			return already{user.Since}
		case user.Role == events.RoleOwner:
			if err := h.notLastOwner(ctx, user, false); err != nil {
				return err
			}
		}
		return access.Open()
	})
}

func memberNotFound() error {
	return api.NotYet("member_not_found", "the user is no member of this room, as far as this region has heard")
}

// notLastOwner keeps a room from being left without an owner; whoever is alone may leave it.
// Two owners who go at the same time in two regions can still leave it so: no condition holds
// across regions.
func (h *commands) notLastOwner(ctx context.Context, owner projections.Member, leaves bool) error {
	others := 0
	for after := ""; ; {
		const page = 200
		members, err := projections.ListMembers(ctx, h.Views, owner.Room, after, page)
		if err != nil {
			return err
		}
		for _, m := range members {
			after = m.User
			if m.User == owner.User || !m.In {
				continue
			}
			if m.Role == events.RoleOwner {
				return nil
			}
			others++
		}
		if len(members) < page {
			break
		}
	}
	if leaves && others == 0 {
		return nil
	}
	return api.Fail(http.StatusConflict, "last_owner", "the room would be left without an owner; make another member owner first")
}

func (h *commands) removeMember(ctx context.Context, in *MemberPath) (*output[api.Accepted], error) {
	left := events.MemberLeft{User: in.User}
	return h.onMember(ctx, *in, left, func(ctx context.Context, access api.Access, user projections.Member) error {
		self := user.User == access.Member.User
		if !self {
			if err := above(access, user); err != nil {
				return err
			}
		}
		switch {
		case !user.In && user.Since == (events.ID{}):
			return memberNotFound()
		case !user.In:
			return already{user.Since}
		case self && user.Role == events.RoleOwner:
			return h.notLastOwner(ctx, user, true)
		default:
			return nil
		}
	})
}

// above takes an admin whose role is above that of the user; an owner may act on any.
func above(access api.Access, user projections.Member) error {
	if err := access.As(events.RoleAdmin); err != nil {
		return err
	}
	if own := access.Member.Role; own != events.RoleOwner && own.Rank() <= user.Role.Rank() {
		return api.Fail(http.StatusForbidden, "role_too_low", "this takes a role above that of the user")
	}
	return nil
}

func (h *commands) ban(ctx context.Context, in *MemberPath) (*output[api.Accepted], error) {
	banned := events.MemberBanned{User: in.User}
	return h.onMember(ctx, *in, banned, func(_ context.Context, access api.Access, user projections.Member) error {
		if err := above(access, user); err != nil {
			return err
		}
		if user.User == access.Member.User {
			return events.Invalid("user", "must be another user than yourself")
		}
		if user.Banned {
			return already{user.Since}
		}
		return nil
	})
}

func (h *commands) unban(ctx context.Context, in *MemberPath) (*output[api.Accepted], error) {
	unbanned := events.MemberUnbanned{User: in.User}
	return h.onMember(ctx, *in, unbanned, func(_ context.Context, access api.Access, user projections.Member) error {
		err := access.As(events.RoleAdmin)
		switch {
		case err != nil:
			return err
		case user.Banned:
			return nil
		case user.Since == (events.ID{}):
			return memberNotFound()
		default:
			return already{user.Since}
		}
	})
}
