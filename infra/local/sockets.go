package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"parley/functions/api"
	"parley/functions/live"
)

// sockets serves GET /v1/live and implements [live.Sockets], as API Gateway does on AWS. Each socket
// has a queue, so that a slow client does not delay others.
type sockets struct {
	handler *live.Handler
	limits  live.Limits
	failing func() bool // reports whether new sockets are closed at once
	log     *slog.Logger

	queued      int64         // see maxQueued
	queuedBytes int64         // see maxQueuedBytes
	writeWithin time.Duration // see maxWrite

	mu      sync.RWMutex
	open    map[string]*socket
	closed  bool // no socket is added any more
	serving sync.WaitGroup
}

const (
	// maxQueued and maxQueuedBytes bound the frames queued for one socket. Sockets share the content of
	// frames that go to several.
	maxQueued      = 4096
	maxQueuedBytes = 1 << 20
	// queuedOfOwn and bytesOfOwn are the length of the queue from which on a client's own frames wait until
	// it has read. What a frame is answered with has less than half of maxQueuedBytes.
	queuedOfOwn = 512
	bytesOfOwn  = 256 << 10
	// maxWrite bounds the time a client may take to read a frame.
	maxWrite = 10 * time.Second
	// byeWithin bounds the time a client may take to read why its socket is closed.
	byeWithin = time.Second
)

var errSlow = errors.New("queue of this socket is full")

func newSockets(limits live.Limits, failing func() bool, log *slog.Logger) *sockets {
	return &sockets{
		limits: limits, failing: failing, log: log, queued: maxQueued, queuedBytes: maxQueuedBytes, writeWithin: maxWrite, open: map[string]*socket{},
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
	ctx := context.WithoutCancel(r.Context()) // the server cancels it once the connection is hijacked
	if err := s.handler.Connect(ctx, id, r.Header); err != nil {
		refuse(w, api.ProblemOf(err, time.Now()))
		return
	}
	pings := rate.NewLimiter(rate.Limit(s.limits.PerSecond), s.limits.Burst)
	below := &hijacked{ResponseWriter: w}
	conn, err := websocket.Accept(below, r, &websocket.AcceptOptions{
		Subprotocols: []string{live.Protocol},
		// As many pings of the protocol are answered as frames are accepted.
		OnPingReceived: func(context.Context, []byte) bool { return pings.Allow() },
	})
	if err == nil {
		s.serve(ctx, &socket{sockets: s, id: id, conn: conn, raw: below.conn, wake: make(chan struct{}, 1), drained: make(chan struct{}, 1), written: make(chan struct{})})
	}
	if err := s.handler.Disconnect(ctx, id); err != nil {
		s.log.WarnContext(ctx, "delete a connection", "error", err)
	}
}

// hijacked keeps the connection below a WebSocket. While [websocket.Conn.Close] waits for the client to close,
// for up to 5 s if nothing else is reading, nothing ends it but the end of that connection.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements [http.Hijacker].
func (h *hijacked) Hijack() (conn net.Conn, buffered *bufio.ReadWriter, err error) {
	conn, buffered, err = http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, buffered, err
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
	if s.failing() { // it may have started to fail after closeAll
		_ = s.Close(ctx, k.id, live.CodeGoingAway)
	}
	s.serving.Go(func() {
		k.write(ctx, func() {
			cancel()
			_ = k.raw.Close() // it may be closed already
		})
	})

	idle := time.AfterFunc(s.limits.Idle, func() { _ = s.Close(ctx, k.id, live.CodeIdle) })
	defer idle.Stop()
	defer time.AfterFunc(s.limits.Life, func() { _ = s.Close(ctx, k.id, live.CodeLife) }).Stop()
	defer time.AfterFunc(s.limits.Auth, func() {
		if c, err := s.handler.Connections.Get(ctx, k.id); err == nil && c.User == "" {
			_ = s.Close(ctx, k.id, live.CodeUnauthorized)
		}
	}).Stop()

	k.conn.SetReadLimit(int64(4 * s.limits.FrameBytes)) // a frame that is a little too large is answered with a bye
	for {
		kind, data, err := k.conn.Read(ctx)
		if err != nil {
			return
		}
		idle.Reset(s.limits.Idle)
		switch {
		case kind != websocket.MessageText:
			_ = s.Close(ctx, k.id, live.CodeBadFrame)
			continue
		case !utf8.Valid(data): // RFC 6455, 8.1
			k.end(live.CodeBadFrame, websocket.StatusInvalidFramePayloadData)
			continue
		}
		if !k.waitQueued(ctx, queuedOfOwn, bytesOfOwn) {
			return
		}
		if err := s.handler.Frame(ctx, k.id, data); err != nil {
			s.log.WarnContext(ctx, "answer a frame", "error", err)
			return
		}
	}
}

func (s *sockets) find(id string) *socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.open[id]
}

