package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/functions/live"
)

// wsConn is a WebSocket under test.
type wsConn struct {
	t    testing.TB
	conn *websocket.Conn
}

// heard is so much of a frame as these tests look at.
type heard struct {
	Type, Room, Region, Code string
	Positions                map[string]uint64
	Event                    struct{ ID, Type string }
}

// dial opens a socket with a user's token.
func (c *client) dial() *wsConn {
	c.t.Helper()
	return dialWith(c.t, c.url, http.Header{"Authorization": {"Bearer " + c.token}})
}

func dialWith(t testing.TB, url string, header http.Header) *wsConn {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), url+"/v1/live", &websocket.DialOptions{HTTPHeader: header, HTTPClient: plainHTTP})
	if err != nil {
		t.Fatalf("%v: %v", err, response)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &wsConn{t, conn}
}

func (w *wsConn) send(text string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := w.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

// hear returns the next frame, or the status with which the socket was closed.
func (w *wsConn) hear() (heard, websocket.StatusCode) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	_, text, err := w.conn.Read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			w.t.Fatal("nothing was heard")
		}
		return heard{}, websocket.CloseStatus(err)
	}
	var f heard
	if err := json.Unmarshal(text, &f); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return f, 0
}

// until passes over frames until one of a type comes.
func (w *wsConn) until(kind string) heard {
	w.t.Helper()
	for {
		f, closed := w.hear()
		if closed != 0 {
			w.t.Fatalf("the socket was closed with %v before %s came", closed, kind)
		}
		if f.Type == kind {
			return f
		}
	}
}

// ends fails the test unless the socket is closed with a code that the bye tells, too.
func (w *wsConn) ends(code live.Code) {
	w.t.Helper()
	if bye := w.until("bye"); bye.Code != string(code) {
		w.t.Errorf("the bye says %s, want %s", bye.Code, code)
	}
	if _, closed := w.hear(); closed != websocket.StatusCode(code.Status()) {
		w.t.Errorf("it is closed with %v, want %v", closed, code.Status())
	}
}

// A region that fails closes its sockets; the global name then leads to another, where the same
// cursor goes on.
func TestSocketOutlivesRegion(t *testing.T) {
	onEachStore(t, func(t *testing.T, set settings) {
		r := serve(t, set)
		ada := r.at(0, "ada")
		room := ada.must("POST", "/v1/rooms", map[string]string{"name": "Engine"})["id"].(string)
		w := ada.dial()
		w.send(`{"action":"auth"}`)
		first := w.until("hello").Region
		w.send(`{"action":"subscribe"}`)
		if top := w.until("subscribed").Positions; len(top) != 1 {
			t.Errorf("subscribed to %v", top)
		}
		ada.must("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": "one"})
		for f := w.until("event"); f.Event.Type != "message.posted"; f = w.until("event") {
			if f.Room != room {
				t.Errorf("received %+v", f)
			}
		}
		r.state(first, stateFailing)
		w.ends(live.CodeGoingAway)
		w = ada.dial()
		w.send(`{"action":"auth"}`)
		if second := w.until("hello").Region; second == first {
			t.Error("the region that fails is still served")
		}
		r.state(first, stateUp)
	})
}

// The process ends though sockets are open, and says why it closes them.
func TestSocketsEndWithTheProcess(t *testing.T) {
	r := serve(t, testSettings(t.TempDir()))
	direct, global := r.at(1, "ada").dial(), r.at(0, "ada").dial()
	for _, w := range []*wsConn{direct, global} {
		w.send(`{"action":"auth"}`)
		w.until("hello")
	}
	start := time.Now()
	r.halt()
	direct.ends(live.CodeGoingAway)
	global.ends(live.CodeGoingAway)
	if took := time.Since(start); took > drainFor {
		t.Errorf("it took %s", took)
	}
}

// stuckConnections hold up a frame until its context ends.
type stuckConnections struct {
	live.Connections
	stuck chan struct{} // closed when a frame is held up
}

