package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/pebbledb"
)

// lag is the replication delay that the regions are started with; it is subtracted from what is
// measured.
const lag = 150 * time.Millisecond

// text is what is posted: 200 bytes.
var text = strings.Repeat("the quick brown fox jumps over the lazy dog. ", 5)[:200]

// posts compares durable posts with the bare handler, in rounds that take turns.
func (b *bench) posts(ctx context.Context) error {
	var bare, one, three []float64
	for round := range b.rounds {
		dir := func(name string) string { return filepath.Join(b.dir, name+strconv.Itoa(round)) }
		limit, err := b.postBare(ctx, dir("bare"))
		if err != nil {
			return err
		}
		alone, err := b.postLocal(ctx, dir("one"), 1)
		if err != nil {
			return err
		}
		all, err := b.postLocal(ctx, dir("three"), 3)
		if err != nil {
			return err
		}
		bare, one, three = append(bare, limit.rate), append(one, alone.rate), append(three, all.rate)
		b.printf("   round %d: bare %s, one region %s, three regions %s\n", round+1, limit, alone, all)
		b.printf("            one region:    visible here %s; caught up %.2f s after the load\n", alone.here, alone.rest.Seconds())
		b.printf("            three regions: visible here %s, elsewhere after the lag of %s %s; caught up %.2f s after the load\n",
			all.here, lag, all.there, all.rest.Seconds())
	}
	limit := median(bare)
	b.printf("   durable posts/s, %d connections, median of %d:\n", b.conns, b.rounds)
	b.printf("     bare net/http + Pebble Sync  %8.0f\n", limit)
	b.printf("     one region                   %8.0f   %.2f of it\n", median(one), median(one)/limit)
	b.printf("     three regions                %8.0f   %.2f of it\n", median(three), median(three)/limit)
	return nil
}

// measured is the outcome of a round of load.
type measured struct {
	rate        float64       // posts accepted a second
	cpu         time.Duration // of the process for each; 0 where it cannot be read
	here, there delays        // from accepted to visible, in the same region and in another one
	rest        time.Duration // from the end of the load until all of it was visible everywhere
}

func (m measured) String() string {
	return fmt.Sprintf("%.0f/s (%d µs of CPU each)", m.rate, m.cpu.Microseconds())
}

func (b *bench) postBare(ctx context.Context, dir string) (measured, error) {
	p, err := b.startBare(ctx, dir)
	if err != nil {
		return measured{}, err
	}
	defer p.stop()
	return b.measure(ctx, p, []target{{p.url + "/v1/rooms/" + events.ID{1}.String() + "/messages", strings.Repeat("x", 250)}})
}

func (b *bench) postLocal(ctx context.Context, dir string, regions int) (measured, error) {
	p, c, err := b.startLocal(ctx, dir, regions, "-lag", lag.String())
	if err != nil {
		return measured{}, err
	}
	defer p.stop()
	room, targets, err := c.fillRoom(ctx, 64)
	if err != nil {
		return measured{}, err
	}
	samples := make(chan [2]delays, 1)
	sampling, cancel := context.WithTimeout(ctx, time.Duration(1+b.seconds)*time.Second)
	defer cancel()
	go func() { samples <- c.sample(sampling, room) }()
	m, err := b.measure(ctx, p, targets)
	if err != nil {
		return m, err
	}
	end, sampled := time.Now(), <-samples
	m.here, m.there = sampled[0], sampled[1]
	last, err := c.post(ctx, room)
	for _, r := range c.regions {
		if err == nil {
			err = c.must(ctx, "GET", r.URL+"/v1/rooms/"+room+"/messages/"+last, "user-00", nil, nil)
		}
	}
	m.rest = time.Since(end)
	return m, err
}

// fillRoom makes a room with n members and returns a target for each, spread over the regions.
func (c *client) fillRoom(ctx context.Context, n int) (room string, targets []target, err error) {
	var created struct{ ID string }
	if err := c.must(ctx, "POST", c.regions[0].URL+"/v1/rooms", "user-00", map[string]any{"name": "bench"}, &created); err != nil {
		return "", nil, err
	}
	path := "/v1/rooms/" + created.ID
	targets = make([]target, n)
	return created.ID, targets, forEach(ctx, n, n, func(ctx context.Context, i int) (err error) {
		user, to := fmt.Sprintf("user-%02d", i), c.regions[i%len(c.regions)].URL
		if err := c.must(ctx, "PUT", c.regions[0].URL+path+"/members/"+user, user, nil, nil); err != nil {
			return err
		}
		if err := c.must(ctx, "GET", to+path+"/members/"+user, user, nil, nil); err != nil { // the region knows the member
			return err
		}
		targets[i].url = to + path + "/messages"
		targets[i].token, err = c.token(ctx, user)
		return err
	})
}

