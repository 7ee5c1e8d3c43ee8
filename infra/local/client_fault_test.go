package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	liveclient "parley/functions/live/client"
)

// impatient are options that notice faults soon.
func impatient(o liveclient.Options) liveclient.Options {
	o.Timeout, o.Ping, o.Wait = 400*time.Millisecond, 200*time.Millisecond, time.Second
	return o
}

// TestClientFaults cuts, stalls, delays and half-opens what lies between a client and two regions,
// while she writes and is written to. She is told everything, once, and so are the others.
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
		if round%3 == 0 { // an end in the middle of everything
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
		t.Errorf("%d messages were told, %d there are", len(ada.texts(room)), len(history))
	}
	t.Logf("statuses %v", ada.statuses)
}

// narrow takes little from the network before it is read.
func narrow() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(64 << 10)
		}
		return conn, err
	}}}
}

// TestClientSlow is an application that takes its time: the server drops it, and it misses nothing.
func TestClientSlow(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	s.cluster.regions[0].sockets.queued = 64
	goOn := make(chan struct{})
	o := s.options("ada", 1)
	o.HTTP = narrow()
	ada := newListener(t, o)
	ada.before = func(_ context.Context, u liveclient.Update) error {
		if e, ok := u.(liveclient.Event); ok && e.Type == "message.posted" {
			<-goOn
		}
		return nil
	}
	ada.start()
	t.Cleanup(ada.stop)
	ada.live()
	bob := s.at(1, "bob")
	room := bob.create("Hello")
	ada.join(room)
	const each, writers = 60, 16
	large := strings.Repeat("slow ", 1600) // 8 MB in all: more than the buffers take
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				bob.post(room, fmt.Sprint(large, w, " ", i))
			}
		})
	}
	writing.Wait()
	close(goOn)
	ada.await("everything", func() bool { return len(ada.has(room)) == each*writers })
	ada.live()
	if !slices.Contains(ada.statuses[2:], "catching up") {
		t.Errorf("she was not dropped: %v", ada.statuses)
	}
	if ada.resets != 1 {
		t.Errorf("%d resets", ada.resets)
	}
}
