package projections

import (
	"bytes"
	"context"
	"slices"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"parley/events"
)

// Members is the projection of who is in a room, kept in both directions: the members of a room
// and the rooms of a user.
var Members Projection = &projection[member, *member]{
	name: "member",
	stream: func(key Key) events.Stream {
		switch {
		case strings.HasPrefix(key.Partition, roomsOfUser):
			return events.RoomStream(key.Sort)
		case strings.HasPrefix(key.Partition, invitationsOf):
			_, room, _ := strings.Cut(key.Sort, "/")
			return events.RoomStream(room)
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
		if p, ok := e.Payload.(events.MemberInvited); ok {
			return []Key{memberKey(room, p.User), {invitationsOf + p.User, e.ID.String() + "/" + room}}
		}
		if user := e.Member(); user != "" {
			return memberKeys(room, user)
		}
		return nil
	},
}

// The partitions of both directions, without the name, and that of a user's invitations, by their
// events: others add to it, so a user's rooms are kept apart from it.
const (
	membersOfRoom = "member/in/"
	roomsOfUser   = "member/of/"
	invitationsOf = "member/asked/"
)

func memberKeys(room, user string) []Key {
	return []Key{memberKey(room, user), {roomsOfUser + user, room}}
}

func memberKey(room, user string) Key { return Key{membersOfRoom + room, user} }

// member is the view of one user in one room. Being in, the role, the ban and the invitation are
// settings of their own: leaving does not undo a ban, and nobody is a member before joining after an unban.
type member struct {
	In      latest[bool]        `json:"in,omitzero"`
	Role    latest[events.Role] `json:"role,omitzero"`
	Banned  latest[bool]        `json:"banned,omitzero"`
	Invited latest[string]      `json:"invited,omitzero"` // by whom
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
		m.In.set(e.Ref(), true)
		m.Role.set(e.Ref(), p.Role)
	case events.MemberLeft:
		m.In.set(e.Ref(), false)
	case events.MemberRoleChanged:
		m.Role.set(e.Ref(), p.Role)
	case events.MemberBanned:
		m.In.set(e.Ref(), false)
		m.Banned.set(e.Ref(), true)
	case events.MemberUnbanned:
		m.Banned.set(e.Ref(), false)
	case events.MemberInvited:
		m.Invited.set(e.Ref(), e.Actor)
	}
}

func (m *member) create(e events.Event, p events.RoomCreated) {
	if !events.CreatesRoom(e, p) {
		return
	}
	if len(p.Direct) == 2 { // nothing else counts here; each of the two may have created the room
		first := least(m.In.Ref, e.Ref())
		m.In, m.Role = latest[bool]{first, true}, latest[events.Role]{first, events.RoleMember}
		return
	}
	m.In.set(e.Ref(), true)
	m.Role.set(e.Ref(), events.RoleOwner)
}

// Member is a user in a room as readers see it.
type Member struct {
	Room   string
	User   string
	In     bool        // is a member now: joined and not banned
	Since  events.ID   // the event that began or ended the membership
	Role   events.Role // while In
	Banned bool

	Invited   events.ID // the event that invited a user who is neither a member nor banned; else zero
	InvitedBy string
}

// Can reports whether the user is a member whose role may do what role may.
func (m Member) Can(role events.Role) bool { return m.In && m.Role.Rank() >= role.Rank() }

