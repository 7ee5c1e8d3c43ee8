package awstest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Secret is a text for what must not be logged: tests put it into texts of users, and the error
// messages of [Gateway] have it.
const Secret = "sEcReT"

// Frame is a frame of a socket.
type Frame = map[string]any

// The limits of API Gateway, in bytes. It closes the socket of a client that sends more in one
// frame, or in one message of several frames.
const (
	MaxFrame   = 32 << 10
	MaxMessage = 128 << 10
)

// Gateway plays a WebSocket API of API Gateway: it holds the sockets of clients, invokes functions
// for what clients do, and serves the management API by which functions post to sockets.
type Gateway struct {
	URL       string      // of the stage; clients connect to it and functions post to it
	Functions []*Function // invoked in turn; set before the first client connects

	t    testing.TB
	busy sync.WaitGroup // sockets, and invocations

	mu      sync.Mutex
	stopped bool
	turn    int
	sockets map[string]*socket
	lost    []*socket
	ids     []string
	refuse  func(conn string) int
	calls   int
}

// socket is the gateway's end of a socket.
type socket struct {
	write  func(frame []byte) error
	close  func(websocket.StatusCode)
	silent bool // no function is invoked when it is closed
}

// NewGateway starts a gateway. When the test ends, it closes all sockets without invoking a function.
func NewGateway(t testing.TB) *Gateway {
	t.Helper()
	g := &Gateway{t: t, sockets: map[string]*socket{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", g.handshake)
	mux.HandleFunc("POST /live/@connections/{conn}", g.post)
	mux.HandleFunc("DELETE /live/@connections/{conn}", g.delete)
	g.URL = serve(t, mux) + "/live"
	return g
}

// Stop closes all sockets without invoking a function, and waits until nothing is under way.
func (g *Gateway) Stop() {
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
		g.busy.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		g.t.Error("the gateway has sockets that do not end")
	}
}

// Go runs f in a goroutine that [Gateway.Stop] waits for.
func (g *Gateway) Go(f func()) { g.busy.Go(f) }

// Conns returns the ids of all sockets that ever were.
func (g *Gateway) Conns() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ids)
}

// Calls returns how often the management API was called.
func (g *Gateway) Calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

// Refuse makes the gateway refuse posts: refuse returns the status for a post, 0 to accept it. nil
// accepts all.
func (g *Gateway) Refuse(refuse func(conn string) (status int)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = refuse
}

// Lose forgets a socket: no function is invoked, and posts to it are refused as gone.
func (g *Gateway) Lose(conn string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sockets[conn]; s != nil {
		s.silent = true
		delete(g.sockets, conn)
		g.lost = append(g.lost, s)
	}
}

// Hold opens a socket without a client, which collects what is posted to it.
func (g *Gateway) Hold(conn string) *Held {
	h := &Held{}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sockets[conn] = &socket{write: h.write, close: func(websocket.StatusCode) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.closed = true
	}}
	return h
}

// Held is a socket without a client.
type Held struct {
	mu     sync.Mutex
	frames []Frame
	closed bool
}

// Frames returns what was posted so far, and whether the socket is closed.
func (h *Held) Frames() (frames []Frame, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.frames), h.closed
}

func (h *Held) write(frame []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var f Frame
	if h.closed || json.Unmarshal(frame, &f) != nil {
		return errors.New("it is closed, or this is not a frame")
	}
	h.frames = append(h.frames, f)
	return nil
}

// handshake opens a socket if a function accepts the client.
func (g *Gateway) handshake(w http.ResponseWriter, r *http.Request) {
	conn := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:11])) // has a sign that a path must escape
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return
	}
	g.busy.Add(1)
	g.ids = append(g.ids, conn)
	g.mu.Unlock()
	defer g.busy.Done()
	text, err := g.invoke(ConnectEvent(conn, r))
	var answer HTTPAnswer
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
	w.Header().Set("Conn", conn) // for the test; API Gateway does not send it to clients
	ws, err := websocket.Accept(w, r, options)
	if err != nil {
		g.t.Errorf("accept a socket: %v", err)
		return
	}
	g.serve(conn, ws)
}

// serve invokes a function for each frame of a client until the socket is closed. Errors of its own
// writes mean that the client is gone.
func (g *Gateway) serve(conn string, ws *websocket.Conn) {
	ws.SetReadLimit(MaxMessage)
	s := &socket{
		write: func(frame []byte) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return ws.Write(ctx, websocket.MessageText, frame)
		},
		close: func(code websocket.StatusCode) { g.busy.Go(func() { _ = ws.Close(code, "") }) },
	}
	g.mu.Lock()
	g.sockets[conn] = s
	g.mu.Unlock()
	kind, data, err := ws.Read(context.Background())
	for ; err == nil; kind, data, err = ws.Read(context.Background()) {
		if kind != websocket.MessageText {
			_ = ws.Close(websocket.StatusUnsupportedData, "")
			break
		}
		if len(data) > MaxFrame { // clients of the tests send a message in one frame
			_ = ws.Close(websocket.StatusMessageTooBig, "")
			break
		}
		frame := data
		g.busy.Go(func() { g.Message(conn, frame) }) // the next one may overtake it
	}
	g.mu.Lock()
	delete(g.sockets, conn)
	silent := s.silent
	g.mu.Unlock()
	if !silent {
		_, _ = g.invoke(SocketEvent(conn, "DISCONNECT", Frame{ // nobody gets the answer
			"disconnectStatusCode": max(0, int(websocket.CloseStatus(err))), "disconnectReason": "",
		}))
	}
}

