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
		if _, ok := e.Payload.(events.UserProfileSet); ok {
			return []Key{userKey(e.Actor)}
		}
		return nil
	},
}

func userKey(user string) Key { return Key{"user/" + user, "profile"} }

// profile is the view of a user's profile: the latest wins as a whole.
type profile struct {
	latest[events.UserProfileSet]
}

func (p *profile) fold(_ Key, e events.Event) {
	if set, ok := e.Payload.(events.UserProfileSet); ok {
		p.set(e.ID, set)
	}
}

// User is what a user tells the others about herself.
type User struct {
	ID    string
	Set   events.ID // the event that set it; zero if she never did
	Name  events.Content
	About events.Content
}

// LoadUser reads a user's profile.
func LoadUser(ctx context.Context, views Views, user string) (User, error) {
	states, err := load[profile](ctx, views, []Key{userKey(user)})
	if err != nil {
		return User{}, err
	}
	p := states[0]
	return User{ID: user, Set: p.ID, Name: p.Value.Name, About: p.Value.About}, nil
}
