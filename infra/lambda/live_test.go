package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"parley/functions/api"
	"parley/functions/live"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// recordedCalls is a handler that records its calls.
type recordedCalls struct {
	said []string
	err  error
}

func (h *recordedCalls) Connect(_ context.Context, conn string, header http.Header) error {
	h.said = append(h.said, fmt.Sprint("connect ", conn, " ", header.Values("Sec-Websocket-Protocol"), header.Values("Authorization")))
	return h.err
}

func (h *recordedCalls) Frame(_ context.Context, conn string, data []byte) error {
	h.said = append(h.said, fmt.Sprintf("frame %s %s", conn, data))
	return h.err
}

func (h *recordedCalls) Disconnect(_ context.Context, conn string) error {
	h.said = append(h.said, "disconnect "+conn)
	return h.err
}

// shake returns the event of a handshake with headers.
func shake(headers ...string) map[string]any {
	r := httptest.NewRequest("GET", "/live", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return awstest.ConnectEvent(conn, r)
}

func frameOf(body string, encoded bool) map[string]any {
	e := awstest.SocketEvent(conn, "MESSAGE", nil)
	e["body"], e["isBase64Encoded"] = body, encoded
	return e
}

func TestLiveEvents(t *testing.T) {
	single := shake("Sec-WebSocket-Protocol", "parley.v1, bearer.x")
	delete(single, "multiValueHeaders")
	for _, tt := range []struct {
		event  map[string]any
		err    error
		said   string
		status int // 0: the invocation fails
	}{
		{shake(), nil, "connect " + conn + " [] []", 200},
		{shake("Sec-WebSocket-Protocol", "parley.v1", "Sec-WebSocket-Protocol", "bearer.x"), nil, "connect " + conn + " [parley.v1 bearer.x] []", 200},
		{shake("authorization", "Bearer x"), nil, "connect " + conn + " [] [Bearer x]", 200},
		{single, nil, "connect " + conn + " [parley.v1, bearer.x] []", 200},
		{shake(), api.Fail(http.StatusUnauthorized, "unauthorized", "x"), "connect " + conn + " [] []", 401},
		{shake(), fmt.Errorf("x: %w", api.Fail(http.StatusServiceUnavailable, "unavailable", "x")), "connect " + conn + " [] []", 503},
		{shake(), errors.New("x"), "connect " + conn + " [] []", 0},
		{frameOf(`{"action":"ping"}`, false), nil, "frame " + conn + ` {"action":"ping"}`, 200},
		{frameOf("eyJhIjoxfQ==", true), nil, "frame " + conn + ` {"a":1}`, 200},
		{frameOf("", false), nil, "frame " + conn + " ", 200},
		{frameOf("x", false), errors.New("x"), "frame " + conn + " x", 0},
		{awstest.SocketEvent(conn, "DISCONNECT", nil), nil, "disconnect " + conn, 200},
		{awstest.SocketEvent(conn, "DISCONNECT", nil), errors.New("x"), "disconnect " + conn, 0},
	} {
		h := &recordedCalls{err: tt.err}
		payload, err := json.Marshal(tt.event)
		if err != nil {
			t.Fatal(err)
		}
		text, err := (&liveFunction{h}).invoke(t.Context(), payload)
		var answer struct {
			StatusCode int
			Headers    map[string]string
		}
		if err == nil {
			err = json.Unmarshal(text, &answer)
		}
		if (err != nil) != (tt.status == 0) || answer.StatusCode != tt.status || !reflect.DeepEqual(h.said, []string{tt.said}) {
			t.Errorf("%s: %q, answered %s, %v", tt.said, h.said, text, err)
		}
		if protocol := answer.Headers["Sec-WebSocket-Protocol"]; (protocol == "parley.v1") != strings.Contains(tt.said, "parley.v1") || len(protocol) > len("parley.v1") {
			t.Errorf("%s: answered %s", tt.said, text)
		}
	}
}

// TestNoSocketEvent: events that no WebSocket API sends do not reach the handler.
func TestNoSocketEvent(t *testing.T) {
	for _, e := range []map[string]any{
		nil,
		{"requestContext": 7},
		awstest.SocketEvent("", "CONNECT", nil), awstest.SocketEvent(conn, "BELL", nil), awstest.SocketEvent(conn, "", nil), frameOf("%", true),
		{"requestContext": map[string]any{"http": map[string]any{"method": "GET"}}},
	} {
		payload, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		h := &recordedCalls{}
		if _, err := (&liveFunction{h}).invoke(t.Context(), payload); err == nil || len(h.said) > 0 {
			t.Errorf("%s: %q, %v", payload, h.said, err)
		}
	}
}

// FuzzSocketEvent: the function answers or fails for any event.
func FuzzSocketEvent(f *testing.F) {
	for _, e := range []map[string]any{shake("Sec-WebSocket-Protocol", "parley.v1, bearer.x"), frameOf(`{"action":"ping"}`, false), frameOf("%", true), awstest.SocketEvent(conn, "DISCONNECT", nil)} {
		payload, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		text, err := (&liveFunction{&recordedCalls{}}).invoke(t.Context(), payload)
		if err == nil && !json.Valid(text) {
			t.Errorf("%s is answered %s, %v", payload, text, err)
		}
	})
}

