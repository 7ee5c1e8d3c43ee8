package command

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Commands) registerMarks(a *api.API) {
	const reaction, pin = "/v1/rooms/{room}/messages/{id}/reactions/{emoji}", "/v1/rooms/{room}/messages/{id}/pin"
	codes := []int{404, 410}
	api.Command(a, api.Operation{
		ID: "addReaction", Method: "PUT", Path: reaction, Tag: "messages", Codes: codes,
		Summary: "React to a message",
		Detail:  "The emoji is one visible character or a :name:, at most 64 bytes, percent-encoded in the path. With and without a variation selector (U+FE0F) it is one emoji, which reads in the form that Unicode recommends for interchange. A message takes 1000 reactions, 20 of one user, those removed included.",
	}, h.react)
	api.Command(a, api.Operation{
		ID: "removeReaction", Method: "DELETE", Path: reaction, Tag: "messages", Codes: codes,
		Summary: "Remove your reaction",
		Detail:  "In whichever form the emoji was added, with or without a variation selector.",
	}, h.unreact)
	api.Command(a, api.Operation{
		ID: "pinMessage", Method: "PUT", Path: pin, Tag: "messages", Codes: codes,
		Summary: "Pin a message",
	}, func(ctx context.Context, in *Target) (*api.Response[wire.Accepted], error) {
		return h.mark(ctx, *in, func(id events.ID) events.Payload { return events.MessagePinned{Message: id} }, h.notDeleted)
	})
	api.Command(a, api.Operation{
		ID: "unpinMessage", Method: "DELETE", Path: pin, Tag: "messages", Codes: codes,
		Summary: "Unpin a message",
	}, func(ctx context.Context, in *Target) (*api.Response[wire.Accepted], error) {
		return h.mark(ctx, *in, func(id events.ID) events.Payload { return events.MessageUnpinned{Message: id} }, nil)
	})
	api.Command(a, api.Operation{
		ID: "setRead", Method: "PUT", Path: "/v1/rooms/{room}/read", Tag: "rooms", Codes: []int{404},
		Summary: "Mark a room as read up to a message",
		Detail:  "The greatest marker after the latest mark as unread wins: another changes nothing, and is answered as a repeat. It covers what has arrived in the region that accepts it: a message that arrives later is unread, also where it sorts before the marker. Under an Idempotency-Key it covers all that sorts before it.",
	}, h.read)
	api.Command(a, api.Operation{
		ID: "setUnread", Method: "PUT", Path: "/v1/rooms/{room}/unread", Tag: "rooms", Codes: []int{404},
		Summary: "Mark a room as unread from a message on",
		Detail:  "The only way in which a read marker goes back. The latest mark as unread wins, over all read markers that were set before it.",
	}, h.unread)
}

func (h *Commands) mark(ctx context.Context, in Target, payload func(events.ID) events.Payload, more func(context.Context, events.Event) error) (*api.Response[wire.Accepted], error) {
	done, err := h.onMessage(ctx, in, payload, more)
	if err != nil {
		return nil, err
	}
	return api.OK(done.accepted()), nil
}

type reactionInput struct {
	Target
	Emoji string `path:"emoji"`
}

func (h *Commands) react(ctx context.Context, in *reactionInput) (*api.Response[wire.Accepted], error) {
	emoji := events.NormalizeEmoji(in.Emoji)
	return h.mark(ctx, in.Target, func(id events.ID) events.Payload {
		return events.ReactionAdded{Message: id, Emoji: emoji}
	}, func(ctx context.Context, posted events.Event) error {
		if err := h.notDeleted(ctx, posted); err != nil {
			return err
		}
		all, own, err := projections.CountReactions(ctx, h.Views, posted.Stream.Name(), posted.ID, api.CallerOf(ctx).User, emoji)
		switch {
		case err != nil:
			return err
		case all >= projections.MaxReactions:
			return api.Fail(http.StatusConflict, "too_many_reactions", "a message can have at most "+strconv.Itoa(projections.MaxReactions)+" reactions, removed ones included")
		case own >= projections.ReactionsPerUser:
			return api.Fail(http.StatusConflict, "too_many_reactions", "a user can react to a message with at most "+strconv.Itoa(projections.ReactionsPerUser)+" emoji, removed ones included")
		}
		return nil
	})
}

