package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// inTime runs a test in a bubble, where time is made up.
func inTime(t *testing.T, test func(t *testing.T, n *fakeNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, &fakeNet{}) })
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestOverSocket is how it should be: reset, catch up, live, and then pings.
func TestOverSocket(t *testing.T) {
	inTime(t, func(t *testing.T, n *fakeNet) {
		n.serve(t, "one", &fakeAPI{region: "one", sync: quiet, live: answerAll})
		c, app := n.client(t, "one"), &told{}
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
		c, app := n.client(t, "one"), &told{}
		stop := start(c, app.handle)
		time.Sleep(time.Minute)
		if got := app.since(); got[len(got)-1] != "live one poll" {
			t.Errorf("told %v", got)
		}
		before := api.counted("/v1/live")
		time.Sleep(10 * time.Hour)
		if tries := api.counted("/v1/live") - before; before > 4 || tries < 20 || tries > 60 {
			t.Errorf("it tried sockets %d times in the first minute, %d in 10 hours", before, tries)
		}
		api.deaf.Store(false)
		time.Sleep(31 * time.Minute)
		if got := app.since(); got[len(got)-1] != "live one socket" {
			t.Errorf("told in the end %v", got[len(got)-1])
		}
		_ = stop()
	})
}

// TestSilence leaves a socket that says nothing, and one that does not answer what it is asked.
func TestSilence(t *testing.T) {
	for name, live := range map[string]func(*websocket.Conn){
		"silent": func(conn *websocket.Conn) {
			for action := "?"; action != ""; {
				action, _ = hear(conn)
			}
		},
		"stuck": func(conn *websocket.Conn) {
			for {
				switch action, _ := hear(conn); action {
				case "":
					return
				case "ping":
					say(conn, frame{Type: "pong"})
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, n *fakeNet) {
				n.serve(t, "one", &fakeAPI{region: "one", sync: quiet, live: live})
				c, app := n.client(t, "one"), &told{}
				stop := start(c, app.handle)
				time.Sleep(3 * time.Minute)
				if got := app.since(); !slices.Contains(got, "live one poll") || slices.Contains(got, "live one socket") {
					t.Errorf("told %v", got)
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
			say(conn, frame{Type: "bye", Code: "going_away"})
		}})
		n.serve(t, "two", &fakeAPI{region: "two", sync: quiet, live: answerAll})
		c, app := n.client(t, "one", "two"), &told{}
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
		time.Sleep(longestPause + time.Second)
		expect(t, app.since(), "catching up  ", "catching up one ", "live one socket")

		n.setDown("one", true)
		n.setDown("two", true)
		bye <- true
		time.Sleep(time.Minute)
		expect(t, app.since(), "catching up  ", "offline  ")
		n.setDown("two", false)
		time.Sleep(longestPause + time.Second)
		expect(t, app.since(), "catching up two ", "live two socket")
		_ = stop()
	})
}
