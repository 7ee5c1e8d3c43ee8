// Package command is what runs when a client wants something to happen: it checks the command,
// makes the one event that it amounts to, and appends it to the log.
//
// A command sent again under its id is the same event and happens once, whichever region gets
// it and whenever. So nothing here depends on a condition across regions; what two regions
// accept side by side is merged by the folds.
package command

import (
	"context"
	"errors"
	"log/slog"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/projections"
)

// Config is what the commands work on, all of one region.
type Config struct {
	Region string
	Log    events.Log
	Views  projections.Views
	Clock  *events.Clock
	// Engine folds what decides over access at once: rooms, members, users and inboxes. Who has
	// created a room can post to it straight away; the stream folds the same again later.
	Engine *projections.Engine
	Logger *slog.Logger
	Keys   *keys.Ring // seals what users say
}

// commands holds the handlers, by subject in the files of this package.
type commands struct {
	Config
	known *projections.Known
}

// Register adds the commands to an API.
func Register(a *api.API, c Config) {
	h := &commands{c, projections.NewKnown()}
	h.registerRooms(a)
	h.registerMembers(a)
	h.registerMessages(a)
	h.registerMarks(a)
	h.registerUsers(a)
}

// command is one event in the making.
type command struct {
	stream  events.Stream
	actor   string
	id      string  // minted by the client, or ""
	idField string  // where the client put it
	causes  []cause // what the event must sort after
	payload events.Payload
	allow   func(context.Context) error // what speaks against it, apart from its form
	anyAge  bool                        // the id may lie in the past: an import
}

// cause is an event that another must sort after, and the field in which the client named it.
type cause struct {
	field string
	id    events.ID
}

// already is what speaks against a command if there is nothing left to do: what it asks for was
// brought about by the event.
type already struct{ event events.ID }

func (already) Error() string { return "it is so already" }

// result is the event a command became, its content open.
type result struct {
	event  events.Event
	repeat bool // it had been accepted before
}

func (r result) accepted() api.Accepted {
	return api.Accepted{Event: r.event.ID.String(), Repeat: r.repeat}
}

// do checks a command and appends its event. What was accepted once stays accepted: a repeat
// succeeds even where the same command would be refused by now.
func (h *commands) do(ctx context.Context, c command) (result, error) {
	id, tooOld, err := h.id(c)
	if err != nil {
		return result{}, err
	}
	e, err := events.New(id, c.stream, c.actor, h.Region, c.payload)
	if err != nil {
		return result{}, err
	}
	refusal := c.allow(ctx)
	if refusal == nil {
		refusal = tooOld
	}
	if refusal != nil {
		if c.id == "" {
			return result{}, refusal
		}
		return h.repeated(ctx, e, refusal)
	}
	return h.append(ctx, e)
}

// repeated judges a command that is refused now: if it was accepted once, it is a repeat.
func (h *commands) repeated(ctx context.Context, e events.Event, refusal error) (result, error) {
	stored, same, err := h.there(ctx, e)
	switch {
	case errors.Is(err, events.ErrNotFound):
		return result{}, refusal
	case err != nil:
		return result{}, err
	case same:
		return resultOf(e, stored, true), nil
	case errors.As(refusal, &already{}):
		return result{}, events.ErrConflict
	default:
		return result{}, refusal
	}
}

// there finds the event that has the id of one in the making, and reports whether it says the same.
func (h *commands) there(ctx context.Context, e events.Event) (stored events.Event, same bool, err error) {
	if stored, err = h.Log.Get(ctx, e.Stream, e.ID); err != nil {
		return stored, false, err
	}
	same, err = h.Keys.Same(ctx, stored, e)
	return stored, same, err
}

// resultOf is the event of a command, as it was stored.
func resultOf(e, stored events.Event, repeat bool) result {
	e.Region = stored.Region
	return result{e, repeat}
}

// id mints the event's id or judges the client's. An id that is too old is an error of its own,
// because it may be a repeat of what was appended in time.
func (h *commands) id(c command) (id events.ID, tooOld, err error) {
	causes := make([]events.ID, len(c.causes))
	for i, cause := range c.causes {
		causes[i] = cause.id
		if cause.id.Timestamp().After(h.Clock.Now().Add(h.Clock.Ahead)) {
			return id, nil, events.Invalid(cause.field, "must not lie in the future")
		}
	}
	if c.id == "" {
		id, err = h.Clock.Mint(c.actor, causes...)
		return id, nil, err
	}
	if id, err = events.ParseID(c.idField, c.id); err != nil {
		return id, nil, err
	}
	err = h.Clock.Check(c.actor, id, causes...)
	switch {
	case !errors.Is(err, events.ErrIDPast):
		return id, nil, err
	case c.anyAge:
		return id, nil, nil
	default:
		return id, err, nil
	}
}

// append stores an event, sealed. Where the outcome is unknown it looks, and if that fails too it
// tells the client under which id to send the command again.
func (h *commands) append(ctx context.Context, e events.Event) (result, error) {
	sealed, err := h.Keys.Seal(ctx, e)
	if err != nil {
		return result{}, err
	}
	stored, repeat, err := h.Log.Append(ctx, sealed)
	switch {
	case errors.Is(err, events.ErrUnknownOutcome):
		got, same, lookErr := h.there(ctx, e)
		if lookErr != nil || !same {
			return result{}, unknownOutcome(e.ID)
		}
		stored, repeat = got, false
	case errors.Is(err, events.ErrConflict) && e.Personal(): // or it was sealed with another key
		got, same, lookErr := h.there(ctx, e)
		if lookErr != nil || !same {
			return result{}, errors.Join(err, lookErr)
		}
		stored, repeat = got, true
	case err != nil:
		return result{}, err
	}
	h.foldAtOnce(ctx, stored)
	return resultOf(e, stored, repeat), nil
}

func unknownOutcome(id events.ID) error {
	return &api.Problem{
		Status: 503, Code: "unknown_outcome", Retryable: true, ID: id.String(),
		Detail: "it may or may not have been stored; send it again under the id given here",
	}
}

// foldAtOnce folds what decides over access. The event is in the log already, so a failure here
// is no failure of the command: the stream will fold it.
func (h *commands) foldAtOnce(ctx context.Context, e events.Event) {
	switch e.Payload.(type) {
	case events.MessagePosted, events.MessageEdited, events.MessageDeleted, events.MessagePinned,
		events.MessageUnpinned, events.ReactionAdded, events.ReactionRemoved:
		return
	}
	if _, err := h.Engine.Apply(ctx, []projections.Arrival{{Event: e}}); err != nil {
		h.Logger.WarnContext(ctx, "not folded at once; the stream will", "type", e.Type, "error", err)
	}
}

// Keyed is the input of every command that has no id in its path.
type Keyed struct {
	Key string `header:"Idempotency-Key" doc:"A ULID you minted, carrying your mark: sent again under it, the command happens once."`
}

const keyField = "Idempotency-Key"

// output is an answer with a status that depends on whether it was a repeat.
type output[T any] struct {
	Status int
	Body   T
}

// created answers 201, or 200 if nothing was added.
func created[T any](repeat bool, body T) *output[T] {
	if repeat {
		return &output[T]{200, body}
	}
	return &output[T]{201, body}
}

// ok answers 200.
func ok[T any](body T) *output[T] { return &output[T]{200, body} }