func (c stuckConnections) Get(ctx context.Context, _ string) (live.Connection, error) {
	close(c.stuck)
	<-ctx.Done()
	return live.Connection{}, ctx.Err()
}

// A client that does not answer the end of its socket is given up in time, though nothing reads from it: its last
// frame is being handled.
func TestSocketEndsWithinAFrame(t *testing.T) {
	r := serve(t, testSettings(t.TempDir()))
	ada := r.at(1, "ada").dial()
	ada.send(`{"action":"auth"}`)
	ada.until("hello")
	sockets := r.cluster.regions[0].now.Load().sockets
	connections := stuckConnections{sockets.handler.Connections, make(chan struct{})}
	sockets.handler.Connections = connections
	ada.send(`{"action":"ping"}`)
	<-connections.stuck
	start := time.Now()
	r.halt()
	if took := time.Since(start); took > drainFor-time.Second {
		t.Errorf("it took %s", took)
	}
}

// A client that does not read is given up, and costs the others nothing.
func TestSlowSocket(t *testing.T) {
	r := serve(t, testSettings(t.TempDir()))
	ada := r.at(1, "ada")
	room := ada.must("POST", "/v1/rooms", map[string]string{"name": "Engine"})["id"].(string)
	sockets := r.cluster.regions[0].now.Load().sockets
	sockets.writeWithin = 500 * time.Millisecond
	slow := ada.dial()
	slow.send(`{"action":"subscribe"}`)
	slow.until("subscribed")
	clogged := sockets.all()[0]
	quick := ada.dial()
	quick.send(`{"action":"subscribe"}`)
	quick.until("subscribed")
	const messages = 100
	clogged.clog(t)
	for i := range messages {
		ada.post(room, fmt.Sprint("message ", i))
	}
	for range messages {
		quick.until("event")
	}
	if !eventually(20*time.Second, func() bool { return len(sockets.all()) == 1 }) {
		t.Error("the slow one is still there")
	}
	received := 0
	for {
		f, closed := slow.hear()
		if closed != 0 {
			break
		}
		if f.Type == "event" {
			received++
		}
	}
	if received >= messages {
		t.Error("the slow client received every event")
	}
}

// A client that sends and does not read is given up, too: its own frames wait for the queue, which nobody
// writes any more.
func TestSlowSocketThatSends(t *testing.T) {
	r := serve(t, testSettings(t.TempDir()))
	sockets := r.cluster.regions[0].now.Load().sockets
	sockets.writeWithin = time.Second
	slow := r.at(1, "ada").dial()
	slow.send(`{"action":"auth"}`)
	slow.until("hello")
	sockets.all()[0].clog(t)
	slow.send(`{"action":"ping"}`)
	if !eventually(20*time.Second, func() bool { return len(sockets.all()) == 0 }) {
		t.Error("the socket is still there")
	}
	r.halt()
}

// clog fills the queue of a socket whose client does not read. It returns when the buffers of the connection
// are full, too, so that the server is in the middle of a write.
func (k *socket) clog(t *testing.T) {
	t.Helper()
	large := live.Code(strings.Repeat("x", 20_000)).Bye()
	refused := 0
	if !eventually(20*time.Second, func() bool {
		refused++
		for k.put(large) == nil {
			refused = 0
		}
		return refused > 50
	}) {
		t.Fatal("the queue does not fill up")
	}
}

// The process ends in time though a client does not read.
func TestSlowSocketEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	r := serve(t, testSettings(t.TempDir()))
	sockets := r.cluster.regions[0].now.Load().sockets
	sockets.writeWithin = time.Minute
	slow := r.at(1, "ada").dial()
	slow.send(`{"action":"auth"}`)
	slow.until("hello")
	sockets.all()[0].clog(t)
	start := time.Now()
	r.halt()
	if took := time.Since(start); took > sockets.writeWithin/2 {
		t.Errorf("it took %s", took)
	}
}

