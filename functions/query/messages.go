package query

import (
	"context"
	"slices"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *queries) registerMessages(a *api.API) {
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

// PageInput says which part of a list is wanted.
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
	AsOf   string `query:"as_of" doc:"A time (RFC 3339) or an event's id: the room as it was then. Messages deleted since stay deleted."`
}

// MessagePage is a part of a list of messages.
type MessagePage struct {
	Messages []api.Message `json:"messages" doc:"Oldest first."`
	Before   *string       `json:"before" doc:"Give it as before= to get the page before this one, which may turn out empty; null if there surely is none."`
	After    *string       `json:"after" doc:"Give it as after= to get the page behind this one, which may turn out empty; null if there surely is none yet."`
}

type pageOutput struct{ Body MessagePage }

// lister reads messages of a list within a range, in its order.
type lister func(r events.Range) ([]projections.Message, error)

func (h *queries) list(ctx context.Context, in *listInput) (*pageOutput, error) {
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
		return h.read(ctx, want, func(r events.Range) ([]projections.Message, error) {
			return projections.ListMessages(ctx, views, room, r)
		})
	}
	at, err := parseAsOf(in.AsOf)
	if err != nil {
		return nil, err
	}
	return h.read(ctx, want, func(r events.Range) ([]projections.Message, error) {
		return projections.ListMessagesAsOf(ctx, h.Log, views, room, at, r)
	})
}

// page is a wanted part of a list.
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

// read reads a page and opens it. One message more than wanted tells whether there is another page.
func (h *queries) read(ctx context.Context, p page, list lister) (*pageOutput, error) {
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

// read reads the page, and says whether there is something before it, and behind it.
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

// readAround gives the message half of the page's room before it, the rest behind it.
func (p page) readAround(list lister) (got []projections.Message, older, newer bool, err error) {
	before, older, err := p.some(list, events.Range{Before: p.around, Reverse: true}, p.limit/2)
	if err != nil {
		return nil, false, false, err
	}
	// From the message on: no id lies between it and its predecessor.
	behind, newer, err := p.some(list, events.Range{After: events.PrecedingID(p.around)}, p.limit-len(before))
	return append(before, behind...), older, newer, err
}

// some reads at most limit messages, oldest first, and says whether there are more.
func (p page) some(list lister, r events.Range, limit int) ([]projections.Message, bool, error) {
	r.Limit = limit + 1
	got, err := list(r)
	if err != nil {
		return nil, false, err
	}
	more := len(got) > limit
	got = got[:min(len(got), limit)]
	if r.Reverse {
		slices.Reverse(got)
	}
	return got, more, nil
}

func answer(messages []api.Message, older, newer bool) *pageOutput {
	out := &pageOutput{MessagePage{Messages: messages}}
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

type messageOutput struct{ Body api.Message }

func (h *queries) get(ctx context.Context, in *getInput) (*messageOutput, error) {
	views, room, id, err := h.seeMessage(ctx, in.Room, in.ID, in.Including)
	if err != nil {
		return nil, err
	}
	got, err := projections.LoadMessages(ctx, views, room, id)
	if err != nil {
		return nil, err
	}
	if len(got) == 0 {
		return nil, api.NotYet("message_not_found", "there is no such message in this room; a new one takes a moment, or give its id as includes=")
	}
	opened, err := api.MessagesOf(ctx, h.Keys, got[0])
	if err != nil {
		return nil, err
	}
	return &messageOutput{opened[0]}, nil
}

// seeMessage reads the path of a message and makes sure that the caller may see its room.
func (h *queries) seeMessage(ctx context.Context, room, idText string, in Including) (projections.Views, string, events.ID, error) {
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

func (h *queries) replies(ctx context.Context, in *repliesInput) (*pageOutput, error) {
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
	out, err := h.read(ctx, want, func(r events.Range) ([]projections.Message, error) {
		return projections.ListReplies(ctx, views, room, root, r)
	})
	if err == nil && beginning {
		out.Body.Before = nil
	}
	return out, err
}
