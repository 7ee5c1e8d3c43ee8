package command

import (
	"context"
	"errors"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *commands) registerMessages(a *api.API) {
	const tag = "messages"
	api.Command(a, api.Operation{
		ID: "postMessage", Method: "POST", Path: "/v1/rooms/{room}/messages", Tag: tag,
		Summary: "Post a message under an id the server mints",
		Detail:  "To be able to send it again safely, mint the id yourself: PUT, or the header Idempotency-Key.",
		Codes:   []int{404}, Creates: true,
	}, func(ctx context.Context, in *postInput) (*output[api.Message], error) {
		return h.post(ctx, in.Room, in.Key, keyField, in.Body)
	})
	api.Command(a, api.Operation{
		ID: "putMessage", Method: "PUT", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag,
		Summary: "Post a message under an id you minted",
		Detail: "The id is a ULID: 48 bits of Unix milliseconds, then the first 32 bits " +
			"of the SHA-256 of your user id, then 48 random bits. At first it may lie 10 s ahead and 24 h back; a repeat is taken at any time.",
		Codes: []int{404}, Creates: true,
	}, func(ctx context.Context, in *putInput) (*output[api.Message], error) {
		return h.post(ctx, in.Room, in.ID, "id", in.Body)
	})
	api.Command(a, api.Operation{
		ID: "editMessage", Method: "PATCH", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag,
		Summary: "Replace the text of a message of yours",
		Codes:   []int{404, 410},
	}, h.edit)
	api.Command(a, api.Operation{
		ID: "deleteMessage", Method: "DELETE", Path: "/v1/rooms/{room}/messages/{id}", Tag: tag,
		Summary: "Take a message back for good: one of yours or, as an admin, any",
		Codes:   []int{404},
	}, h.delete)
}

type newMessage struct {
	Text    string `json:"text" doc:"1 to 20000 bytes of UTF-8." minLength:"1" maxLength:"20000"`
	ReplyTo string `json:"reply_to,omitempty" doc:"The message it answers."`
	Thread  string `json:"thread,omitempty" doc:"The message in whose thread it is to stand."`
	After   string `json:"after,omitempty" doc:"The last event you have seen; the message will sort after it."`
	Author  string `json:"author,omitempty" doc:"Operators only: the user to write for, with ids of that user, as old as need be."`
}

type postInput struct {
	Keyed
	Room string `path:"room"`
	Body newMessage
}

type putInput struct {
	Room string `path:"room"`
	ID   string `path:"id"`
	Body newMessage
}

func (h *commands) post(ctx context.Context, roomText, id, idField string, body newMessage) (*output[api.Message], error) {
	room, err := api.ParseRoom("room", roomText)
	if err != nil {
		return nil, err
	}
	caller := api.CallerOf(ctx)
	author := caller.User
	if body.Author != "" && body.Author != author {
		if !caller.Operator() {
			return nil, api.Fail(http.StatusForbidden, "operator_only", "author: only an operator may write for another user")
		}
		author = body.Author
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
	done, err := h.do(ctx, command{
		stream: events.RoomStream(room), actor: author, id: id, idField: idField, causes: refs.causes, payload: payload,
		anyAge: caller.Operator(),
		allow: func(ctx context.Context) error {
			if err := h.mayWrite(ctx, room, author); err != nil {
				return err
			}
			for _, target := range targets {
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
	return created(done.repeat, posted[0]), nil
}

// references collects the ids of other events in a body; the first that is malformed is err.
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

// mayWrite is what most commands in a room ask: an open room and a member.
func (h *commands) mayWrite(ctx context.Context, room, user string) error {
	return h.may(ctx, room, user, events.RoleMember)
}

// may takes an open room and a member with a role.
func (h *commands) may(ctx context.Context, room, user string, role events.Role) error {
	access, err := api.See(ctx, h.known, h.Views, room, user)
	if err != nil {
		return err
	}
	if err := access.As(role); err != nil {
		return err
	}
	return access.Open()
}

// message finds a message that a command refers to, in the log: the views may be behind.
func (h *commands) message(ctx context.Context, room string, id events.ID) (events.Event, error) {
	e, err := h.Log.Get(ctx, events.RoomStream(room), id)
	if errors.Is(err, events.ErrNotFound) {
		return e, messageNotFound()
	}
	if err != nil {
		return e, err
	}
	if _, ok := e.Payload.(events.MessagePosted); !ok {
		return e, messageNotFound()
	}
	return e, nil
}

func messageNotFound() error {
	return api.NotYet("message_not_found", "there is no such message in this room; a new one takes a moment to reach other regions")
}

// Target is the path of what is done to a message.
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

// onMessage does a command on a message. More is asked of the message once it is found.
func (h *commands) onMessage(ctx context.Context, in Target, payload func(message events.ID) events.Payload, more func(ctx context.Context, posted events.Event) error) (result, error) {
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

type messageEdit struct {
	Text string `json:"text" doc:"1 to 20000 bytes of UTF-8." minLength:"1" maxLength:"20000"`
}

type editInput struct {
	Target
	Body messageEdit
}

func (h *commands) edit(ctx context.Context, in *editInput) (*output[api.Accepted], error) {
	done, err := h.onMessage(ctx, in.Target, func(id events.ID) events.Payload {
		return events.MessageEdited{Message: id, Text: events.Plain(in.Body.Text)}
	}, func(ctx context.Context, posted events.Event) error {
		if posted.Actor != api.CallerOf(ctx).User {
			return api.Fail(http.StatusForbidden, "not_the_author", "only its author may edit a message")
		}
		return h.notDeleted(ctx, posted)
	})
	if err != nil {
		return nil, err
	}
	return ok(done.accepted()), nil
}

// notDeleted refuses what would have no effect. It may miss a deletion that has just come; the
// fold does not.
func (h *commands) notDeleted(ctx context.Context, posted events.Event) error {
	got, err := projections.LoadMessages(ctx, h.Views, posted.Stream.Name(), posted.ID)
	if err != nil {
		return err
	}
	if len(got) == 1 && got[0].Deleted {
		return api.Fail(http.StatusGone, "message_deleted", "the message was deleted")
	}
	return nil
}

func (h *commands) delete(ctx context.Context, in *Target) (*output[api.Accepted], error) {
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
	return ok(done.accepted()), nil
}
