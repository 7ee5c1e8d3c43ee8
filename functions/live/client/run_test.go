package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"parley/events"
	"parley/functions/wire"
)

// inTime runs a test in a bubble, where time is made up.
func inTime(t *testing.T, test func(t *testing.T, n *fakeNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, &fakeNet{}) })
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("updates\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOverSocket is how it should be: reset, catch up, live, and then pings.
func TestOverSocket(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		n.serve(t, "one", &fakeAPI{region: "one", sync: quiet, live: answerAll})
		c, app := n.client(t, "one"), &recorder{}
		stop := start(c, app.handle)
		time.Sleep(time.Second)
		expect(t, app.since(), "catching up one ", "client.Reset", "live one socket")
		if got := c.Cursor(); got != "caught up" {
			t.Errorf("the cursor is %q", got)
		}
		time.Sleep(time.Hour)
		expect(t, app.since())
		if got := c.Cursor(); got != "pong" {
			t.Errorf("the cursor is %q", got)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestNoSockets polls where there are no sockets, and looks for them ever more rarely.
func TestNoSockets(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		api := &fakeAPI{region: "one", sync: quiet, live: answerAll}
		api.deaf.Store(true)
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &recorder{}
		stop := start(c, app.handle)
		time.Sleep(time.Minute)
		if got := app.since(); got[len(got)-1] != "live one poll" {
			t.Errorf("the updates are %v", got)
		}
		before := api.counted("/v1/live")
		time.Sleep(10 * time.Hour)
		if tries := api.counted("/v1/live") - before; before > 4 || tries < 20 || tries > 60 {
			t.Errorf("it tried sockets %d times in the first minute, %d in 10 hours", before, tries)
		}
		api.deaf.Store(false)
		time.Sleep(31 * time.Minute)
		if got := app.since(); got[len(got)-1] != "live one socket" {
			t.Errorf("the last update is %v", got[len(got)-1])
		}
		_ = stop()
	})
}

// TestSilence leaves a socket that says nothing, and one that does not answer what it is asked.
func TestSilence(t *testing.T) {
	for name, live := range map[string]func(*websocket.Conn){
		"silent": func(conn *websocket.Conn) {
			for action := "?"; action != ""; {
				action, _ = receive(conn)
			}
		},
		"stuck": func(conn *websocket.Conn) {
			for {
				switch action, _ := receive(conn); action {
				case "":
					return
				case "ping":
					say(conn, wire.Frame{Type: "pong"})
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, n *fakeNet) {
				n.serve(t, "one", &fakeAPI{region: "one", sync: quiet, live: live})
				c, app := n.client(t, "one"), &recorder{}
				stop := start(c, app.handle)
				time.Sleep(3 * time.Minute)
				if got := app.since(); !slices.Contains(got, "live one poll") || slices.Contains(got, "live one socket") {
					t.Errorf("the updates are %v", got)
				}
				_ = stop()
			})
		})
	}
}

// TestFailover goes to the next endpoint when one is down, back when it is well, and says so when
// there is none.
func TestFailover(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		bye := make(chan bool)
		n.serve(t, "one", &fakeAPI{region: "one", sync: quiet, live: func(conn *websocket.Conn) {
			go answerAll(conn)
			<-bye
			say(conn, wire.Frame{Type: "bye", Code: "going_away"})
		}})
		n.serve(t, "two", &fakeAPI{region: "two", sync: quiet, live: answerAll})
		c, app := n.client(t, "one", "two"), &recorder{}
		stop := start(c, app.handle)
		time.Sleep(time.Minute)
		expect(t, app.since(), "catching up one ", "client.Reset", "live one socket")

		n.setDown("one", true)
		bye <- true
		time.Sleep(time.Second)
		expect(t, app.since(), "catching up  ", "catching up two ", "live two socket")
		time.Sleep(time.Hour)
		expect(t, app.since())

		n.setDown("one", false)
		time.Sleep(turnBackoff.Max + time.Second)
		expect(t, app.since(), "catching up  ", "catching up one ", "live one socket")

		n.setDown("one", true)
		n.setDown("two", true)
		bye <- true
		time.Sleep(time.Minute)
		expect(t, app.since(), "catching up  ", "offline  ")
		n.setDown("two", false)
		time.Sleep(turnBackoff.Max + time.Second)
		expect(t, app.since(), "catching up two ", "live two socket")
		_ = stop()
	})
}

// TestPartial fetches an event that did not fit into a frame by a poll.
func TestPartial(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		region := &modelRegion{name: "one", tops: map[events.Stream]uint64{}, heard: map[events.ID]uint64{}}
		happens := make(chan bool)
		api := &fakeAPI{region: "one", sync: func(r *http.Request) any {
			if len(region.journal) == 0 || r.URL.Query().Get("cursor") == "behind" {
				return quiet(r)
			}
			return pageOf("behind", region.journal...)
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
				say(conn, eventFrame(h, "live"))
			}()
			answerAll(conn)
		}
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &recorder{}
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

// TestStrayed loads again what was loaded from another region than the one that delivers.
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
		c, app := n.client(t, "global"), &recorder{}
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

// TestHandlerError ends Run; what was not handled is delivered by the next one.
func TestHandlerError(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		region := &modelRegion{name: "one", tops: map[events.Stream]uint64{}, heard: map[events.ID]uint64{}}
		for range 3 {
			region.take(posted(t, modelRooms[0]))
		}
		api := &fakeAPI{region: "one", sync: func(r *http.Request) any {
			if q := r.URL.Query().Get("cursor"); q == "" || q == "behind" {
				return quiet(r)
			}
			return pageOf("behind", region.journal...)
		}}
		api.deaf.Store(true)
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &recorder{}
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
				return &wire.Problem{Status: 401, Code: "unauthenticated"}
			}
			return quiet(r)
		}
		expired := make(chan bool)
		api.live = func(conn *websocket.Conn) {
			go answerAll(conn)
			if <-expired {
				say(conn, wire.Frame{Type: "bye", Code: "expired"})
			}
		}
		n.serve(t, "one", api)
		c, app := n.client(t, "one"), &recorder{}
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

// TestForgetStops does not wait for a token that another call asks for, once the context ends.
func TestForgetStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, cancelAsk := context.WithCancel(t.Context())
		defer cancelAsk()
		tokens := newTokens(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		go func() { _, _ = tokens.get(ask, "") }() // its error is that of the context
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tokens.forget(ctx)
	})
}

// livesByPolling fails if a client without a socket is not live after two minutes.
func (n *fakeNet) livesByPolling(t *testing.T, api *fakeAPI) {
	t.Helper()
	api.deaf.Store(true)
	n.serve(t, api.region, api)
	c, app := n.client(t, api.region), &recorder{}
	stop := start(c, app.handle)
	time.Sleep(2 * time.Minute)
	if got := app.since(); !slices.Contains(got, "live "+api.region+" poll") {
		t.Errorf("the updates are %v", got)
	}
	_ = stop()
}

// TestNewKey keeps its token where a region does not know the issuer's newest key yet.
func TestNewKey(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		begun := time.Now()
		api := &fakeAPI{region: "one", sync: func(r *http.Request) any {
			if got := r.Header.Get("Authorization"); got != "Bearer token-1" {
				t.Errorf("it comes with %s", got)
			}
			if time.Since(begun) < 5*time.Second {
				return &wire.Problem{Status: 401, Code: "unauthenticated", Retryable: true}
			}
			return quiet(r)
		}}
		n.livesByPolling(t, api)
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
		n.livesByPolling(t, api)
	})
}
