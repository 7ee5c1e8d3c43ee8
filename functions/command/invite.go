package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// DefaultContacts is the limit of [Config.Contacts] that programs set.
const DefaultContacts = 100

// invite invites another user to a room. Nobody becomes a member by what others do: users share rooms
// and direct rooms with strangers, so that these say nothing of consent.
func (h *Commands) invite(ctx context.Context, in MemberPath, role events.Role) (*api.Response[wire.Accepted], error) {
	isMember := false
	out, err := h.onMember(ctx, in, events.MemberInvited{User: in.User}, func(ctx context.Context, access api.Access, user projections.Member) error {
		if err := access.RequireRole(events.RoleAdmin); err != nil {
			return err
		}
		switch {
		case user.In && role != events.RoleMember && user.Role != role:
			return api.Fail(http.StatusConflict, "already_member", "the user is already a member with another role; change it with PATCH")
		case user.In:
			isMember = true
			return already{user.Since}
		case user.Banned:
			return api.Fail(http.StatusConflict, "member_banned", "the user is banned; lift the ban first")
		case role != events.RoleMember:
			return events.Invalid("role", "must be member for a user who is invited; change the role with PATCH when they have joined")
		}
		if err := access.RequireActive(); err != nil {
			return err
		}
		if user.Invited != (events.ID{}) {
			return already{user.Invited}
		}
		return h.contact(ctx, access.Member.User)
	})
	if err == nil {
		out.Body.Invited = !isMember
	}
	return out, err
}

// contacts counts with how many users a user has made contact in an hour.
type contacts struct {
	Hour  int64 `json:"hour"` // since 1970
	Count int   `json:"count"`
}

// contact counts that a user invites another one or opens a direct room with them, and refuses it
// beyond Config.Contacts. A command that fails afterwards was counted all the same.
func (h *Commands) contact(ctx context.Context, user string) error {
	if h.Contacts == 0 {
		return nil
	}
	now := h.Clock.Now()
	hour := now.Unix() / 3600
	key := projections.Key{Partition: "contacts/" + user, Sort: "hour"}
	return projections.RetryOnConflict(ctx, func() error {
		got, err := h.Views.Get(ctx, key)
		if err != nil {
			return err
		}
		var c contacts
		if got[0].Version > 0 {
			if err := json.Unmarshal(got[0].Body, &c); err != nil {
				return fmt.Errorf("read how many contacts a user has made: %w", err)
			}
		}
		if c.Hour != hour {
			c = contacts{Hour: hour}
		}
		if c.Count++; c.Count > h.Contacts {
			return &wire.Problem{
				Status: http.StatusTooManyRequests, Code: "too_many_contacts",
				Detail:     "you can invite, or open direct rooms with, at most " + strconv.Itoa(h.Contacts) + " users an hour; nothing was stored; the header Retry-After says in how many seconds you can again",
				RetryAfter: int(time.Unix((hour+1)*3600, 0).Sub(now).Seconds()) + 1,
			}
		}
		body, err := json.Marshal(c)
		if err != nil {
			return err
		}
		return h.Views.Save(ctx, projections.View{Key: key, Version: got[0].Version, Body: body})
	})
}
