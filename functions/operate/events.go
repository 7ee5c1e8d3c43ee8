package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// eventHandlers read and append raw events.
type eventHandlers struct{ *handlers }

func (h eventHandlers) register(a *api.API) {
	query(a, api.Operation{
		ID: "listEvents", Method: "GET", Path: "/v1/ops/events",
		Summary: "A page of a stream's events, as they are in this region's log",
		Detail: "In the order of their ids. as_of ends at a time, or with an event. With sealed=true content stays encrypted. The texts of " +
			"messages that were deleted are left out: such an event has null in their place, and \"deleted\": true. Only deleted=true shows them. " +
			"What is read of a room or a user is recorded as the act events.read, or events.read_deleted, before the answer: once an hour for each operator and stream.",
	}, h.listEvents)
	command(a, api.Operation{
		ID: "appendEvents", Method: "POST", Path: "/v1/ops/events", MaxBody: MaxAppendBytes,
		Summary: "Append events as they are: import, or what this region's log lacks",
		Detail: "Up to 100, of any age, under the ids they have, also those of another log with other marks. Each is checked alone: stored, repeat (the log has it), " +
			"or refused. The actor's permissions are not checked. Refused as reserved are events of the streams region/ and ops/, which only " +
			"Parley itself appends, and user.erased: POST /v1/ops/users/{user}/erase erases. The body may have 4 MiB.",
	}, h.appendEvents)
	command(a, api.Operation{
		ID: "getMarks", Method: "POST", Path: "/v1/ops/marks",
		Summary: "The marks of users, to mint ids for them",
		Detail:  "Of up to 1000 users, whether they ever did anything or not. Changes nothing.",
	}, h.getMarks)
	query(a, api.Operation{
		ID: "listLog", Method: "GET", Path: "/v1/ops/log",
		Summary: "A page of the whole log of this region, decrypted",
		Detail: "Stream by stream, in no order of streams, each in the order of its ids. The n parts together hold every stream once. " +
			"As in GET /v1/ops/events, the texts of messages that were deleted are left out. Reading it is recorded as the act log.read: " +
			"once an hour for each operator, so that an export is one act.",
	}, h.listLog)
}

const (
	// MaxAppend is how many events may be appended at once.
	MaxAppend = 100
	// MaxAppendBytes is the largest body of events. Lambda takes 6 MB.
	MaxAppendBytes = 4 << 20
	// MaxMarks is how many users' marks may be asked for at once.
	MaxMarks = 1000
	// pageBytes bounds the data of a page of events: a page that reaches it ends before its limit.
	pageBytes = 4 << 20
)

