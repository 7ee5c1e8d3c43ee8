package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/functions/live"
)

// fields is a frame.
type fields = map[string]any

// client is a user at the other end of a socket.
type client struct {
	t    testing.TB
	name string
	ws   *websocket.Conn
	conn string // as the gateway calls it

	mu      sync.Mutex
	got     []fields
	changed chan struct{} // closed at the next change
	closed  bool
	refs    int
}

// dial opens a socket with a header. The error is that of the handshake.
func (c *cloud) dial(name string, header http.Header, protocols ...string) (*client, *http.Response, error) {
	c.t.Helper()
	ws, response, err := websocket.Dial(c.t.Context(), c.gateway.url, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols})
	if err != nil {
		return nil, response, err
	}
	ws.SetReadLimit(gatewayMessage)
	u := &client{t: c.t, name: name, ws: ws, conn: response.Header.Get("Conn"), changed: make(chan struct{})}
	c.gateway.inFlight.Go(u.listen)
	return u, response, nil
}

// socket opens one for a user, who is greeted.
func (u user) socket() *client {
	u.c.t.Helper()
	s, response, err := u.c.dial(u.name, http.Header{"Authorization": {"Bearer " + u.token}}, live.Protocol)
	if err != nil || response.Header.Get("Sec-WebSocket-Protocol") != live.Protocol {
		u.c.t.Fatalf("dial: %v, %v", err, response)
	}
	s.greeted(fields{"action": "auth"})
	return s
}

func (u *client) greeted(auth fields) {
	u.t.Helper()
	if hello := u.ask(auth); hello["type"] != "hello" || hello["user"] != u.name || hello["region"] != inRegion {
		u.t.Fatalf("%s is greeted with %v", u.name, hello)
	}
}

// listen takes what comes, until the socket is closed.
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

// await waits for a frame that came or will come, and returns the first that is wanted.
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
			u.t.Fatalf("%s is closed before %s; she got %v", u.name, what, got)
		}
		select {
		case <-next:
		case <-deadline:
			u.t.Fatalf("%s waits in vain for %s; she got %v", u.name, what, got)
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
			u.t.Fatalf("%s is not closed; she got %v", u.name, got)
		}
	}
}

// awaitText waits for the event of a message.
func (u *client) awaitText(text string) fields {
	u.t.Helper()
	return u.await(text, func(f fields) bool { return textOf(f) == text })
}

// textOf is the text of the message that a frame tells of, "" if it tells of none.
func textOf(f fields) string {
	e, _ := f["event"].(fields)
	data, _ := e["data"].(fields)
	text, _ := data["text"].(string)
	return text
}

// heard are the texts of all messages that were told so far.
func (u *client) heard() string {
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
