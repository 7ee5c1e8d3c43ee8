package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/events"
)

// TestPartial fetches an event that did not fit into a frame by a poll.
func TestPartial(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		region := &modelRegion{name: "one", tops: map[string]uint64{}, heard: map[events.ID]uint64{}}
		happens := make(chan bool)
		api := &fakeAPI{region: "one", sync: func(r *http.Request) any {
			if len(region.journal) == 0 || r.URL.Query().Get("cursor") == "behind" {
				return quiet(r)
			}
			return syncPage{Events: region.journal, Cursor: "behind"}
		}}
		api.live = func(conn *websocket.Conn) {
			go func() {
				if !<-happens {
					return
				}
				region.take(posted(t, modelRooms[0]))
				h := region.journal[0]
				h.Partial = true
				h.Event = []byte(fmt.Sprintf(`{"id":%q,"stream":%q,"type":"message.posted","version":1,"actor":"bob","region":"one"}`, region.ids[0], h.Stream))
				say(conn, frame{Type: "event", wireHappened: h, Cursor: "live"})
			}()
			answerAll(conn)
		}
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &told{}
		stop := start(c, app.handle)
		time.Sleep(time.Second)
		app.since()
		happens <- true
		time.Sleep(time.Minute)
		close(happens)
		expect(t, app.since(), "catching up  ", "event "+region.ids[0].String(), "live one poll", "catching up one ", "live one socket")
		_ = stop()
	})
}

// TestStrayed loads again what was loaded from another region than the one that tells.
func TestStrayed(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		api := &fakeAPI{region: "one", sync: quiet, live: answerAll}
		strange := 2
		api.other = func(w http.ResponseWriter, _ *http.Request) {
			if strange--; strange >= 0 {
				w.Header().Set("Parley-Region", "two")
			}
			_, _ = w.Write([]byte(`{"rooms":[]}`))
		}
		n.serve(t, "global", api)
		c, app := n.client(t, "global"), &told{}
		stop := start(c, func(ctx context.Context, u Update) error {
			if _, ok := u.(Reset); ok {
				if _, err := c.Rooms(ctx); err != nil {
					return err
				}
			}
			return app.handle(ctx, u)
		})
		time.Sleep(time.Minute)
		expect(t, app.since(), "catching up one ", "client.Reset", "client.Reset", "client.Reset", "live one socket")
		_ = stop()
	})
}

// TestHandlerError ends Run; what was not handled is told by the next one.
func TestHandlerError(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		region := &modelRegion{name: "one", tops: map[string]uint64{}, heard: map[events.ID]uint64{}}
		for range 3 {
			region.take(posted(t, modelRooms[0]))
		}
		api := &fakeAPI{region: "one", sync: func(r *http.Request) any {
			if q := r.URL.Query().Get("cursor"); q == "" || q == "behind" {
				return quiet(r)
			}
			return syncPage{Events: region.journal, Cursor: "behind"}
		}}
		api.deaf.Store(true)
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &told{}
		broken := errors.New("the disk is full")
		left := 2
		failing := start(c, func(ctx context.Context, u Update) error {
			if _, ok := u.(Event); ok {
				if left--; left < 0 {
					return broken
				}
			}
			return app.handle(ctx, u)
		})
		time.Sleep(time.Second)
		if err := failing(); err != broken {
			t.Errorf("Run returned %v", err)
		}
		stop := start(c, app.handle)
		time.Sleep(time.Second)
		got := slices.DeleteFunc(app.since(), func(s string) bool { return !strings.HasPrefix(s, "event") })
		var want []string
		for _, id := range region.ids {
			want = append(want, "event "+id.String())
		}
		expect(t, got, want...)
		_ = stop()
	})
}

// TestTokens asks for a token when the last one has expired, and ends when a new one is refused.
func TestTokens(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		api := &fakeAPI{region: "one"}
		good := "Bearer token-1"
		api.sync = func(r *http.Request) any {
			if r.Header.Get("Authorization") != good {
				return &Problem{Status: 401, Code: "unauthenticated"}
			}
			return quiet(r)
		}
		expired := make(chan bool)
		api.live = func(conn *websocket.Conn) {
			go answerAll(conn)
			if <-expired {
				say(conn, frame{Type: "bye", Code: "expired"})
			}
		}
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &told{}
		stop := start(c, app.handle)
		time.Sleep(time.Second)
		expect(t, app.since(), "catching up one ", "client.Reset", "live one socket")
		good = "Bearer token-2"
		expired <- true
		time.Sleep(2 * time.Second)
		expect(t, app.since(), "catching up  ", "catching up one ", "live one socket")
		good = "none"
		expired <- true
		time.Sleep(2 * time.Second)
		close(expired)
		if err := stop(); !IsProblem(err, "unauthenticated") {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestSlowLine asks for fewer events where a page does not come in time.
func TestSlowLine(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		api := &fakeAPI{region: "one", sync: func(r *http.Request) any {
			var limit int
			if _, err := fmt.Sscan(r.URL.Query().Get("limit"), &limit); err == nil && limit > 10 {
				<-r.Context().Done()
			}
			return quiet(r)
		}}
		api.deaf.Store(true)
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &told{}
		stop := start(c, app.handle)
		time.Sleep(2 * time.Minute)
		if got := app.since(); !slices.Contains(got, "live one poll") {
			t.Errorf("told %v", got)
		}
		_ = stop()
	})
}
