package projections

import (
	"context"
	"strings"

	"parley/events"
)

// Members is the projection of who is in a room, kept in both directions: the members of a room
// and the rooms of a user.
var Members Projection = &projection[member, *member]{
	name: "member",
	stream: func(key Key) events.Stream {
		if strings.HasPrefix(key.Partition, roomsOfUser) {
			return events.RoomStream(key.Sort)
		}
		return events.RoomStream(strings.TrimPrefix(key.Partition, membersOfRoom))
	},
	keys: func(e events.Event) []Key {
		room := e.Stream.Name()
		if p, ok := e.Payload.(events.RoomCreated); ok {
			if len(p.Direct) == 2 {
				return append(memberKeys(room, p.Direct[0]), memberKeys(room, p.Direct[1])...)
			}
			return memberKeys(room, e.Actor)
		}
		if user := memberOf(e); user != "" {
			return memberKeys(room, user)
		}
		return nil
	},
}

// memberOf names the user whose membership an event changes, if it does.
func memberOf(e events.Event) string {
	switch p := e.Payload.(type) {
	case events.MemberJoined:
		return p.User
	case events.MemberLeft:
		return p.User
	case events.MemberRoleChanged:
		return p.User
	case events.MemberBanned:
		return p.User
	case events.MemberUnbanned:
		return p.User
	default:
		return ""
	}
}

// The partitions of both directions, without the name.
const (
	membersOfRoom = "member/in/"
	roomsOfUser   = "member/of/"
)

func memberKeys(room, user string) []Key {
	return []Key{memberKey(room, user), {roomsOfUser + user, room}}
}

func memberKey(room, user string) Key { return Key{membersOfRoom + room, user} }

// member is the view of one user in one room. Being in, the role and the ban are settings of
// their own: leaving does not undo a ban, and an unban does not bring back.
type member struct {
	In     latest[bool]        `json:"in,omitzero"`
	Role   latest[events.Role] `json:"role,omitzero"`
	Banned latest[bool]        `json:"banned,omitzero"`
}

func (m *member) fold(_ Key, e events.Event) {
	if p, ok := e.Payload.(events.RoomCreated); ok {
		m.create(e, p)
		return
	}
	if events.IsDirect(e.Stream.Name()) {
		return // nobody joins, leaves or is banned from a direct room
	}
	switch p := e.Payload.(type) {
	case events.MemberJoined:
		m.In.set(e.ID, true)
		m.Role.set(e.ID, p.Role)
	case events.MemberLeft:
		m.In.set(e.ID, false)
	case events.MemberRoleChanged:
		m.Role.set(e.ID, p.Role)
	case events.MemberBanned:
		m.In.set(e.ID, false)
		m.Banned.set(e.ID, true)
	case events.MemberUnbanned:
		m.Banned.set(e.ID, false)
	}
}

func (m *member) create(e events.Event, p events.RoomCreated) {
	if !events.CreatesRoom(e, p) {
		return
	}
	if len(p.Direct) == 2 { // nothing else counts here; each of the two may have created the room
		first := least(m.In.ID, e.ID)
		m.In, m.Role = latest[bool]{first, true}, latest[events.Role]{first, events.RoleMember}
		return
	}
	m.In.set(e.ID, true)
	m.Role.set(e.ID, events.RoleOwner)
}

// Member is a user in a room as its readers see her.
type Member struct {
	Room   string
	User   string
	In     bool        // is a member now: joined and not banned
	Since  events.ID   // the event that made her a member, or ended it
	Role   events.Role // while In
	Banned bool
}

// Can reports whether she is a member whose role may do what role may.
func (m Member) Can(role events.Role) bool { return m.In && m.Role.Rank() >= role.Rank() }

func (m *member) read(room, user string) Member {
	out := Member{Room: room, User: user, Banned: m.Banned.Value, Since: m.In.ID}
	if m.In.Value && !m.Banned.Value {
		out.In, out.Role = true, m.Role.Value
	}
	return out
}

// LoadMember reads what a user is in a room.
func LoadMember(ctx context.Context, views Views, room, user string) (Member, error) {
	states, err := load[member](ctx, views, []Key{memberKey(room, user)})
	if err != nil {
		return Member{}, err
	}
	return states[0].read(room, user), nil
}

// ListMembers reads whoever was ever a member of a room or is banned from it, in the order of
// their names, beginning behind after. What each is now is said by [Member].
func ListMembers(ctx context.Context, views Views, room, after string, limit int) ([]Member, error) {
	return listMembers(ctx, views, membersOfRoom+room, after, limit, func(user string, m *member) Member {
		return m.read(room, user)
	})
}

// ListRoomsOf reads the rooms a user was ever a member of or is banned from, in the order of
// their ids, beginning behind after.
func ListRoomsOf(ctx context.Context, views Views, user, after string, limit int) ([]Member, error) {
	return listMembers(ctx, views, roomsOfUser+user, after, limit, func(room string, m *member) Member {
		return m.read(room, user)
	})
}

func listMembers(ctx context.Context, views Views, partition, after string, limit int, read func(string, *member) Member) ([]Member, error) {
	got, err := views.Query(ctx, partition, Range{From: next(after), Limit: limit})
	if err != nil {
		return nil, err
	}
	members := make([]Member, len(got))
	for i, view := range got {
		state, err := decode[member](view.Body)
		if err != nil {
			return nil, err
		}
		members[i] = read(view.Key.Sort, state)
	}
	return members, nil
}
