package main

import (
	"bytes"
	"context"
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
)

const (
	// inFlight is how many messages are on their way to the sockets at the same time while the most
	// that can be delivered is looked for.
	inFlight = 16
	// steadyRate is how many messages a second are posted while the delay is measured.
	steadyRate = 100
	// dialAtOnce bounds the handshakes under way at the same time.
	dialAtOnce = 32
)

// compareFanOut holds what sockets of one room are told against a bare broadcast of the same frames
// with the same library; then it takes the delay, in the same region and in another.
func compareFanOut(ctx context.Context, o options, bin *binaries, out io.Writer) error {
	var bare, parley []float64
	for round := range o.rounds {
		n, err := fanOutBare(ctx, o, bin, filepath.Join(bin.dir, "fan-bare"+strconv.Itoa(round)))
		if err != nil {
			return err
		}
		p, err := fanOutLocal(ctx, o, bin, filepath.Join(bin.dir, "fan"+strconv.Itoa(round)))
		if err != nil {
			return err
		}
		bare, parley = append(bare, n), append(parley, p)
		fmt.Fprintf(out, "   round %d: bare %.0f/s, Parley %.0f/s\n", round+1, n, p)
	}
	fmt.Fprintf(out, "   deliveries/s to %d sockets in one room, median of %d:\n", o.sockets, o.rounds)
	fmt.Fprintf(out, "     bare WebSocket broadcast     %8.0f\n", median(bare))
	fmt.Fprintf(out, "     Parley, posts and all        %8.0f   %.2f of it\n", median(parley), median(parley)/median(bare))
	for _, sockets := range []int{o.sockets / 10, o.sockets} {
		if asked := float64(sockets * steadyRate); asked > median(bare) {
			fmt.Fprintf(out, "   below: %.0f deliveries/s are asked for, more than the bare broadcast can do here: frames wait\n", asked)
		}
		if err := fanOutDelay(ctx, o, bin, sockets, out); err != nil {
			return err
		}
	}
	return nil
}

// crew is sockets that listen, and what they hear: messages whose text ends with a number.
type crew struct {
	heard   []atomic.Int64   // by message, how many sockets have it
	at      [][]atomic.Int64 // by message and socket, when it came, Unix ns; nil: not noted
	total   atomic.Int64
	whole   chan struct{} // one for each message that all have
	sockets int
	stop    context.CancelFunc
	group   *errgroup.Group
}

// most is more messages than are posted in a round.
const most = 1 << 16

// listen opens sockets and waits until each listens.
func listen(ctx context.Context, url string, n int, token func(int) string) (*crew, error) {
	ctx, stop := context.WithCancel(ctx)
	c := &crew{heard: make([]atomic.Int64, most), whole: make(chan struct{}, most), sockets: n, stop: stop}
	dialing, ready := errgroup.Group{}, make([]*websocket.Conn, n)
	dialing.SetLimit(dialAtOnce)
	for i := range n {
		dialing.Go(func() (err error) {
			ready[i], err = dialLive(ctx, url, token(i))
			return err
		})
	}
	if err := dialing.Wait(); err != nil {
		stop()
		return nil, err
	}
	c.group, ctx = errgroup.WithContext(ctx)
	for i, conn := range ready {
		c.group.Go(func() error { return c.read(ctx, i, conn) })
	}
	return c, nil
}

// dialLive opens a socket that listens to all rooms of its user; the bare broadcast just answers.
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
		err = fmt.Errorf("a socket is answered with %s", text)
	}
	return conn, err
}

var endOfNumber = []byte(`"}}}`)

// read notes what one socket hears.
func (c *crew) read(ctx context.Context, socket int, conn *websocket.Conn) error {
	defer func() { _ = conn.CloseNow() }()
	for {
		_, frame, err := conn.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a socket that listens: %w", err)
		}
		number, ok := bytes.CutSuffix(frame, endOfNumber)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(string(number[bytes.LastIndexByte(number, ' ')+1:]))
		if err != nil || n >= most {
			continue
		}
		if c.at != nil {
			c.at[n][socket].Store(time.Now().UnixNano())
		}
		c.total.Add(1)
		if c.heard[n].Add(1) == int64(c.sockets) {
			c.whole <- struct{}{}
		}
	}
}

func (c *crew) close() error {
	c.stop()
	return c.group.Wait()
}

// flood posts messages, always so many at a time until all have them, and returns how many
// deliveries a second that makes.
func (c *crew) flood(ctx context.Context, o options, post func(ctx context.Context, n int) error) (float64, error) {
	var numbers atomic.Int64
	flood := func(d time.Duration) (float64, error) {
		until, before, start := time.Now().Add(d), c.total.Load(), time.Now()
		group, ctx := errgroup.WithContext(ctx)
		tokens := make(chan struct{}, inFlight)
		for range inFlight {
			tokens <- struct{}{}
		}
		posted := 0
		for time.Now().Before(until) {
			select {
			case <-tokens:
				n := int(numbers.Add(1))
				group.Go(func() error { return post(ctx, n) })
				posted++
			case <-c.whole:
				posted--
				tokens <- struct{}{}
			case <-ctx.Done():
				return 0, group.Wait()
			case <-time.After(silence):
				return 0, lostMessages(posted)
			}
		}
		for posted > 0 {
			select {
			case <-c.whole:
				posted--
			case <-ctx.Done():
				return 0, group.Wait()
			case <-time.After(silence):
				return 0, lostMessages(posted)
			}
		}
		return float64(c.total.Load()-before) / time.Since(start).Seconds(), group.Wait()
	}
	if _, err := flood(time.Second); err != nil { // to warm up
		return 0, err
	}
	return flood(time.Duration(o.seconds) * time.Second)
}