// Message invokes a function for a message of a client. If that fails, the client gets the gateway's
// own error message.
func (g *Gateway) Message(conn string, data []byte) {
	e := SocketEvent(conn, "MESSAGE", Frame{"messageId": conn})
	e["body"] = string(data)
	if _, err := g.invoke(e); err == nil {
		return
	}
	g.mu.Lock()
	s := g.sockets[conn]
	g.mu.Unlock()
	if s != nil {
		_ = s.write([]byte(`{"message":"Internal server error","connectionId":"` + conn + `","requestId":"x"}`))
	}
}

func (g *Gateway) invoke(e map[string]any) ([]byte, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	f := g.Functions[g.turn%len(g.Functions)]
	g.turn++
	g.mu.Unlock()
	return f.Invoke(payload)
}

// called returns the socket of a call of the management API, or answers with an error.
func (g *Gateway) called(w http.ResponseWriter, r *http.Request) *socket {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	conn, status := r.PathValue("conn"), 0
	if g.refuse != nil && r.Method == http.MethodPost {
		status = g.refuse(conn)
	}
	signed, s := r.Header.Get("Authorization"), g.sockets[conn]
	switch {
	case !strings.HasPrefix(signed, "AWS4-HMAC-SHA256 Credential=") || !strings.Contains(signed, "/execute-api/"):
		refuse(w, http.StatusForbidden, "ForbiddenException")
	case s == nil:
		refuse(w, http.StatusGone, "GoneException")
	case status == http.StatusTooManyRequests:
		refuse(w, status, "LimitExceededException")
	case status != 0:
		refuse(w, status, "InternalServerErrorException")
	default:
		return s
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("X-Amzn-ErrorType", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"message":"`+Secret+`"}`) // the caller may be gone
}

func (g *Gateway) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s := g.called(w, r)
	switch {
	case s == nil:
	case len(body) > MaxMessage:
		refuse(w, http.StatusRequestEntityTooLarge, "PayloadTooLargeException")
	case !json.Valid(body) || len(body) > MaxFrame:
		g.t.Errorf("a frame of %d bytes is %.200s", len(body), body)
	default:
		if err := s.write(body); err != nil {
			refuse(w, http.StatusGone, "GoneException")
		}
	}
}

func (g *Gateway) delete(w http.ResponseWriter, r *http.Request) {
	if s := g.called(w, r); s != nil {
		g.mu.Lock()
		delete(g.sockets, r.PathValue("conn"))
		g.mu.Unlock()
		s.close(websocket.StatusNormalClosure)
		w.WriteHeader(http.StatusNoContent)
	}
}

// SocketEvent returns the event with which a WebSocket API invokes a function: kind is CONNECT,
// MESSAGE or DISCONNECT, and more are further fields of its context.
func SocketEvent(conn, kind string, more map[string]any) map[string]any {
	about := map[string]any{
		"eventType": kind, "connectionId": conn, "connectedAt": time.Now().UnixMilli(),
		"routeKey":  map[string]string{"CONNECT": "$connect", "MESSAGE": "$default", "DISCONNECT": "$disconnect"}[kind],
		"requestId": "JKJaXmPLvHcESHA=", "extendedRequestId": "JKJaXmPLvHcESHA=", "messageDirection": "IN", "stage": "live",
		"requestTime": time.Now().Format("02/Jan/2006:15:04:05 -0700"), "requestTimeEpoch": time.Now().UnixMilli(),
		"identity": map[string]any{"sourceIp": "192.0.2.1"}, "domainName": "abc.execute-api." + Region + ".amazonaws.com", "apiId": "abc",
	}
	for name, value := range more {
		about[name] = value
	}
	return map[string]any{"requestContext": about, "isBase64Encoded": false}
}

// ConnectEvent returns the event of a handshake.
func ConnectEvent(conn string, r *http.Request) map[string]any {
	one, many := map[string]string{"Host": r.Host}, map[string][]string{"Host": {r.Host}}
	for name, values := range r.Header {
		one[name], many[name] = values[len(values)-1], values
	}
	e := SocketEvent(conn, "CONNECT", nil)
	e["headers"], e["multiValueHeaders"] = one, many
	return e
}

// HTTPEvent returns the event with which an HTTP API invokes a function, in payload format 2.0. An
// HTTP API hands on the path decoded; other sources of this format do not.
func HTTPEvent(t testing.TB, r *http.Request, decoded bool) []byte {
	t.Helper()
	e := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": r.URL.EscapedPath(), "rawQueryString": r.URL.RawQuery,
		"requestContext": map[string]any{
			"requestId": "JKJaXmPLvHcESHA=", "stage": "$default",
			"http": map[string]any{"method": r.Method, "path": r.URL.Path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
		},
	}
	if decoded {
		e["rawPath"] = r.URL.Path
	}
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		if name == "Cookie" {
			e["cookies"] = strings.Split(strings.Join(values, "; "), "; ")
			continue
		}
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	e["headers"] = headers
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		e["body"] = string(body)
		if !utf8.Valid(body) {
			e["body"], e["isBase64Encoded"] = base64.StdEncoding.EncodeToString(body), true
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// HTTPAnswer is what a function answers to an event of an HTTP API, or to a handshake.
type HTTPAnswer struct {
	StatusCode      int
	Headers         map[string]string
	Cookies         []string
	Body            string // as the client gets it
	IsBase64Encoded bool   // how it was sent
}

// ReadHTTPAnswer reads the answer of a function, and decodes its body.
func ReadHTTPAnswer(t testing.TB, text []byte) (a HTTPAnswer) {
	t.Helper()
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if a.IsBase64Encoded {
		body, err := base64.StdEncoding.DecodeString(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		a.Body = string(body)
	}
	return a
}
