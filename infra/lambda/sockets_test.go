package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/functions/live"
	"parley/infra/lambda/config"
)

// conn is an id as the gateway makes them: a part of a path with signs that must be escaped.
const conn = "d4Nq/eKyIAMCIDQ="

// openSockets returns the sockets of a gateway, and a context in which they count.
func openSockets(t *testing.T, url string) (*sockets, context.Context, *tally) {
	t.Helper()
	cloud := at("http://127.0.0.1:1") // whatever else the binary talks to
	cloud.RetryMaxAttempts = 0
	counts := &tally{}
	return newSockets(cloud, url), withTally(t.Context(), counts), counts
}

func TestSockets(t *testing.T) {
	g := newGateway(t)
	s, ctx, counts := openSockets(t, g.url)
	frame := live.CodeIdle.Bye()
	if err := s.Post(ctx, conn, frame); !errors.Is(err, live.ErrGone) {
		t.Errorf("to nobody: %v", err)
	}
	got := g.hold(conn)
	if err := s.Post(ctx, conn, frame); err != nil {
		t.Error(err)
	}
	if err := s.Close(ctx, conn, live.CodeSlow); err != nil {
		t.Error(err)
	}
	if frames, closed := got.told(); len(frames) != 2 || frames[0]["code"] != "idle" || frames[1]["code"] != "slow" || !closed {
		t.Errorf("it got %v, closed: %t", frames, closed)
	}
	for _, err := range []error{s.Post(ctx, conn, frame), s.Close(ctx, conn, live.CodeSlow)} {
		if !errors.Is(err, live.ErrGone) {
			t.Errorf("after the end: %v", err)
		}
	}
	if counts.counts[config.Pushed] != 2 || counts.counts[config.Gone] != 3 || len(counts.counts) != 2 {
		t.Errorf("counted are %v", counts.counts)
	}
}

// A gateway that is busy is asked again, and not for ever; no error says whom it is about.
func TestSocketsRefused(t *testing.T) {
	for status, says := range map[int]string{http.StatusTooManyRequests: "LimitExceededException", http.StatusInternalServerError: "InternalServerErrorException"} {
		g := newGateway(t)
		s, ctx, counts := openSockets(t, g.url)
		got := g.hold(conn)
		left := 3
		g.setRefuse(func(string) int {
			if left--; left < 0 {
				return 0
			}
			return status
		})
		if err := s.Post(ctx, conn, live.CodeIdle.Bye()); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		g.setRefuse(func(string) int { return status })
		start, before := time.Now(), g.calls
		err := s.Post(ctx, conn, live.CodeIdle.Bye())
		if err == nil || errors.Is(err, live.ErrGone) || !strings.Contains(err.Error(), says) || private(err) {
			t.Errorf("%d: %v", status, err)
		}
		if tries := g.calls - before; tries != postAttempts || time.Since(start) > 5*time.Second {
			t.Errorf("%d: %d tries in %s", status, tries, time.Since(start))
		}
		err = s.Close(ctx, conn, live.CodeSlow)
		if _, closed := got.told(); err != nil || !closed {
			t.Errorf("%d: who cannot be told is not closed: %v", status, err)
		}
		if counts.counts[config.Pushed] != 1 || counts.counts[config.Unsent] != 2 {
			t.Errorf("%d: counted are %v", status, counts.counts)
		}
	}
}

// private reports whether an error says whom it is about, or quotes what the gateway says.
func private(err error) bool {
	return strings.Contains(err.Error(), "d4Nq") || strings.Contains(err.Error(), secret)
}

// A gateway that is away, or hangs, costs no more time than there is.
func TestSocketsAway(t *testing.T) {
	s, ctx, _ := openSockets(t, "http://127.0.0.1:1/live")
	for _, err := range []error{s.Post(ctx, conn, live.CodeIdle.Bye()), s.Close(ctx, conn, live.CodeIdle)} {
		if err == nil || private(err) {
			t.Error(err)
		}
	}
	g := newGateway(t)
	g.hold(conn)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	g.setRefuse(func(string) int { <-hang; return 0 })
	s, ctx, _ = openSockets(t, g.url)
	start := time.Now()
	for range 100 { // sockets to close
		if err := s.Close(ctx, conn, live.CodeSlow); err == nil || errors.Is(err, live.ErrGone) || private(err) {
			t.Error(err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("to close them takes %s", took)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := s.Post(ctx, conn, live.CodeIdle.Bye()); !errors.Is(err, context.DeadlineExceeded) || private(err) {
		t.Error(err)
	}
}
