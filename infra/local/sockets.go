package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"parley/functions/api"
	"parley/functions/live"
)

// sockets serves GET /v1/live and implements [live.Sockets]: what API Gateway is on AWS. Each
// socket has a queue, so that nobody waits for one who reads slowly.
type sockets struct {
	handler *live.Handler
	limits  live.Limits
	failing func() bool // no new ones are taken
	log     *slog.Logger

	queued      int64         // see maxQueued
	writeWithin time.Duration // see maxWrite

	mu      sync.RWMutex
	open    map[string]*socket
	over    bool // no socket is added any more
	serving sync.WaitGroup
}

const (
	// maxQueued bounds the frames that wait for one socket. Many sockets share their content.
	maxQueued = 4096
	// queuedOfOwn is from where on a client's own frames are no longer handled until it has read.
	queuedOfOwn = 512
	// maxWrite bounds the time a client may take to read a frame.
	maxWrite = 10 * time.Second
	// byeWithin bounds the time a client may take to hear that its socket is closed.
	byeWithin = time.Second
)

var errSlow = errors.New("too much waits for this socket")

func newSockets(limits live.Limits, failing func() bool, log *slog.Logger) *sockets {
	return &sockets{
		limits: limits, failing: failing, log: log, queued: maxQueued, writeWithin: maxWrite, open: map[string]*socket{},
	}
}

// ServeHTTP implements [http.Handler]: it returns when the socket is closed.
func (s *sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sec-WebSocket-Key") == "" {
		w.Header().Set("Upgrade", "websocket")
		refuse(w, api.Fail(http.StatusUpgradeRequired, "upgrade_required", "this is a WebSocket (RFC 6455): connect to it with ws://"))
		return
	}
	id := rand.Text()
	ctx := context.WithoutCancel(r.Context()) // it is over for the server once the connection is taken over
	if err := s.handler.Connect(ctx, id, r.Header); err != nil {
		refuse(w, api.ProblemOf(err, time.Now()))
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{live.Protocol}})
	if err == nil {
		s.serve(ctx, &socket{sockets: s, id: id, conn: conn, wake: make(chan struct{}, 1), drained: make(chan struct{}, 1)})
	}
	if err := s.handler.Disconnect(ctx, id); err != nil {
		s.log.WarnContext(ctx, "a connection cannot be forgotten", "error", err)
	}
}

// serve reads frames until the socket is closed.
func (s *sockets) serve(ctx context.Context, k *socket) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.add(k) {
		_ = k.conn.Close(websocket.StatusGoingAway, string(live.CodeGoingAway))
		return
	}
	defer s.serving.Done()
	defer func() {
		s.mu.Lock()
		delete(s.open, k.id)
		s.mu.Unlock()
		_ = k.conn.CloseNow() // it may be closed already
	}()
	if s.failing() { // it may have begun to after all were closed
		_ = s.Close(ctx, k.id, live.CodeGoingAway)
	}
	s.serving.Go(func() { k.write(ctx, cancel) })

	idle := time.AfterFunc(s.limits.Idle, func() { _ = s.Close(ctx, k.id, live.CodeIdle) })
	defer idle.Stop()
	defer time.AfterFunc(s.limits.Life, func() { _ = s.Close(ctx, k.id, live.CodeLife) }).Stop()
	defer time.AfterFunc(s.limits.Auth, func() {
		if c, err := s.handler.Connections.Get(ctx, k.id); err == nil && c.User == "" {
			_ = s.Close(ctx, k.id, live.CodeUnauthorized)
		}
	}).Stop()

	k.conn.SetReadLimit(int64(4 * s.limits.FrameBytes)) // one that is a little too large gets a bye
	for {
		kind, data, err := k.conn.Read(ctx)
		if err != nil {
			return
		}
		idle.Reset(s.limits.Idle)
		if kind != websocket.MessageText {
			_ = s.Close(ctx, k.id, live.CodeBadFrame)
			continue
		}
		if !k.waitFor(ctx, queuedOfOwn) {
			return
		}
		if err := s.handler.Frame(ctx, k.id, data); err != nil {
			s.log.WarnContext(ctx, "a frame could not be answered", "error", err)
			return
		}
	}
}

func (s *sockets) find(id string) *socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.open[id]
}

// add takes note of a socket, unless the process ends.
func (s *sockets) add(k *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.serving.Add(1)
	s.open[k.id] = k
	return true
}

// Post implements [live.Sockets].
func (s *sockets) Post(_ context.Context, id string, f live.Frame) error {
	if k := s.find(id); k != nil {
		return k.put(f)
	}
	return live.ErrGone
}

// Close implements [live.Sockets]. What waits is sent first, but for a slow client.
func (s *sockets) Close(_ context.Context, id string, code live.Code) error {
	k := s.find(id)
	if k == nil {
		return live.ErrGone
	}
	k.end(code)
	return nil
}

// closeAll closes all sockets that are open.
func (s *sockets) closeAll(code live.Code) {
	for _, k := range s.all() {
		k.end(code)
	}
}

func (s *sockets) all() []*socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.open))
}

// close closes all sockets, takes no more and returns when nobody works on one.
func (s *sockets) close() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.closeAll(live.CodeGoingAway)
	s.serving.Wait()
}

// socket is one client's. Frames wait in its queue until it has read those before.
type socket struct {
	sockets *sockets
	id      string
	conn    *websocket.Conn
	wake    chan struct{} // holds one if there is something to write
	drained chan struct{} // holds one if something was written

	mu      sync.Mutex
	queue   []live.Frame
	code    live.Code // why it is closed; "" while it is not
	waiting atomic.Int64
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one already
	}
}

// put queues a frame.
func (k *socket) put(f live.Frame) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.code != "":
		return live.ErrGone
	case k.waiting.Load() >= k.sockets.queued:
		return errSlow
	}
	k.queue = append(k.queue, f)
	k.waiting.Add(1)
	poke(k.wake)
	return nil
}

// end closes the socket once its queue is written.
func (k *socket) end(code live.Code) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.code != "" {
		return
	}
	if k.code = code; code == live.CodeSlow {
		k.queue = nil
	}
	poke(k.wake)
}

// take takes all that waits.
func (k *socket) take(free []live.Frame) ([]live.Frame, live.Code) {
	k.mu.Lock()
	defer k.mu.Unlock()
	taken := k.queue
	k.queue = free
	return taken, k.code
}

// waitFor waits until fewer frames wait than a number, or ctx ends.
func (k *socket) waitFor(ctx context.Context, fewer int64) bool {
	for k.waiting.Load() >= fewer {
		select {
		case <-k.drained:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// write writes what is queued until the socket is closed. Abandon ends ctx, and all reading.
func (k *socket) write(ctx context.Context, abandon func()) {
	var text []byte
	var frames []live.Frame
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		var code live.Code
		frames, code = k.take(frames[:0])
		for _, f := range frames {
			text = f.Append(text[:0])
			if err := k.send(ctx, text, k.sockets.writeWithin); err != nil {
				_ = k.conn.CloseNow() // it does not read, or is gone: serve ends
				return
			}
			k.waiting.Add(-1)
			poke(k.drained)
		}
		if code != "" {
			_ = k.send(ctx, code.Bye().Append(text[:0]), byeWithin) // for those who still read
			defer time.AfterFunc(byeWithin, abandon).Stop()         // who does not answer is not waited for
			_ = k.conn.Close(websocket.StatusCode(code.Status()), string(code))
			return
		}
	}
}

func (k *socket) send(ctx context.Context, text []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return k.conn.Write(ctx, websocket.MessageText, text)
}
