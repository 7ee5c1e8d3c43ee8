package projections

import (
	"context"

	"parley/events"
)

// Users is the projection of profiles: one view per user.
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
	Ref events.Ref `json:"id,omitzero"`
	By  string     `json:"by,omitempty"`
}

func (p *profile) fold(_ Key, e events.Event) {
	switch payload := e.Payload.(type) {
	case events.UserProfileSet:
		p.set(e.Ref(), payload)
	case events.UserErased:
		if least(p.Erased.Ref, e.Ref()) == e.Ref() {
			p.Erased = erasure{e.Ref(), payload.By}
		}
	}
	if p.Erased != (erasure{}) {
		p.latest = latest[events.UserProfileSet]{}
	}
}

// User is a user's profile.
type User struct {
	ID    string
	Set   events.ID // the event that set it; zero if it was never set
	Name  events.Content
	About events.Content

	Erased   events.ID // the first event that erased the user; zero if there is none
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
		ID: user, Set: p.Ref.ID, Name: p.Value.Name, About: p.Value.About,
		Erased: p.Erased.Ref.ID, ErasedBy: p.Erased.By,
	}, nil
}
