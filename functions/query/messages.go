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

// pageInput says which part of a list is wanted.
type pageInput struct {
	Before string `query:"before" doc:"Messages that sort before this id, the nearest."`
	After  string `query:"after" doc:"Messages that sort after this id, the nearest."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

type listInput struct {
	pageInput
	including
	Room   string `path:"room"`
	Around string `query:"around" doc:"The message with this id and its neighbours."`
	AsOf   string `query:"as_of" doc:"A time (RFC 3339) or an event's id: the room as it was then. Messages deleted since stay deleted."`
}

// Page is a part of a list of messages.
type Page struct {
	Messages []api.Message `json:"messages" doc:"Oldest first."`
	Before   *string       `json:"before" doc:"Give it as before= to get the page before this one; null if there is none."`
	After    *string       `json:"after" doc:"Give it as after= to get the page behind this one; null if there is none yet."`
}

type pageOutput struct{ Body Page }

// lister reads messages of a list within a range, in its order.
type lister func(r events.Range) ([]projections.Message, error)

func (h *queries) list(ctx context.Context, in *listInput) (*pageOutput, error) {
	room, err := api.ParseRoom(in.Room)
	if err != nil {
		return nil, err
	}
	want, err := parsePage(in.pageInput, in.Around)
	if err != nil {
		return nil, err
	}
	if in.AsOf != "" && in.Includes != "" {
		return nil, events.Invalid("includes", "must not be given with as_of")
	}
	views, err := h.views(ctx, in.including, events.RoomStream(room))
	if err != nil {
		return nil, err
	}
	if _, err := api.See(ctx, views, room, api.CallerOf(ctx).User); err != nil {
		return nil, err
	}
	list := lister(func(r events.Range) ([]projections.Message, error) {
		return projections.ListMessages(ctx, views, room, r)
	})
	if in.AsOf != "" {
		at, err := parseAsOf(in.AsOf)
		if err != nil {
			return nil, err
		}
		list = func(r events.Range) ([]projections.Message, error) {
			return projections.ListMessagesAsOf(ctx, h.Log, views, room, at, r)
		}
	}
	return want.read(list)
}

// page is a wanted part of a list.
type page struct {
	before, after, around events.ID
	limit                 int
}

func parsePage(in pageInput, around string) (page, error) {
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
		*field.id = id
		if given++; given > 1 {
			return p, events.Invalid(field.name, "must not be given with another of before, after and around")
		}
	}
	return p, nil
}

// read reads the page. One message more than wanted tells whether there is another page.
func (p page) read(list lister) (*pageOutput, error) {
	switch {
	case p.around != (events.ID{}):
		return p.readAround(list)
	case p.after != (events.ID{}):
		got, more, err := p.some(list, events.Range{After: p.after}, p.limit)
		return answer(got, true, more), err
	default:
		got, more, err := p.some(list, events.Range{Before: p.before, Reverse: true}, p.limit)
		return answer(got, more, p.before != (events.ID{})), err
	}
}

// readAround gives the message half of the page's room before it, the rest behind it.
func (p page) readAround(list lister) (*pageOutput, error) {
	older, more, err := p.some(list, events.Range{Before: p.around, Reverse: true}, p.limit/2)
	if err != nil {
		return nil, err
	}
	// From the message on: no id lies between it and its predecessor.
	newer, moreNewer, err := p.some(list, events.Range{After: events.PrecedingID(p.around)}, p.limit-len(older))
	return answer(append(older, newer...), more, moreNewer), err
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

func answer(messages []projections.Message, older, newer bool) *pageOutput {
	out := &pageOutput{Page{Messages: make([]api.Message, len(messages))}}
	for i, m := range messages {
		out.Body.Messages[i] = api.MessageOf(m)
	}
	if n := len(messages); n > 0 {
		first, last := out.Body.Messages[0].ID, out.Body.Messages[n-1].ID
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
	including
	Room string `path:"room"`
	ID   string `path:"id"`
}

type messageOutput struct{ Body api.Message }

func (h *queries) get(ctx context.Context, in *getInput) (*messageOutput, error) {
	views, room, id, err := h.seeMessage(ctx, in.Room, in.ID, in.including)
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
	return &messageOutput{api.MessageOf(got[0])}, nil
}

// seeMessage reads the path of a message and makes sure that the caller may see its room.
func (h *queries) seeMessage(ctx context.Context, roomText, idText string, in including) (projections.Views, string, events.ID, error) {
	room, err := api.ParseRoom(roomText)
	if err != nil {
		return nil, "", events.ID{}, err
	}
	id, err := events.ParseID("id", idText)
	if err != nil {
		return nil, "", id, err
	}
	views, err := h.views(ctx, in, events.RoomStream(room))
	if err != nil {
		return nil, "", id, err
	}
	_, err = api.See(ctx, views, room, api.CallerOf(ctx).User)
	return views, room, id, err
}

type repliesInput struct {
	pageInput
	including
	Room string `path:"room"`
	ID   string `path:"id"`
}

func (h *queries) replies(ctx context.Context, in *repliesInput) (*pageOutput, error) {
	want, err := parsePage(in.pageInput, "")
	if err != nil {
		return nil, err
	}
	views, room, root, err := h.seeMessage(ctx, in.Room, in.ID, in.including)
	if err != nil {
		return nil, err
	}
	if want.before == (events.ID{}) && want.after == (events.ID{}) {
		want.after = root // a thread is read from its beginning: its replies sort after its root
	}
	return want.read(func(r events.Range) ([]projections.Message, error) {
		return projections.ListReplies(ctx, views, room, root, r)
	})
}
