package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
)

// serveBare serves the limit that Parley is held against: a net/http handler that decodes the
// same JSON, commits the same bytes to Pebble with fsync, and answers 201 with JSON. It checks
// nothing and does nothing else.
func serveBare(ctx context.Context, addr, dir string) error {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/rooms/{room}/messages", func(w http.ResponseWriter, r *http.Request) {
		if err := barePost(db, w, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	sockets := &bareSockets{}
	mux.Handle("GET /v1/live", sockets)
	mux.HandleFunc("POST /broadcast", sockets.broadcast)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return db.Close()
}

func barePost(db *pebble.DB, w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	stored := events.Stored{Stream: "room/" + r.PathValue("room"), Type: "message.posted/1", Actor: "user-00", Region: "us-east-1", Data: string(data)}
	key := append([]byte("e/"+stored.Stream+"/"), id...)
	value := []byte(stored.Type + stored.Actor + stored.Region + stored.Data)
	if err := db.Set(key, value, pebble.Sync); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	return json.NewEncoder(w).Encode(stored)
}

// quiet drops Pebble's reports of its routine work.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, _ ...any) { panic("pebble: " + format) }
