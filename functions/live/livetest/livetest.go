// Package livetest is the contract of [live.Connections] as a test suite, for every driver.
package livetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/functions/live"
)

// Run holds a driver against the contract. Open returns it with no connections; it may be the same
// one each time, as long as nobody else uses it.
func Run(t *testing.T, open func(t *testing.T) live.Connections) {
	t.Run("Model", func(t *testing.T) { t.Parallel(); testModel(t, open(t)) })
	t.Run("SideBySide", func(t *testing.T) { t.Parallel(); testSideBySide(t, open(t)) })
	t.Run("Gone", func(t *testing.T) { t.Parallel(); testGone(t, open(t)) })
}

// model is what connections are, written as plainly as can be.
type model map[string]*known

type known struct {
	live.Connection
	rooms map[string]bool
}

var tries atomic.Int64 // makes each try of a property use names of its own

func testModel(t *testing.T, c live.Connections) {
	begin := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		try := tries.Add(1)
		name := func(kind string, n int) string { return fmt.Sprintf("%s-%d-%d", kind, try, n) }
		m := model{}
		conn := rapid.Custom(func(t *rapid.T) string { return name("conn", rapid.IntRange(0, 3).Draw(t, "n")) })
		user := rapid.Custom(func(t *rapid.T) string { return name("user", rapid.IntRange(0, 1).Draw(t, "n")) })
		room := rapid.Custom(func(t *rapid.T) string { return name("room", rapid.IntRange(0, 4).Draw(t, "n")) })
		rooms := rapid.SliceOfN(room, 0, 4)
		scopes := rapid.SliceOfN(rapid.StringMatching(`[a-z:/.]{1,8}`), 0, 3)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				at := begin.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "at")) * time.Minute)
				p := live.Connection{ID: conn.Draw(t, "conn"), Opened: at, Seen: at}
				if rapid.Bool().Draw(t, "known") {
					p.User, p.Scopes, p.Expires = user.Draw(t, "user"), scopes.Draw(t, "scopes"), at.Add(time.Hour)
				}
				if there := m[p.ID]; there != nil {
					if there.User != "" || len(there.rooms) > 0 || there.Revision > 0 {
						return // an id is given once, and gets its user once
					}
				}
				must(t, c.Put(ctx, p))
				m[p.ID] = &known{p, map[string]bool{}}
			},
			"delete": func(t *rapid.T) {
				id := conn.Draw(t, "conn")
				must(t, c.Delete(ctx, id))
				delete(m, id)
			},
			"subscribe": func(t *rapid.T) {
				id, all, some := conn.Draw(t, "conn"), rapid.Bool().Draw(t, "all"), rooms.Draw(t, "rooms")
				there := m[id]
				switch {
				case there == nil:
					wants(t, c.Subscribe(ctx, id, 0, all, some...), live.ErrGone)
				case rapid.Bool().Draw(t, "late"):
					wants(t, c.Subscribe(ctx, id, there.Revision+1, all, some...), live.ErrChanged)
				default:
					must(t, c.Subscribe(ctx, id, there.Revision, all, some...))
					there.All = there.All || all
					for _, r := range some {
						there.rooms[r] = true
					}
				}
			},
			"unsubscribe": func(t *rapid.T) {
				id, some := conn.Draw(t, "conn"), rooms.Draw(t, "rooms")
				must(t, c.Unsubscribe(ctx, id, some...))
				if there := m[id]; there != nil {
					there.Revision++
					for _, r := range some {
						delete(there.rooms, r)
					}
				}
			},
			"unsubscribe all": func(t *rapid.T) {
				id := conn.Draw(t, "conn")
				must(t, c.UnsubscribeAll(ctx, id))
				if there := m[id]; there != nil {
					there.Revision++
					there.All, there.rooms = false, map[string]bool{}
				}
			},
			"look": func(t *rapid.T) { m.check(t, c, name) },
		})
		m.check(t, c, name)
	})
}

