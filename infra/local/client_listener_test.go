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
)

// listener is an application: it keeps what a client is told.
type listener struct {
	*liveclient.Client
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew with each update
	status   liveclient.Status
	statuses []string
	resets   int
	messages map[string]map[events.ID]bool // of each room
	told     map[string][]events.Event     // by room, since the last reset
	once     map[events.Key]bool           // that were told since the last reset
	typing   []string
	replaced int
	before   func(ctx context.Context, u liveclient.Update) error // called first, if not nil
}

// options are those of a user's client at some addresses of the server: 0 is the global endpoint.
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
		messages: map[string]map[events.ID]bool{}, told: map[string][]events.Event{}, once: map[events.Key]bool{},
	}
}

func (l *listener) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.ended = cancel, make(chan error, 1)
	go func() { l.ended <- l.Run(ctx, l.handle) }()
}

// stop ends the client; it may have been stopped.
func (l *listener) stop() {
	l.cancel()
	if err, ok := <-l.ended; ok {
		if err != context.Canceled {
			l.t.Errorf("Run ended with %v", err)
		}
		close(l.ended)
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
		l.keep(u)
	case liveclient.Reset:
		l.resets++
		l.messages, l.told, l.once = loaded, map[string][]events.Event{}, map[events.Key]bool{}
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
			var got []liveclient.Message
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

// keep keeps an event. It must not have been told since the last reset.
func (l *listener) keep(e liveclient.Event) {
	key := events.Key{Stream: e.Stream, ID: e.ID}
	if l.once[key] && !e.Replaced {
		l.t.Errorf("%s is told %s twice", l.User(), e.ID)
	}
	if l.once[key] = true; e.Replaced {
		l.replaced++
	}
	l.told[e.Room] = append(l.told[e.Room], e.Event)
	if e.Type == "message.posted" {
		l.has(e.Room)[e.ID] = true
	}
}

// has are the messages of a room as the application knows them: loaded, or told.
func (l *listener) has(room string) map[events.ID]bool {
	if l.messages[room] == nil {
		l.messages[room] = map[events.ID]bool{}
	}
	return l.messages[room]
}

// await waits until a condition holds.
func (l *listener) await(what string, holds func() bool) {
	l.t.Helper()
	late := time.After(30 * time.Second)
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

// live waits until the client is told all at once.
func (l *listener) live() {
	l.t.Helper()
	l.await("live", func() bool { return l.status.State == liveclient.Live })
}

// texts are the messages posted to a room, as they were told.
func (l *listener) texts(room string) (texts []string) {
	for _, e := range l.told[room] {
		if p, ok := e.Payload.(events.MessagePosted); ok {
			texts = append(texts, p.Text.Text())
		}
	}
	return texts
}

// post posts a message that must be accepted.
func (l *listener) post(room, text string) liveclient.Message {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m, err := l.Send(ctx, room, text)
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

// create makes a room.
func (l *listener) create(name string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
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
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Join(ctx, room); err != nil {
		l.t.Fatal(err)
	}
}
