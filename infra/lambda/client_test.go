package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/functions/api"
	"parley/functions/live"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// user calls the region through API Gateway.
type user struct {
	c     *cloud
	name  string
	token string
}

func (c *cloud) user(name string) user { return user{c, name, c.issuer.Token(name)} }

// operator returns a user with the scope of operators.
func (c *cloud) operator(name string) user {
	return user{c, name, c.issuer.Token(name, api.ScopeOperator)}
}

// reply is the answer to a request.
type reply struct {
	t       testing.TB
	asked   string
	status  int
	headers map[string]string
	body    string
}

// do sends a request to the function to which the template's routes send it.
func (u user) do(method, path, body string) reply {
	u.c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+u.token)
	name := config.Command
	if method == http.MethodGet {
		name = config.Query
	}
	switch {
	case path == "/health", strings.HasPrefix(path, "/health/"):
		name = config.Health
	case strings.HasPrefix(path, "/v1/ops/"):
		name = config.Operate
	}
	text, err := u.c.functions[name].Invoke(awstest.HTTPEvent(u.c.t, r, true))
	if err != nil {
		u.c.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := awstest.ReadHTTPAnswer(u.c.t, text)
	return reply{u.c.t, method + " " + path, a.StatusCode, a.Headers, a.Body}
}

func (u user) get(path string) reply { u.c.t.Helper(); return u.do(http.MethodGet, path, "") }

// must sends a command that must be accepted.
func (u user) must(method, path, body string) reply {
	u.c.t.Helper()
	r := u.do(method, path, body)
	if r.status != http.StatusOK && r.status != http.StatusCreated {
		u.c.t.Fatalf("%s: %d %s", r.asked, r.status, r.body)
	}
	return r
}

// post posts a message and returns its id.
func (u user) post(room, text string) string {
	u.c.t.Helper()
	return u.must("POST", room+"/messages", `{"text":"`+text+`"}`).text("id")
}

// into decodes the body.
func (r reply) into(v any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		r.t.Fatalf("%s: %s: %v", r.asked, r.body, err)
	}
}

// text returns a field of the body.
func (r reply) text(field string) string {
	r.t.Helper()
	var fields map[string]any
	r.into(&fields)
	text, _ := fields[field].(string)
	return text
}

// message has the fields of a message that the tests look at.
type message struct {
	ID, Author, Text string
	Deleted, Erased  bool
	Reactions        map[string][]string
}

// messages returns the messages of a page, oldest first.
func (u user) messages(path string) []message {
	u.c.t.Helper()
	var page struct{ Messages []message }
	r := u.get(path)
	if r.status != http.StatusOK {
		u.c.t.Fatalf("%s: %d %s", r.asked, r.status, r.body)
	}
	r.into(&page)
	return page.Messages
}

// texts returns the texts of messages.
func texts(messages []message) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Text)
	}
	return strings.Join(all, " | ")
}

// fields is a frame.
type fields = awstest.Frame

// client is the user's end of a socket.
type client struct {
	t    testing.TB
	name string
	ws   *websocket.Conn
	conn string // its id at the gateway

	mu      sync.Mutex
	got     []fields
	changed chan struct{} // closed at the next change
	closed  bool
	refs    int
}

// dial opens a socket with a header. The error is that of the handshake.
func (c *cloud) dial(name string, header http.Header, protocols ...string) (*client, *http.Response, error) {
	c.t.Helper()
	ws, response, err := websocket.Dial(c.t.Context(), c.gateway.URL, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
	if err != nil {
		return nil, response, err
	}
	ws.SetReadLimit(awstest.MaxMessage)
	u := &client{t: c.t, name: name, ws: ws, conn: response.Header.Get("Conn"), changed: make(chan struct{})}
	c.gateway.Go(u.listen)
	return u, response, nil
}

// socket opens a socket for a user and waits for hello.
func (u user) socket() *client {
	u.c.t.Helper()
	s, response, err := u.c.dial(u.name, http.Header{"Authorization": {"Bearer " + u.token}}, live.Protocol)
	if err != nil || response.Header.Get("Sec-WebSocket-Protocol") != live.Protocol {
		u.c.t.Fatalf("dial: %v, %v", err, response)
	}
	s.awaitHello(fields{"action": "auth"})
	return s
}

func (u *client) awaitHello(auth fields) {
	u.t.Helper()
	if hello := u.ask(auth); hello["type"] != "hello" || hello["user"] != u.name || hello["region"] != inRegion {
		u.t.Fatalf("%s gets hello %v", u.name, hello)
	}
}

// listen collects frames until the socket is closed.
func (u *client) listen() {
	for {
		_, data, err := u.ws.Read(context.Background())
		var f fields
		if err == nil && json.Unmarshal(data, &f) != nil {
			u.t.Errorf("%s got the frame %s", u.name, data)
		}
		u.mu.Lock()
		if u.closed = err != nil; !u.closed {
			u.got = append(u.got, f)
		}
		close(u.changed)
		u.changed = make(chan struct{})
		u.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send sends a frame as it is.
func (u *client) send(text string) {
	u.t.Helper()
	if err := u.ws.Write(u.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		u.t.Errorf("%s cannot send: %v", u.name, err)
	}
}

// ask sends a frame with a ref of its own, and waits for the answer.
func (u *client) ask(f fields) fields {
	u.t.Helper()
	u.refs++
	f["ref"] = fmt.Sprint(u.name, u.refs)
	text, err := json.Marshal(f)
	if err != nil {
		u.t.Fatal(err)
	}
	u.send(string(text))
	return u.await(fmt.Sprint("the answer to ", f["action"]), func(got fields) bool { return got["ref"] == f["ref"] })
}

// await waits until a frame is wanted, and returns the first such.
func (u *client) await(what string, wanted func(fields) bool) fields {
	u.t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		u.mu.Lock()
		got, next, closed := slices.Clone(u.got), u.changed, u.closed
		u.mu.Unlock()
		if i := slices.IndexFunc(got, wanted); i >= 0 {
			return got[i]
		}
		if closed {
			u.t.Fatalf("%s is closed before %s; it got %v", u.name, what, got)
		}
		select {
		case <-next:
		case <-deadline:
			u.t.Fatalf("%s did not get %s; it got %v", u.name, what, got)
		}
	}
}

// awaitClosed waits until the socket is closed, and returns the code of its bye, "" if none came.
func (u *client) awaitClosed() string {
	u.t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		u.mu.Lock()
		got, next, closed := slices.Clone(u.got), u.changed, u.closed
		u.mu.Unlock()
		if closed {
			if len(got) > 0 && got[len(got)-1]["type"] == "bye" {
				return got[len(got)-1]["code"].(string)
			}
			return ""
		}
		select {
		case <-next:
		case <-deadline:
			u.t.Fatalf("%s is not closed; it got %v", u.name, got)
		}
	}
}

// awaitText waits for the event of a message.
func (u *client) awaitText(text string) fields {
	u.t.Helper()
	return u.await(text, func(f fields) bool { return textOf(f) == text })
}

// textOf returns the text of the posted message in a frame, "" if there is none.
func textOf(f fields) string {
	e, _ := f["event"].(fields)
	data, _ := e["data"].(fields)
	text, _ := data["text"].(string)
	return text
}

// received returns the texts of all messages received so far.
func (u *client) received() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, f := range u.got {
		if text := textOf(f); text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, " ")
}

// count returns how many frames have a message of the gateway itself.
func (u *client) count(message string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.got {
		if f["message"] == message {
			n++
		}
	}
	return n
}
