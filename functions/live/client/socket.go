package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

const (
	maxFrame  = 64 << 10 // bytes; a server sends at most half of it
	maxFrames = 32       // that are read ahead of the handler
	catchUpBy = 200      // events in one answer to a catchup
	moment    = time.Second
)

// What a client may send: below the server's 20 frames a second, and 100 after a pause.
const (
	framesPerSecond = 10
	framesAtOnce    = 50
)

// socket is one connection to GET /v1/live that has said hello.
type socket struct {
	conn    *websocket.Conn
	region  string
	frames  chan frame // closed when nothing more comes
	err     error      // why; set before frames is closed
	hurry   chan struct{}
	limiter *rate.Limiter
	timeout time.Duration
}

// byeError is why the server closed the socket.
type byeError struct{ code, detail string }

func (e *byeError) Error() string { return "the server closed the socket: " + e.code + ": " + e.detail }

// dial opens a socket and waits for its hello. The error is a [Problem] where the handshake was
// answered with one, or the server refused the token.
func dial(ctx context.Context, client *http.Client, url, token string, timeout time.Duration) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			text, _ := io.ReadAll(response.Body) // its beginning, which the library has kept
			return nil, problemOf(response.StatusCode, response.Header, text)
		}
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	conn.SetReadLimit(maxFrame)
	s := &socket{
		conn: conn, frames: make(chan frame, maxFrames), hurry: make(chan struct{}, 1),
		limiter: rate.NewLimiter(framesPerSecond, framesAtOnce), timeout: timeout,
	}
	if err := s.hello(ctx); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	return s, nil
}

// hello asks for the server's hello.
func (s *socket) hello(ctx context.Context) error {
	if err := s.send(ctx, map[string]any{"action": "auth", "ref": 0}); err != nil {
		return err
	}
	for {
		f, err := s.read(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("wait for hello: %w", err)
		case f.Type == "hello":
			s.region = f.Region
			return nil
		case f.Type == "error" || f.Type == "bye":
			return refusal(f)
		}
	}
}

// refusal is the error that a frame tells.
func refusal(f frame) error {
	switch {
	case f.Type == "error" && f.Problem != nil:
		return f.Problem
	case f.Code == "unauthorized" || f.Code == "expired":
		return &Problem{Status: http.StatusUnauthorized, Code: f.Code, Detail: f.Detail}
	default:
		return &byeError{f.Code, f.Detail}
	}
}

// send sends a frame, when it is time for another.
func (s *socket) send(ctx context.Context, what map[string]any) error {
	if err := s.limiter.Wait(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, text)
}

func (s *socket) read(ctx context.Context) (f frame, err error) {
	_, text, err := s.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, errors.New("a frame is not of this protocol")
	}
	return f, nil
}

// readAll puts what comes into frames until the socket or ctx ends. It reads no further than the
// handler is: a server that cannot send closes the socket. Silence that long, though pinged, means
// that nobody is there.
func (s *socket) readAll(ctx context.Context, silence time.Duration) {
	defer close(s.frames)
	for {
		limit, cancel := context.WithTimeout(ctx, silence)
		f, err := s.read(limit)
		cancel()
		if err != nil {
			s.err = err
			return
		}
		select {
		case s.frames <- f:
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
	}
}

// pingAll pings now and then, and a moment after something seemed to be missing, until ctx ends.
func (s *socket) pingAll(ctx context.Context, every time.Duration) {
	for {
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-s.hurry:
			_ = sleep(ctx, moment)
		case <-ctx.Done():
		}
		timer.Stop()
		if s.send(ctx, map[string]any{"action": "ping"}) != nil {
			return // whoever reads finds out why
		}
	}
}

// pingSoon makes the next ping come in a moment.
func (s *socket) pingSoon() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// Typing tells a room that the user is typing, if there is a socket just now.
func (c *Client) Typing(ctx context.Context, room string) {
	if s := c.socket.Load(); s != nil {
		_ = s.send(ctx, map[string]any{"action": "typing", "room": room})
	}
}
