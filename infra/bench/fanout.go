package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"parley/events"
)

const (
	inFlight    = 16               // messages under way to the sockets while the maximum is measured
	steadyRate  = 100              // messages a second while the delay is measured
	dialAtOnce  = 32               // handshakes under way
	maxMessages = 1 << 18          // posted in a round
	silence     = 10 * time.Second // without a delivery: frames were lost
)

// fanOut compares the deliveries to the sockets of one room with a bare broadcast of the same frames
// by the same library; then it measures the delay, in the same region and in another one.
func (b *bench) fanOut(ctx context.Context) error {
	var bare, parley []float64
	for round := range b.rounds {
		limit, err := b.broadcastBare(ctx, filepath.Join(b.dir, "fan-bare"+strconv.Itoa(round)))
		if err != nil {
			return err
		}
		rate, err := b.broadcastLocal(ctx, filepath.Join(b.dir, "fan"+strconv.Itoa(round)))
		if err != nil {
			return err
		}
		bare, parley = append(bare, limit), append(parley, rate)
		b.printf("   round %d: bare %.0f/s, Parley %.0f/s\n", round+1, limit, rate)
	}
	b.printf("   deliveries/s to %d sockets in one room, median of %d:\n", b.sockets, b.rounds)
	b.printf("     bare WebSocket broadcast     %8.0f\n", median(bare))
	b.printf("     Parley, with the posts       %8.0f   %.2f of it\n", median(parley), median(parley)/median(bare))
	for _, sockets := range []int{b.sockets / 10, b.sockets} {
		if needed := float64(sockets * steadyRate); needed > median(bare) {
			b.printf("   next: needs %.0f deliveries/s, more than the bare broadcast reaches here, so frames queue\n", needed)
		}
		for at, where := range []string{"same region", "another region, replication about " + lag.String()} {
			took, err := b.measureDelay(ctx, filepath.Join(b.dir, fmt.Sprint("fan-delay", sockets, at)), sockets, at)
			if err != nil {
				return err
			}
			b.printf("   %d messages/s to %d sockets, accepted to delivered, %s: %s\n", steadyRate, sockets, where, took)
		}
	}
	return nil
}

