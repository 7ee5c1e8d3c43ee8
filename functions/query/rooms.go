package query

import (
	"context"
	"errors"
	"strings"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Queries) registerRooms(a *api.API) {
	api.Query(a, api.Operation{
		ID: "getMe", Method: "GET", Path: "/v1/me", Tag: "users",
		Summary: "Who you are, and your mark",
		Detail: "An id that you mint is a ULID of 48 bits of Unix milliseconds, the 56 bits of your mark and 24 random bits. " +
			"The mark is the same in every region: keep it, and ask again if an id is refused with id_not_yours.",
	}, h.me)
	api.Query(a, api.Operation{
		ID: "listRooms", Method: "GET", Path: "/v1/rooms", Tag: "rooms", Codes: []int{404},
		Summary: "My rooms, each with its last message and my unread count",
		Detail:  "In the order of their ids. A page may be empty with more to come: continue until after is null. includes= takes the creation of a room by you, or an event that is about you alone, like a read marker.",
	}, h.rooms)
	api.Query(a, api.Operation{
		ID: "getRoom", Method: "GET", Path: "/v1/rooms/{room}", Tag: "rooms", Codes: []int{403, 404},
		Summary: "A room",
	}, h.room)
	api.Query(a, api.Operation{
		ID: "listMembers", Method: "GET", Path: "/v1/rooms/{room}/members", Tag: "members", Codes: []int{403, 404},
		Summary: "A page of a room's members",
		Detail:  "In the order of their ids. Admins also see users who are banned or invited. A page may be empty with more to come: continue until after is null.",
	}, h.members)
	api.Query(a, api.Operation{
		ID: "getMember", Method: "GET", Path: "/v1/rooms/{room}/members/{user}", Tag: "members", Codes: []int{403, 404},
		Summary: "A member of a room",
	}, h.member)
	api.Query(a, api.Operation{
		ID: "getUser", Method: "GET", Path: "/v1/users/{user}", Tag: "users", Codes: []int{404},
		Summary: "A user's profile",
	}, h.user)
}

func (h *Queries) me(ctx context.Context, _ *struct{}) (*api.Response[wire.Me], error) {
	user := api.CallerOf(ctx).User
	return api.OK(wire.Me{User: user, Mark: h.Marks(user).String()}), nil
}

