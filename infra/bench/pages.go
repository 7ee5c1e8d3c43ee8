package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/pebblelog"
)

// comparePages holds a page of a large room against one of a small room. The log is filled
// directly; the region then builds its views from it, as a new region would.
func comparePages(ctx context.Context, o options, bin *binaries, out io.Writer) error {
	data := filepath.Join(bin.dir, "pages")
	// A first start lays out the data directory.
	p, err := bin.startLocal(ctx, data, 1)
	if err != nil {
		return err
	}
	p.stop()
	start := time.Now()
	small, large, err := fill(ctx, filepath.Join(data, "us-east-1", "log"), 1000, o.rows)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   appended %d messages to the log, %.0f/s\n", o.rows+1000, float64(o.rows+1000)/time.Since(start).Seconds())
	if p, err = bin.startLocal(ctx, data, 1); err != nil {
		return err
	}
	defer p.stop()
	c, err := dial(ctx, p.global())
	if err != nil {
		return err
	}
	start = time.Now()
	last := c.regions[0].URL + "/v1/rooms/" + large.room + "/messages/" + large.ids[len(large.ids)-1]
	built, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := poll(built, 50*time.Millisecond, func() (bool, error) {
		status, err := c.do(ctx, "GET", last, "owner", nil, nil)
		return status == http.StatusOK, err
	}); err != nil {
		return fmt.Errorf("views were not built: %w", err)
	}
	took := time.Since(start)
	fmt.Fprintf(out, "   built the views from it in %.1f s, %.0f events/s\n", took.Seconds(), float64(o.rows)/took.Seconds())
	for _, kind := range []string{"latest", "anywhere"} {
		a, b, err := c.timePages(ctx, small, large, kind == "latest")
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "   a page of 50, %-8s  of %d: %s;  of %d: %s;  %.2f times\n",
			kind, len(small.ids), a.Round(time.Microsecond), len(large.ids), b.Round(time.Microsecond), float64(b)/float64(a))
	}
	return nil
}

// filled is a room and the ids of its messages.
type filled struct {
	room string
	ids  []string
}

func fill(ctx context.Context, dir string, small, large int) (a, b filled, err error) {
	log, err := pebblelog.Open(dir, pebblelog.Options{})
	if err != nil {
		return a, b, err
	}
	defer func() { err = closing(log, err) }()
	if a, err = fillRoom(ctx, log, small); err != nil {
		return a, b, err
	}
	b, err = fillRoom(ctx, log, large)
	return a, b, err
}

func closing(c io.Closer, err error) error {
	if closeErr := c.Close(); err == nil {
		return closeErr
	}
	return err
}

// fillRoom appends a room with n messages, a day's worth at most.
func fillRoom(ctx context.Context, log events.Log, n int) (filled, error) {
	var tick atomic.Int64
	begin := time.Now().Add(-time.Hour)
	clock := events.NewClock(func() time.Time { return begin.Add(time.Duration(tick.Load()) * time.Millisecond) })
	room, err := clock.Mint("owner")
	if err != nil {
		return filled{}, err
	}
	stream := events.RoomStream(room.String())
	created, err := events.New(room, stream, "owner", "us-east-1", events.RoomCreated{Name: fmt.Sprintf("room of %d", n)})
	if err != nil {
		return filled{}, err
	}
	if _, _, err := log.Append(ctx, created); err != nil {
		return filled{}, err
	}
	f := filled{room.String(), make([]string, n)}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(256)
	for i := range n {
		tick.Add(1)
		id, err := clock.Mint("owner")
		if err != nil {
			return f, err
		}
		f.ids[i] = id.String()
		group.Go(func() error {
			e, err := events.New(id, stream, "owner", "us-east-1", events.MessagePosted{Text: events.Plain(text)})
			if err != nil {
				return err
			}
			_, _, err = log.Append(ctx, e)
			return err
		})
	}
	return f, group.Wait()
}

// timePages takes the median time of a page of either room, asked for in turns.
func (c *client) timePages(ctx context.Context, small, large filled, latest bool) (time.Duration, time.Duration, error) {
	const pages = 1000
	var times [2][]time.Duration
	for i := range pages {
		for j, f := range []filled{small, large} {
			url := []string{c.regions[0].URL, "/v1/rooms/", f.room, "/messages?limit=50"}
			if !latest {
				url = append(url, "&before=", f.ids[50+i*7919*(len(f.ids)/1000)%(len(f.ids)-50)])
			}
			start := time.Now()
			status, err := c.do(ctx, "GET", strings.Join(url, ""), "owner", nil, nil)
			if err != nil || status != http.StatusOK {
				return 0, 0, fmt.Errorf("a page: status %d: %w", status, err)
			}
			times[j] = append(times[j], time.Since(start))
		}
	}
	for j := range times {
		slices.Sort(times[j])
	}
	return times[0][pages/2], times[1][pages/2], nil
}
