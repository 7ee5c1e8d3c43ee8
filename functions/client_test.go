package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"parley/events"
	"parley/functions/live"
)

// client talks to a region as a user. Every answer is held against the OpenAPI document.
type client struct {
	r      *region
	user   string
	token  string
	header http.Header
}

func (r *region) as(user string) *client {
	return &client{r: r, user: user, token: r.token(user, ""), header: http.Header{}}
}

func (r *region) operator(user string) *client {
	return &client{r: r, user: user, token: r.token(user, "chat operator"), header: http.Header{}}
}

// with returns a client that sends one more header.
func (c *client) with(name, value string) *client {
	d := *c
	d.header = c.header.Clone()
	d.header.Set(name, value)
	return &d
}

// key returns a client whose command has this id.
func (c *client) key(id events.ID) *client { return c.with("Idempotency-Key", id.String()) }

func (c *client) get(path string) *answer            { return c.do("GET", path, "") }
func (c *client) post(path, body string) *answer     { return c.do("POST", path, body) }
func (c *client) put(path, body string) *answer      { return c.do("PUT", path, body) }
func (c *client) patch(path, body string) *answer    { return c.do("PATCH", path, body) }
func (c *client) delete(path string) *answer         { return c.do("DELETE", path, "") }
func (c *client) mint(causes ...events.ID) events.ID { return c.r.mint(c.user, causes...) }

// answer is what came back.
type answer struct {
	t      testing.TB
	asked  string
	status int
	header http.Header
	body   []byte
}

func (c *client) do(method, path, body string) *answer {
	t := c.r.t
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	return c.send(req)
}

// send sends a request as it is and checks the answer.
func (c *client) send(req *http.Request) *answer {
	t := c.r.t
	t.Helper()
	before := c.r.store.Head()
	w := httptest.NewRecorder()
	c.r.handler.ServeHTTP(w, req)
	a := &answer{t, req.Method + " " + req.URL.String(), w.Code, w.Result().Header, w.Body.Bytes()}
	a.check(c.r, req.Method, req.URL.EscapedPath())
	if !c.r.racing && a.status >= 300 && a.code() != "unknown_outcome" && c.r.store.Head() != before {
		t.Fatalf("%s: refused with %d %s, and the log has changed", a.asked, a.status, a.code())
	}
	return a
}

// check holds an answer against what is promised of all of them.
func (a *answer) check(r *region, method, path string) {
	a.t.Helper()
	for _, name := range []string{"X-Request-Id", "Parley-Region"} {
		if a.header.Get(name) == "" {
			a.t.Errorf("%s: no header %s", a.asked, name)
		}
	}
	op, ok := r.doc.find(method, path)
	if ok && a.status < 300 && !r.racing {
		r.doc.succeeded[op.OperationID] = true
	}
	if !ok {
		if path != "/openapi.json" && a.status != 404 && a.status != 405 {
			a.t.Errorf("%s: no operation, and the status is %d", a.asked, a.status)
		}
	} else if err := r.doc.check(op, a); err != nil {
		a.t.Errorf("%s: answer %d %s: %v", a.asked, a.status, a.body, err)
	}
	if a.status < 400 {
		return
	}
	var p struct {
		Type, Title, Code, Detail string
		Status                    int
		RequestID                 string `json:"request_id"`
		Retryable                 *bool
	}
	must(a.t, json.Unmarshal(a.body, &p))
	if p.Type != "urn:parley:"+p.Code || p.Title != http.StatusText(a.status) || p.Status != a.status ||
		p.RequestID != a.header.Get("X-Request-Id") || p.Retryable == nil || p.Detail == "" {
		a.t.Errorf("%s: incomplete problem: %s", a.asked, a.body)
	}
	if (a.status == 429 || a.status == 503) && a.header.Get("Retry-After") == "" {
		a.t.Errorf("%s: %d without Retry-After", a.asked, a.status)
	}
	if bytes.Contains(a.body, []byte(secret)) {
		a.t.Errorf("%s: the answer quotes what the user wrote: %s", a.asked, a.body)
	}
}