// check compares all that can be asked.
func (m model) check(t *rapid.T, c live.Connections, name func(string, int) string) {
	ctx := context.Background()
	listeners, of := map[string][]string{}, map[string][]string{}
	for n := range 4 {
		id := name("conn", n)
		got, err := c.Get(ctx, id)
		want := m[id]
		if want == nil {
			wants(t, err, live.ErrGone)
			continue
		}
		must(t, err)
		if !same(got, want.Connection) {
			t.Fatalf("the connection is %+v, want %+v", got, want.Connection)
		}
		rooms, err := c.Rooms(ctx, id)
		must(t, err)
		if slices.Sort(rooms); !slices.Equal(rooms, slices.Sorted(maps.Keys(want.rooms))) {
			t.Fatalf("it listens to %q, want %v", rooms, want.rooms)
		}
		for r := range want.rooms {
			listeners[r] = append(listeners[r], fmt.Sprint(id, want.User, want.Expires.Unix()))
		}
		of[want.User] = append(of[want.User], id)
	}
	for n := range 5 {
		room := name("room", n)
		got, err := c.Listeners(ctx, room)
		must(t, err)
		var ids []string
		for _, l := range got {
			ids = append(ids, fmt.Sprint(l.Conn, l.User, l.Expires.Unix()))
		}
		if slices.Sort(ids); !slices.Equal(ids, listeners[room]) {
			t.Fatalf("to %s listen %q, want %q", room, ids, listeners[room])
		}
	}
	for n := range 2 {
		user := name("user", n)
		got, err := c.Of(ctx, user)
		must(t, err)
		var ids []string
		for _, g := range got {
			if ids = append(ids, g.ID); !same(g, m[g.ID].Connection) {
				t.Fatalf("a connection of %s is %+v, want %+v", user, g, m[g.ID].Connection)
			}
		}
		if slices.Sort(ids); !slices.Equal(ids, of[user]) {
			t.Fatalf("%s has %q, want %q", user, ids, of[user])
		}
	}
}

// same compares connections; a driver may round times down to seconds, but not when a token expires.
func same(a, b live.Connection) bool {
	near := func(a, b time.Time) bool { return a.Sub(b).Abs() < time.Second }
	return a.ID == b.ID && a.User == b.User && slices.Equal(a.Scopes, b.Scopes) && a.All == b.All && a.Revision == b.Revision &&
		a.Expires.Equal(b.Expires) && near(a.Opened, b.Opened) && near(a.Seen, b.Seen)
}

// testSideBySide: where rooms are subscribed and removed at the same time, no room comes back that was
// taken, and both directions agree.
func testSideBySide(t *testing.T, c live.Connections) {
	ctx := t.Context()
	rooms := []string{"side-0", "side-1", "side-2", "side-3"}
	for round := range 20 {
		id := fmt.Sprint("side-conn-", round)
		must(t, c.Put(ctx, live.Connection{ID: id, User: "side", Expires: time.Now().Add(time.Hour)}))
		var taken atomic.Bool // the first room, for good: nobody may subscribe to it then
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 5 {
					at, err := c.Get(ctx, id)
					some := rooms[1:]
					if !taken.Load() {
						some = rooms
					}
					if err == nil {
						err = c.Subscribe(ctx, id, at.Revision, false, some...)
					}
					if err != nil && !errors.Is(err, live.ErrChanged) {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			taken.Store(true)
			if err := c.Unsubscribe(ctx, id, rooms[0]); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		has, err := c.Rooms(ctx, id)
		must(t, err)
		if slices.Contains(has, rooms[0]) {
			t.Fatalf("round %d: a room came back that was taken", round)
		}
		for _, room := range rooms {
			listeners, err := c.Listeners(ctx, room)
			must(t, err)
			listens := slices.ContainsFunc(listeners, func(l live.Listener) bool { return l.Conn == id })
			if listens != slices.Contains(has, room) {
				t.Fatalf("round %d: the connection has %q, and of %s it is said %v", round, has, room, listens)
			}
		}
	}
}

// testGone: of a connection that is gone nothing fails but what needs it, and nothing stays.
func testGone(t *testing.T, c live.Connections) {
	ctx := t.Context()
	must(t, c.Put(ctx, live.Connection{ID: "gone", User: "gone", Expires: time.Now().Add(time.Hour)}))
	must(t, c.Subscribe(ctx, "gone", 0, true, "gone"))
	must(t, c.Delete(ctx, "gone"))
	must(t, c.Delete(ctx, "gone"))
	must(t, c.Touch(ctx, "gone", time.Now()))
	must(t, c.Unsubscribe(ctx, "gone", "gone"))
	must(t, c.UnsubscribeAll(ctx, "gone"))
	wants(t, c.Subscribe(ctx, "gone", 0, true, "gone"), live.ErrGone)
	rooms, err := c.Rooms(ctx, "gone")
	must(t, err)
	listeners, err := c.Listeners(ctx, "gone")
	must(t, err)
	of, err := c.Of(ctx, "gone")
	must(t, err)
	if len(rooms)+len(listeners)+len(of) > 0 {
		t.Errorf("of a connection that is gone there stay %q, %v, %v", rooms, listeners, of)
	}
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t rapid.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("the error is %v, want %v", err, want)
	}
}
