package projections

import (
	"context"

	"parley/events"
)

// Users is the projection of what users tell about themselves: one view per user.
var Users Projection = &projection[profile, *profile]{
	name:   "user",
	stream: userOf,
	keys: func(e events.Event) []Key {
		switch e.Payload.(type) {
		case events.UserProfileSet, events.UserErased:
			return []Key{userKey(e.Actor)}
		default:
			return nil
		}
	},
}

func userKey(user string) Key { return Key{"user/" + user, "profile"} }

// profile is the view of a user's profile: the latest wins as a whole. Erased wins over all, for
// good: nothing of the profile is kept.
type profile struct {
	latest[events.UserProfileSet]
	Erased erasure `json:"erased,omitzero"`
}

// erasure is the first time that a user was erased.
type erasure struct {
	ID events.ID `json:"id,omitzero"`
	By string    `json:"by,omitempty"`
}

func (p *profile) fold(_ Key, e events.Event) {
	switch payload := e.Payload.(type) {
	case events.UserProfileSet:
		p.set(e.ID, payload)
	case events.UserErased:
		if least(p.Erased.ID, e.ID) == e.ID {
			p.Erased = erasure{e.ID, payload.By}
		}
	}
	if p.Erased != (erasure{}) {
		p.latest = latest[events.UserProfileSet]{}
	}
}

// User is what a user tells the others about herself.
type User struct {
	ID    string
	Set   events.ID // the event that set it; zero if she never did
	Name  events.Content
	About events.Content

	Erased   events.ID // the event that first erased her; zero if she is there
	ErasedBy string    // the operator who did
}

// LoadUser reads a user's profile.
func LoadUser(ctx context.Context, views Views, user string) (User, error) {
	states, err := load[profile](ctx, views, []Key{userKey(user)})
	if err != nil {
		return User{}, err
	}
	p := states[0]
	return User{
		ID: user, Set: p.ID, Name: p.Value.Name, About: p.Value.About,
		Erased: p.Erased.ID, ErasedBy: p.Erased.By,
	}, nil
}