// secret stands in texts that no error may quote.
const secret = "sEcReT"

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.asked, a.status, status, a.body)
	}
	return a
}

// refused checks for a problem with a status and a code.
func (a *answer) refused(status int, code string) *answer {
	a.t.Helper()
	if a.want(status); a.code() != code {
		a.t.Fatalf("%s: code %s, want %s: %s", a.asked, a.code(), code, a.body)
	}
	return a
}

// names checks that a problem names a field.
func (a *answer) names(field string) *answer {
	a.t.Helper()
	if got := a.text("errors", "field"); got != field {
		a.t.Fatalf("%s: names the field %q, want %q: %s", a.asked, got, field, a.body)
	}
	return a
}

func (a *answer) code() string { return a.text("code") }

// into decodes the body.
func (a *answer) into(v any) {
	a.t.Helper()
	must(a.t, json.Unmarshal(a.body, v))
}

// value finds a value in the body; in a list it looks into the first element.
func (a *answer) value(path ...string) any {
	a.t.Helper()
	var v any
	if len(a.body) > 0 {
		must(a.t, json.Unmarshal(a.body, &v))
	}
	for _, name := range path {
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func (a *answer) text(path ...string) string {
	a.t.Helper()
	text, _ := a.value(path...).(string)
	return text
}

// id is the id in the body, of whatever was made.
func (a *answer) id() events.ID {
	a.t.Helper()
	text := a.text("id")
	if text == "" {
		text = a.text("event")
	}
	id, err := events.ParseID("id", text)
	must(a.t, err)
	return id
}

// texts are the texts of a page of messages.
func (a *answer) texts() string {
	a.t.Helper()
	var page struct{ Messages []struct{ Text string } }
	a.want(200).into(&page)
	var texts []string
	for _, m := range page.Messages {
		texts = append(texts, m.Text)
	}
	return strings.Join(texts, " ")
}

// room creates a room of that owner and returns its path.
func (c *client) room(body string) string {
	c.r.t.Helper()
	return "/v1/rooms/" + c.post("/v1/rooms", body).want(201).text("id")
}

// add invites a user to a room, who accepts, and gives the user a role unless it is "".
func (c *client) add(room, user, role string) {
	c.r.t.Helper()
	member := room + "/members/" + user
	c.put(member, "").want(200)
	c.r.as(user).put(member, "").want(200)
	if role != "" {
		c.patch(member, `{"role":"`+role+`"}`).want(200)
	}
}

// say posts a message and returns its id.
func (c *client) say(room, text string) events.ID {
	c.r.t.Helper()
	return c.post(room+"/messages", `{"text":"`+text+`"}`).want(201).id()
}

// sockets keep the frames that were posted to each.
type sockets struct {
	mu     sync.Mutex
	frames map[string][]frame
	codes  map[string]live.Code // of those that were closed
	fail   map[string]error     // what posting to a socket fails with
}

func newSockets() *sockets {
	return &sockets{frames: map[string][]frame{}, codes: map[string]live.Code{}, fail: map[string]error{}}
}

// frame is a frame as a client reads it.
type frame struct {
	Type, Room, User, Region, Stream, Cursor, Code string
	Ref                                            json.RawMessage
	Position, Own                                  uint64
	Rooms                                          []string
	Positions                                      map[string]uint64
	Event                                          struct {
		ID, Stream, Type, Actor string
		Data                    json.RawMessage
		Deleted                 bool
	}
	Message struct {
		ID   string
		Text *string
	}
	Problem struct {
		Code   string
		Status int
		Errors []struct{ Field, Reason string }
	}
	Repeat, Part, More, Held, Reset, Partial, Incomplete bool

	text []byte
}

func (s *sockets) Post(ctx context.Context, conn string, f live.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(ctx.Err(), s.fail[conn]); err != nil {
		return err
	}
	if _, closed := s.codes[conn]; closed {
		return live.ErrGone
	}
	text := f.Bytes()
	var got frame
	if err := json.Unmarshal(text, &got); err != nil {
		return fmt.Errorf("a frame is no JSON: %q", text)
	}
	got.text = text
	s.frames[conn] = append(s.frames[conn], got)
	return nil
}

func (s *sockets) Close(_ context.Context, conn string, code live.Code) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, closed := s.codes[conn]; closed {
		return live.ErrGone
	}
	s.codes[conn] = code
	return nil
}

// take returns what was posted to a socket since it was last asked.
func (s *sockets) take(conn string) []frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := s.frames[conn]
	s.frames[conn] = nil
	return frames
}

