package query

import (
	"context"
	"slices"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Queries) registerMessages(a *api.API) {
	const tag = "messages"
	api.Query(a, api.Operation{
		ID: "listMessages", Method: "GET", Path: "/v1/rooms/{room}/messages", Tag: tag, Codes: []int{403, 404},
		Summary: "A page of a room's messages",
		Detail:  "The latest, or those before, after or around an id. With as_of the room as it was at a time or just after an event.",
	}, h.list)
	api.Query(a, api.Operation{
		ID: "getMessage", Method: "GET", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag, Codes: []int{403, 404},
		Summary: "One message",
	}, h.get)
	api.Query(a, api.Operation{
		ID: "listReplies", Method: "GET", Path: "/v1/rooms/{room}/messages/{id}/replies", Tag: tag, Codes: []int{403, 404},
		Summary: "A page of a message's thread",
		Detail:  "From the beginning, or those before or after an id.",
	}, h.replies)
}

// PageInput selects a page of a list.
type PageInput struct {
	Before string `query:"before" doc:"Messages that sort before this id, the nearest."`
	After  string `query:"after" doc:"Messages that sort after this id, the nearest."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

type listInput struct {
	PageInput
	Including
	Room   string `path:"room"`
	Around string `query:"around" doc:"The message with this id and its neighbours."`
	AsOf   string `query:"as_of" doc:"A time (RFC 3339) or an event's id: the room as it was then. Messages deleted since stay deleted. A page may be shorter than limit with more to come."`
}

// lister reads messages of a list within a range, in its order. It may cut the list before messages that
// would take too much work.
type lister func(r events.Range) (got []projections.Message, cut bool, err error)

// uncut makes a lister of a list that is never cut.
func uncut(list func(events.Range) ([]projections.Message, error)) lister {
	return func(r events.Range) ([]projections.Message, bool, error) {
		got, err := list(r)
		return got, false, err
	}
}

func (h *Queries) list(ctx context.Context, in *listInput) (*api.Response[wire.MessagePage], error) {
	want, err := parsePage(in.PageInput, in.Around)
	if err != nil {
		return nil, err
	}
	if in.AsOf != "" && in.Includes != "" {
		return nil, events.Invalid("includes", "must not be given with as_of")
	}
	views, access, err := h.see(ctx, in.Room, in.Including)
	if err != nil {
		return nil, err
	}
	room := access.Room.ID
	if in.AsOf == "" {
		return h.read(ctx, want, uncut(func(r events.Range) ([]projections.Message, error) {
			return projections.ListMessages(ctx, views, room, r)
		}))
	}
	at, err := parseAsOf(in.AsOf)
	if err != nil {
		return nil, err
	}
	return h.read(ctx, want, func(r events.Range) ([]projections.Message, bool, error) {
		return projections.ListMessagesAsOf(ctx, h.Log, views, room, at, r)
	})
}

// page is a page to be read from a list.
type page struct {
	before, after, around events.ID
	limit                 int
}

func parsePage(in PageInput, around string) (page, error) {
	p := page{limit: in.Limit}
	given := 0
	for _, field := range []struct {
		name, text string
		id         *events.ID
	}{{"before", in.Before, &p.before}, {"after", in.After, &p.after}, {"around", around, &p.around}} {
		if field.text == "" {
			continue
		}
		id, err := events.ParseID(field.name, field.text)
		if err != nil {
			return p, err
		}
		if *field.id = id; id == (events.ID{}) {
			*field.id = events.FollowingID(id) // zero stands for a bound that is not given
		}
		if given++; given > 1 {
			return p, events.Invalid(field.name, "must not be given with another of before, after and around")
		}
	}
	return p, nil
}

// read reads a page and decrypts it. It reads one message more, to see whether there is another page.
func (h *Queries) read(ctx context.Context, p page, list lister) (*api.Response[wire.MessagePage], error) {
	got, older, newer, err := p.read(list)
	if err != nil {
		return nil, err
	}
	messages, err := api.MessagesOf(ctx, h.Keys, got...)
	if err != nil {
		return nil, err
	}
	return answer(messages, older, newer), nil
}

// read reads the page, and reports whether there may be messages before and behind it.
func (p page) read(list lister) (got []projections.Message, older, newer bool, err error) {
	switch {
	case p.around != (events.ID{}):
		return p.readAround(list)
	case p.after != (events.ID{}):
		got, newer, err = p.some(list, events.Range{After: p.after}, p.limit)
		return got, true, newer, err
	default:
		got, older, err = p.some(list, events.Range{Before: p.before, Reverse: true}, p.limit)
		return got, older, p.before != (events.ID{}), err
	}
}

// readAround reads half of the page before the message, and the rest from the message on.
func (p page) readAround(list lister) (got []projections.Message, older, newer bool, err error) {
	before, older, err := p.some(list, events.Range{Before: p.around, Reverse: true}, p.limit/2)
	if err != nil {
		return nil, false, false, err
	}
	// From the message on: no id lies between it and its predecessor.
	behind, newer, err := p.some(list, events.Range{After: events.PrecedingID(p.around)}, p.limit-len(before))
	return append(before, behind...), older, newer, err
}

// some reads at most limit messages, oldest first, and reports whether there are more.
func (p page) some(list lister, r events.Range, limit int) ([]projections.Message, bool, error) {
	r.Limit = limit + 1
	got, cut, err := list(r)
	if err != nil {
		return nil, false, err
	}
	more := cut || len(got) > limit
	got = got[:min(len(got), limit)]
	if r.Reverse {
		slices.Reverse(got)
	}
	return got, more, nil
}

func answer(messages []wire.Message, older, newer bool) *api.Response[wire.MessagePage] {
	out := api.OK(wire.MessagePage{Messages: messages})
	if n := len(messages); n > 0 {
		first, last := messages[0].ID, messages[n-1].ID
		if older {
			out.Body.Before = &first
		}
		if newer {
			out.Body.After = &last
		}
	}
	return out
}

type getInput struct {
	Including
	Room string `path:"room"`
	ID   string `path:"id"`
}

func (h *Queries) get(ctx context.Context, in *getInput) (*api.Response[wire.Message], error) {
	views, room, id, err := h.seeMessage(ctx, in.Room, in.ID, in.Including)
	if err != nil {
		return nil, err
	}
	got, err := projections.LoadMessages(ctx, views, room, id)
	if err != nil {
		return nil, err
	}
	if len(got) == 0 {
		return nil, api.NotYet("message_not_found", "message not found in this room; if it is new, retry in a moment or pass its id as includes=")
	}
	opened, err := api.MessagesOf(ctx, h.Keys, got[0])
	if err != nil {
		return nil, err
	}
	return api.OK(opened[0]), nil
}

// seeMessage reads the path of a message and makes sure that the caller may see its room.
func (h *Queries) seeMessage(ctx context.Context, room, idText string, in Including) (projections.Views, string, events.ID, error) {
	id, err := events.ParseID("id", idText)
	if err != nil {
		return nil, "", id, err
	}
	views, access, err := h.see(ctx, room, in)
	return views, access.Room.ID, id, err
}

type repliesInput struct {
	PageInput
	Including
	Room string `path:"room"`
	ID   string `path:"id"`
}

func (h *Queries) replies(ctx context.Context, in *repliesInput) (*api.Response[wire.MessagePage], error) {
	want, err := parsePage(in.PageInput, "")
	if err != nil {
		return nil, err
	}
	views, room, root, err := h.seeMessage(ctx, in.Room, in.ID, in.Including)
	if err != nil {
		return nil, err
	}
	beginning := want.before == (events.ID{}) && want.after == (events.ID{})
	if beginning {
		want.after = root // a thread is read from its beginning: its replies sort after its root
	}
	out, err := h.read(ctx, want, uncut(func(r events.Range) ([]projections.Message, error) {
		return projections.ListReplies(ctx, views, room, root, r)
	}))
	if err == nil && beginning {
		out.Body.Before = nil
	}
	return out, err
}
