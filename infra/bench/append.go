package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
)

// appendBytes is how much text each message of the comparison has.
const appendBytes = 300

// compareAppend holds an append to the log on DynamoDB against a bare PutItem of the same bytes,
// on DynamoDB Local in memory, in rounds that take turns.
func compareAppend(ctx context.Context, o options, _ *binaries, out io.Writer) error {
	server, err := dynamolocal.Start(ctx, dynamolocal.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	client := dynamolocal.NewClient()
	defer client.CloseIdleConnections()
	cfg := dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey(), Client: client}.Config("us-east-1")
	const table = "events" // of both: of several tables DynamoDB Local is slower with the later ones
	if err := dynamolog.CreateTable(ctx, cfg, table); err != nil {
		return err
	}
	bare, log := dynamolocal.NewBare(cfg, table), dynamolog.New(cfg, table)
	puts := map[string]func(context.Context, events.Event) error{
		"bare": func(ctx context.Context, e events.Event) error {
			s := events.Encode(e)
			return bare.Put(ctx, map[string]string{
				"stream": s.Stream, "id": s.ID, "type": s.Type, "actor": s.Actor, "region": s.Region, "data": s.Data,
			})
		},
		"log": func(ctx context.Context, e events.Event) error {
			_, _, err := log.Append(ctx, e)
			return err
		},
	}
	for _, name := range []string{"bare", "log"} { // the first seconds of a JVM are slow
		if _, err := putFor(ctx, 3*time.Second, 8, puts[name]); err != nil {
			return err
		}
	}
	for _, writers := range []int{1, 8, 32} {
		rates := map[string][]float64{}
		for round := range 2 * o.rounds {
			order := []string{"bare", "log"}
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, name := range order {
				rate, err := putFor(ctx, time.Duration(o.seconds)*time.Second/2, writers, puts[name])
				if err != nil {
					return err
				}
				rates[name] = append(rates[name], rate)
			}
		}
		b, l := median(rates["bare"]), median(rates["log"])
		fmt.Fprintf(out, "   %2d writers: bare PutItem %5.0f/s, Append %5.0f/s, %.2f of it\n", writers, b, l, l/b)
	}
	return nil
}

// putFor lets writers put messages for a time, and returns how many a second they were.
func putFor(ctx context.Context, d time.Duration, writers int, put func(context.Context, events.Event) error) (float64, error) {
	clock := events.NewClock(time.Now)
	room, err := clock.Mint("ada")
	if err != nil {
		return 0, err
	}
	text := events.Plain(strings.Repeat("x", appendBytes))
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range writers {
		group.Go(func() error {
			for time.Since(start) < d {
				id, err := clock.Mint("ada")
				if err != nil {
					return err
				}
				e, err := events.New(id, events.RoomStream(room.String()), "ada", "us-east-1", events.MessagePosted{Text: text})
				if err != nil {
					return err
				}
				if err := put(ctx, e); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	err = group.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), err
}