// conn is an id like those of API Gateway, which has signs that a path must escape.
const conn = "d4Nq/eKyIAMCIDQ="

// openSockets returns the sockets of a gateway, and a context with the tally.
func openSockets(t *testing.T, url string) (*sockets, context.Context, *tally) {
	t.Helper()
	cloud := awstest.Config("http://127.0.0.1:1") // whatever else the binary talks to
	cloud.RetryMaxAttempts = 0
	counts := &tally{}
	return newSockets(cloud, url), withTally(t.Context(), counts), counts
}

func TestSockets(t *testing.T) {
	g := awstest.NewGateway(t)
	s, ctx, counts := openSockets(t, g.URL)
	frame := live.CodeIdle.Bye()
	if err := s.Post(ctx, conn, frame); !errors.Is(err, live.ErrGone) {
		t.Errorf("to nobody: %v", err)
	}
	got := g.Hold(conn)
	if err := s.Post(ctx, conn, frame); err != nil {
		t.Error(err)
	}
	if err := s.Close(ctx, conn, live.CodeSlow); err != nil {
		t.Error(err)
	}
	if frames, closed := got.Frames(); len(frames) != 2 || frames[0]["code"] != "idle" || frames[1]["code"] != "slow" || !closed {
		t.Errorf("it got %v, closed: %t", frames, closed)
	}
	for _, err := range []error{s.Post(ctx, conn, frame), s.Close(ctx, conn, live.CodeSlow)} {
		if !errors.Is(err, live.ErrGone) {
			t.Errorf("after the end: %v", err)
		}
	}
	if counts.counts[config.Pushed] != 2 || counts.counts[config.Gone] != 3 || len(counts.counts) != 2 {
		t.Errorf("counted are %v", counts.counts)
	}
}

// TestSocketsRefused: a post that the gateway refuses is retried a few times; no error has the connection.
func TestSocketsRefused(t *testing.T) {
	for status, says := range map[int]string{http.StatusTooManyRequests: "LimitExceededException", http.StatusInternalServerError: "InternalServerErrorException"} {
		g := awstest.NewGateway(t)
		s, ctx, counts := openSockets(t, g.URL)
		got := g.Hold(conn)
		left := 3
		g.Refuse(func(string) int {
			if left--; left < 0 {
				return 0
			}
			return status
		})
		if err := s.Post(ctx, conn, live.CodeIdle.Bye()); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		g.Refuse(func(string) int { return status })
		start, before := time.Now(), g.Calls()
		err := s.Post(ctx, conn, live.CodeIdle.Bye())
		if err == nil || errors.Is(err, live.ErrGone) || !strings.Contains(err.Error(), says) || private(err) {
			t.Errorf("%d: %v", status, err)
		}
		if tries := g.Calls() - before; tries != postAttempts || time.Since(start) > 5*time.Second {
			t.Errorf("%d: %d tries in %s", status, tries, time.Since(start))
		}
		err = s.Close(ctx, conn, live.CodeSlow)
		if _, closed := got.Frames(); err != nil || !closed {
			t.Errorf("%d: a socket that cannot be notified is not closed: %v", status, err)
		}
		if counts.counts[config.Pushed] != 1 || counts.counts[config.Unsent] != 2 {
			t.Errorf("%d: counted are %v", status, counts.counts)
		}
	}
}

// private reports whether an error has the connection, or the message of the gateway.
func private(err error) bool {
	return strings.Contains(err.Error(), "d4Nq") || strings.Contains(err.Error(), secret)
}

// TestSocketsAway: a gateway that is unavailable or hangs costs a bounded time.
func TestSocketsAway(t *testing.T) {
	s, ctx, _ := openSockets(t, "http://127.0.0.1:1/live")
	for _, err := range []error{s.Post(ctx, conn, live.CodeIdle.Bye()), s.Close(ctx, conn, live.CodeIdle)} {
		if err == nil || private(err) {
			t.Error(err)
		}
	}
	g := awstest.NewGateway(t)
	g.Hold(conn)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	g.Refuse(func(string) int { <-hang; return 0 })
	s, ctx, _ = openSockets(t, g.URL)
	start := time.Now()
	for range 100 { // sockets to close
		if err := s.Close(ctx, conn, live.CodeSlow); err == nil || errors.Is(err, live.ErrGone) || private(err) {
			t.Error(err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("to close them takes %s", took)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := s.Post(ctx, conn, live.CodeIdle.Bye()); !errors.Is(err, context.DeadlineExceeded) || private(err) {
		t.Error(err)
	}
}
