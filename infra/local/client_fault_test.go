package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	liveclient "parley/functions/live/client"
)

// impatient returns options with short timeouts, to detect faults soon.
func impatient(o liveclient.Options) liveclient.Options {
	o.Timeout, o.Ping, o.Wait = 400*time.Millisecond, 200*time.Millisecond, time.Second
	return o
}

// TestClientFaults cuts, stalls, delays and half-opens the connections between a client and two
// regions, while messages are posted in both directions. Every event is delivered once, to every
// client.
func TestClientFaults(t *testing.T) {
	for _, over := range []liveclient.Means{liveclient.OverSocket, liveclient.OverPoll} {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			clientFaults(t, over == liveclient.OverPoll)
		})
	}
}

func clientFaults(t *testing.T, noSocket bool) {
	s := serve(t, testSettings(t.TempDir()))
	proxies := []*faultyProxy{startProxy(t, s.url(1)), startProxy(t, s.url(2))}
	o := impatient(s.options("ada", 1))
	o.Endpoints, o.NoSocket = []string{proxies[0].url(), proxies[1].url()}, noSocket
	ada := listen(t, o)
	bob := s.at(3, "bob")
	room := bob.create("Hello")
	ada.join(room)
	ada.live()

	random := rand.New(rand.NewPCG(13, 1970))
	faults := []faulty{refused, stalled, halfOpen, late, none}
	posted := 0
	for round := range 9 {
		for _, p := range proxies {
			p.set(faults[random.IntN(len(faults))])
		}
		var sending sync.WaitGroup
		for i := range 3 {
			sending.Go(func() { ada.post(room, fmt.Sprint("ada ", round, " ", i)) })
		}
		for i := range 20 {
			bob.post(room, fmt.Sprint("bob ", round, " ", i))
		}
		posted += 23
		if round%3 == 0 { // a restart of the client
			ada.stop()
			ada.start()
		}
		healed := random.IntN(2)
		proxies[healed].set(none)
		proxies[healed].cut()
		sending.Wait()
		ada.await(fmt.Sprintf("round %d", round), func() bool { return len(ada.has(room)) == posted })
	}
	if ada.resets != 1 {
		t.Errorf("%d resets", ada.resets)
	}
	history := s.agree(room, "bob", posted)
	ada.mu.Lock()
	defer ada.mu.Unlock()
	if len(history) != len(ada.texts(room)) {
		t.Errorf("%d messages were delivered, of %d in the history", len(ada.texts(room)), len(history))
	}
	t.Logf("statuses %v", ada.statuses)
}

// TestClientSlow: a slow application is disconnected by the server, and misses no event.
func TestClientSlow(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	sockets := s.cluster.regions[0].now.Load().sockets
	sockets.queued, sockets.writeWithin = 64, time.Second
	slow, goOn := make(chan struct{}, 1), make(chan struct{})
	ada := newListener(t, s.options("ada", 1))
	ada.before = func(ctx context.Context, u liveclient.Update) error {
		if e, ok := u.(liveclient.Event); !ok || e.Type != "message.posted" {
			return nil
		}
		poke(slow)
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ada.start()
	t.Cleanup(ada.stop)
	ada.live()
	bob := s.at(1, "bob")
	room := bob.create("Hello")
	ada.join(room)
	bob.post(room, "the first")
	select {
	case <-slow:
	case <-time.After(20 * time.Second):
		t.Fatal("the application gets no event")
	}
	var working sync.WaitGroup
	conn := sockets.all()[0].conn
	working.Go(func() { // fills the buffers of the connection with frames that the client does not know
		later := []byte(`{"type":"later","text":"` + strings.Repeat("x", 30_000) + `"}`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for conn.Write(ctx, websocket.MessageText, later) == nil {
		}
		if ctx.Err() != nil {
			t.Error("the client is not disconnected")
		}
	})
	const each, writers = 20, 16
	for w := range writers {
		working.Go(func() {
			for i := range each {
				bob.post(room, fmt.Sprint(strings.Repeat("slow ", 400), w, " ", i))
			}
		})
	}
	working.Wait() // the first ends when the client is disconnected
	close(goOn)
	ada.await("everything", func() bool { return len(ada.has(room)) == 1+each*writers })
	ada.live()
	if !slices.Contains(ada.statuses[2:], "catching up") {
		t.Errorf("the client was not disconnected: %v", ada.statuses)
	}
	if ada.resets != 1 {
		t.Errorf("%d resets", ada.resets)
	}
}