func (h *Commands) unreact(ctx context.Context, in *reactionInput) (*api.Response[wire.Accepted], error) {
	return h.mark(ctx, in.Target, func(id events.ID) events.Payload {
		return events.ReactionRemoved{Message: id, Emoji: events.NormalizeEmoji(in.Emoji)}
	}, nil)
}

type readInput struct {
	Keyed
	Room string `path:"room"`
	Body wire.ReadMarker
}

func (h *Commands) read(ctx context.Context, in *readInput) (*api.Response[wire.Accepted], error) {
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return nil, err
	}
	upTo, err := events.ParseID("up_to", in.Body.UpTo)
	if err != nil {
		return nil, err
	}
	seen := int64(events.SeenUnknown) // under a client's id, a region that does not know of the event must make the same
	if in.Key == "" {
		if seen, err = projections.CountSeen(ctx, h.Views, room, upTo); err != nil {
			return nil, err
		}
	}
	marker, err := h.marker(ctx, room)
	if err != nil {
		return nil, err
	}
	done, err := h.moveMarker(ctx, command{
		id: in.Key, room: events.RoomStream(room), causes: []cause{{"up_to", upTo}},
		after: []events.ID{marker.MarkedUnread}, payload: events.RoomRead{Room: room, UpTo: upTo, Seen: &seen},
	}, marker.Event, marker.Covers(upTo, seen))
	var p *wire.Problem
	if in.Key == "" && errors.As(err, &p) && p.ID != "" { // under that id it would be another event in another region
		again := *p
		again.ID, again.Detail = "", "the marker may or may not have been set; set it again"
		return nil, &again
	}
	return done, err
}

type unreadInput struct {
	Keyed
	Room string `path:"room"`
	Body wire.UnreadMarker
}

func (h *Commands) unread(ctx context.Context, in *unreadInput) (*api.Response[wire.Accepted], error) {
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return nil, err
	}
	from, err := events.ParseID("from", in.Body.From)
	if err != nil {
		return nil, err
	}
	marker, err := h.marker(ctx, room)
	if err != nil {
		return nil, err
	}
	return h.moveMarker(ctx, command{
		id: in.Key, room: events.RoomStream(room), causes: []cause{{"from", from}},
		after: []events.ID{marker.MarkedUnread, marker.Event}, payload: events.RoomMarkedUnread{Room: room, From: from},
	}, marker.Event, marker.Event != (events.ID{}) && marker.UpTo == events.PrecedingID(from))
}

// marker reads the caller's read marker of a room.
func (h *Commands) marker(ctx context.Context, room string) (projections.ReadMarker, error) {
	markers, err := projections.LoadMarkers(ctx, h.Views, api.CallerOf(ctx).User, room)
	if err != nil {
		return projections.ReadMarker{}, err
	}
	return markers[0], nil
}

// moveMarker moves the caller's read marker of a room, unless it is there already, by the given event. The cause of
// the command is the message to which it moves. What the event must sort after it would not count before.
func (h *Commands) moveMarker(ctx context.Context, c command, by events.ID, isThere bool) (*api.Response[wire.Accepted], error) {
	user, room := api.CallerOf(ctx).User, c.room.Name()
	c.stream, c.actor, c.idField = events.UserStream(user), user, keyField
	c.allow = func(ctx context.Context) error {
		access, err := api.See(ctx, h.known, h.Views, room, user)
		if err != nil {
			return err
		}
		if err := access.RequireRole(events.RoleMember); err != nil {
			return err
		}
		if _, err := h.message(ctx, room, c.causes[0].id); err != nil {
			return err
		}
		if isThere {
			return already{by}
		}
		return nil
	}
	done, err := h.do(ctx, c)
	var so already
	switch {
	case errors.As(err, &so):
		return api.OK(wire.Accepted{Event: so.event, Repeat: true}), nil
	case err != nil:
		return nil, err
	}
	return api.OK(done.accepted()), nil
}