func (s *sockets) code(conn string) live.Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes[conn]
}

// socket is a client's.
type socket struct {
	r  *region
	id string
}

var socketIDs atomic.Int64

// open opens a socket with a token in its handshake, and greets.
func (c *client) open() *socket {
	c.r.t.Helper()
	s := &socket{c.r, fmt.Sprint("socket-", socketIDs.Add(1))}
	must(c.r.t, c.r.live.Connect(context.Background(), s.id, http.Header{"Authorization": {"Bearer " + c.token}}))
	if hello := s.ask(`{"action":"auth"}`); hello.Type != "hello" || hello.User != c.user || hello.Region != c.r.name {
		c.r.t.Fatalf("the hello is %+v", hello)
	}
	return s
}

// gone breaks the socket's connection.
func (s *socket) gone() { must(s.r.t, s.r.live.Disconnect(context.Background(), s.id)) }

// listen opens a socket that listens to all of its user's rooms.
func (c *client) listen() *socket {
	c.r.t.Helper()
	s := c.open()
	s.ask(`{"action":"subscribe"}`).is(c.r.t, "subscribed")
	return s
}

// send sends a frame and returns all that came since the last look.
func (s *socket) send(text string) []frame {
	s.r.t.Helper()
	must(s.r.t, s.r.live.Frame(context.Background(), s.id, []byte(text)))
	return s.take()
}

// ask sends a frame and returns its one answer.
func (s *socket) ask(text string) frame {
	s.r.t.Helper()
	frames := s.send(text)
	if len(frames) != 1 {
		s.r.t.Fatalf("%.80s is answered by %+v, and closes with %q", text, frames, s.r.sockets.code(s.id))
	}
	return frames[0]
}

// refused sends a frame that is answered with an error.
func (s *socket) refused(text, code, field string) {
	s.r.t.Helper()
	f := s.ask(text)
	fields := []string{}
	for _, e := range f.Problem.Errors {
		fields = append(fields, e.Field)
	}
	if f.Type != "error" || f.Problem.Code != code || field != "" && !slices.Contains(fields, field) {
		s.r.t.Errorf("%.80s is answered with %+v, want %s of %q", text, f, code, field)
	}
}

// closed fails the test unless the socket was closed with a code, and forgotten.
func (s *socket) closed(code live.Code) {
	s.r.t.Helper()
	if got := s.r.sockets.code(s.id); got != code {
		s.r.t.Errorf("the socket is closed with %q, want %q", got, code)
	}
	if _, err := s.r.live.Connections.Get(context.Background(), s.id); !errors.Is(err, live.ErrGone) {
		s.r.t.Errorf("the connection is still known: %v", err)
	}
}

// catchUp catches up from a cursor, and returns the frame that ends it.
func (s *socket) catchUp(cursor string) frame {
	s.r.t.Helper()
	frames := s.send(`{"action":"catchup","cursor":"` + cursor + `"}`)
	return frames[len(frames)-1].is(s.r.t, "caught_up")
}

func (s *socket) take() []frame { return s.r.sockets.take(s.id) }

// events returns the types of the events that have come, and fails at any other frame.
func (s *socket) events() []string {
	s.r.t.Helper()
	types := []string{}
	for _, f := range s.take() {
		f.is(s.r.t, "event")
		types = append(types, f.Event.Type)
	}
	return types
}

func (f frame) is(t testing.TB, kind string) frame {
	t.Helper()
	if f.Type != kind {
		t.Fatalf("the frame is %+v, want %s", f, kind)
	}
	return f
}
