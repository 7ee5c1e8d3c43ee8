package live

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"parley/functions/api"
	"parley/functions/wire"
)

const (
	// Protocol is the subprotocol of WebSocket (RFC 6455) that is spoken here.
	Protocol    = "parley.v1"
	tokenPrefix = "bearer." // of the subprotocol that is a token
)

// TokenOf finds the token in the header of a handshake, and the subprotocol to answer with; each is
// "" if there is none. The token is taken from Authorization: Bearer, or else from a subprotocol
// bearer.<token>, because browsers cannot set headers.
func TokenOf(header http.Header) (token, protocol string) {
	for _, line := range header.Values("Sec-WebSocket-Protocol") {
		for offered := range strings.SplitSeq(line, ",") {
			offered = strings.TrimSpace(offered)
			if text, ok := strings.CutPrefix(offered, tokenPrefix); ok {
				token = text
			} else if offered == Protocol {
				protocol = Protocol
			}
		}
	}
	if scheme, text, _ := strings.Cut(header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(text)
	}
	return token, protocol
}

// identify gives a connection the user of a token.
func (h *Handler) identify(ctx context.Context, c Connection, token string) (Connection, error) {
	caller, expires, err := h.Auth.Verify(ctx, token)
	if err != nil {
		return c, err
	}
	c.User, c.Scopes, c.Expires = caller.User, caller.Scopes, expires
	return c, nil
}

// authenticate takes a token. A socket keeps the user, the scopes and the expiry of its first token for
// all its life.
func (h *Handler) authenticate(ctx context.Context, r request) error {
	var in wire.Auth
	if err := api.Unmarshal(r.data, &in); err != nil {
		return err
	}
	switch c, err := h.identify(ctx, r.Connection, in.Token); {
	case r.User == "":
		if err != nil {
			_ = h.refuse(ctx, r.ID, r.ref, err) // the socket is closed in any case
			return errors.Join(errClosed, h.close(ctx, r.ID, CodeUnauthorized))
		}
		if err := h.mayOpen(ctx, c); err != nil {
			_ = h.refuse(ctx, r.ID, r.ref, err)
			return errors.Join(errClosed, h.close(ctx, r.ID, CodeTooMany))
		}
		if err := h.Connections.Put(ctx, c); err != nil {
			return err
		}
		r.Connection = c
	case in.Token == "":
	case err != nil || c.User != r.User || !c.Expires.Equal(r.Expires) || !slices.Equal(c.Scopes, r.Scopes):
		return api.Fail(http.StatusConflict, "has_token", "this socket already has a token; open another socket for another token")
	}
	return h.post(ctx, r.ID, encode(wire.Hello{Type: "hello", Ref: r.ref, Region: h.Region, User: r.User}))
}

// send posts a message as POST and PUT /v1/rooms/{room}/messages do.
func (h *Handler) send(ctx context.Context, r request) error {
	var in wire.Send
	if err := api.Unmarshal(r.data, &in); err != nil {
		return err
	}
	message, repeat, err := h.Commands.PostMessage(ctx, r.caller(), in.Room, in.ID, wire.NewMessage{
		Text: in.Text, ReplyTo: in.ReplyTo, Thread: in.Thread, After: in.After,
	})
	if err != nil {
		return err
	}
	sent := wire.Sent{Type: "sent", Ref: r.ref, Message: message, Repeat: repeat}
	f := encode(sent)
	if len(f.head) > h.Limits.FrameBytes {
		sent.Partial = true
		f = encode(struct {
			wire.Sent
			Message map[string]json.RawMessage `json:"message"`
		}{sent, without("text", message)})
	}
	return h.post(ctx, r.ID, f)
}

// without leaves a field out of a value's JSON.
func without(field string, v any) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(encode(v).head, &fields) // it is an object
	delete(fields, field)
	return fields
}

const (
	// pageOfEvents is how many events a catchup gets at once if it does not say.
	pageOfEvents = 200
	// pagesAtSubscribe and bytesAtSubscribe bound how far a subscribe with a cursor catches up; the client
	// asks for the rest. No page follows one that ends behind so many bytes.
	pagesAtSubscribe = 5
	bytesAtSubscribe = 256 << 10
)

// catchUp sends what happened since a cursor, as GET /v1/sync answers.
func (h *Handler) catchUp(ctx context.Context, r request) error {
	var in wire.CatchUp
	err := api.Unmarshal(r.data, &in)
	switch {
	case err != nil:
		return err
	case in.Cursor == "":
		return &wire.FieldError{Field: "cursor", Reason: "must be given: take that of GET /v1/rooms, of a pong or of the last caught_up"}
	}
	limit := pageOfEvents
	if in.Limit != nil {
		limit = *in.Limit
	}
	page, _, err := h.sendPage(ctx, r, in.Cursor, in.Cursor, limit)
	if err != nil {
		return err
	}
	return h.post(ctx, r.ID, encode(wire.CaughtUp{Type: "caught_up", Ref: r.ref, Cursor: page.Cursor, More: page.More, Held: page.Held, Reset: page.Reset}))
}

