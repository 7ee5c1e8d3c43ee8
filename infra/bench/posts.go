package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/events"
)

// lag is the delay of replication that is asked of the regions, and taken off what is measured.
const lag = 150 * time.Millisecond

// text is what is posted: 200 bytes.
var text = strings.Repeat("the quick brown fox jumps over the lazy dog. ", 5)[:200]

// comparePosts holds durable posts against the bare handler, in rounds that take turns.
func comparePosts(ctx context.Context, o options, bin *binaries, out io.Writer) error {
	var bare, one, three []float64
	for round := range o.rounds {
		dir := func(name string) string { return filepath.Join(bin.dir, name+strconv.Itoa(round)) }
		n, err := postBare(ctx, o, bin, dir("bare"))
		if err != nil {
			return err
		}
		bare = append(bare, n.load.rate)
		a, err := postLocal(ctx, o, bin, dir("one"), 1)
		if err != nil {
			return err
		}
		one = append(one, a.load.rate)
		b, err := postLocal(ctx, o, bin, dir("three"), 3)
		if err != nil {
			return err
		}
		three = append(three, b.load.rate)
		fmt.Fprintf(out, "   round %d: bare %s, one region %s, three regions %s\n", round+1, n.load, a.load, b.load)
		fmt.Fprintf(out, "            one region:    visible here %s; caught up %.2f s after the load\n", a.here, a.rest.Seconds())
		fmt.Fprintf(out, "            three regions: visible here %s, elsewhere less the %s asked for %s; caught up %.2f s after the load\n",
			b.here, lag, b.there, b.rest.Seconds())
	}
	limit := median(bare)
	fmt.Fprintf(out, "   durable posts/s, %d connections, median of %d:\n", o.conns, o.rounds)
	fmt.Fprintf(out, "     bare net/http + Pebble Sync  %8.0f\n", limit)
	fmt.Fprintf(out, "     one region                   %8.0f   %.2f of it\n", median(one), median(one)/limit)
	fmt.Fprintf(out, "     three regions                %8.0f   %.2f of it\n", median(three), median(three)/limit)
	return nil
}

func postBare(ctx context.Context, o options, bin *binaries, dir string) (outcome, error) {
	p, err := bin.startBare(ctx, dir)
	if err != nil {
		return outcome{}, err
	}
	defer p.stop()
	t := []target{{url: p.global() + "/v1/rooms/" + events.ID{1}.String() + "/messages", token: strings.Repeat("x", 250), text: text}}
	measured, err := p.underLoad(ctx, o, t)
	return outcome{load: measured}, err
}

// measured is what a load showed of a process.
type measured struct {
	rate float64       // posts accepted a second
	cpu  time.Duration // taken by the process for each; 0 where that cannot be read
}

func (m measured) String() string {
	return fmt.Sprintf("%.0f/s (%d µs of CPU each)", m.rate, m.cpu.Microseconds())
}

// underLoad warms a process up and measures it.
func (p *process) underLoad(ctx context.Context, o options, t []target) (measured, error) {
	if _, err := load(ctx, o.conns, time.Second, t); err != nil {
		return measured{}, err
	}
	before, _, _ := p.usage()
	start := time.Now()
	rate, err := load(ctx, o.conns, time.Duration(o.seconds)*time.Second, t)
	if err != nil {
		return measured{}, err
	}
	after, _, _ := p.usage()
	posts := rate * time.Since(start).Seconds()
	return measured{rate, time.Duration(float64(after-before) / posts)}, nil
}

// outcome is what a round of load on Parley showed.
type outcome struct {
	load        measured
	here, there lags
	rest        time.Duration // from the end of the load until all of it was visible everywhere
}