func (m *member) read(room, user string) Member {
	out := Member{Room: room, User: user, Banned: m.Banned.Value, Since: m.In.Ref.ID}
	if m.In.Value && !m.Banned.Value && m.In.Ref.Compare(m.Banned.Ref) > 0 { // who joined before an unban was banned then
		out.In, out.Role = true, m.Role.Value
	}
	if !out.In && !out.Banned && m.Invited.Ref.Compare(m.In.Ref) > 0 { // else it was accepted, declined or withdrawn
		out.Invited, out.InvitedBy = m.Invited.Ref.ID, m.Invited.Value
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

// ListMembers reads all users who were ever members of a room or are banned from it, in the order
// of their names, at most limit, those behind after. [Member.In] says who is a member now.
func ListMembers(ctx context.Context, views Views, room, after string, limit int) ([]Member, error) {
	return listMembers(ctx, views, membersOfRoom+room, after, limit, func(user string, m *member) Member {
		return m.read(room, user)
	})
}

// ListRoomsOf reads the rooms a user was ever a member of or is banned from, in the order of
// their ids, at most limit, those behind after.
func ListRoomsOf(ctx context.Context, views Views, user, after string, limit int) ([]Member, error) {
	return listMembers(ctx, views, roomsOfUser+user, after, limit, func(room string, m *member) Member {
		return m.read(room, user)
	})
}

const (
	// MaxRows bounds the rows that one page of members or of rooms reads: those of users who have left, or
	// of rooms that the user has left, are read and not shown.
	MaxRows = 1000
	// rowsAtOnce is how many of them are read at a time.
	rowsAtOnce = 100
)

// EachMember calls take with the users of [ListMembers], those behind after, at most so many, until it
// returns false. The result is the after to continue from, so that the user who was not taken comes
// again; "" if there are no more.
func EachMember(ctx context.Context, views Views, room, after string, most int, take func(Member) bool) (string, error) {
	return eachRow(after, most, take, func(m Member) string { return m.User }, func(after string, limit int) ([]Member, error) {
		return ListMembers(ctx, views, room, after, limit)
	})
}

// EachRoomOf calls take with the rooms of [ListRoomsOf], as [EachMember] does with users.
func EachRoomOf(ctx context.Context, views Views, user, after string, most int, take func(Member) bool) (string, error) {
	return eachRow(after, most, take, func(m Member) string { return m.Room }, func(after string, limit int) ([]Member, error) {
		return ListRoomsOf(ctx, views, user, after, limit)
	})
}

func eachRow(after string, most int, take func(Member) bool, name func(Member) string, list func(after string, limit int) ([]Member, error)) (string, error) {
	for most > 0 {
		limit := min(most, rowsAtOnce)
		page, err := list(after, limit)
		if err != nil {
			return "", err
		}
		for _, m := range page {
			if !take(m) {
				return after, nil
			}
			after = name(m)
		}
		if len(page) < limit {
			return "", nil
		}
		most -= limit
	}
	return after, nil
}

// ListInvitations reads which of the last limit invitations of a user are neither accepted, declined
// nor withdrawn, the latest first.
func ListInvitations(ctx context.Context, views Views, user string, limit int) ([]Member, error) {
	got, err := views.Query(ctx, invitationsOf+user, Range{Reverse: true, Limit: limit})
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, view := range got {
		_, room, _ := strings.Cut(view.Key.Sort, "/")
		if key := memberKey(room, user); !slices.Contains(keys, key) { // the user may have been invited again
			keys = append(keys, key)
		}
	}
	states, err := load[member](ctx, views, keys)
	if err != nil {
		return nil, err
	}
	var open []Member
	for i, state := range states {
		room := strings.TrimPrefix(keys[i].Partition, membersOfRoom)
		if m := state.read(room, user); m.Invited != (events.ID{}) {
			open = append(open, m)
		}
	}
	return open, nil
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

// cachedViews is how many rooms and how many memberships are cached, in about 1 KB each.
const cachedViews = 8192

// AccessCache caches decoded rooms and memberships: every command and every query loads one of each,
// and they hardly ever change. It is never stale: a decoded view is used only while the stored
// one has the same bytes. It is safe for concurrent use; nil caches nothing.
type AccessCache struct {
	rooms   *lru.Cache[Key, cachedView[room]]
	members *lru.Cache[Key, cachedView[member]]
}

// cachedView is a view and its decoded state, which must not be changed.
type cachedView[S any] struct {
	body  []byte
	state *S
}

// NewAccessCache returns an empty cache.
func NewAccessCache() *AccessCache {
	rooms, err := lru.New[Key, cachedView[room]](cachedViews)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	members, err := lru.New[Key, cachedView[member]](cachedViews)
	if err != nil {
		panic(err)
	}
	return &AccessCache{rooms, members}
}

// Load reads a room and a user's membership of it with one request.
func (c *AccessCache) Load(ctx context.Context, views Views, roomID, user string) (Room, Member, error) {
	got, err := views.Get(ctx, roomKey(roomID), memberKey(roomID, user))
	if err != nil {
		return Room{}, Member{}, err
	}
	if c == nil {
		c = &AccessCache{}
	}
	r, err := decodeCached(c.rooms, got[0])
	if err != nil {
		return Room{}, Member{}, err
	}
	m, err := decodeCached(c.members, got[1])
	if err != nil {
		return Room{}, Member{}, err
	}
	return r.read(roomID), m.read(roomID, user), nil
}

// decodeCached decodes a view unless the cache has it.
func decodeCached[S any](cache *lru.Cache[Key, cachedView[S]], view View) (*S, error) {
	if cache == nil || view.Version == 0 {
		return decode[S](view.Body)
	}
	if cached, ok := cache.Get(view.Key); ok && bytes.Equal(cached.body, view.Body) {
		return cached.state, nil
	}
	state, err := decode[S](view.Body)
	if err == nil {
		cache.Add(view.Key, cachedView[S]{view.Body, state})
	}
	return state, err
}
