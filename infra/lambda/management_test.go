package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// The gateway's management API: posting to sockets, and closing them.

func (g *gateway) setRefuse(refuse func(conn string) int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = refuse
}

// called finds the socket of a call of the management API, or answers why it is not to be had.
func (g *gateway) called(w http.ResponseWriter, r *http.Request) *socket {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	conn, status := r.PathValue("conn"), 0
	if g.refuse != nil && r.Method == http.MethodPost {
		status = g.refuse(conn)
	}
	signed := r.Header.Get("Authorization")
	s := g.sockets[conn]
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
	_, _ = io.WriteString(w, `{"message":"`+secret+`"}`) // the asker may be gone
}

func (g *gateway) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s := g.called(w, r)
	switch {
	case s == nil:
	case len(body) > gatewayMessage:
		refuse(w, http.StatusRequestEntityTooLarge, "PayloadTooLargeException")
	case !json.Valid(body) || len(body) > gatewayFrame:
		g.t.Errorf("a frame of %d bytes is %.200s", len(body), body)
	default:
		if err := s.write(body); err != nil {
			refuse(w, http.StatusGone, "GoneException")
		}
	}
}

func (g *gateway) delete(w http.ResponseWriter, r *http.Request) {
	if s := g.called(w, r); s != nil {
		g.mu.Lock()
		delete(g.sockets, r.PathValue("conn"))
		g.mu.Unlock()
		s.close(websocket.StatusNormalClosure)
		w.WriteHeader(http.StatusNoContent)
	}
}

// lose forgets a socket without a word to anyone.
func (g *gateway) lose(conn string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sockets[conn]; s != nil {
		s.silent = true
		delete(g.sockets, conn)
		g.lost = append(g.lost, s)
	}
}

// hold opens a socket that no client holds, and returns what is posted to it.
func (g *gateway) hold(conn string) *held {
	h := &held{}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sockets[conn] = &socket{write: h.write, close: h.close}
	return h
}

// held is what became of a socket that no client holds.
type held struct {
	mu     sync.Mutex
	frames []fields
	closed bool
}

// told is what was posted to it so far, and whether it is closed.
func (h *held) told() ([]fields, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.frames), h.closed
}

func (h *held) close(websocket.StatusCode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

func (h *held) write(frame []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var f fields
	if h.closed || json.Unmarshal(frame, &f) != nil {
		return errors.New("it is closed, or this is no frame")
	}
	h.frames = append(h.frames, f)
	return nil
}
