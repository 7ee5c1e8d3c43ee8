package command

import (
	"context"
	"errors"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

func (h *Commands) registerMessages(a *api.API) {
	const tag = "messages"
	api.Command(a, api.Operation{
		ID: "postMessage", Method: "POST", Path: "/v1/rooms/{room}/messages", Tag: tag,
		Summary: "Post a message under an id the server mints",
		Detail:  "To be able to retry safely, mint the id yourself: use PUT, or the header Idempotency-Key.",
		Codes:   []int{404}, Creates: true,
	}, func(ctx context.Context, in *postInput) (*api.Response[wire.Message], error) {
		return h.post(ctx, in.Room, in.Key, keyField, in.Body)
	})
	api.Command(a, api.Operation{
		ID: "putMessage", Method: "PUT", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag,
		Summary: "Post a message under an id you minted",
		Detail: "The id is a ULID: 48 bits of Unix milliseconds, then the 56 bits of your mark, which `GET /v1/me` returns, " +
			"then 24 random bits. At first it may lie 10 s ahead and 24 h back; a repeat is taken at any time.",
		Codes: []int{404}, Creates: true,
	}, func(ctx context.Context, in *putInput) (*api.Response[wire.Message], error) {
		return h.post(ctx, in.Room, in.ID, "id", in.Body)
	})
	api.Command(a, api.Operation{
		ID: "editMessage", Method: "PATCH", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag,
		Summary: "Replace the text of a message of yours",
		Codes:   []int{404, 410},
	}, h.edit)
	api.Command(a, api.Operation{
		ID: "deleteMessage", Method: "DELETE", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag,
		Summary: "Delete a message for good: one of yours or, as an admin, any",
		Codes:   []int{404},
	}, h.delete)
}

type postInput struct {
	Keyed
	Room string `path:"room"`
	Body wire.NewMessage
}

type putInput struct {
	Room string `path:"room"`
	ID   string `path:"id"`
	Body wire.NewMessage
}

// PostMessage posts a message as POST and PUT /v1/rooms/{room}/messages do, for a caller who is not
// connected over HTTP. Without an id the server mints one. It counts against the caller's rate.
// Repeat reports that the message had been posted before. [api.ProblemOf] turns an error into the
// answer.
func (h *Commands) PostMessage(ctx context.Context, caller api.Caller, room, id string, m wire.NewMessage) (posted wire.Message, repeat bool, err error) {
	if ctx, err = h.api.Begin(ctx, caller); err != nil {
		return posted, false, err
	}
	answer, err := h.post(ctx, room, id, "id", m)
	if err != nil {
		return posted, false, err
	}
	return answer.Body, answer.Status == http.StatusOK, nil
}

func (h *Commands) post(ctx context.Context, roomText, id, idField string, body wire.NewMessage) (*api.Response[wire.Message], error) {
	room, err := api.ParseRoom("room", roomText)
	if err != nil {
		return nil, err
	}
	caller := api.CallerOf(ctx)
	author, operator := caller.User, ""
	if body.Author != "" && body.Author != author {
		if !caller.Operator() {
			return nil, api.Fail(http.StatusForbidden, "operator_only", "author: only an operator may write for another user; leave it out, or use an operator's token")
		}
		author, operator = body.Author, caller.User
		if err := events.ValidateUser("author", author); err != nil {
			return nil, err
		}
	}
	payload := events.MessagePosted{Text: events.Plain(body.Text)}
	refs := references{}
	payload.ReplyTo = refs.add("reply_to", body.ReplyTo)
	payload.Thread = refs.add("thread", body.Thread)
	targets := refs.causes
	refs.add("after", body.After)
	if refs.err != nil {
		return nil, refs.err
	}
	threadFound, err := h.toRoot(ctx, room, &payload)
	if err != nil {
		return nil, err
	}
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room), actor: author, id: id, idField: idField, causes: refs.causes, payload: payload,
		anyAge: caller.Operator(), operator: operator,
		allow: func(ctx context.Context) error {
			if err := h.mayWrite(ctx, room, author); err != nil {
				return err
			}
			for _, target := range targets {
				if threadFound && target.field == "thread" {
					continue
				}
				if _, err := h.message(ctx, room, target.id); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	posted, err := api.MessagesOf(ctx, h.Keys, projections.PostedMessage(done.event))
	if err != nil {
		return nil, err
	}
	return api.Created(done.repeat, posted[0]), nil
}

// maxThreads bounds how many messages are read to find the root of a thread. Only former releases made threads in
// threads.
const maxThreads = 20

// toRoot makes a reply to a reply one to the root of its thread: threads have one level. It reports whether the message
// that the client named was found; what it is never changes, so that the event follows from the command alone.
func (h *Commands) toRoot(ctx context.Context, room string, reply *events.MessagePosted) (found bool, err error) {
	for range maxThreads {
		if reply.Thread == nil {
			return found, nil
		}
		message, err := h.message(ctx, room, *reply.Thread)
		var missing *wire.Problem
		if errors.As(err, &missing) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found = true
		above := message.Payload.(events.MessagePosted).Thread
		if above == nil || above.Compare(message.ID) >= 0 {
			return true, nil
		}
		reply.Thread = above
	}
	return found, nil
}

// references collects the ids of other events in a body. err names those that are malformed.
type references struct {
	causes []cause
	err    error
}

func (r *references) add(field, text string) *events.ID {
	if text == "" {
		return nil
	}
	id, err := events.ParseID(field, text)
	if err != nil {
		r.err = errors.Join(r.err, err)
		return nil
	}
	r.causes = append(r.causes, cause{field, id})
	return &id
}

// mayWrite refuses users who are not members, and archived rooms.
func (h *Commands) mayWrite(ctx context.Context, room, user string) error {
	return h.may(ctx, room, user, events.RoleMember)
}

// may refuses users who are not members with the role or above, and archived rooms.
func (h *Commands) may(ctx context.Context, room, user string, role events.Role) error {
	access, err := api.See(ctx, h.known, h.Views, room, user)
	if err != nil {
		return err
	}
	if err := access.RequireRole(role); err != nil {
		return err
	}
	return access.RequireActive()
}

// message reads a message that a command refers to from the log, because the views may lag.
func (h *Commands) message(ctx context.Context, room string, id events.ID) (events.Event, error) {
	found, err := events.Find(ctx, h.Log, events.RoomStream(room), id, false)
	if err != nil {
		return events.Event{}, err
	}
	for _, e := range found { // the least digest first: that message shows
		if _, ok := e.Payload.(events.MessagePosted); ok {
			return e, nil
		}
	}
	return events.Event{}, messageNotFound()
}

func messageNotFound() error {
	return api.NotYet("message_not_found", "message not found in this room; if it is new, retry in a moment, until it has reached this region")
}

// Target is the path of a command on a message.
type Target struct {
	Keyed
	Room string `path:"room"`
	ID   string `path:"id"`
}

// parse reads the path; the actor is the caller.
func (t Target) parse() (room string, message events.ID, err error) {
	if room, err = api.ParseRoom("room", t.Room); err != nil {
		return room, message, err
	}
	if message, err = events.ParseID("id", t.ID); err == nil && message == (events.ID{}) {
		err = events.Invalid("id", "must not be the zero id")
	}
	return room, message, err
}

// onMessage does a command on a message. More may refuse it once the message is found.
func (h *Commands) onMessage(ctx context.Context, in Target, payload func(message events.ID) events.Payload, more func(ctx context.Context, posted events.Event) error) (result, error) {
	room, id, err := in.parse()
	if err != nil {
		return result{}, err
	}
	user := api.CallerOf(ctx).User
	return h.do(ctx, command{
		stream: events.RoomStream(room), actor: user, id: in.Key, idField: keyField,
		causes: []cause{{"id", id}}, payload: payload(id),
		allow: func(ctx context.Context) error {
			if err := h.mayWrite(ctx, room, user); err != nil {
				return err
			}
			posted, err := h.message(ctx, room, id)
			if err != nil || more == nil {
				return err
			}
			return more(ctx, posted)
		},
	})
}

type editInput struct {
	Target
	Body wire.MessageEdit
}

func (h *Commands) edit(ctx context.Context, in *editInput) (*api.Response[wire.Accepted], error) {
	done, err := h.onMessage(ctx, in.Target, func(id events.ID) events.Payload {
		return events.MessageEdited{Message: id, Text: events.Plain(in.Body.Text)}
	}, func(ctx context.Context, posted events.Event) error {
		if posted.Actor != api.CallerOf(ctx).User {
			return api.Fail(http.StatusForbidden, "not_the_author", "only its author may edit a message; an admin may delete it")
		}
		return h.notDeleted(ctx, posted)
	})
	if err != nil {
		return nil, err
	}
	return api.OK(done.accepted()), nil
}

// notDeleted refuses commands on a deleted message. It may miss a deletion that has just come; the
// fold does not.
func (h *Commands) notDeleted(ctx context.Context, posted events.Event) error {
	got, err := projections.LoadMessages(ctx, h.Views, posted.Stream.Name(), posted.ID)
	if err != nil {
		return err
	}
	if len(got) == 1 && got[0].Deleted {
		return api.Fail(http.StatusGone, "message_deleted", "the message was deleted; it can no longer be changed")
	}
	return nil
}

func (h *Commands) delete(ctx context.Context, in *Target) (*api.Response[wire.Accepted], error) {
	room, id, err := in.parse()
	if err != nil {
		return nil, err
	}
	// Whether this is the author's act or a moderator's is part of the event, so it must follow
	// from the command alone: from who posted the message, which never changes.
	user := api.CallerOf(ctx).User
	posted, found := h.message(ctx, room, id)
	moderated := found == nil && posted.Actor != user
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room), actor: user, id: in.Key, idField: keyField,
		causes: []cause{{"id", id}}, payload: events.MessageDeleted{Message: id, Moderated: moderated},
		allow: func(ctx context.Context) error {
			role := events.RoleMember
			if moderated {
				role = events.RoleAdmin
			}
			if err := h.may(ctx, room, user, role); err != nil {
				return err
			}
			return found
		},
	})
	if err != nil {
		return nil, err
	}
	return api.OK(done.accepted()), nil
}
