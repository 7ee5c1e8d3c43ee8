package api

import (
	"context"

	"parley/events"
	"parley/events/keys"
	"parley/projections"
)

// MessagesOf gives messages as clients get them: it is the edge at which their content is opened.
// The error is [keys.ErrMissing] where a key is on its way to this region.
func MessagesOf(ctx context.Context, ring *keys.Ring, list ...projections.Message) ([]Message, error) {
	var authors []string
	for _, m := range list {
		if _, sealed := m.Text.Sealed(); sealed {
			authors = append(authors, m.Author)
		}
	}
	ring.Warm(ctx, authors...)
	out := make([]Message, len(list))
	for i, m := range list {
		text, err := ring.Show(ctx, m.Author, m.Text)
		if err != nil {
			return nil, err
		}
		m.Text = text
		out[i] = messageOf(m)
	}
	return out, nil
}

// UserOf gives a profile as clients get it, opened.
func UserOf(ctx context.Context, ring *keys.Ring, u projections.User) (User, error) {
	name, err := ring.Show(ctx, u.ID, u.Name)
	if err != nil {
		return User{}, err
	}
	about, err := ring.Show(ctx, u.ID, u.About)
	if err != nil {
		return User{}, err
	}
	erased := name.Erased() || u.Erased != (events.ID{})
	return User{ID: u.ID, Name: name.Text(), About: about.Text(), Erased: erased}, nil
}

// EventOf gives an event as clients get it, opened.
func EventOf(ctx context.Context, ring *keys.Ring, e events.Event) (Event, error) {
	e, err := ring.ShowEvent(ctx, e)
	return eventOf(e), err
}
