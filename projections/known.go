package projections

import (
	"bytes"
	"context"

	lru "github.com/hashicorp/golang-lru/v2"
)

// knownViews is how many rooms and how many memberships are remembered, in about 1 KB each.
const knownViews = 8192

// Known remembers what rooms and memberships were decoded to, since every command and every query
// asks for one of each and they hardly ever change. It never goes stale: what is remembered is
// used while the stored view has the very bytes it was decoded from. It is safe for concurrent
// use; nil remembers nothing.
type Known struct {
	rooms   *lru.Cache[Key, knownView[room]]
	members *lru.Cache[Key, knownView[member]]
}

// knownView is a view and what it was decoded to, which nobody changes.
type knownView[S any] struct {
	body  []byte
	state *S
}

// NewKnown returns a memory with nothing in it.
func NewKnown() *Known {
	rooms, err := lru.New[Key, knownView[room]](knownViews)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	members, err := lru.New[Key, knownView[member]](knownViews)
	if err != nil {
		panic(err)
	}
	return &Known{rooms, members}
}

// LoadAccess reads a room and what a user is in it with one request: what every command and
// every query asks first.
func (k *Known) LoadAccess(ctx context.Context, views Views, roomID, user string) (Room, Member, error) {
	got, err := views.Get(ctx, roomKey(roomID), memberKey(roomID, user))
	if err != nil {
		return Room{}, Member{}, err
	}
	if k == nil {
		k = &Known{}
	}
	r, err := decodeKnown(k.rooms, got[0])
	if err != nil {
		return Room{}, Member{}, err
	}
	m, err := decodeKnown(k.members, got[1])
	if err != nil {
		return Room{}, Member{}, err
	}
	return r.read(roomID), m.read(roomID, user), nil
}

// decodeKnown decodes a view unless that was done before.
func decodeKnown[S any](known *lru.Cache[Key, knownView[S]], view View) (*S, error) {
	if known == nil || view.Version == 0 {
		return decode[S](view.Body)
	}
	if k, ok := known.Get(view.Key); ok && bytes.Equal(k.body, view.Body) {
		return k.state, nil
	}
	state, err := decode[S](view.Body)
	if err == nil {
		known.Add(view.Key, knownView[S]{view.Body, state})
	}
	return state, err
}
