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

	"parley/functions/api"
)

// told is a handler that takes down what it is told.
type told struct {
	said []string
	err  error
}

func (h *told) Connect(_ context.Context, conn string, header http.Header) error {
	h.said = append(h.said, fmt.Sprint("connect ", conn, " ", header.Values("Sec-Websocket-Protocol"), header.Values("Authorization")))
	return h.err
}

func (h *told) Frame(_ context.Context, conn string, data []byte) error {
	h.said = append(h.said, fmt.Sprintf("frame %s %s", conn, data))
	return h.err
}

func (h *told) Disconnect(_ context.Context, conn string) error {
	h.said = append(h.said, "disconnect "+conn)
	return h.err
}

// shake is the event of a handshake with headers.
func shake(headers ...string) map[string]any {
	r := httptest.NewRequest("GET", "/live", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return connectEvent(conn, r)
}

func frameOf(body string, encoded bool) map[string]any {
	e := event(conn, "MESSAGE", nil)
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
		{event(conn, "DISCONNECT", nil), nil, "disconnect " + conn, 200},
		{event(conn, "DISCONNECT", nil), errors.New("x"), "disconnect " + conn, 0},
	} {
		h := &told{err: tt.err}
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

// What no WebSocket API sends reaches no handler.
func TestNoSocketEvent(t *testing.T) {
	for _, e := range []map[string]any{
		nil,
		{"requestContext": 7},
		event("", "CONNECT", nil), event(conn, "BELL", nil), event(conn, "", nil), frameOf("%", true),
		{"requestContext": map[string]any{"http": map[string]any{"method": "GET"}}},
	} {
		payload, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		h := &told{}
		if _, err := (&liveFunction{h}).invoke(t.Context(), payload); err == nil || len(h.said) > 0 {
			t.Errorf("%s: %q, %v", payload, h.said, err)
		}
	}
}

// Whatever a function is invoked with, it answers or fails.
func FuzzSocketEvent(f *testing.F) {
	for _, e := range []map[string]any{shake("Sec-WebSocket-Protocol", "parley.v1, bearer.x"), frameOf(`{"action":"ping"}`, false), frameOf("%", true), event(conn, "DISCONNECT", nil)} {
		payload, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		text, err := (&liveFunction{&told{}}).invoke(t.Context(), payload)
		if err == nil && !json.Valid(text) {
			t.Errorf("%s is answered %s, %v", payload, text, err)
		}
	})
}