// What is no WebSocket, has no token in time, is idle or sends no text is refused, with the reason.
func TestSocketsRefuse(t *testing.T) {
	r := serve(t, testSettings(t.TempDir()))
	ada := r.at(1, "ada")
	if status, header, text := ada.try("GET", "/v1/live", nil); status != 426 || header.Get("Upgrade") == "" || !strings.Contains(string(text), "upgrade_required") {
		t.Errorf("without an upgrade: %d %s", status, text)
	}
	for what, header := range map[string]http.Header{
		"token":  {"Authorization": {"Bearer no"}},
		"origin": {"Authorization": {"Bearer " + ada.token}, "Origin": {"https://elsewhere.test"}},
	} {
		want := map[string]int{"token": 401, "origin": 403}[what]
		conn, response, err := websocket.Dial(t.Context(), ada.url+"/v1/live", &websocket.DialOptions{HTTPHeader: header, HTTPClient: plainHTTP})
		if err == nil {
			_ = conn.CloseNow()
		}
		if response == nil || response.StatusCode != want {
			t.Errorf("with a bad %s: %v, %v", what, response, err)
		}
	}
	limits := live.DefaultLimits
	limits.Auth, limits.Idle = 100*time.Millisecond, 300*time.Millisecond
	r.cluster.regions[0].now.Load().sockets.limits = limits
	dialWith(t, ada.url, nil).ends(live.CodeUnauthorized)
	ada.dial().ends(live.CodeIdle)
	w := ada.dial()
	if err := w.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"action":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	w.ends(live.CodeBadFrame)
	for _, text := range []string{
		"\xff", `{"action":"ping","ref":"` + "\xff" + `"}`, `{"action":"send","room":"x","text":"` + "a\xc3" + `"}`, "{\"\xed\xa0\x80\":1}", `{"action":"ping"}` + "\xf0\x9f\x98",
	} {
		w := ada.dial()
		if err := w.conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if bye, closed := w.hear(); bye.Type != "bye" || bye.Code != string(live.CodeBadFrame) || closed != 0 {
			t.Errorf("%q is answered with %+v, %v", text, bye, closed)
		}
		if _, closed := w.hear(); closed != websocket.StatusInvalidFramePayloadData {
			t.Errorf("after %q the socket is closed with %v", text, closed)
		}
	}
	w = ada.dial()
	_ = w.conn.Write(t.Context(), websocket.MessageText, make([]byte, 8*limits.FrameBytes)) // it may be closed in the middle
	if _, closed := w.hear(); closed != websocket.StatusMessageTooBig && closed != -1 {
		t.Errorf("far too large a frame: %v", closed)
	}
}

// A connection that just breaks off is forgotten.
func TestBrokenSocket(t *testing.T) {
	r := serve(t, testSettings(t.TempDir()))
	ada := r.at(1, "ada")
	var under net.Conn
	dialing := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var err error
		under, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return under, err
	}}}
	conn, _, err := websocket.Dial(t.Context(), ada.url+"/v1/live", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + ada.token}}, HTTPClient: dialing,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	sockets := r.cluster.regions[0].now.Load().sockets
	if err := under.(*net.TCPConn).SetLinger(0); err != nil { // a reset
		t.Fatal(err)
	}
	_ = under.Close()
	if !eventually(20*time.Second, func() bool {
		of, err := sockets.handler.Connections.Of(t.Context(), "ada")
		return len(of) == 0 && err == nil && len(sockets.all()) == 0
	}) {
		t.Error("the socket is not forgotten")
	}
	if err := sockets.Post(t.Context(), "gone", live.Frame{}); !errors.Is(err, live.ErrGone) {
		t.Errorf("a frame to nobody: %v", err)
	}
}

// What waits for a client that does not read is bounded in bytes.
func TestQueueOfASocketIsBounded(t *testing.T) {
	k := &socket{sockets: newSockets(live.DefaultLimits, nil, nil), wake: make(chan struct{}, 1)}
	large := live.Code(strings.Repeat("x", 20_000)).Bye()
	for n := 0; ; n++ {
		if err := k.put(large); errors.Is(err, errSlow) {
			break
		} else if err != nil || n*20_000 > 1<<20 {
			t.Fatalf("frame %d of 20,000 bytes: %v", n, err)
		}
	}
}