// post posts one message and returns its id.
func (c *client) post(ctx context.Context, room string) (string, error) {
	var posted struct{ ID string }
	err := c.must(ctx, "POST", c.regions[0].URL+"/v1/rooms/"+room+"/messages", "user-00", map[string]string{"text": "probe"}, &posted)
	return posted.ID, err
}

// sample posts a message every now and then until ctx ends. It takes the time from its acceptance
// until a query shows it, in the same region and, minus the lag, in another. It posts too rarely to
// be a load.
func (c *client) sample(ctx context.Context, room string) (took [2]delays) {
	for events.Sleep(ctx, 20*time.Millisecond) == nil {
		id, err := c.post(ctx, room)
		if err != nil {
			break
		}
		accepted := time.Now()
		for i, r := range c.regions[:min(2, len(c.regions))] {
			if i == 1 && events.Sleep(ctx, lag/2) != nil { // it takes half the lag at least
				break
			}
			if poll(ctx, 2*time.Millisecond, func() (bool, error) {
				status, err := c.do(ctx, "GET", r.URL+"/v1/rooms/"+room+"/messages/"+id, "user-00", nil, nil)
				return status == http.StatusOK, err
			}) == nil {
				took[i] = append(took[i], time.Since(accepted)-time.Duration(i)*lag)
			}
		}
	}
	return took
}

// delays are samples of a delay.
type delays []time.Duration

func (d delays) String() string {
	if len(d) == 0 {
		return "never"
	}
	sorted := slices.Sorted(slices.Values(d))
	at := func(q float64) time.Duration {
		return sorted[int(q*float64(len(sorted)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s p99 %s (%d samples)", at(0.50), at(0.99), len(d))
}

// target is the URL of a POST and a token for it.
type target struct{ url, token string }

// measure warms a process up and puts load on it: connection i posts to target i modulo their number.
func (b *bench) measure(ctx context.Context, p *process, targets []target) (measured, error) {
	load := func(d time.Duration) (rate float64, err error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		var accepted atomic.Int64
		start := time.Now()
		err = forEach(ctx, b.conns, b.conns, func(ctx context.Context, i int) error {
			return targets[i%len(targets)].postAll(ctx, &accepted)
		})
		return float64(accepted.Load()) / time.Since(start).Seconds(), err
	}
	if _, err := load(time.Second); err != nil {
		return measured{}, err
	}
	before, start := p.cpu(), time.Now()
	rate, err := load(time.Duration(b.seconds) * time.Second)
	posts := rate * time.Since(start).Seconds()
	return measured{rate: rate, cpu: time.Duration(float64(p.cpu()-before) / posts)}, err
}

// postAll posts one message after the other over one connection until ctx ends, and counts those
// answered 201. The client is minimal, so that the servers under comparison get the machine: it writes
// the same bytes each time and reads only the head and the length of the answer.
func (t target) postAll(ctx context.Context, accepted *atomic.Int64) error {
	u, err := url.Parse(t.url)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	body := fmt.Sprintf(`{"text":%q}`, text)
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		u.Path, u.Host, t.token, len(body), body)
	in := bufio.NewReader(conn)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return err
		}
		if res.StatusCode != http.StatusCreated {
			return fmt.Errorf("status %d under load", res.StatusCode)
		}
		accepted.Add(1)
	}
	return nil
}

// serveBare serves the limits that Parley is compared with, and prints its URL. A post is decoded as
// JSON, committed to Pebble with fsync, and answered with 201 and JSON: it checks nothing and does
// nothing else. The sockets are those of [bareSockets].
func serveBare(ctx context.Context, addr, dir string, out io.Writer) error {
	db, err := pebble.Open(dir, &pebble.Options{Logger: pebbledb.NewLogger(nil)})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/rooms/{room}/messages", func(w http.ResponseWriter, r *http.Request) {
		if err := barePost(db, w, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	sockets := &bareSockets{}
	mux.Handle("GET /v1/live", sockets)
	mux.HandleFunc("POST /broadcast", sockets.broadcast)
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Fprintf(out, "http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return db.Close()
}

func barePost(db *pebble.DB, w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	stored := events.Stored{Stream: "room/" + r.PathValue("room"), Type: "message.posted/1", Actor: "user-00", Region: "us-east-1", Data: string(data)}
	key := []byte("e/" + stored.Stream + "/" + rand.Text()[:16])
	value := []byte(stored.Type + stored.Actor + stored.Region + stored.Data)
	if err := db.Set(key, value, pebble.Sync); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	return json.NewEncoder(w).Encode(stored)
}
