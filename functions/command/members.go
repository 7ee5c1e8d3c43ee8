package command

import (
	"context"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *commands) registerMembers(a *api.API) {
	const member, ban = "/v1/rooms/{room}/members/{user}", "/v1/rooms/{room}/bans/{user}"
	codes := []int{403, 404, 409}
	api.Command(a, api.Operation{
		ID: "putMember", Method: "PUT", Path: member, Tag: "members", Codes: codes,
		Summary: "Join a room, add a member, or change a role",
		Detail:  "Anyone may join a public room. Adding others takes an admin, giving a role above member an owner.",
	}, h.putMember)
	api.Command(a, api.Operation{
		ID: "removeMember", Method: "DELETE", Path: member, Tag: "members", Codes: codes,
		Summary: "Leave a room, or remove a member",
		Detail:  "Removing others takes an admin, and a role above theirs.",
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

// memberPath names a user in a room.
type memberPath struct {
	keyed
	Room string `path:"room"`
	User string `path:"user"`
}

type putMemberInput struct {
	memberPath
	Body *struct {
		Role string `json:"role,omitempty" enum:"owner,admin,member" doc:"Member if missing; a member's role is then left as it is."`
	}
}

// change is a decision about a member: what is to happen, or that it is so already.
type change struct {
	payload events.Payload
	already bool
}

// decide looks at the room, the caller and the member in question.
type decide func(access api.Access, user projections.Member) (change, error)

// onMember does a command on a member of a room. fallback is the event that the command would
// be if nothing spoke against it: it may have been accepted before.
func (h *commands) onMember(ctx context.Context, in memberPath, fallback events.Payload, decide decide) (*output[api.Accepted], error) {
	room, err := api.ParseRoom(in.Room)
	if err != nil {
		return nil, err
	}
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	caller := api.CallerOf(ctx).User
	c, member, refusal := h.decide(ctx, room, caller, in.User, decide)
	if refusal == nil && c.already {
		return ok(api.Accepted{Event: member.Since.String(), Repeat: true}), nil
	}
	if refusal != nil {
		c.payload = fallback
	}
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room), actor: caller, id: in.Key, idField: keyField, payload: c.payload,
		allow: func(context.Context) error { return refusal },
	})
	if err != nil {
		return nil, err
	}
	return ok(done.accepted()), nil
}

func (h *commands) decide(ctx context.Context, room, caller, user string, decide decide) (change, projections.Member, error) {
	access, err := api.See(ctx, h.Views, room, caller)
	if err != nil {
		return change{}, projections.Member{}, err
	}
	if err := notDirect(room); err != nil {
		return change{}, projections.Member{}, err
	}
	member := access.Member
	if user != caller {
		if member, err = projections.LoadMember(ctx, h.Views, room, user); err != nil {
			return change{}, member, err
		}
	}
	c, err := decide(access, member)
	return c, member, err
}

func (h *commands) putMember(ctx context.Context, in *putMemberInput) (*output[api.Accepted], error) {
	var role events.Role
	if in.Body != nil && in.Body.Role != "" {
		role = events.Role(in.Body.Role)
		if err := role.Validate(); err != nil {
			return nil, err
		}
	}
	joinAs := role
	if joinAs == "" {
		joinAs = events.RoleMember
	}
	joined := events.MemberJoined{User: in.User, Role: joinAs}
	return h.onMember(ctx, in.memberPath, joined, func(access api.Access, user projections.Member) (change, error) {
		switch {
		case user.In && (role == "" || role == user.Role):
			return change{already: true}, nil
		case user.In:
			err := h.mayChangeRole(ctx, access, user, role)
			return change{payload: events.MemberRoleChanged{User: in.User, Role: role}}, err
		case user.Banned:
			return change{}, api.Fail(http.StatusConflict, "member_banned", "the user is banned; lift the ban first")
		default:
			return change{payload: joined}, mayJoin(access, user, joinAs)
		}
	})
}

// mayJoin says whether the caller may make the user a member with a role.
func mayJoin(access api.Access, user projections.Member, role events.Role) error {
	if err := access.Open(); err != nil {
		return err
	}
	switch {
	case role != events.RoleMember:
		return access.As(events.RoleOwner)
	case user.User != access.Member.User:
		return access.As(events.RoleAdmin)
	default:
		return nil // a private room was invisible, so this one is public
	}
}

func (h *commands) mayChangeRole(ctx context.Context, access api.Access, user projections.Member, role events.Role) error {
	if err := access.As(events.RoleOwner); err != nil {
		return err
	}
	if user.Role == events.RoleOwner && role != events.RoleOwner {
		return h.notLastOwner(ctx, user)
	}
	return nil
}

// notLastOwner keeps a room from being left without an owner. Two owners who go at the same
// time in two regions can still leave it so: no condition holds across regions.
func (h *commands) notLastOwner(ctx context.Context, owner projections.Member) error {
	others, after := 0, ""
	for {
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
	if others == 0 {
		return nil // the room is hers alone
	}
	return api.Fail(http.StatusConflict, "last_owner", "the room would be left without an owner; make another member owner first")
}

func (h *commands) removeMember(ctx context.Context, in *memberPath) (*output[api.Accepted], error) {
	left := events.MemberLeft{User: in.User}
	return h.onMember(ctx, *in, left, func(access api.Access, user projections.Member) (change, error) {
		switch {
		case !user.In && user.Since == (events.ID{}):
			return change{}, api.NotYet("member_not_found", "the user is no member of this room")
		case !user.In:
			return change{already: true}, nil
		case user.User != access.Member.User:
			return change{payload: left}, above(access, user)
		case user.Role == events.RoleOwner:
			return change{payload: left}, h.notLastOwner(ctx, user)
		default:
			return change{payload: left}, nil
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

func (h *commands) ban(ctx context.Context, in *memberPath) (*output[api.Accepted], error) {
	banned := events.MemberBanned{User: in.User}
	return h.onMember(ctx, *in, banned, func(access api.Access, user projections.Member) (change, error) {
		if user.User == access.Member.User {
			return change{}, events.Invalid("user", "must be another user than yourself")
		}
		return change{payload: banned, already: user.Banned && access.Member.Can(events.RoleAdmin)}, above(access, user)
	})
}

func (h *commands) unban(ctx context.Context, in *memberPath) (*output[api.Accepted], error) {
	unbanned := events.MemberUnbanned{User: in.User}
	return h.onMember(ctx, *in, unbanned, func(access api.Access, user projections.Member) (change, error) {
		err := access.As(events.RoleAdmin)
		return change{payload: unbanned, already: !user.Banned}, err
	})
}
