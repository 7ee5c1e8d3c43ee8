package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"parley/events"
	"parley/functions/api"
)

const (
	// pagesAtSubscribe is how much a subscribe with a cursor catches up on, at most; the client asks
	// for the rest.
	pagesAtSubscribe = 5
	pageOfEvents     = 200
)

type sendFrame struct {
	Action  string          `json:"action"`
	Ref     json.RawMessage `json:"ref"`
	Room    string          `json:"room"`
	ID      string          `json:"id"`
	Text    string          `json:"text"`
	ReplyTo string          `json:"reply_to"`
	Thread  string          `json:"thread"`
	After   string          `json:"after"`
}

type sentFrame struct {
	Type    string          `json:"type"`
	Ref     ref             `json:"ref,omitempty"`
	Message json.RawMessage `json:"message"`
	Repeat  bool            `json:"repeat"`
	Partial bool            `json:"partial,omitempty"`
}

// send posts a message the way POST and PUT /v1/rooms/{room}/messages do.
func (h *Handler) send(ctx context.Context, a asked) error {
	var in sendFrame
	if err := api.Unmarshal(a.data, &in); err != nil {
		return err
	}
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return err
	}
	method, path := http.MethodPost, "/v1/rooms/"+room+"/messages"
	if in.ID != "" {
		id, err := events.ParseID("id", in.ID)
		if err != nil {
			return err
		}
		method, path = http.MethodPut, path+"/"+id.String()
	}
	body := map[string]string{"text": in.Text}
	for name, value := range map[string]string{"reply_to": in.ReplyTo, "thread": in.Thread, "after": in.After} {
		if value != "" {
			body[name] = value
		}
	}
	answer, err := h.request(ctx, a.Token, method, path, body)
	if err != nil {
		return err
	}
	if answer.status >= http.StatusBadRequest {
		return h.post(ctx, a.ID, encode(errorFrame{"error", a.ref, json.RawMessage(answer.body.Bytes())}))
	}
	out := sentFrame{"sent", a.ref, answer.body.Bytes(), answer.status == http.StatusOK, false}
	f := encode(out)
	if len(f.head) > h.Limits.FrameBytes {
		if out.Message, err = withoutText(out.Message); err != nil {
			return err
		}
		out.Partial = true
		f = encode(out)
	}
	return h.post(ctx, a.ID, f)
}

// withoutText leaves the text out of a message that is too large for a frame.
func withoutText(message []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(message, &fields); err != nil {
		return nil, err
	}
	delete(fields, "text")
	return json.Marshal(fields)
}

type catchUpFrame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Cursor string          `json:"cursor"`
	Limit  *int            `json:"limit"`
}

type caughtUpFrame struct {
	Type   string `json:"type"`
	Ref    ref    `json:"ref,omitempty"`
	Cursor string `json:"cursor"`
	More   bool   `json:"more"`
	Reset  bool   `json:"reset"`
}

// catchUp tells what happened since a cursor, the way GET /v1/sync does.
func (h *Handler) catchUp(ctx context.Context, a asked) error {
	var in catchUpFrame
	err := api.Unmarshal(a.data, &in)
	switch {
	case err != nil:
		return err
	case in.Cursor == "":
		return &api.FieldError{Field: "cursor", Reason: "must be given: the one of GET /v1/rooms, of a pong or of what you caught up to"}
	case in.Limit == nil:
		in.Limit = new(int)
		*in.Limit = pageOfEvents
	}
	page, err := h.tellPage(ctx, a, in.Cursor, in.Cursor, *in.Limit)
	if err != nil {
		return err
	}
	return h.post(ctx, a.ID, encode(caughtUpFrame{"caught_up", a.ref, page.Cursor, page.More, page.Reset}))
}

// syncPage is an answer of GET /v1/sync.
type syncPage struct {
	Events []struct {
		Room     string          `json:"room"`
		Stream   string          `json:"stream"`
		Position uint64          `json:"position"`
		Event    json.RawMessage `json:"event"`
	} `json:"events"`
	Cursor string `json:"cursor"`
	More   bool   `json:"more"`
	Reset  bool   `json:"reset"`
}

// tellSince tells what happened since a cursor, at most so many pages of it.
func (h *Handler) tellSince(ctx context.Context, a asked, cursor string, pages int) (page syncPage, err error) {
	page.Cursor = cursor
	for range pages {
		if page, err = h.tellPage(ctx, a, page.Cursor, cursor, pageOfEvents); err != nil || !page.More || page.Reset {
			break
		}
	}
	return page, err
}

// tellPage tells a page of what happened since a cursor. Each frame carries the cursor that the
// client asked with: it is the one to come back with until all has been told.
func (h *Handler) tellPage(ctx context.Context, a asked, from, asked string, limit int) (page syncPage, err error) {
	query := url.Values{"cursor": {from}, "limit": {strconv.Itoa(limit)}}
	answer, err := h.request(ctx, a.Token, http.MethodGet, "/v1/sync?"+query.Encode(), nil)
	if err != nil {
		return page, err
	}
	if answer.status != http.StatusOK {
		var p api.Problem
		if err := json.Unmarshal(answer.body.Bytes(), &p); err != nil {
			return page, errors.New("an answer of the API is none")
		}
		return page, &p
	}
	if err := json.Unmarshal(answer.body.Bytes(), &page); err != nil {
		return page, err
	}
	for _, e := range page.Events {
		f := eventFrame{Room: e.Room, Stream: e.Stream, Position: e.Position, Cursor: asked, Event: e.Event}
		if err := h.post(ctx, a.ID, h.encodeEvent(f)); err != nil {
			return page, err
		}
	}
	return page, nil
}

// answer is what the API answers to a request from within.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.header }

// Write implements [http.ResponseWriter].
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// request asks the region's API, with what the client may do. So a frame follows the rules of HTTP,
// and its answers are the same.
func (h *Handler) request(ctx context.Context, token, method, path string, body any) (*answer, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	a := &answer{header: http.Header{}}
	h.API.ServeHTTP(a, r)
	return a, nil
}
