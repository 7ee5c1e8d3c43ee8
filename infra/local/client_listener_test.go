package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/events"
	liveclient "parley/functions/live/client"
	"parley/functions/wire"
)

// listener is an application that records the updates of a client.
type listener struct {
	*liveclient.Client
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each update
	status   liveclient.Status
	statuses []string
	resets   int
	messages map[string]map[events.ID]bool // of each room
	events   map[string][]events.Event     // delivered since the last reset, by room
	seen     map[string]bool               // delivered since the last reset
	typing   []string
	before   func(ctx context.Context, u liveclient.Update) error // called first, if not nil
}

// options returns the options of a user's client of some endpoints: 0 is the global one.
func (r *running) options(user string, at ...int) liveclient.Options {
	token := r.at(0, user).token
	o := liveclient.Options{User: user, Token: func(context.Context) (string, error) { return token, nil }}
	for _, i := range at {
		o.Endpoints = append(o.Endpoints, r.url(i))
	}
	return o
}

// listen runs a client until the end of the test.
func listen(t testing.TB, o liveclient.Options) *listener {
	t.Helper()
	l := newListener(t, o)
	l.start()
	t.Cleanup(l.stop)
	return l
}

func newListener(t testing.TB, o liveclient.Options) *listener {
	t.Helper()
	c, err := liveclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &listener{
		Client: c, t: t, changed: make(chan struct{}),
		messages: map[string]map[events.ID]bool{}, events: map[string][]events.Event{}, seen: map[string]bool{},
	}
}

func (l *listener) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.ended = cancel, make(chan error, 1)
	go func() { l.ended <- l.Run(ctx, l.handle) }()
}

// stop ends the client; it may have been stopped.
func (l *listener) stop() {
	l.t.Helper()
	l.cancel()
	select {
	case err, ok := <-l.ended:
		if !ok {
			return
		}
		if err != context.Canceled {
			l.t.Errorf("Run ended with %v", err)
		}
		close(l.ended)
	case <-time.After(stopsWithin):
		l.t.Fatalf("the client does not stop:\n%s", goroutines())
	}
}

func (l *listener) handle(ctx context.Context, u liveclient.Update) error {
	if l.before != nil {
		if err := l.before(ctx, u); err != nil {
			return err
		}
	}
	var loaded map[string]map[events.ID]bool
	if _, reset := u.(liveclient.Reset); reset {
		var err error
		if loaded, err = l.load(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch u := u.(type) {
	case liveclient.Event:
		l.record(u)
	case liveclient.Reset:
		l.resets++
		l.messages, l.events, l.seen = loaded, map[string][]events.Event{}, map[string]bool{}
	case liveclient.Status:
		l.status = u
		l.statuses = append(l.statuses, strings.TrimSpace(fmt.Sprint(u.State, " ", u.Over)))
	case liveclient.Typing:
		l.typing = append(l.typing, u.User)
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// load loads all messages of all rooms.
func (l *listener) load(ctx context.Context) (map[string]map[events.ID]bool, error) {
	all := map[string]map[events.ID]bool{}
	rooms, err := l.Rooms(ctx)
	for _, room := range rooms {
		all[room.ID] = map[events.ID]bool{}
		for page := (liveclient.Page{Limit: 200}); err == nil; {
			var got []wire.Message
			if got, err = l.Messages(ctx, room.ID, page); len(got) == 0 {
				break
			}
			for _, m := range got {
				all[room.ID][m.ID] = true
			}
			page.Before = got[0].ID
		}
	}
	return all, err
}

// record records an event, which must not have been delivered since the last reset.
func (l *listener) record(e liveclient.Event) {
	key := fmt.Sprintf("%s %s %T %v", e.Stream, e.ID, e.Payload, e.Payload) // two events may share an id
	if l.seen[key] {
		l.t.Errorf("%s got %s twice", l.User(), e.ID)
	}
	l.seen[key] = true
	l.events[e.Room] = append(l.events[e.Room], e.Event)
	if e.Type == "message.posted" {
		l.has(e.Room)[e.ID] = true
	}
}

// has returns the messages of a room that the application has loaded or got.
func (l *listener) has(room string) map[events.ID]bool {
	if l.messages[room] == nil {
		l.messages[room] = map[events.ID]bool{}
	}
	return l.messages[room]
}

// await waits until a condition holds.
func (l *listener) await(what string, holds func() bool) {
	l.t.Helper()
	late := time.After(time.Minute)
	for {
		l.mu.Lock()
		ok, changed := holds(), l.changed
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Fatalf("%s never came; status %+v after %v", what, l.status, l.statuses)
		}
	}
}

// live waits until the client is live.
func (l *listener) live() {
	l.t.Helper()
	l.await("live", func() bool { return l.status.State == liveclient.Live })
}

// texts returns the texts of the messages posted to a room, in the order of delivery.
func (l *listener) texts(room string) (texts []string) {
	for _, e := range l.events[room] {
		if p, ok := e.Payload.(events.MessagePosted); ok {
			texts = append(texts, p.Text.Text())
		}
	}
	return texts
}

// post posts a message, which must be accepted.
func (l *listener) post(room, text string) wire.Message {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := l.Send(ctx, room, text)
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

// create creates a room.
func (l *listener) create(name string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	room, err := l.CreateRoom(ctx, liveclient.NewRoom{Name: name})
	if err != nil {
		l.t.Fatal(err)
	}
	return room.ID
}

// join joins a room.
func (l *listener) join(room string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Join(ctx, room); err != nil {
		l.t.Fatal(err)
	}
}
