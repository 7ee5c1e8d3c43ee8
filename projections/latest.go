package projections

import (
	"context"
	"slices"

	"parley/events"
)

// Latest returns the event that now counts for what an event of [events.Event.LatestWins] sets: an event
// that does not sort after it would change nothing. It is zero if there is none.
func Latest(ctx context.Context, views Views, e events.Event) (events.ID, error) {
	name := e.Stream.Name()
	switch {
	case e.Member() != "":
		return latestIn(ctx, views, memberKey(name, e.Member()), func(m *member) events.ID {
			return greatest(m.In.Ref.ID, m.Role.Ref.ID, m.Banned.Ref.ID, m.Invited.Ref.ID)
		})
	case e.About() != (events.ID{}):
		return latestIn(ctx, views, messageKey(name, e.About()), func(m *message) events.ID { return m.latest(e) })
	}
	switch p := e.Payload.(type) {
	case events.RoomArchived, events.RoomUnarchived:
		return latestIn(ctx, views, roomKey(name), func(r *room) events.ID { return greatest(r.Archived.Ref.ID, r.Created.ID) })
	case events.RoomUpdated:
		return latestIn(ctx, views, roomKey(name), func(r *room) events.ID {
			latest := r.Created.ID
			if p.Name != nil {
				latest = greatest(latest, r.Name.Ref.ID)
			}
			if p.Topic != nil {
				latest = greatest(latest, r.Topic.Ref.ID)
			}
			if p.Private != nil {
				latest = greatest(latest, r.Private.Ref.ID)
			}
			return latest
		})
	case events.UserProfileSet:
		return latestIn(ctx, views, userKey(e.Actor), func(p *profile) events.ID { return p.Ref.ID })
	default:
		return events.ID{}, nil
	}
}

// latest is the event that counts for what e does to the message.
func (m *message) latest(e events.Event) events.ID {
	switch p := e.Payload.(type) {
	case events.MessageEdited:
		return m.Edits[e.Actor].Ref.ID
	case events.MessagePinned, events.MessageUnpinned:
		return m.Pin.Ref.ID
	case events.ReactionAdded:
		return m.reaction(e.Actor, p.Emoji).ID
	case events.ReactionRemoved:
		return m.reaction(e.Actor, p.Emoji).ID
	default:
		return events.ID{}
	}
}

func latestIn[S any](ctx context.Context, views Views, key Key, latest func(*S) events.ID) (events.ID, error) {
	states, err := load[S](ctx, views, []Key{key})
	if err != nil {
		return events.ID{}, err
	}
	return latest(states[0]), nil
}

func greatest(ids ...events.ID) events.ID { return slices.MaxFunc(ids, events.ID.Compare) }
