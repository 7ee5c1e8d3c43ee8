package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"parley/functions/live"
)

// sockets keep the frames that were posted to each.
type sockets struct {
	mu     sync.Mutex
	frames map[string][]frame
	codes  map[string]live.Code // of those that were closed
	fail   map[string]error     // what posting to a socket fails with
}

func newSockets() *sockets {
	return &sockets{frames: map[string][]frame{}, codes: map[string]live.Code{}, fail: map[string]error{}}
}

// frame is a frame as a client reads it.
type frame struct {
	Type, Room, User, Region, Stream, Cursor, Code string
	Ref                                            json.RawMessage
	Position, Own                                  uint64
	Rooms                                          []string
	Positions                                      map[string]uint64
	Event                                          struct {
		ID, Stream, Type, Actor string
		Data                    json.RawMessage
	}
	Message struct {
		ID   string
		Text *string
	}
	Problem struct {
		Code   string
		Status int
		Errors []struct{ Field, Reason string }
	}
	Repeat, Part, More, Reset, Partial bool

	size int
}

func (s *sockets) Post(ctx context.Context, conn string, f live.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(ctx.Err(), s.fail[conn]); err != nil {
		return err
	}
	if _, closed := s.codes[conn]; closed {
		return live.ErrGone
	}
	text := f.Bytes()
	var got frame
	if err := json.Unmarshal(text, &got); err != nil {
		return fmt.Errorf("a frame is no JSON: %q", text)
	}
	got.size = len(text)
	s.frames[conn] = append(s.frames[conn], got)
	return nil
}

func (s *sockets) Close(_ context.Context, conn string, code live.Code) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, closed := s.codes[conn]; closed {
		return live.ErrGone
	}
	s.codes[conn] = code
	return nil
}

// take returns what was posted to a socket since it was last asked.
func (s *sockets) take(conn string) []frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := s.frames[conn]
	s.frames[conn] = nil
	return frames
}

func (s *sockets) code(conn string) live.Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes[conn]
}

// socket is a client's.
type socket struct {
	r  *region
	id string
}

var socketIDs int

// open opens a socket with a token in its handshake, and greets.
func (c *client) open() *socket {
	c.r.t.Helper()
	socketIDs++
	s := &socket{c.r, fmt.Sprint("socket-", socketIDs)}
	must(c.r.t, c.r.live.Connect(context.Background(), s.id, http.Header{"Authorization": {"Bearer " + c.token}}))
	if hello := s.ask(`{"action":"auth"}`); hello.Type != "hello" || hello.User != c.user || hello.Region != c.r.name {
		c.r.t.Fatalf("the hello is %+v", hello)
	}
	return s
}

// listen opens a socket that listens to all of its user's rooms.
func (c *client) listen() *socket {
	c.r.t.Helper()
	s := c.open()
	s.ask(`{"action":"subscribe"}`).is(c.r.t, "subscribed")
	return s
}

// send sends a frame and returns all that came since the last look.
func (s *socket) send(text string) []frame {
	s.r.t.Helper()
	must(s.r.t, s.r.live.Frame(context.Background(), s.id, []byte(text)))
	return s.take()
}

// ask sends a frame and returns its one answer.
func (s *socket) ask(text string) frame {
	s.r.t.Helper()
	frames := s.send(text)
	if len(frames) != 1 {
		s.r.t.Fatalf("%.80s is answered by %+v, and closes with %q", text, frames, s.r.sockets.code(s.id))
	}
	return frames[0]
}

// refused sends a frame that is answered with an error.
func (s *socket) refused(text, code, field string) {
	s.r.t.Helper()
	f := s.ask(text)
	fields := []string{}
	for _, e := range f.Problem.Errors {
		fields = append(fields, e.Field)
	}
	if f.Type != "error" || f.Problem.Code != code || field != "" && !slices.Contains(fields, field) {
		s.r.t.Errorf("%.80s is answered with %+v, want %s of %q", text, f, code, field)
	}
}

// closed fails the test unless the socket was closed with a code, and forgotten.
func (s *socket) closed(code live.Code) {
	s.r.t.Helper()
	if got := s.r.sockets.code(s.id); got != code {
		s.r.t.Errorf("the socket is closed with %q, want %q", got, code)
	}
	if _, err := s.r.live.Connections.Get(context.Background(), s.id); !errors.Is(err, live.ErrGone) {
		s.r.t.Errorf("the connection is still known: %v", err)
	}
}

func (s *socket) take() []frame { return s.r.sockets.take(s.id) }

// events returns the types of the events that have come, and fails at any other frame.
func (s *socket) events() []string {
	s.r.t.Helper()
	types := []string{}
	for _, f := range s.take() {
		f.is(s.r.t, "event")
		types = append(types, f.Event.Type)
	}
	return types
}

func (f frame) is(t testing.TB, kind string) frame {
	t.Helper()
	if f.Type != kind {
		t.Fatalf("the frame is %+v, want %s", f, kind)
	}
	return f
}