// silence is how long nothing may come before something is wrong.
const silence = 10 * time.Second

func lostMessages(n int) error {
	return fmt.Errorf("of %d messages some did not come to all sockets", n)
}

func numbered(n int) string { return text + " " + strconv.Itoa(n) }

func fanOutBare(ctx context.Context, o options, bin *binaries, dir string) (float64, error) {
	p, err := bin.startBare(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	c, err := listen(ctx, p.global(), o.sockets, func(int) string { return "x" })
	if err != nil {
		return 0, err
	}
	frame := `{"type":"event","room":"01M86E1BAGZQQ463D8V3KNKKQD","stream":"room/01M86E1BAGZQQ463D8V3KNKKQD","position":123456,"cursor":"` + strings.Repeat("x", 104) +
		`","event":{"id":"01M86E1DJTG6V3FP3R9T1BXK52","stream":"room/01M86E1BAGZQQ463D8V3KNKKQD","type":"message.posted","version":1,"actor":"user-00","region":"us-east-1","data":{"text":"`
	rate, err := c.flood(ctx, o, func(ctx context.Context, n int) error {
		return post(ctx, p.global()+"/broadcast", "", frame+numbered(n)+string(endOfNumber))
	})
	if err != nil {
		return 0, err
	}
	return rate, c.close()
}

// post sends a body and wants 2xx.
func post(ctx context.Context, url, token, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if answer, _ := io.ReadAll(res.Body); res.StatusCode >= 300 {
		return fmt.Errorf("POST %s: %s %s", url, res.Status, answer)
	}
	return nil
}

// fanOut is a room whose members listen, and who posts there.
type fanOut struct {
	*crew
	client *client
	room   string
	token  string
}

// gather makes a room with as many members as sockets, and has them listen in a region.
func gather(ctx context.Context, c *client, sockets int, at region) (*fanOut, error) {
	f := &fanOut{client: c}
	var created struct{ ID string }
	err := c.must(ctx, "POST", c.regions[0].URL+"/v1/rooms", "user-00", map[string]any{"name": "bench"}, &created)
	if err != nil {
		return nil, err
	}
	f.room = created.ID
	tokens := make([]string, sockets)
	group, joining := errgroup.WithContext(ctx)
	group.SetLimit(dialAtOnce)
	for i := range sockets {
		group.Go(func() (err error) {
			user := fmt.Sprintf("user-%02d", i)
			if tokens[i], err = c.token(joining, user); err != nil {
				return err
			}
			return c.must(joining, "PUT", at.URL+"/v1/rooms/"+f.room+"/members/"+user, user, nil, nil)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	f.token = tokens[0]
	time.Sleep(time.Second) // what all that was to the stream is over
	f.crew, err = listen(ctx, at.URL, sockets, func(i int) string { return tokens[i] })
	return f, err
}

func (f *fanOut) post(ctx context.Context, n int) error {
	return post(ctx, f.client.regions[0].URL+"/v1/rooms/"+f.room+"/messages", f.token, `{"text":"`+numbered(n)+`"}`)
}

func fanOutLocal(ctx context.Context, o options, bin *binaries, dir string) (float64, error) {
	p, err := bin.startLocal(ctx, dir, 1)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	c, err := dial(ctx, p.global())
	if err != nil {
		return 0, err
	}
	f, err := gather(ctx, c, o.sockets, c.regions[0])
	if err != nil {
		return 0, err
	}
	rate, err := f.flood(ctx, o, f.post)
	if err != nil {
		return 0, err
	}
	return rate, f.close()
}

// fanOutDelay posts at a steady rate and takes the time from the answer to the post until a socket
// has the message.
func fanOutDelay(ctx context.Context, o options, bin *binaries, sockets int, out io.Writer) error {
	for at, where := range []string{"same region", "another region, replication about " + lag.String()} {
		p, err := bin.startLocal(ctx, filepath.Join(bin.dir, fmt.Sprint("fan-delay", sockets, at)), 2, "-lag", lag.String())
		if err != nil {
			return err
		}
		delays, err := p.delays(ctx, o, sockets, at)
		p.stop()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "   %d messages/s to %d sockets, accepted to delivered, %s: %s\n", steadyRate, sockets, where, delays)
	}
	return nil
}

func (p *process) delays(ctx context.Context, o options, sockets, at int) (lags, error) {
	c, err := dial(ctx, p.global())
	if err != nil {
		return nil, err
	}
	f, err := gather(ctx, c, sockets, c.regions[at])
	if err != nil {
		return nil, err
	}
	n := o.seconds * steadyRate
	f.at = make([][]atomic.Int64, n)
	for i := range f.at {
		f.at[i] = make([]atomic.Int64, sockets)
	}
	accepted := make([]time.Time, n)
	var posting sync.WaitGroup
	ticker := time.NewTicker(time.Second / steadyRate)
	defer ticker.Stop()
	errs := make(chan error, n)
	for i := range n {
		<-ticker.C
		posting.Go(func() {
			if err := f.post(ctx, i); err != nil {
				errs <- err
			}
			accepted[i] = time.Now()
		})
	}
	posting.Wait()
	for range n {
		select {
		case <-f.whole:
		case err := <-errs:
			return nil, err
		case <-time.After(silence):
			return nil, lostMessages(n)
		}
	}
	var delays lags
	for i := range n {
		for s := range sockets {
			delays = append(delays, max(0, time.Unix(0, f.at[i][s].Load()).Sub(accepted[i])))
		}
	}
	return delays, f.close()
}
