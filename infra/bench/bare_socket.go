package main

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/coder/websocket"
)

// bareSockets is the limit that telling sockets is held against: each body that is posted goes into
// the channel of every socket, and from there out. It checks nothing and keeps nothing.
type bareSockets struct {
	mu   sync.RWMutex
	open []chan []byte
}

// ServeHTTP serves a socket.
func (b *bareSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ctx := context.WithoutCancel(r.Context())
	if _, _, err := conn.Read(ctx); err != nil {
		return
	}
	frames := make(chan []byte, 1024)
	frames <- []byte(`{"type":"subscribed"}`)
	b.mu.Lock()
	b.open = append(b.open, frames)
	b.mu.Unlock()
	ctx = conn.CloseRead(ctx)
	for {
		select {
		case frame := <-frames:
			_ = conn.Write(ctx, websocket.MessageText, frame) // whoever is gone hears nothing
		case <-ctx.Done():
			return
		}
	}
}

// broadcast sends a body to all sockets.
func (b *bareSockets) broadcast(w http.ResponseWriter, r *http.Request) {
	frame, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, frames := range b.open {
		select {
		case frames <- frame:
		case <-r.Context().Done():
			return
		}
	}
}
