package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"parley/events"
	"parley/functions/wire"
)

// fakeNet is a network without wires, so that time in it can be made up: each host is a handler.
type fakeNet struct {
	mu    sync.Mutex
	hosts map[string]*fakeHost
	marks http.HandlerFunc // GET /v1/me of every host; nil: as it should be
}

type fakeHost struct {
	conns chan net.Conn
	over  chan struct{}
	down  bool
}

func (h *fakeHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

func (h *fakeHost) Close() error {
	close(h.over)
	return nil
}

func (h *fakeHost) Addr() net.Addr { return &net.TCPAddr{} }

// serve makes a host answer until the end of the test.
func (n *fakeNet) serve(t *testing.T, host string, handler http.Handler) {
	h := &fakeHost{conns: make(chan net.Conn), over: make(chan struct{})}
	n.mu.Lock()
	if n.hosts == nil {
		n.hosts = map[string]*fakeHost{}
	}
	n.hosts[host+":80"] = h
	n.mu.Unlock()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if marks := n.marks; marks != nil && r.URL.Path == "/v1/me" {
			marks(w, r)
		} else if r.URL.Path == "/v1/me" {
			reply(w, wire.Me{User: "ada", Mark: events.NewMarks(nil)("ada").String()})
		} else {
			handler.ServeHTTP(w, r)
		}
	})}
	go func() { _ = server.Serve(h) }()
	t.Cleanup(func() { _ = server.Close() })
}

// setDown lets a host take no connections, or take them again.
func (n *fakeNet) setDown(host string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host+":80"].down = down
}

func (n *fakeNet) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[addr]
	refused := h == nil || h.down
	n.mu.Unlock()
	if refused {
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	}
	client, server := net.Pipe()
	select {
	case h.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// client makes a client in this network; it must have been run, or be closed by the caller.
func (n *fakeNet) client(t *testing.T, hosts ...string) *Client {
	t.Helper()
	tokens := 0
	o := Options{User: "ada", Token: func(context.Context) (string, error) {
		tokens++
		return fmt.Sprint("token-", tokens), nil
	}}
	for _, host := range hosts {
		o.Endpoints = append(o.Endpoints, "http://"+host)
	}
	o.HTTP = &http.Client{Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true}}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recorder is an application that records its updates as text.
type recorder struct {
	mu  sync.Mutex
	all []string
}

func (a *recorder) handle(_ context.Context, u Update) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch u := u.(type) {
	case Event:
		a.all = append(a.all, "event "+u.ID.String())
	case Status:
		a.all = append(a.all, fmt.Sprint(u.State, " ", u.Region, " ", u.Over))
	default:
		a.all = append(a.all, fmt.Sprintf("%T", u))
	}
	return nil
}

// since returns the updates since the last call.
func (a *recorder) since() []string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.all
	a.all = nil
	return all
}

// start runs a client until stop is called, which returns what Run returned.
func start(c *Client, h Handler) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx, h) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// fakeAPI is a region that answers what a test wants.
type fakeAPI struct {
	region string
	sync   func(r *http.Request) any // the answer to GET /v1/sync: a syncPage or a *Problem
	live   func(c *websocket.Conn)   // what a socket does after its hello
	other  http.HandlerFunc          // of all other paths
	deaf   atomic.Bool               // there are no sockets for now

	mu    sync.Mutex
	count map[string]int // requests, by path
}

func (a *fakeAPI) counted(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[path]
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	if a.count == nil {
		a.count = map[string]int{}
	}
	a.count[r.URL.Path]++
	a.mu.Unlock()
	w.Header().Set("Parley-Region", a.region)
	switch {
	case r.URL.Path == "/health":
	case r.URL.Path == "/v1/sync" && a.sync != nil:
		reply(w, a.sync(r))
	case r.URL.Path == "/v1/live" && !a.deaf.Load():
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		if _, _, err := conn.Read(context.Background()); err == nil { // auth
			say(conn, wire.Frame{Type: "hello", Region: a.region})
			a.live(conn)
		}
	case a.other != nil:
		a.other(w, r)
	default:
		reply(w, &wire.Problem{Status: 404, Code: "not_here"})
	}
}

func reply(w http.ResponseWriter, answer any) {
	if p, ok := answer.(*wire.Problem); ok {
		w.WriteHeader(p.Status)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// eventFrame makes the frame of an entry of a journal.
func eventFrame(f wire.Frame, cursor string) wire.Frame {
	f.Type, f.Cursor = "event", cursor
	return f
}

// pageOf is a page of sync.
func pageOf(cursor string, events ...wire.Frame) syncPage {
	return syncPage{wire.SyncPage{Cursor: cursor}, events}
}

// say sends a frame to a client.
func say(conn *websocket.Conn, f wire.Frame) {
	text, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	_ = conn.Write(context.Background(), websocket.MessageText, text)
}

// receive reads the next frame of a client; "" if the client has closed the socket.
func receive(conn *websocket.Conn) (action string, ref json.RawMessage) {
	_, text, err := conn.Read(context.Background())
	var ask struct {
		Action string
		Ref    json.RawMessage
	}
	if err == nil && json.Unmarshal(text, &ask) == nil {
		return ask.Action, ask.Ref
	}
	return "", nil
}

// answerAll answers what a client asks, where nothing ever happens.
func answerAll(conn *websocket.Conn) {
	for {
		switch action, ref := receive(conn); action {
		case "":
			return
		case "subscribe":
			say(conn, wire.Frame{Type: "subscribed", Ref: ref})
		case "catchup":
			say(conn, wire.Frame{Type: "caught_up", Ref: ref, Cursor: "caught up"})
		case "ping":
			say(conn, wire.Frame{Type: "pong", Cursor: "pong"})
		}
	}
}

// quiet answers polls where nothing ever happens: after the time the client is willing to wait.
func quiet(r *http.Request) any {
	q := r.URL.Query()
	if q.Get("cursor") == "" {
		return wire.SyncPage{Cursor: "first", Reset: true}
	}
	wait, _ := time.ParseDuration(q.Get("wait") + "s")
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
	}
	return wire.SyncPage{Cursor: "next"}
}

var (
	modelRooms = []string{"01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"}
	modelClock = events.NewClock(time.Now, events.NewMarks(nil))
)

// modelRegion is a region's journal.
type modelRegion struct {
	name    string
	journal []wire.Frame
	ids     []events.ID
	tops    map[events.Stream]uint64
	pushed  int                  // entries that were pushed
	heard   map[events.ID]uint64 // the positions of what has arrived
}

func (r *modelRegion) take(e events.Event) {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	stream := e.Stream
	r.tops[stream]++
	r.heard[e.ID] = r.tops[stream]
	r.ids = append(r.ids, e.ID)
	r.journal = append(r.journal, wire.Frame{Room: e.Stream.Name(), Stream: stream, Position: r.tops[stream], Event: text})
}

func (r *modelRegion) positions() map[string]uint64 {
	p := map[string]uint64{}
	for stream, top := range r.tops {
		p[stream.Name()] = top
	}
	return p
}

// posted makes an event.
func posted(t interface{ Fatal(...any) }, room string) events.Event {
	id, err := modelClock.Mint("bob")
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.New(id, events.RoomStream(room), "bob", "one", events.MessagePosted{Text: events.Plain("hello")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// testClient makes a client that reaches nobody.
func testClient(t interface{ Fatal(...any) }) *Client {
	c, err := New(Options{
		Endpoints: []string{"http://unused"}, User: "ada",
		Token: func(context.Context) (string, error) { return "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