func (b *bench) broadcastBare(ctx context.Context, dir string) (float64, error) {
	p, err := b.startBare(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	frame := `{"type":"event","room":"01M86E1BAGZQQ463D8V3KNKKQD","stream":"room/01M86E1BAGZQQ463D8V3KNKKQD","position":123456,"cursor":"` + strings.Repeat("x", 104) +
		`","event":{"id":"01M86E1DJTG6V3FP3R9T1BXK52","stream":"room/01M86E1BAGZQQ463D8V3KNKKQD","type":"message.posted","version":1,"actor":"user-00","region":"us-east-1","data":{"text":"`
	l, err := listen(ctx, p.url, make([]string, b.sockets), func(ctx context.Context, n int) error {
		return new(client).postOnce(ctx, p.url+"/broadcast", "", json.RawMessage(frame+numbered(n)+string(endOfText)))
	})
	if err != nil {
		return 0, err
	}
	return l.flood(ctx, b.seconds)
}

func (b *bench) broadcastLocal(ctx context.Context, dir string) (float64, error) {
	p, c, err := b.startLocal(ctx, dir, 1)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	l, err := c.listenRoom(ctx, b.sockets, c.regions[0])
	if err != nil {
		return 0, err
	}
	return l.flood(ctx, b.seconds)
}

// measureDelay posts at a steady rate in the first region, and takes the time from the answer to the
// post until a socket of a region has the message.
func (b *bench) measureDelay(ctx context.Context, dir string, sockets, at int) (delays, error) {
	p, c, err := b.startLocal(ctx, dir, 2, "-lag", lag.String())
	if err != nil {
		return nil, err
	}
	defer p.stop()
	l, err := c.listenRoom(ctx, sockets, c.regions[at])
	if err != nil {
		return nil, err
	}
	n := b.seconds * steadyRate
	accepted := make([]time.Time, n)
	group, posting := errgroup.WithContext(ctx)
	ticker := time.NewTicker(time.Second / steadyRate)
	defer ticker.Stop()
	for i := range n {
		<-ticker.C
		group.Go(func() error {
			defer func() { accepted[i] = time.Now() }()
			return l.post(posting, i)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for range n {
		if err := l.wait(ctx); err != nil {
			return nil, err
		}
	}
	if err := l.close(); err != nil {
		return nil, err
	}
	var took delays
	for _, d := range l.deliveries() {
		took = append(took, max(0, d.at.Sub(accepted[d.message])))
	}
	return took, nil
}

// listeners are sockets that receive numbered messages.
type listeners struct {
	post    func(ctx context.Context, n int) error // posts message n
	sockets [][]delivery                           // by socket: what it has received
	missing []atomic.Int64                         // by message: minus the sockets that have it
	total   atomic.Int64                           // deliveries
	whole   chan struct{}                          // one for each message that all sockets have
	stop    context.CancelFunc
	reading *errgroup.Group
}

type delivery struct {
	message int
	at      time.Time
}

// listen opens a socket for each token.
func listen(ctx context.Context, url string, tokens []string, post func(context.Context, int) error) (*listeners, error) {
	ctx, stop := context.WithCancel(ctx)
	l := &listeners{
		post: post, sockets: make([][]delivery, len(tokens)), missing: make([]atomic.Int64, maxMessages),
		whole: make(chan struct{}, maxMessages), stop: stop,
	}
	l.reading, ctx = errgroup.WithContext(ctx)
	if err := forEach(ctx, len(tokens), dialAtOnce, func(_ context.Context, i int) error {
		conn, err := dialLive(ctx, url, tokens[i])
		if err == nil {
			l.reading.Go(func() error { return l.read(ctx, i, conn) })
		}
		return err
	}); err != nil {
		stop()
		return nil, err
	}
	return l, nil
}

// dialLive opens a socket that subscribes to all rooms of its user; the bare handler just answers.
func dialLive(ctx context.Context, url, token string) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/v1/live", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		return nil, err
	}
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"action":"subscribe"}`)); err != nil {
		return nil, err
	}
	_, text, err := conn.Read(ctx)
	if err == nil && !bytes.Contains(text, []byte(`"subscribed"`)) {
		err = fmt.Errorf("a subscription is answered with %s", text)
	}
	return conn, err
}

var endOfText = []byte(`"}}}`)

func numbered(n int) string { return text + " " + strconv.Itoa(n) }

// read records what one socket receives: frames whose text ends with a number.
func (l *listeners) read(ctx context.Context, socket int, conn *websocket.Conn) error {
	defer func() { _ = conn.CloseNow() }()
	for {
		_, frame, err := conn.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from a socket: %w", err)
		}
		number, _ := bytes.CutSuffix(frame, endOfText)
		n, err := strconv.Atoi(string(number[bytes.LastIndexByte(number, ' ')+1:]))
		if err != nil || n >= maxMessages {
			continue // not a message of this benchmark
		}
		l.sockets[socket] = append(l.sockets[socket], delivery{n, time.Now()})
		l.total.Add(1)
		if l.missing[n].Add(-1) == -int64(len(l.sockets)) {
			l.whole <- struct{}{}
		}
	}
}

// wait waits until another message has reached all sockets.
func (l *listeners) wait(ctx context.Context) error {
	select {
	case <-l.whole:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(silence):
		return fmt.Errorf("no message reached all sockets for %s", silence)
	}
}

// flood posts messages, [inFlight] at a time until all sockets have them, and returns how many
// deliveries a second that makes. It closes the sockets.
func (l *listeners) flood(ctx context.Context, seconds int) (rate float64, err error) {
	next := 0
	for _, d := range []time.Duration{time.Second, time.Duration(seconds) * time.Second} { // the first warms up
		before, start := l.total.Load(), time.Now()
		group, posting := errgroup.WithContext(ctx)
		for posted := 0; posted < inFlight || time.Since(start) < d; posted++ {
			if posted >= inFlight {
				if err := l.wait(posting); err != nil {
					return 0, errors.Join(err, group.Wait())
				}
			}
			n := next
			next++
			group.Go(func() error { return l.post(posting, n) })
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
		for range inFlight {
			if err := l.wait(ctx); err != nil {
				return 0, err
			}
		}
		rate = float64(l.total.Load()-before) / time.Since(start).Seconds()
	}
	return rate, l.close()
}

// close closes the sockets. After that deliveries may be called.
func (l *listeners) close() error {
	l.stop()
	return l.reading.Wait()
}

func (l *listeners) deliveries() (all []delivery) {
	for _, received := range l.sockets {
		all = append(all, received...)
	}
	return all
}

// listenRoom makes a room with as many members as sockets, opens those in a region, and returns when
// the change stream has passed the joins.
func (c *client) listenRoom(ctx context.Context, sockets int, at region) (*listeners, error) {
	var created struct{ ID string }
	err := c.must(ctx, "POST", c.regions[0].URL+"/v1/rooms", "user-00", map[string]any{"name": "bench"}, &created)
	if err != nil {
		return nil, err
	}
	room := "/v1/rooms/" + created.ID
	tokens := make([]string, sockets)
	if err := forEach(ctx, sockets, dialAtOnce, func(ctx context.Context, i int) (err error) {
		user := fmt.Sprintf("user-%02d", i)
		if tokens[i], err = c.token(ctx, user); err != nil {
			return err
		}
		return c.must(ctx, "PUT", at.URL+room+"/members/"+user, user, nil, nil)
	}); err != nil {
		return nil, err
	}
	if err := events.Sleep(ctx, time.Second); err != nil { // until the stream has handled the joins
		return nil, err
	}
	return listen(ctx, at.URL, tokens, func(ctx context.Context, n int) error {
		return c.postOnce(ctx, c.regions[0].URL+room+"/messages", "user-00", map[string]string{"text": numbered(n)})
	})
}

// postOnce posts a body as a user, "" for none, and fails unless the answer is 2xx.
func (c *client) postOnce(ctx context.Context, url, user string, body any) error {
	status, err := c.do(ctx, "POST", url, user, body, nil)
	if err == nil && status >= 300 {
		err = fmt.Errorf("POST %s: status %d", url, status)
	}
	return err
}

// bareSockets is the limit of deliveries to sockets: each body posted goes into the channel of every
// socket, and from there out. It checks nothing and keeps nothing.
type bareSockets struct {
	mu   sync.RWMutex
	open []chan []byte
}

// ServeHTTP serves a socket.
func (b *bareSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ctx := context.WithoutCancel(r.Context())
	if _, _, err := conn.Read(ctx); err != nil {
		return
	}
	frames := make(chan []byte, 1024)
	frames <- []byte(`{"type":"subscribed"}`)
	b.mu.Lock()
	b.open = append(b.open, frames)
	b.mu.Unlock()
	ctx = conn.CloseRead(ctx)
	for {
		select {
		case frame := <-frames:
			_ = conn.Write(ctx, websocket.MessageText, frame) // the client may be gone
		case <-ctx.Done():
			return
		}
	}
}

// broadcast sends a body to all sockets.
func (b *bareSockets) broadcast(w http.ResponseWriter, r *http.Request) {
	frame, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, frames := range b.open {
		select {
		case frames <- frame:
		case <-r.Context().Done():
			return
		}
	}
}
