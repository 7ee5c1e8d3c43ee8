package query

import (
	"context"
	"errors"
	"strings"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *queries) registerRooms(a *api.API) {
	api.Query(a, api.Operation{
		ID: "listRooms", Method: "GET", Path: "/v1/rooms", Tag: "rooms", Codes: []int{404},
		Summary: "My rooms, each with its last message and my unread count",
		Detail:  "In the order of their ids. includes= takes the creation of a room by you, or an event that is about you alone, like a read marker.",
	}, h.rooms)
	api.Query(a, api.Operation{
		ID: "getRoom", Method: "GET", Path: "/v1/rooms/{room}", Tag: "rooms", Codes: []int{403, 404},
		Summary: "A room",
	}, h.room)
	api.Query(a, api.Operation{
		ID: "listMembers", Method: "GET", Path: "/v1/rooms/{room}/members", Tag: "members", Codes: []int{403, 404},
		Summary: "A page of a room's members",
		Detail:  "In the order of their ids. Admins see who is banned, too.",
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

type roomsInput struct {
	Including
	After string `query:"after" doc:"Rooms whose ids sort after this one."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// MyRoom is one of the caller's rooms.
type MyRoom struct {
	api.Room
	Unread int          `json:"unread" doc:"Messages by others that arrived in this region after what you have read; 100 stands for 100 or more."`
	ReadTo string       `json:"read_to,omitempty" doc:"Your read marker."`
	Last   *api.Message `json:"last,omitempty" doc:"The last message."`
}

// RoomPage is a part of the caller's rooms.
type RoomPage struct {
	Rooms  []MyRoom `json:"rooms"`
	After  *string  `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
	Cursor string   `json:"cursor" doc:"For GET /v1/sync: what happens after this answer was begun. Use that of the first page."`
}

type roomsOutput struct{ Body RoomPage }

func (h *queries) rooms(ctx context.Context, in *roomsInput) (*roomsOutput, error) {
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
	here, err := h.syncer().Here(ctx) // before anything is read: what comes meanwhile is told twice rather than not at all
	if err != nil {
		return nil, err
	}
	entries, after, err := projections.LoadInbox(ctx, views, user, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &roomsOutput{RoomPage{Cursor: h.Cursors.Encode(user, here)}}
	if out.Body.Rooms, err = h.myRooms(ctx, entries); err != nil {
		return nil, err
	}
	if after != "" {
		out.Body.After = &after
	}
	return out, nil
}

// inboxViews returns the views to read a user's rooms from. The included event is one of her own:
// in her stream, or the creation of a room, which has the room's id.
func (h *queries) inboxViews(ctx context.Context, in Including, user string) (projections.Views, error) {
	own := func(e events.Event) bool { return e.Actor == user }
	views, err := h.views(ctx, in, events.UserStream(user), own)
	var p *api.Problem
	if errors.As(err, &p) {
		return h.views(ctx, in, events.RoomStream(strings.ToUpper(in.Includes)), own)
	}
	return views, err
}

func (h *queries) myRooms(ctx context.Context, entries []projections.Entry) ([]MyRoom, error) {
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
	rooms := make([]MyRoom, len(entries))
	for i, e := range entries {
		rooms[i] = MyRoom{Room: api.RoomOf(e.Room, e.Member), Unread: e.Unread}
		if e.ReadTo != (events.ID{}) {
			rooms[i].ReadTo = e.ReadTo.String()
		}
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

type roomOutput struct{ Body api.Room }

func (h *queries) room(ctx context.Context, in *RoomInput) (*roomOutput, error) {
	_, access, err := h.see(ctx, in.Room, in.Including)
	if err != nil {
		return nil, err
	}
	return &roomOutput{api.RoomOf(access.Room, access.Member)}, nil
}

type membersInput struct {
	RoomInput
	After string `query:"after" doc:"Users whose ids sort after this one."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// MemberPage is a part of a room's members.
type MemberPage struct {
	Members []api.Member `json:"members"`
	After   *string      `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

type membersOutput struct{ Body MemberPage }

func (h *queries) members(ctx context.Context, in *membersInput) (*membersOutput, error) {
	if in.After != "" {
		if err := events.ValidateUser("after", in.After); err != nil {
			return nil, err
		}
	}
	views, access, err := h.see(ctx, in.Room, in.Including)
	if err != nil {
		return nil, err
	}
	out := &membersOutput{}
	out.Body.Members = []api.Member{}
	for after := in.After; ; {
		page, err := projections.ListMembers(ctx, views, access.Room.ID, after, maxLimit)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			after = m.User
			if !visible(m, access.Member) {
				continue
			}
			if len(out.Body.Members) == in.Limit {
				last := out.Body.Members[in.Limit-1].User
				out.Body.After = &last
				return out, nil
			}
			out.Body.Members = append(out.Body.Members, api.MemberOf(m))
		}
		if len(page) < maxLimit {
			return out, nil
		}
	}
}

// visible says whether a reader may see what a user is in a room: who has left is gone, and who
// is banned concerns the admins.
func visible(m, reader projections.Member) bool {
	return m.In || m.Banned && reader.Can(events.RoleAdmin)
}

type memberInput struct {
	RoomInput
	User string `path:"user"`
}

type memberOutput struct{ Body api.Member }

func (h *queries) member(ctx context.Context, in *memberInput) (*memberOutput, error) {
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
		return nil, api.NotYet("member_not_found", "the user is no member of this room")
	}
	return &memberOutput{api.MemberOf(m)}, nil
}

type userInput struct {
	Including
	User string `path:"user"`
}

type userOutput struct{ Body api.User }

func (h *queries) user(ctx context.Context, in *userInput) (*userOutput, error) {
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	views, err := h.views(ctx, in.Including, events.UserStream(in.User), func(e events.Event) bool {
		_, profile := e.Payload.(events.UserProfileSet)
		return profile // where the user has read to is her own business
	})
	if err != nil {
		return nil, err
	}
	u, err := projections.LoadUser(ctx, views, in.User)
	if err != nil {
		return nil, err
	}
	if u.Set == (events.ID{}) && u.Erased == (events.ID{}) {
		return nil, api.NotYet("user_not_found", "the user has not set a profile")
	}
	user, err := api.UserOf(ctx, h.Keys, u)
	if err != nil {
		return nil, err
	}
	return &userOutput{user}, nil
}
