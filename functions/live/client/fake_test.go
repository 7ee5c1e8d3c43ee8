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
)

// fakeNet is a network without wires, so that time in it can be made up: each host is a handler.
type fakeNet struct {
	mu    sync.Mutex
	hosts map[string]*fakeHost
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
	server := &http.Server{Handler: handler}
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

// told is what an application was told, as text.
type told struct {
	mu  sync.Mutex
	all []string
}

func (a *told) handle(_ context.Context, u Update) error {
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

// since returns what was told since it was asked last.
func (a *told) since() []string {
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
			say(conn, frame{Type: "hello", Region: a.region})
			a.live(conn)
		}
	case a.other != nil:
		a.other(w, r)
	default:
		reply(w, &Problem{Status: 404, Code: "not_here"})
	}
}

func reply(w http.ResponseWriter, answer any) {
	if p, ok := answer.(*Problem); ok {
		w.WriteHeader(p.Status)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// say sends a frame to a client.
func say(conn *websocket.Conn, f frame) {
	text, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	_ = conn.Write(context.Background(), websocket.MessageText, text)
}

// hear reads what a client says next; "" if it is gone.
func hear(conn *websocket.Conn) (action string, ref int) {
	_, text, err := conn.Read(context.Background())
	var ask struct {
		Action string
		Ref    int
	}
	if err == nil && json.Unmarshal(text, &ask) == nil {
		return ask.Action, ask.Ref
	}
	return "", 0
}

// answerAll answers what a client asks, where nothing ever happens.
func answerAll(conn *websocket.Conn) {
	for {
		switch action, ref := hear(conn); action {
		case "":
			return
		case "subscribe":
			say(conn, frame{Type: "subscribed", Ref: ref})
		case "catchup":
			say(conn, frame{Type: "caught_up", Ref: ref, Cursor: "caught up"})
		case "ping":
			say(conn, frame{Type: "pong", Cursor: "pong"})
		}
	}
}

// quiet answers polls where nothing ever happens: after the time the client is willing to wait.
func quiet(r *http.Request) any {
	q := r.URL.Query()
	if q.Get("cursor") == "" {
		return syncPage{Cursor: "first", Reset: true}
	}
	wait, _ := time.ParseDuration(q.Get("wait") + "s")
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
	}
	return syncPage{Cursor: "next"}
}