// sendSince sends what happened since a cursor, at most so many pages of it.
func (h *Handler) sendSince(ctx context.Context, r request, cursor string, pages int) (page wire.SyncPage, err error) {
	page.Cursor = cursor
	sent, n := 0, 0
	for range pages {
		page, n, err = h.sendPage(ctx, r, page.Cursor, cursor, pageOfEvents)
		if sent += n; err != nil || !page.More || page.Reset || sent >= bytesAtSubscribe {
			break
		}
	}
	return page, err
}

// sendPage sends one page of what happened since a cursor. Each frame carries the cursor that the
// client asked with: until all has been delivered it is the one to resume from. It returns how many
// bytes it has sent.
func (h *Handler) sendPage(ctx context.Context, r request, from, asked string, limit int) (page wire.SyncPage, sent int, err error) {
	if page, err = h.Queries.Sync(ctx, r.caller(), from, limit); err != nil {
		return page, 0, err
	}
	for _, e := range page.Events {
		f := h.encodeEvent(wire.EventFrame{Type: "event", Room: e.Room, Stream: e.Stream, Position: e.Position, Cursor: asked, Event: e.Event})
		if err := h.post(ctx, r.ID, f); err != nil {
			return page, sent, err
		}
		sent += f.Len()
	}
	return page, sent, nil
}

const (
	// typingPause is the least time between two typing frames of a user in a room that are delivered.
	typingPause = 3 * time.Second
	// cachedTypists is for how many users and rooms a process knows when one was.
	cachedTypists = 10_000
)

// typist is a user who types in a room.
type typist struct{ user, room string }

// typing notifies the others who listen to a room that the user is typing there. It is delivered
// within the region only, and stored nowhere. A frame within [typingPause] of the last that this process
// delivered is dropped: each costs a post to every listener.
func (h *Handler) typing(ctx context.Context, r request) error {
	var in wire.SendTyping
	if err := api.Unmarshal(r.data, &in); err != nil {
		return err
	}
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return err
	}
	rooms, err := h.Connections.Rooms(ctx, r.ID)
	if err != nil {
		return err
	}
	if err := h.Keys.NotErased(ctx, r.User); err != nil {
		return err
	}
	if !slices.Contains(rooms, room) {
		return api.Fail(http.StatusForbidden, "not_subscribed", "this socket does not listen to the room; subscribe to it first")
	}
	who, now := typist{r.User, room}, h.Now()
	if last, ok := h.typed.Get(who); ok && now.Sub(last) < typingPause {
		return nil
	}
	h.typed.Add(who, now)
	listeners, err := h.Connections.Listeners(ctx, room)
	if err != nil {
		return err
	}
	api.Spend(ctx, len(listeners))
	frames := map[string][]Frame{}
	f := encode(wire.Typing{Type: "typing", Room: room, User: r.User})
	for _, l := range listeners {
		if l.User != r.User {
			frames[l.Conn] = []Frame{f}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, h.Limits.Push)
	defer cancel()
	h.deliver(ctx, frames)
	return nil
}

// ping answers with the positions of all that the socket listens to.
func (h *Handler) ping(ctx context.Context, r request) error {
	if err := api.Unmarshal(r.data, &wire.Ping{}); err != nil {
		return err
	}
	rooms, err := h.Connections.Rooms(ctx, r.ID)
	if err != nil {
		return err
	}
	pong := wire.Positions{Type: "pong", Ref: r.ref}
	if at := slices.Index(rooms, otherRooms); at >= 0 {
		rooms, pong.Incomplete = slices.Delete(rooms, at, at+1), true
	}
	at, err := h.loadHeads(ctx, r.User, rooms)
	if err != nil {
		return err
	}
	if !pong.Incomplete { // positions of some rooms say nothing of the others
		if pong.Cursor, err = h.cursorOf(ctx, r.User, at); err != nil {
			return err
		}
	}
	return h.postPositions(ctx, r, pong, at)
}

// refOf is the ref of a frame, which its answer repeats; nil if there is none.
func refOf(text json.RawMessage) (json.RawMessage, error) {
	const most = 64 // bytes
	if len(text) == 0 {
		return nil, nil
	}
	var s string
	isText := text[0] == '"' && json.Unmarshal(text, &s) == nil && len(s) <= most
	isNumber := text[0] != '"' && text[0] != 'n' && len(text) <= most && json.Unmarshal(text, new(json.Number)) == nil
	if !isText && !isNumber {
		return nil, &wire.FieldError{Field: "ref", Reason: "must be a number, or a string of at most 64 bytes"}
	}
	return text, nil
}
