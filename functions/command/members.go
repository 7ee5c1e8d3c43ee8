package command

import (
	"context"
	"errors"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Commands) registerMembers(a *api.API) {
	const member, ban = "/v1/rooms/{room}/members/{user}", "/v1/rooms/{room}/bans/{user}"
	codes := []int{404}
	api.Command(a, api.Operation{
		ID: "putMember", Method: "PUT", Path: member, Tag: "members", Codes: codes,
		Summary: "Join a room, accept an invitation, or invite a user",
		Detail: "Anyone may join a public room, and a private one after an invitation. Inviting others takes an admin: they become members when " +
			"they accept, with this operation for themselves, and are in the answer as `invited` until then. How many users you can invite or open " +
			"direct rooms with in an hour is limited: `too_many_contacts`.",
	}, h.putMember)
	api.Command(a, api.Operation{
		ID: "changeRole", Method: "PATCH", Path: member, Tag: "members", Codes: codes,
		Summary: "Give a member another role",
		Detail:  "Takes an owner. The last owner keeps the role.",
	}, h.changeRole)
	api.Command(a, api.Operation{
		ID: "removeMember", Method: "DELETE", Path: member, Tag: "members", Codes: codes,
		Summary: "Leave a room, decline an invitation, or remove a member",
		Detail:  "Removing others, or withdrawing their invitations, takes an admin, and a role above theirs. The last owner can leave only when they are the last member.",
	}, h.removeMember)
	api.Command(a, api.Operation{
		ID: "banUser", Method: "PUT", Path: ban, Tag: "members", Codes: codes,
		Summary: "Ban a user from a room",
		Detail:  "Takes an admin, and a role above theirs. A banned user is no longer a member and cannot join again.",
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

// decide returns why a command on a member is refused, which may be [already].
type decide func(ctx context.Context, access api.Access, user projections.Member) error

// onMember does a command on a member of a room.
func (h *Commands) onMember(ctx context.Context, in MemberPath, payload events.Payload, decide decide) (*api.Response[wire.Accepted], error) {
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
		return api.OK(wire.Accepted{Event: so.event, Repeat: true}), nil
	case err != nil:
		return nil, err
	default:
		return api.OK(done.accepted()), nil
	}
}

// accessTo reads the caller's access to a room, and the membership of the user.
func (h *Commands) accessTo(ctx context.Context, room, caller, user string) (api.Access, projections.Member, error) {
	see := api.See
	if user == caller {
		see = api.SeeInvited
	}
	access, err := see(ctx, h.known, h.Views, room, caller)
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

type putMemberInput struct {
	MemberPath
	Body *wire.NewMember
}

func (h *Commands) putMember(ctx context.Context, in *putMemberInput) (*api.Response[wire.Accepted], error) {
	joined := events.MemberJoined{User: in.User, Role: events.RoleMember}
	given := in.Body != nil && in.Body.Role != ""
	if given {
		joined.Role = events.Role(in.Body.Role)
	}
	caller := api.CallerOf(ctx).User
	if in.User != caller {
		return h.invite(ctx, in.MemberPath, joined.Role)
	}
	return h.onMember(ctx, in.MemberPath, joined, func(_ context.Context, access api.Access, user projections.Member) error {
		switch {
		case user.In && given && user.Role != joined.Role:
			return api.Fail(http.StatusConflict, "already_member", "the user is already a member with another role; change it with PATCH")
		case user.In:
			return already{user.Since}
		case joined.Role != events.RoleMember:
			return access.RequireRole(events.RoleOwner) // who is not a member, so it is refused
		default:
			return access.RequireActive() // the room is public, or the user is invited
		}
	})
}

type changeRoleInput struct {
	MemberPath
	Body wire.RoleChange
}

func (h *Commands) changeRole(ctx context.Context, in *changeRoleInput) (*api.Response[wire.Accepted], error) {
	changed := events.MemberRoleChanged{User: in.User, Role: events.Role(in.Body.Role)}
	return h.onMember(ctx, in.MemberPath, changed, func(ctx context.Context, access api.Access, user projections.Member) error {
		if err := access.RequireRole(events.RoleOwner); err != nil {
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
		return access.RequireActive()
	})
}

func memberNotFound() error {
	return api.NotYet("member_not_found", "the user is not a member of this room; if they joined in another region, retry in a moment")
}

// ownerRows bounds how many members are read to find another owner.
const ownerRows = 5000

// notLastOwner refuses to leave a room without an owner; the last member may leave. Two owners who
// leave at the same time in two regions can still leave it without one: no condition holds across
// regions. Of a room so large that no other owner is found within ownerRows, any owner may leave.
func (h *Commands) notLastOwner(ctx context.Context, owner projections.Member, leaves bool) error {
	others, found := 0, false
	after, err := projections.EachMember(ctx, h.Views, owner.Room, "", ownerRows, func(m projections.Member) bool {
		if m.User != owner.User && m.In {
			others++
			found = m.Role == events.RoleOwner
		}
		return !found
	})
	if err != nil || found || after != "" {
		return err
	}
	if leaves && others == 0 {
		return nil
	}
	return api.Fail(http.StatusConflict, "last_owner", "the room would be left without an owner; make another member owner first")
}

func (h *Commands) removeMember(ctx context.Context, in *MemberPath) (*api.Response[wire.Accepted], error) {
	left := events.MemberLeft{User: in.User}
	return h.onMember(ctx, *in, left, func(ctx context.Context, access api.Access, user projections.Member) error {
		self := user.User == access.Member.User
		if !self {
			if err := above(access, user); err != nil {
				return err
			}
		}
		switch {
		case user.Invited != (events.ID{}):
			return nil
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

// above refuses callers who are not admins with a role above that of the user. An owner may act on
// any user.
func above(access api.Access, user projections.Member) error {
	if err := access.RequireRole(events.RoleAdmin); err != nil {
		return err
	}
	if own := access.Member.Role; own != events.RoleOwner && own.Rank() <= user.Role.Rank() {
		return api.Fail(http.StatusForbidden, "role_too_low", "you need a role above that of the user; ask an owner of the room")
	}
	return nil
}

func (h *Commands) ban(ctx context.Context, in *MemberPath) (*api.Response[wire.Accepted], error) {
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

func (h *Commands) unban(ctx context.Context, in *MemberPath) (*api.Response[wire.Accepted], error) {
	unbanned := events.MemberUnbanned{User: in.User}
	return h.onMember(ctx, *in, unbanned, func(_ context.Context, access api.Access, user projections.Member) error {
		err := access.RequireRole(events.RoleAdmin)
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

func (h *Commands) registerUsers(a *api.API) {
	api.Command(a, api.Operation{
		ID: "setProfile", Method: "PUT", Path: "/v1/users/{user}", Tag: "users",
		Summary: "Set your profile",
		Detail:  "The latest wins as a whole.",
	}, h.setProfile)
}

type profileInput struct {
	Keyed
	User string `path:"user"`
	Body wire.NewProfile
}

func (h *Commands) setProfile(ctx context.Context, in *profileInput) (*api.Response[wire.Accepted], error) {
	user := api.CallerOf(ctx).User
	if in.User != user {
		return nil, api.Fail(http.StatusForbidden, "not_you", "only the user may set their own profile; use your own user id in the path")
	}
	done, err := h.do(ctx, command{
		stream: events.UserStream(user), actor: user, id: in.Key, idField: keyField,
		payload: events.UserProfileSet{Name: events.Plain(in.Body.Name), About: events.Plain(in.Body.About)},
		allow:   allowed,
	})
	if err != nil {
		return nil, err
	}
	return api.OK(done.accepted()), nil
}
