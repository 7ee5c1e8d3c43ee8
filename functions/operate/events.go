package operate

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
)

func (h *handlers) registerEvents(a *api.API) {
	query(a, api.Operation{
		ID: "listEvents", Method: "GET", Path: "/v1/ops/events",
		Summary: "A page of a stream's events, as they are in this region's log",
		Detail:  "In the order of their ids. as_of ends with a time, or with an event. With sealed=true content is not opened.",
	}, h.listEvents)
	command(a, api.Operation{
		ID: "appendEvents", Method: "POST", Path: "/v1/ops/events", MaxBody: MaxAppendBytes,
		Summary: "Append events as they are: import, or what this region's log lacks",
		Detail: "Up to 100, of any age, each under an id with its actor's mark. Each is judged by itself: stored, repeat (the log has it), " +
			"or refused. Nothing asks whether the actor might have done it. The body may have 4 MiB.",
	}, h.appendEvents)
	query(a, api.Operation{
		ID: "listLog", Method: "GET", Path: "/v1/ops/log",
		Summary: "A page of the whole log of this region, opened",
		Detail:  "Stream by stream, in no order of streams, each in the order of its ids. Its n parts hold every stream once.",
	}, h.listLog)
}

const (
	// MaxAppend is how many events may be appended at once.
	MaxAppend = 100
	// MaxAppendBytes is the largest body of events. Lambda takes 6 MB.
	MaxAppendBytes = 4 << 20
	// pageBytes is how much data a page of events holds: one that is full ends early.
	pageBytes = 4 << 20
)

// EventPage is a part of a stream or of the log.
type EventPage struct {
	Events []RawEvent `json:"events"`
	After  *string    `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

type eventsInput struct {
	Stream string `query:"stream" doc:"room/<id>, user/<id>, region/<name> or ops/<name>." required:"true"`
	After  string `query:"after" doc:"Events that sort after this one."`
	Before string `query:"before" doc:"Events that sort before this one."`
	AsOf   string `query:"as_of" doc:"A time, or an event's id: up to and including it."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Sealed bool   `query:"sealed" doc:"Byte for byte as the log has them: to be appended to a log that lacks them."`
}

func (h *handlers) listEvents(ctx context.Context, in *eventsInput) (*output[EventPage], error) {
	stream, err := parseStream(in.Stream)
	if err != nil {
		return nil, err
	}
	var r events.Range
	if in.After != "" {
		if r.After, err = events.ParseID("after", in.After); err != nil {
			return nil, err
		}
	}
	if in.Before != "" {
		if r.Before, err = events.ParseID("before", in.Before); err != nil {
			return nil, err
		}
	}
	if in.AsOf != "" {
		last, err := parseTime("as_of", in.AsOf, events.LastID)
		if err != nil {
			return nil, err
		}
		if end := events.FollowingID(last); r.Before == (events.ID{}) || end != (events.ID{}) && end.Compare(r.Before) < 0 {
			r.Before = end
		}
	}
	r.Limit = in.Limit + 1
	p := pager{limit: in.Limit, key: func(e events.Event) string { return e.ID.String() }}
	if !in.Sealed {
		p.open = h.opened
	}
	page, err := p.page(ctx, h.Log.Read(ctx, stream, r))
	if err != nil {
		return nil, err
	}
	return ok(page), nil
}

// parseStream reads a stream's name; ids in lower case are taken.
func parseStream(text string) (events.Stream, error) {
	stream := events.Stream(text)
	if kind, room := stream.Split(); kind == events.KindRoom {
		id, err := api.ParseRoom("stream", room)
		return events.RoomStream(id), err
	}
	return stream, stream.Validate()
}

// parseTime reads an id, or a time, which stands for the id that of gives.
func parseTime(field, text string, of func(time.Time) events.ID) (events.ID, error) {
	if id, err := events.ParseID(field, text); err == nil {
		return id, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Before(time.Unix(0, 0)) || at.Year() > 9999 {
		return events.ID{}, events.Invalid(field, "must be a time as in RFC 3339, 1970 or later, or the id of an event")
	}
	return of(at), nil
}

// opened is an event for an operator to look at. What cannot be opened is shown as it is.
func (h *handlers) opened(ctx context.Context, e events.Event) (events.Event, error) {
	opened, err := h.Keys.OpenEvent(ctx, e)
	if errors.Is(err, keys.ErrDamaged) {
		return e, nil
	}
	return opened, err
}

// pager collects pages.
type pager struct {
	limit int
	key   func(events.Event) string                                 // where one goes on behind an event
	open  func(context.Context, events.Event) (events.Event, error) // nil: events stay as they are
}

func (p pager) page(ctx context.Context, all iter.Seq2[events.Event, error]) (EventPage, error) {
	page := EventPage{Events: []RawEvent{}}
	bytes, last := 0, ""
	for e, err := range all {
		if err != nil {
			return page, err
		}
		if len(page.Events) == p.limit || bytes > pageBytes {
			page.After = &last
			break
		}
		if p.open != nil {
			if e, err = p.open(ctx, e); err != nil {
				return page, err
			}
		}
		raw, err := rawOf(e)
		if err != nil {
			return page, err
		}
		bytes += len(raw)
		page.Events, last = append(page.Events, raw), p.key(e)
	}
	return page, nil
}

type logInput struct {
	Part  string `query:"part" doc:"i/n, i from 0: one of n parts." default:"0/1"`
	After string `query:"after" doc:"As the last page gave it."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (h *handlers) listLog(ctx context.Context, in *logInput) (*output[EventPage], error) {
	part, err := parsePart(in.Part)
	if err != nil {
		return nil, err
	}
	after, err := parseKey("after", in.After)
	if err != nil {
		return nil, err
	}
	p := pager{in.Limit, keyText, h.opened}
	page, err := p.page(ctx, h.Log.Scan(ctx, part, after))
	if err != nil {
		return nil, err
	}
	return ok(page), nil
}

func parsePart(text string) (p events.Part, err error) {
	index, of, _ := strings.Cut(text, "/")
	if p.Index, err = strconv.Atoi(index); err == nil {
		p.Of, err = strconv.Atoi(of)
	}
	if err != nil {
		p = events.Part{} // which is none
	}
	return p, p.Validate()
}

func keyText(e events.Event) string { return string(e.Stream) + "," + e.ID.String() }

// parseKey reads what keyText writes; "" is before all.
func parseKey(field, text string) (events.Key, error) {
	if text == "" {
		return events.Key{}, nil
	}
	name, idText, _ := strings.Cut(text, ",")
	id, err := events.ParseID(field, idText)
	if err != nil || events.Stream(name).Validate() != nil {
		return events.Key{}, events.Invalid(field, "must be what the last page gave: <stream>,<id>")
	}
	return events.Key{Stream: events.Stream(name), ID: id}, nil
}