type eventsInput struct {
	Stream string `query:"stream" doc:"room/<id>, user/<id>, region/<name> or ops/<name>." required:"true"`
	After  string `query:"after" doc:"Events that sort after this one."`
	Before string `query:"before" doc:"Events that sort before this one."`
	AsOf   string `query:"as_of" doc:"A time, or an event's id: up to and including it."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Sealed bool   `query:"sealed" doc:"Byte for byte as the log has them, to append them to a log that lacks them."`

	Deleted bool `query:"deleted" doc:"Show what deleted messages said. It is recorded as an act of its own, events.read_deleted."`
}

func (h eventHandlers) listEvents(ctx context.Context, in *eventsInput) (*api.Response[wire.EventPage], error) {
	stream, err := parseStream(in.Stream)
	if err != nil {
		return nil, err
	}
	var r events.Range
	var after events.Ref
	if in.After != "" {
		if after, err = events.ParseRef("after", in.After); err != nil {
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
	p := pager{limit: in.Limit, key: func(e events.Event) string { return behind(e).String() }}
	switch {
	case in.Sealed:
	case in.Deleted:
		p.show = h.Keys.ShowEvents
	default:
		p.show = h.shown
	}
	r.After = after.ID
	read := h.Log.Read(ctx, stream, r)
	if after.Digest != (events.Digest{}) { // after one event, not after all that have an id
		read = events.ReadBehind(ctx, h.Log, stream, after, r)
	}
	page, err := p.page(ctx, read)
	if err != nil {
		return nil, err
	}
	if kind, _ := stream.Split(); len(page.Events) > 0 && (kind == events.KindRoom || kind == events.KindUser) {
		what := map[bool]string{true: "events.read_deleted", false: "events.read"}[in.Deleted]
		if err := h.actRead(ctx, what, string(stream)); err != nil {
			return nil, err
		}
	}
	return api.OK(page), nil
}

// parseStream reads a stream's name; ids in lower case are accepted.
func parseStream(text string) (events.Stream, error) {
	stream := events.Stream(text)
	if kind, room := stream.Split(); kind == events.KindRoom {
		id, err := api.ParseRoom("stream", room)
		return events.RoomStream(id), err
	}
	return stream, stream.Validate()
}

// parseTime reads an id, or a time, which stands for the id that idOf returns for it.
func parseTime(field, text string, idOf func(time.Time) events.ID) (events.ID, error) {
	if id, err := events.ParseID(field, text); err == nil {
		return id, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Before(time.Unix(0, 0)) || at.Year() > 9999 {
		return events.ID{}, events.Invalid(field, "must be a time as in RFC 3339, 1970 or later, or the id of an event")
	}
	return idOf(at), nil
}

// shown returns events as an operator reads them, who is shown no more than a client.
func (h eventHandlers) shown(ctx context.Context, es ...events.Event) ([]events.Event, error) {
	return projections.ShowEvents(ctx, h.Views, h.Keys, es...)
}

// pager collects pages.
type pager struct {
	limit int
	key   func(events.Event) string                                      // after which the next page begins
	show  func(context.Context, ...events.Event) ([]events.Event, error) // nil: events stay as they are
}

func (p pager) page(ctx context.Context, all iter.Seq2[events.Event, error]) (wire.EventPage, error) {
	page := wire.EventPage{}
	var es []events.Event
	bytes := 0
	for e, err := range all {
		if err != nil {
			return page, err
		}
		if len(es) == p.limit || bytes > pageBytes {
			last := p.key(es[len(es)-1])
			page.After = &last
			break
		}
		es, bytes = append(es, e), bytes+len(e.Data)
	}
	if p.show != nil {
		var err error
		if es, err = p.show(ctx, es...); err != nil {
			return page, err
		}
	}
	page.Events = make([]wire.RawEvent, len(es))
	for i, e := range es {
		raw, err := e.MarshalJSON()
		if err != nil {
			return page, err
		}
		page.Events[i] = wire.RawEvent(raw)
	}
	return page, nil
}

type logInput struct {
	Part  string `query:"part" doc:"i/n, i from 0: one of n parts." default:"0/1"`
	After string `query:"after" doc:"As the last page gave it."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (h eventHandlers) listLog(ctx context.Context, in *logInput) (*api.Response[wire.EventPage], error) {
	part, err := parsePart(in.Part)
	if err != nil {
		return nil, err
	}
	after, err := parseKey("after", in.After)
	if err != nil {
		return nil, err
	}
	if err := h.actRead(ctx, "log.read", ""); err != nil {
		return nil, err
	}
	p := pager{in.Limit, func(e events.Event) string { return keyText(e.Key()) }, h.shown}
	page, err := p.page(ctx, h.Log.Scan(ctx, part, after))
	if err != nil {
		return nil, err
	}
	return api.OK(page), nil
}

func parsePart(text string) (p events.Part, err error) {
	index, of, _ := strings.Cut(text, "/")
	if p.Index, err = strconv.Atoi(index); err == nil {
		p.Of, err = strconv.Atoi(of)
	}
	if err != nil {
		p = events.Part{} // not valid
	}
	return p, p.Validate()
}

// behind is the Ref after which the next page begins. Of an event that is stored under its id alone that is
// the least Ref with a digest, because the id alone stands for all events that have it.
func behind(e events.Event) events.Ref {
	ref := e.Ref()
	if ref.Digest == (events.Digest{}) {
		ref.Digest[len(ref.Digest)-1] = 1
	}
	return ref
}

func keyText(key events.Key) string { return string(key.Stream) + "," + key.Ref().String() }

// parseKey reads what keyText writes; "" is before the first.
func parseKey(field, text string) (events.Key, error) {
	if text == "" {
		return events.Key{}, nil
	}
	name, refText, _ := strings.Cut(text, ",")
	ref, err := events.ParseRef(field, refText)
	if err != nil || events.Stream(name).Validate() != nil {
		return events.Key{}, events.Invalid(field, "must be the after of the last page: <stream>,<id>")
	}
	return ref.In(events.Stream(name)), nil
}

type marksInput struct{ Body wire.MarksOf }

func (h eventHandlers) getMarks(_ context.Context, in *marksInput) (*api.Response[wire.Marks], error) {
	if n := len(in.Body.Users); n < 1 || n > MaxMarks {
		return nil, events.Invalid("users", fmt.Sprintf("must be a list of 1 to %d user ids", MaxMarks))
	}
	out := wire.Marks{Marks: map[string]string{}}
	for _, user := range in.Body.Users {
		if err := events.ValidateUser("users", user); err != nil {
			return nil, err
		}
		out.Marks[user] = h.Clock.Mark(user).String()
	}
	return api.OK(out), nil
}

// appendsAtOnce is how many events are appended concurrently: a log commits them together.
const appendsAtOnce = 32

type appendInput struct{ Body wire.NewEvents }

func (h eventHandlers) appendEvents(ctx context.Context, in *appendInput) (*api.Response[wire.AppendResult], error) {
	given := in.Body.Events
	if len(given) < 1 || len(given) > MaxAppend {
		return nil, events.Invalid("events", fmt.Sprintf("must be a list of 1 to %d events", MaxAppend))
	}
	out := wire.AppendResult{Events: make([]wire.Appended, len(given))}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(appendsAtOnce)
	for i, raw := range given {
		group.Go(func() (err error) {
			out.Events[i], err = h.appendOne(groupCtx, raw, in.Body.Shared)
			return err
		})
	}
	failed := group.Wait()
	stored := 0
	for _, e := range out.Events {
		if e.Outcome == wire.AppendStored {
			stored++
		}
	}
	if stored > 0 {
		what := fmt.Sprintf("%d stored of %d", stored, len(given))
		failed = errors.Join(failed, h.act(ctx, "events.append", streamsOf(given), what))
	}
	return api.OK(out), failed
}

// streamsOf names the streams that events are to be appended to, each once.
func streamsOf(given []wire.RawEvent) string {
	var streams []string
	for _, raw := range given {
		var e struct{ Stream string }
		if json.Unmarshal(raw, &e) == nil {
			streams = append(streams, e.Stream)
		}
	}
	slices.Sort(streams)
	return strings.Join(slices.Compact(streams), " ")
}

// reserved reports whether only Parley itself appends such events: heartbeats, what operators did, and
// erasures, which have an operation of their own. With them an operator could forge or hide an act.
func reserved(e events.Event) bool {
	kind, _ := e.Stream.Split()
	_, erased := e.Payload.(events.UserErased)
	return kind == events.KindRegion || kind == events.KindOps || erased
}

// appendOne appends one event, or says what is wrong with it. Other content under its id is wrong unless
// shared is set. An error means that the event may be sent again.
func (h eventHandlers) appendOne(ctx context.Context, raw wire.RawEvent, shared bool) (wire.Appended, error) {
	var e events.Event
	if err := e.UnmarshalJSON(raw); err != nil {
		return notAnEvent("", err), nil
	}
	id := e.ID.String()
	if unreadable, is := e.Payload.(events.Unreadable); is {
		return notAnEvent(id, unreadable.Err), nil
	}
	if reserved(e) {
		return wire.Appended{ID: id, Outcome: wire.AppendRefused, Problem: &wire.Refusal{
			Code: "reserved", Field: "type",
			Detail: "events of the streams region/ and ops/ are appended by Parley alone, and users are erased with POST /v1/ops/users/{user}/erase",
		}}, nil
	}
	if _, isUnopened := e.Withheld(); isUnopened {
		return notAnEvent(id, errors.New("the event was exported where its content could not be decrypted; export it again, from another region")), nil
	}
	// On its way JSON may be spaced and escaped anew: the event is stored as a command would store it.
	if again, err := events.New(e.ID, e.Stream, e.Actor, e.Region, e.Payload); err == nil && again.Version == e.Version {
		e = again
	}
	if h.Clock.Future(e.ID) {
		p := api.ProblemOf(events.ErrIDFuture, h.Clock.Now())
		return wire.Appended{ID: id, Outcome: wire.AppendRefused, Problem: &wire.Refusal{Code: p.Code, Detail: p.Detail, Field: "id"}}, nil
	}
	sealed, err := h.Keys.Seal(ctx, e)
	if err == nil {
		err = h.notErasedBefore(ctx, e)
	}
	if errors.Is(err, keys.ErrErased) {
		return wire.Appended{ID: id, Outcome: wire.AppendRefused, Problem: &wire.Refusal{Code: "user_erased", Detail: "the event's actor was erased; no event of theirs can be appended", Field: "actor"}}, nil
	}
	if err != nil {
		return wire.Appended{}, err
	}
	_, err = h.Keys.Find(ctx, h.Log, e, true)
	switch {
	case err == nil:
		return wire.Appended{ID: id, Outcome: wire.AppendRepeat}, nil
	case errors.Is(err, events.ErrConflict) && !shared:
		return wire.Appended{ID: id, Outcome: wire.AppendRefused, Problem: &wire.Refusal{Code: "id_taken", Detail: "this region's log has an event with this id and other content", Field: "id"}}, nil
	case !errors.Is(err, events.ErrConflict) && !errors.Is(err, events.ErrNotFound):
		return wire.Appended{}, err
	}
	_, repeat, err := h.Log.Append(ctx, sealed)
	switch {
	case err != nil:
		return wire.Appended{}, err
	case repeat:
		return wire.Appended{ID: id, Outcome: wire.AppendRepeat}, nil
	default:
		return wire.Appended{ID: id, Outcome: wire.AppendStored}, nil
	}
}

// notErasedBefore refuses an event of a user who was erased before it happened. What is older may be
// missing in this log.
func (h eventHandlers) notErasedBefore(ctx context.Context, e events.Event) error {
	erased := h.Keys.NotErased(ctx, e.Actor)
	if !errors.Is(erased, keys.ErrErased) {
		return erased
	}
	u, err := projections.LoadUser(ctx, h.Views, e.Actor)
	if err == nil && e.ID.Compare(u.Erased) >= 0 {
		err = erased
	}
	return err
}

// notAnEvent says why what was sent is not an event.
func notAnEvent(id string, err error) wire.Appended {
	r := &wire.Refusal{Code: "invalid_event", Detail: err.Error()}
	if invalid := events.IsInvalid(err); invalid != nil {
		r.Code, r.Field, r.Detail = "invalid_field", invalid.Field, invalid.Error()
	}
	return wire.Appended{ID: id, Outcome: wire.AppendRefused, Problem: r}
}
