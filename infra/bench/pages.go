package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"parley/events"
	"parley/events/pebblelog"
)

// pages compares a page of a large room with one of a small room. The log is filled directly; the
// region then builds its views from it, as a new region would.
func (b *bench) pages(ctx context.Context) error {
	data := filepath.Join(b.dir, "pages")
	p, _, err := b.startLocal(ctx, data, 1) // the first start makes the data folder
	if err != nil {
		return err
	}
	p.stop()
	start := time.Now()
	small, large, err := fillLog(ctx, filepath.Join(data, "us-east-1", "log"), 1000, b.rows)
	if err != nil {
		return err
	}
	b.printf("   appended %d messages to the log, %.0f/s\n", b.rows+1000, float64(b.rows+1000)/time.Since(start).Seconds())
	p, c, err := b.startLocal(ctx, data, 1)
	if err != nil {
		return err
	}
	defer p.stop()
	start = time.Now()
	building, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	last := c.regions[0].URL + "/v1/rooms/" + large[0] + "/messages/" + large[len(large)-1]
	if err := poll(building, 50*time.Millisecond, func() (bool, error) {
		status, err := c.do(ctx, "GET", last, "owner", nil, nil)
		return status == http.StatusOK, err
	}); err != nil {
		return fmt.Errorf("build the views: %w", err)
	}
	took := time.Since(start)
	b.printf("   built the views from it in %.1f s, %.0f events/s\n", took.Seconds(), float64(b.rows)/took.Seconds())
	for _, where := range []string{"latest", "anywhere"} {
		s, l, err := c.timePages(ctx, small, large, where == "latest")
		if err != nil {
			return err
		}
		b.printf("   a page of 50, %-8s  of %d: %s;  of %d: %s;  %.2f times\n",
			where, len(small)-1, s.Round(time.Microsecond), len(large)-1, l.Round(time.Microsecond), float64(l)/float64(s))
	}
	return nil
}

// fillLog appends two rooms with so many messages. It returns the ids of each: the room's, then those
// of its messages.
func fillLog(ctx context.Context, dir string, small, large int) (a, b []string, err error) {
	log, err := pebblelog.Open(dir, pebblelog.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if a, err = appendRoom(ctx, log, small); err == nil {
		b, err = appendRoom(ctx, log, large)
	}
	return a, b, err
}

func appendRoom(ctx context.Context, log events.Log, n int) ([]string, error) {
	ids := make([]string, 1+n)
	owner := func(int) string { return "owner" }
	err := appendEvents(ctx, log, len(ids), time.Now().Add(-time.Hour), owner, func(i int, id events.ID) (events.Stream, events.Payload) {
		ids[i] = id.String()
		if i == 0 {
			return events.RoomStream(ids[0]), events.RoomCreated{Name: fmt.Sprintf("room of %d", n)}
		}
		return events.RoomStream(ids[0]), events.MessagePosted{Text: events.Plain(text)}
	})
	return ids, err
}

// timePages returns the median time of a page of either room, requested in turns.
func (c *client) timePages(ctx context.Context, small, large []string, latest bool) (a, b time.Duration, err error) {
	const pages = 1000
	var times [2]delays
	for i := range pages {
		for j, ids := range [][]string{small, large} {
			url := c.regions[0].URL + "/v1/rooms/" + ids[0] + "/messages?limit=50"
			if !latest {
				url += "&before=" + ids[51+i*7919*(len(ids)/1000)%(len(ids)-51)]
			}
			start := time.Now()
			if status, err := c.do(ctx, "GET", url, "owner", nil, nil); err != nil || status != http.StatusOK {
				return 0, 0, fmt.Errorf("get a page: status %d: %w", status, err)
			}
			times[j] = append(times[j], time.Since(start))
		}
	}
	slices.Sort(times[0])
	slices.Sort(times[1])
	return times[0][pages/2], times[1][pages/2], nil
}