// add adds a socket, unless the process stops.
func (s *sockets) add(k *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
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

// Close implements [live.Sockets]. Queued frames are sent first, except to a slow client.
func (s *sockets) Close(_ context.Context, id string, code live.Code) error {
	k := s.find(id)
	if k == nil {
		return live.ErrGone
	}
	k.end(code, websocket.StatusCode(code.Status()))
	return nil
}

// closeAll closes all sockets that are open.
func (s *sockets) closeAll(code live.Code) {
	for _, k := range s.all() {
		k.end(code, websocket.StatusCode(code.Status()))
	}
}

func (s *sockets) all() []*socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.open))
}

// close closes all sockets, accepts no more, and returns when all their handlers have ended. Clients that
// have not read what is queued after drainFor are cut off.
func (s *sockets) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.closeAll(live.CodeGoingAway)
	defer time.AfterFunc(drainFor, func() {
		for _, k := range s.all() {
			_ = k.conn.CloseNow() // it may be closed already
		}
	}).Stop()
	s.serving.Wait()
}

// socket is one client's connection. Frames wait in its queue until those before are written.
type socket struct {
	sockets *sockets
	id      string
	conn    *websocket.Conn
	raw     net.Conn      // below conn
	wake    chan struct{} // holds one if there are frames to write
	drained chan struct{} // holds one if a frame was written
	written chan struct{} // closed when no more frames are written

	mu      sync.Mutex
	queue   []live.Frame
	code    live.Code // why it is closed; "" while it is open
	status  websocket.StatusCode
	waiting atomic.Int64
	bytes   atomic.Int64 // of those that wait
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
	case k.waiting.Load() >= k.sockets.queued, k.bytes.Load() >= k.sockets.queuedBytes:
		return errSlow
	}
	k.queue = append(k.queue, f)
	k.waiting.Add(1)
	k.bytes.Add(int64(f.Len()))
	poke(k.wake)
	return nil
}

// end closes the socket once its queue is written.
func (k *socket) end(code live.Code, status websocket.StatusCode) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.code != "" {
		return
	}
	if k.code, k.status = code, status; code == live.CodeSlow {
		k.queue = nil
	}
	poke(k.wake)
}

// takeQueue returns the queue and replaces it by an empty slice.
func (k *socket) takeQueue(free []live.Frame) ([]live.Frame, live.Code) {
	k.mu.Lock()
	defer k.mu.Unlock()
	taken := k.queue
	k.queue = free
	return taken, k.code
}

// waitQueued waits until fewer frames and bytes are queued. It returns false if ctx or write ends before:
// what is queued then stays queued.
func (k *socket) waitQueued(ctx context.Context, frames, bytes int64) bool {
	for k.waiting.Load() >= frames || k.bytes.Load() >= bytes {
		select {
		case <-k.drained:
		case <-k.written:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// write writes queued frames until the socket is closed. abandon cancels ctx and ends the connection.
func (k *socket) write(ctx context.Context, abandon func()) {
	defer close(k.written)
	var text []byte
	var frames []live.Frame
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
		var code live.Code
		frames, code = k.takeQueue(frames[:0])
		for _, f := range frames {
			text = f.Append(text[:0])
			if err := k.send(ctx, text, k.sockets.writeWithin); err != nil {
				_ = k.conn.CloseNow() // the client does not read, or is gone; serve returns
				return
			}
			k.waiting.Add(-1)
			k.bytes.Add(-int64(f.Len()))
			poke(k.drained)
		}
		if code != "" {
			_ = k.send(ctx, code.Bye().Append(text[:0]), byeWithin) // the client may have stopped reading
			defer time.AfterFunc(byeWithin, abandon).Stop()         // do not wait for a client that does not close
			k.mu.Lock()
			status := k.status
			k.mu.Unlock()
			_ = k.conn.Close(status, string(code))
			return
		}
	}
}

func (k *socket) send(ctx context.Context, text []byte, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return k.conn.Write(ctx, websocket.MessageText, text)
}