func postLocal(ctx context.Context, o options, bin *binaries, dir string, regions int) (outcome, error) {
	p, err := bin.startLocal(ctx, dir, regions, "-lag", lag.String())
	if err != nil {
		return outcome{}, err
	}
	defer p.stop()
	c, err := dial(ctx, p.global())
	if err != nil {
		return outcome{}, err
	}
	room, targets, err := c.crowd(ctx, 64)
	if err != nil {
		return outcome{}, err
	}
	sampling, cancel := context.WithTimeout(ctx, time.Duration(1+o.seconds)*time.Second)
	defer cancel()
	samples := make(chan outcome, 1)
	go func() { samples <- c.sample(sampling, room) }()
	under, err := p.underLoad(ctx, o, targets)
	if err != nil {
		return outcome{}, err
	}
	end := time.Now()
	got := <-samples
	got.load = under
	last, err := c.probe(ctx, room, c.regions[0])
	if err != nil {
		return got, err
	}
	for _, r := range c.regions {
		if err := c.must(ctx, "GET", r.URL+"/v1/rooms/"+room+"/messages/"+last, "user-00", nil, nil); err != nil {
			return got, err
		}
	}
	got.rest = time.Since(end)
	return got, nil
}

// crowd makes a room with n members and returns a target for each, spread over the regions.
func (c *client) crowd(ctx context.Context, n int) (string, []target, error) {
	var created struct{ ID string }
	if err := c.must(ctx, "POST", c.regions[0].URL+"/v1/rooms", "user-00", map[string]any{"name": "bench"}, &created); err != nil {
		return "", nil, err
	}
	var targets []target
	for i := range n {
		user := fmt.Sprintf("user-%02d", i)
		if err := c.must(ctx, "PUT", c.regions[0].URL+"/v1/rooms/"+created.ID+"/members/"+user, user, nil, nil); err != nil {
			return "", nil, err
		}
		token, err := c.token(ctx, user)
		if err != nil {
			return "", nil, err
		}
		to := c.regions[i%len(c.regions)]
		targets = append(targets, target{url: to.URL + "/v1/rooms/" + created.ID + "/messages", token: token, text: text})
	}
	for i := range n { // until the others know, too
		user := fmt.Sprintf("user-%02d", i)
		to := c.regions[i%len(c.regions)]
		if err := c.must(ctx, "GET", to.URL+"/v1/rooms/"+created.ID+"/members/"+user, user, nil, nil); err != nil {
			return "", nil, err
		}
	}
	return created.ID, targets, nil
}

// probe posts one message and returns its id.
func (c *client) probe(ctx context.Context, room string, to region) (string, error) {
	var posted struct{ ID string }
	err := c.must(ctx, "POST", to.URL+"/v1/rooms/"+room+"/messages", "user-00", map[string]string{"text": "probe"}, &posted)
	return posted.ID, err
}

// sample posts a message now and then until ctx ends, and takes the time from its acceptance until
// a query shows it: in the same region and, where there are more, in another. It asks seldom
// enough to be no load of its own.
func (c *client) sample(ctx context.Context, room string) outcome {
	var got outcome
	for sleep(ctx, 20*time.Millisecond) == nil {
		id, err := c.probe(ctx, room, c.regions[0])
		if err != nil {
			break
		}
		accepted := time.Now()
		visible := func(r region) (time.Duration, bool) {
			err := poll(ctx, 2*time.Millisecond, func() (bool, error) {
				status, err := c.do(ctx, "GET", r.URL+"/v1/rooms/"+room+"/messages/"+id, "user-00", nil, nil)
				return status == http.StatusOK, err
			})
			return time.Since(accepted), err == nil
		}
		if took, ok := visible(c.regions[0]); ok {
			got.here = append(got.here, took)
		}
		if len(c.regions) > 1 && sleep(ctx, lag/2) == nil { // it takes half the lag at least
			if took, ok := visible(c.regions[1]); ok {
				got.there = append(got.there, took-lag)
			}
		}
	}
	return got
}

// lags are samples of a delay.
type lags []time.Duration

func (l lags) String() string {
	if len(l) == 0 {
		return "never"
	}
	sorted := slices.Sorted(slices.Values(l))
	at := func(q float64) time.Duration {
		return sorted[int(q*float64(len(sorted)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s p99 %s (%d samples)", at(0.50), at(0.99), len(l))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