type roomsInput struct {
	Including
	After string `query:"after" doc:"Rooms whose ids sort after this one."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

func (h *Queries) rooms(ctx context.Context, in *roomsInput) (*api.Response[wire.RoomPage], error) {
	user := api.CallerOf(ctx).User
	if in.After != "" {
		var err error
		if in.After, err = api.ParseRoom("after", in.After); err != nil {
			return nil, err
		}
	}
	views, err := h.inboxViews(ctx, in.Including, user)
	if err != nil {
		return nil, err
	}
	here, err := h.here(ctx, user, in.After == "") // before anything is read: what comes meanwhile is delivered twice rather than not at all
	if err != nil {
		return nil, err
	}
	entries, after, err := projections.LoadInbox(ctx, views, user, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := api.OK(wire.RoomPage{Cursor: h.Cursors.Encode(user, here)})
	if out.Body.Rooms, err = h.myRooms(ctx, entries); err != nil {
		return nil, err
	}
	if after != "" {
		out.Body.After = &after
	}
	if in.After == "" {
		out.Body.Invitations, err = invitations(ctx, views, user)
	}
	return out, err
}

// here returns the cursor behind all that has arrived for a user: exactly if it is that of a first page, which
// a client keeps. That of a further page may repeat what arrived just before; it costs no read for each room.
func (h *Queries) here(ctx context.Context, user string, exact bool) (projections.Cursor, error) {
	if exact {
		return h.syncer().Current(ctx, user)
	}
	return h.syncer().Behind(ctx, h.Now(), nil, nil)
}

// maxInvitations is how many invitations of a user are read. Others can make any number.
const maxInvitations = 50

func invitations(ctx context.Context, views projections.Views, user string) ([]wire.Invitation, error) {
	open, err := projections.ListInvitations(ctx, views, user, maxInvitations)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	ids := make([]string, len(open))
	for i, m := range open {
		ids[i] = m.Room
	}
	rooms, err := projections.LoadRooms(ctx, views, ids...)
	if err != nil {
		return nil, err
	}
	var all []wire.Invitation
	for i, m := range open {
		if r := rooms[i]; r.Exists() {
			all = append(all, wire.Invitation{Room: r.ID, Name: r.Name, Topic: r.Topic, Private: r.Private, By: m.InvitedBy, At: m.Invited.Timestamp().UTC()})
		}
	}
	return all, nil
}

// inboxViews returns the views to read a user's rooms from. The included event is one of the user's
// own: in the user's stream, or the creation of a room, which has the room's id.
func (h *Queries) inboxViews(ctx context.Context, in Including, user string) (projections.Views, error) {
	own := func(e events.Event) bool { return e.Actor == user }
	views, err := h.views(ctx, in, events.UserStream(user), own)
	var p *wire.Problem
	if errors.As(err, &p) {
		return h.views(ctx, in, events.RoomStream(strings.ToUpper(in.Includes)), own)
	}
	return views, err
}

func (h *Queries) myRooms(ctx context.Context, entries []projections.InboxEntry) ([]wire.MyRoom, error) {
	var last []projections.Message
	for _, e := range entries {
		if e.Last != nil {
			last = append(last, *e.Last)
		}
	}
	opened, err := api.MessagesOf(ctx, h.Keys, last...)
	if err != nil {
		return nil, err
	}
	rooms := make([]wire.MyRoom, len(entries))
	for i, e := range entries {
		rooms[i] = wire.MyRoom{Room: api.RoomOf(e.Room, e.Member), Unread: e.Unread.Count, UnreadAtLeast: e.Unread.AtLeast, ReadTo: e.ReadTo}
		if e.Last != nil {
			rooms[i].Last, opened = &opened[0], opened[1:]
		}
	}
	return rooms, nil
}

// RoomInput names a room.
type RoomInput struct {
	Including
	Room string `path:"room"`
}

func (h *Queries) room(ctx context.Context, in *RoomInput) (*api.Response[wire.Room], error) {
	_, access, err := h.see(ctx, in.Room, in.Including)
	if err != nil {
		return nil, err
	}
	return api.OK(api.RoomOf(access.Room, access.Member)), nil
}

type membersInput struct {
	RoomInput
	After string `query:"after" doc:"Users whose ids sort after this one."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

func (h *Queries) members(ctx context.Context, in *membersInput) (*api.Response[wire.MemberPage], error) {
	if in.After != "" {
		if err := events.ValidateUser("after", in.After); err != nil {
			return nil, err
		}
	}
	views, access, err := h.see(ctx, in.Room, in.Including)
	if err != nil {
		return nil, err
	}
	out := api.OK(wire.MemberPage{})
	out.Body.Members = []wire.Member{}
	after, err := projections.EachMember(ctx, views, access.Room.ID, in.After, projections.MaxRows, func(m projections.Member) bool {
		switch {
		case !visible(m, access.Member):
		case len(out.Body.Members) == in.Limit:
			return false
		default:
			out.Body.Members = append(out.Body.Members, api.MemberOf(m))
		}
		return true
	})
	if after != "" {
		out.Body.After = &after
	}
	return out, err
}

// visible reports whether a reader may see a member: users who have left are gone, and only admins see
// who is banned or invited.
func visible(m, reader projections.Member) bool {
	return m.In || (m.Banned || m.Invited != events.ID{}) && reader.Can(events.RoleAdmin)
}

type memberInput struct {
	RoomInput
	User string `path:"user"`
}

func (h *Queries) member(ctx context.Context, in *memberInput) (*api.Response[wire.Member], error) {
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	views, access, err := h.see(ctx, in.Room, in.Including)
	if err != nil {
		return nil, err
	}
	m, err := projections.LoadMember(ctx, views, access.Room.ID, in.User)
	if err != nil {
		return nil, err
	}
	if !visible(m, access.Member) {
		return nil, api.NotYet("member_not_found", "the user is not a member of this room")
	}
	return api.OK(api.MemberOf(m)), nil
}

type userInput struct {
	Including
	User string `path:"user"`
}

func (h *Queries) user(ctx context.Context, in *userInput) (*api.Response[wire.User], error) {
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	views, err := h.views(ctx, in.Including, events.UserStream(in.User), func(e events.Event) bool {
		_, profile := e.Payload.(events.UserProfileSet)
		return profile // read markers are private
	})
	if err != nil {
		return nil, err
	}
	u, err := projections.LoadUser(ctx, views, in.User)
	if err != nil {
		return nil, err
	}
	if u.Set == (events.ID{}) && u.Erased == (events.ID{}) {
		return nil, api.NotYet("user_not_found", "the user has not set a profile; if it is new, retry in a moment")
	}
	user, err := api.UserOf(ctx, h.Keys, u)
	if err != nil {
		return nil, err
	}
	return api.OK(user), nil
}
