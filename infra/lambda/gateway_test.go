package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// gateway plays a WebSocket API of API Gateway: it holds the sockets of clients, invokes the live
// function for what they do, and serves the management API to whoever posts to them.
type gateway struct {
	t    testing.TB
	url  string // of the stage, as PARLEY_SOCKETS has it
	live []*host

	inFlight sync.WaitGroup // sockets, and invocations

	mu      sync.Mutex
	stopped bool
	turn    int // of the next invocation
	sockets map[string]*socket
	lost    []*socket             // of those that were forgotten
	ids     []string              // of all sockets there ever were
	refuse  func(conn string) int // the status to answer a post with, 0 to take it; nil: takes all
	calls   int                   // of the management API
}

// socket is the gateway's end of one. What is posted before it is open is refused as if it were gone.
type socket struct {
	write  func(frame []byte) error
	close  func(websocket.StatusCode)
	silent bool // the live function is not told that it is closed
}

// The limits that the gateway has, in bytes. A client that sends more in one frame is closed, and so
// is one whose message is larger than that, in whatever frames it comes.
const (
	gatewayFrame   = 32 << 10
	gatewayMessage = 128 << 10
)

func newGateway(t testing.TB) *gateway {
	t.Helper()
	g := &gateway{t: t, sockets: map[string]*socket{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", g.handshake)
	mux.HandleFunc("POST /live/@connections/{conn}", g.post)
	mux.HandleFunc("DELETE /live/@connections/{conn}", g.delete)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	g.url = server.URL + "/live"
	return g
}

// stop closes all sockets without a word, and waits until nothing is under way.
func (g *gateway) stop() {
	g.mu.Lock()
	g.stopped = true
	for _, s := range g.sockets {
		s.silent = true
		s.close(websocket.StatusGoingAway)
	}
	for _, s := range g.lost {
		s.close(websocket.StatusGoingAway)
	}
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		g.inFlight.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		g.t.Error("the gateway has sockets that do not end")
	}
}

// handshake lets a client in if the live function does.
func (g *gateway) handshake(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return
	}
	g.inFlight.Add(1)
	g.mu.Unlock()
	defer g.inFlight.Done()
	conn := rand.Text()[:11]
	conn = base64.StdEncoding.EncodeToString([]byte(conn)) // with a sign that a path must escape
	g.mu.Lock()
	g.ids = append(g.ids, conn)
	g.mu.Unlock()
	text, err := g.invoke(connectEvent(conn, r))
	var answer struct {
		StatusCode int
		Headers    map[string]string
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if answer.StatusCode != http.StatusOK {
		w.WriteHeader(answer.StatusCode)
		return
	}
	options := &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if protocol := answer.Headers["Sec-WebSocket-Protocol"]; protocol != "" {
		options.Subprotocols = []string{protocol}
	}
	w.Header().Set("Conn", conn) // for the test; the real one keeps it to itself
	ws, err := websocket.Accept(w, r, options)
	if err != nil {
		g.t.Errorf("accept a socket: %v", err)
		return
	}
	g.serve(conn, ws)
}

// serve hands on the frames of a client until the socket is closed.
func (g *gateway) serve(conn string, ws *websocket.Conn) {
	ws.SetReadLimit(gatewayMessage)
	s := &socket{
		write: func(frame []byte) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return ws.Write(ctx, websocket.MessageText, frame)
		},
		close: func(code websocket.StatusCode) { g.inFlight.Go(func() { _ = ws.Close(code, "") }) }, // she may be gone
	}
	g.mu.Lock()
	g.sockets[conn] = s
	g.mu.Unlock()
	var err error
	for {
		var kind websocket.MessageType
		var data []byte
		if kind, data, err = ws.Read(context.Background()); err != nil {
			break
		}
		if kind != websocket.MessageText {
			_ = ws.Close(websocket.StatusUnsupportedData, "") // she may be gone
			break
		}
		if len(data) > gatewayFrame { // the clients of these tests send a message in one frame
			_ = ws.Close(websocket.StatusMessageTooBig, "") // she may be gone
			break
		}
		g.inFlight.Go(func() { g.message(conn, data) })
	}
	g.mu.Lock()
	delete(g.sockets, conn)
	silent := s.silent
	g.mu.Unlock()
	if !silent {
		_, _ = g.invoke(event(conn, "DISCONNECT", map[string]any{ // nobody hears of the answer
			"disconnectStatusCode": max(0, int(websocket.CloseStatus(err))), "disconnectReason": "",
		}))
	}
}

// message invokes the live function for a frame of a client. Frames are not waited for: the next may
// overtake.
func (g *gateway) message(conn string, data []byte) {
	e := event(conn, "MESSAGE", map[string]any{"messageId": conn})
	e["body"] = string(data)
	if _, err := g.invoke(e); err == nil {
		return
	}
	g.mu.Lock()
	s := g.sockets[conn]
	g.mu.Unlock()
	if s != nil {
		_ = s.write([]byte(`{"message":"Internal server error","connectionId":"` + conn + `","requestId":"x"}`)) // she may be gone
	}
}

// invoke invokes the function in one of its processes, each in turn.
func (g *gateway) invoke(e map[string]any) ([]byte, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	h := g.live[g.turn%len(g.live)]
	g.turn++
	g.mu.Unlock()
	return h.invoke(payload)
}

// event is what the gateway invokes a function with.
func event(conn, kind string, more map[string]any) map[string]any {
	about := map[string]any{
		"eventType": kind, "connectionId": conn, "connectedAt": time.Now().UnixMilli(),
		"routeKey":  map[string]string{"CONNECT": "$connect", "MESSAGE": "$default", "DISCONNECT": "$disconnect"}[kind],
		"requestId": "JKJaXmPLvHcESHA=", "extendedRequestId": "JKJaXmPLvHcESHA=", "messageDirection": "IN", "stage": "live",
		"requestTime": time.Now().Format("02/Jan/2006:15:04:05 -0700"), "requestTimeEpoch": time.Now().UnixMilli(),
		"identity": map[string]any{"sourceIp": "192.0.2.1"}, "domainName": "abc.execute-api.eu-west-1.amazonaws.com", "apiId": "abc",
	}
	for name, value := range more {
		about[name] = value
	}
	return map[string]any{"requestContext": about, "isBase64Encoded": false}
}

// connectEvent is that of a handshake.
func connectEvent(conn string, r *http.Request) map[string]any {
	one, many := map[string]string{"Host": r.Host}, map[string][]string{"Host": {r.Host}}
	for name, values := range r.Header {
		one[name], many[name] = values[len(values)-1], values
	}
	e := event(conn, "CONNECT", nil)
	e["headers"], e["multiValueHeaders"] = one, many
	return e
}
