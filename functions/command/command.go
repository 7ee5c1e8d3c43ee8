// Package command is what runs when a client wants something to happen: it checks the command,
// makes its one event, and appends the event to the log.
//
// A command is idempotent: retried under its id, in any region and at any time, it is the same event
// and happens once. So nothing here depends on a condition across regions; what two regions accept
// at the same time is merged by the folds.
package command

import (
	"cmp"
	"context"
	"errors"
	"log/slog"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// Config are the parts of a region that commands need.
type Config struct {
	Region string
	Log    events.Log
	Views  projections.Views
	Clock  *events.Clock
	// Engine folds into [projections.Access] before a command returns: the creator of a room can post
	// to it at once.
	Engine *projections.Engine
	Logger *slog.Logger
	Keys   *keys.Ring // encrypts what users write
	// Contacts is how many users somebody may newly invite or open direct rooms with in an hour; 0 is no
	// limit. Each region counts by itself, in its views.
	Contacts int
	// Act records what an operator does to a target, and its result.
	Act func(ctx context.Context, user, what, target, result string) error
}

// Commands are the commands of a region. Over HTTP an API serves them; a socket calls
// [Commands.PostMessage].
type Commands struct {
	Config
	api   *api.API
	known *projections.AccessCache
}

// Register adds the commands to an API.
func Register(a *api.API, c Config) *Commands {
	h := &Commands{c, a, projections.NewAccessCache()}
	h.registerRooms(a)
	h.registerMembers(a)
	h.registerMessages(a)
	h.registerMarks(a)
	h.registerUsers(a)
	return h
}

// command is what one event is made from.
type command struct {
	stream  events.Stream
	actor   string
	id      string        // minted by the client, or ""
	idField string        // where the client put it
	minted  bool          // by this region all the same, a moment ago: the log does not have it
	causes  []cause       // what the event must sort after
	after   []events.ID   // events of the log that it must sort after as well
	room    events.Stream // of the causes, if it is not stream
	payload events.Payload
	allow   func(context.Context) error // returns why it is refused, apart from its form
	anyAge  bool                        // the id may be old: an import

	operator string // who acts in the actor's name; "" if it is the actor
}

// permit returns why the command is refused, apart from its form: by what it would write, or by allow.
func (c command) permit(ctx context.Context) error {
	var err error
	switch p := c.payload.(type) {
	case events.MessagePosted:
		err = events.ValidateShown("text", p.Text.Text())
	case events.MessageEdited:
		err = events.ValidateShown("text", p.Text.Text())
	case events.UserProfileSet:
		err = events.ValidateShown("name", p.Name.Text())
	case events.RoomCreated:
		if p.Direct == nil {
			err = events.ValidateShown("name", p.Name)
		}
	case events.RoomUpdated:
		if p.Name != nil {
			err = events.ValidateShown("name", *p.Name)
		}
	}
	if err != nil {
		return err
	}
	return c.allow(ctx)
}

// cause is an event that another must sort after, and the field in which the client named it.
type cause struct {
	field string
	id    events.ID
}

// already refuses a command that would change nothing: event has brought about the requested state.
type already struct{ event events.ID }

func (already) Error() string { return "already in the requested state" }

// result is the event of a command, its content not encrypted.
type result struct {
	event  events.Event
	repeat bool // it had been accepted before
}

func (r result) accepted() wire.Accepted {
	return wire.Accepted{Event: r.event.ID, Repeat: r.repeat}
}

// do checks a command and appends its event. A repeat of an accepted command succeeds even if the
// command would be refused by now, unless its user was erased. If the log has other content under a
// client's id, and not the command, that is [events.ErrConflict].
func (h *Commands) do(ctx context.Context, c command) (result, error) {
	if err := h.Keys.NotErased(ctx, c.actor); err != nil {
		return result{}, err
	}
	id, refused, err := h.id(ctx, c)
	if err != nil {
		return result{}, err
	}
	e, err := events.New(id, c.stream, c.actor, h.Region, c.payload)
	if err != nil {
		return result{}, cmp.Or(refused, err)
	}
	if c.id == "" || c.minted {
		if err := c.permit(ctx); err != nil {
			return result{}, err
		}
		if e, err = h.afterLatest(ctx, c, e); err != nil {
			return result{}, err
		}
		return h.append(ctx, c, e)
	}
	// The cheap look may miss what was appended a moment ago: an append of the same event finds it, and
	// before the command is refused there is a look that misses nothing.
	stored, err := h.Keys.Find(ctx, h.Log, e, true)
	if errors.Is(err, events.ErrNotFound) {
		refusal := refused
		if refusal == nil || errors.Is(refusal, events.ErrIDPast) {
			if denied := c.permit(ctx); denied != nil {
				refusal = denied
			}
		}
		if refusal == nil {
			e, refusal = h.afterLatest(ctx, c, e)
		}
		if refusal == nil {
			return h.append(ctx, c, e)
		}
		if stored, err = h.Keys.Find(ctx, h.Log, e, false); errors.Is(err, events.ErrNotFound) {
			return result{}, refusal
		}
	}
	if errors.Is(err, events.ErrConflict) && refused != nil {
		return result{}, refused
	}
	if err != nil {
		return result{}, err
	}
	h.foldAtOnce(ctx, stored)
	return resultOf(e, stored, true), nil
}

// maxRecent bounds how many of the latest events of a stream are read before an event that must be the
// latest.
const maxRecent = 500

// afterLatest makes an event of which the latest wins sort after the one before, whatever the clocks:
// otherwise a success would change nothing. Under an id of the client's it is refused instead. The views
// may lag, so what is recent is read from the log.
func (h *Commands) afterLatest(ctx context.Context, c command, e events.Event) (events.Event, error) {
	if !e.LatestWins() {
		return e, nil
	}
	from := events.LastID(h.Clock.Now().Add(-h.Clock.Ahead))
	if e.ID.Compare(from) > 0 {
		from = e.ID
	}
	var recent []events.Event
	for got, err := range h.Log.Read(ctx, e.Stream, events.Range{After: from, Reverse: true, Limit: maxRecent}) {
		if err != nil {
			return e, err
		}
		recent = append(recent, got)
	}
	latest, err := projections.Latest(ctx, projections.WithEvents(h.Views, recent...), e)
	switch {
	case err != nil:
		return e, err
	case e.ID.Compare(latest) > 0:
		return e, nil
	case c.id != "":
		return e, events.ErrIDOrder
	default:
		return events.New(h.Clock.MintAfter(c.actor, e.ID, latest), e.Stream, e.Actor, e.Region, e.Payload)
	}
}

// resultOf is the result of a command whose event was stored.
func resultOf(e, stored events.Event, repeat bool) result {
	e.Region = stored.Region
	return result{e, repeat}
}

// id mints the event's id, or checks the client's. A refusal of the client's is not an error yet,
// because the command may be the repeat of one that came when the id was right.
func (h *Commands) id(ctx context.Context, c command) (id events.ID, refusal, err error) {
	if c.id != "" {
		if id, err = events.ParseID(c.idField, c.id); err != nil {
			return id, nil, err
		}
	}
	causes := make([]events.ID, len(c.causes))
	for i, cause := range c.causes {
		causes[i] = cause.id
		if !h.Clock.Future(cause.id) {
			continue
		}
		_, err := events.Get(ctx, h.Log, cmp.Or(c.room, c.stream), cause.id) // a clock may have been ahead
		switch {
		case errors.Is(err, events.ErrNotFound) && c.id != "" && h.Clock.Future(id):
			return id, events.ErrIDFuture, nil
		case errors.Is(err, events.ErrNotFound):
			return id, nil, events.Invalid(cause.field, "must not lie in the future, unless it is an event of this room")
		case err != nil:
			return id, nil, err
		}
	}
	causes = append(causes, c.after...)
	if c.id == "" {
		return h.Clock.MintAfter(c.actor, causes...), nil, nil
	}
	refusal = h.Clock.Check(c.actor, id, causes...)
	if c.anyAge && errors.Is(refusal, events.ErrIDPast) {
		refusal = nil
	}
	return id, refusal, nil
}

// append stores the event of a command, encrypted. If the outcome is unknown it reads the event. If that
// fails too, its error names the id under which the client can retry.
func (h *Commands) append(ctx context.Context, c command, e events.Event) (result, error) {
	if c.operator != "" { // before it happens: nothing happens without a trace
		if err := h.Act(ctx, c.operator, e.Type, string(e.Stream), e.ID.String()+" for "+e.Actor); err != nil {
			return result{}, err
		}
	}
	sealed, err := h.Keys.Seal(ctx, e)
	if err != nil {
		return result{}, err
	}
	stored, repeat, err := h.Log.Append(ctx, sealed)
	switch {
	case errors.Is(err, events.ErrUnknownOutcome):
		got, lookErr := h.Keys.Find(ctx, h.Log, e, false)
		if lookErr != nil {
			return result{}, unknownOutcome(e.ID)
		}
		stored, repeat = got, false
	case err != nil:
		return result{}, err
	}
	h.foldAtOnce(ctx, stored)
	return resultOf(e, stored, repeat), nil
}

func unknownOutcome(id events.ID) error {
	return &wire.Problem{
		Status: 503, Code: "unknown_outcome", Retryable: true, ID: id.String(),
		Detail: "the event may or may not have been stored; retry under the id given in `id`",
	}
}

// foldAtOnce folds what decides over access; an event that touches none of these views costs nothing.
// The event is in the log already, so a failure here does not fail the command: the stream will fold
// it.
func (h *Commands) foldAtOnce(ctx context.Context, e events.Event) {
	if _, err := h.Engine.Apply(ctx, []projections.Arrival{{Event: e}}); err != nil {
		h.Logger.WarnContext(ctx, "cannot fold at once; the stream will", "type", e.Type, "error", err)
	}
}

// Keyed is the input of every command that has no id in its path.
type Keyed struct {
	Key string `header:"Idempotency-Key" doc:"A ULID you minted, carrying your mark: retried under it, the command happens once."`
}

const keyField = "Idempotency-Key"
