package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/dynamolog"
	"parley/events/keys/dynamokeys"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
	"parley/projections"
	"parley/projections/dynamoview"
)

var (
	rigRooms = flag.Int("rig.rooms", 400, "rooms of the rig with 4 shards; the others have a fifth of them")
	rigSeed  = flag.Uint64("rig.seed", 0, "seed of the rig; 0 takes a new one")
)

// TestRig runs the stream function as AWS does when a table has several shards: each shard hands one batch
// at a time, in order, to any process. DynamoDB Local has one shard, so its records are spread by
// stream. Processes are killed, hang and start cold in the middle of batches, and batches are delivered
// again, whole and in part. In the end feeds, views and bus must be what they were without all that.
func TestRig(t *testing.T) {
	dynamotest.Open(t) // or skip all of it
	builtBinary(t)
	var had [fates]int64
	// There are more processes than shards, so that a shard does not always find the one that it had.
	for _, tt := range []struct{ shards, processes, rooms int }{
		{1, 2, *rigRooms / 5},
		{4, 6, *rigRooms},
		{16, 20, *rigRooms / 5},
	} {
		t.Run(fmt.Sprintf("%d shards", tt.shards), func(t *testing.T) {
			r := newRig(t, tt.shards, tt.processes)
			r.largest = min(1000, max(100, tt.rooms/2))
			rounds, appended := r.activity(tt.rooms), make(chan error, 1)
			start := time.Now()
			go func() { appended <- r.append(rounds) }()
			done, followed := make(chan struct{}), make(chan error, 1)
			go func() { followed <- r.followAll(done) }()
			log := r.drain(appended)
			close(done)
			if err := <-followed; err != nil {
				t.Fatal(err)
			}
			r.report(len(log), time.Since(start))
			r.check(log)
			for fate := range fates {
				had[fate] += r.had[fate].Load()
			}
		})
	}
	for fate, n := range had {
		if n == 0 && !t.Failed() {
			t.Errorf("no batch had the fate %d of the deck: use more rooms", fate)
		}
	}
}

// rig is a stream function with the event source mapping of its shards.
type rig struct {
	t       *testing.T
	seed    uint64
	largest int // batch
	clock   *events.Clock
	log     events.Log
	views   projections.Views
	bus     *awstest.Bus
	stream  *awstest.Stream
	fleet   *awstest.Fleet
	shards  []*shard
	order   map[events.Stream][]events.Ref // as the change stream has them

	followers []*follower

	pauses chan struct{}  // of processes, as many as may be paused
	paused sync.WaitGroup // invocations of processes that were paused

	deck             *deck
	batches, partial atomic.Int64 // batches, and those of which a process reported that it has not handled all
	had              [fates]atomic.Int64
}

// newRig makes a region with nothing in it. The stream function neither decrypts nor notifies sockets:
// the events are appended as they are, and nobody is connected.
func newRig(t *testing.T, shards, processes int) *rig {
	place, c, binary := dynamotest.Open(t), newServices(t), builtBinary(t)
	cfg := place.Config(inRegion)
	for table, create := range map[string]func(context.Context, string) error{
		eventsTable: func(ctx context.Context, name string) error { return dynamolog.CreateTable(ctx, cfg, name) },
		viewsTable:  func(ctx context.Context, name string) error { return dynamoview.CreateTable(ctx, cfg, name) },
		keysTable:   func(ctx context.Context, name string) error { return dynamokeys.CreateTable(ctx, cfg, name) },
	} {
		if err := create(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
	env := slices.DeleteFunc(c.environment(config.Stream, place), func(v string) bool {
		return strings.HasPrefix(v, "PARLEY_SOCKETS=") || strings.HasPrefix(v, "PARLEY_CONNECTIONS_TABLE=")
	})
	r := &rig{
		t: t, seed: *rigSeed, clock: c.clock(), log: dynamolog.New(cfg, eventsTable), views: dynamoview.New(cfg, viewsTable),
		bus: c.bus, stream: awstest.NewStream(t, cfg, eventsTable), order: map[events.Stream][]events.Ref{},
		pauses: make(chan struct{}, processes/2),
	}
	if r.seed == 0 {
		r.seed = rand.Uint64()
	}
	r.deck = newDeck(r.seed)
	t.Logf("seed %d (-rig.seed)", r.seed)
	r.fleet = awstest.NewFleet(t, binary, env, processes, r.seed)
	for i := range shards {
		s := &shard{rig: r, rng: rand.New(rand.NewPCG(r.seed, uint64(i+1)))}
		s.pace.Store(int64(10 * time.Millisecond))
		s.more = sync.NewCond(&s.mu)
		r.shards = append(r.shards, s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.run()
		}()
		t.Cleanup(func() {
			s.close()
			<-done
		})
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, f := range r.fleet.Functions() {
				lines := slices.DeleteFunc(f.Logs.Lines(), func(line string) bool { return strings.Contains(line, "AWS SDK") })
				t.Logf("a process said\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
			}
		}
	})
	return r
}

// drain reads the change stream and deals its records to the shards until all is appended and handled, what
// the functions append, too. It returns the log.
func (r *rig) drain(appended <-chan error) []events.Event {
	r.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	read, handled, deadline := 0, 0, time.Now().Add(2*time.Minute)
	for over := false; ; {
		records := r.stream.Next()
		read += len(records)
		r.deal(records)
		now, idle := 0, true
		for _, s := range r.shards {
			n, left := s.progress()
			now, idle = now+n, idle && left == 0
		}
		switch {
		case r.t.Failed():
			r.t.FailNow()
		case now > handled:
			handled, deadline = now, time.Now().Add(2*time.Minute)
		case time.Now().After(deadline):
			r.t.Fatalf("stuck: of %d records %d are handled", read, handled)
		}
		if len(records) > 0 {
			continue
		}
		if over && idle {
			r.paused.Wait()
			if log := r.readLog(); len(log) == read {
				return log
			}
		}
		select {
		case err := <-appended:
			if over = true; err != nil {
				r.t.Fatal(err)
			}
		case <-look.C:
		}
	}
}

// deal adds records to the shards, each stream's to one.
func (r *rig) deal(records []awstest.Record) {
	of := make([][]awstest.Record, len(r.shards))
	for _, record := range records {
		stream := events.Stream(record.Key("stream"))
		ref, err := events.ParseRef("id", record.Key("id"))
		if err != nil {
			r.t.Fatal(err)
		}
		r.order[stream] = append(r.order[stream], ref)
		for i := range of {
			if (events.Part{Index: i, Of: len(of)}).Holds(stream) {
				of[i] = append(of[i], record)
			}
		}
	}
	for i, s := range r.shards {
		s.add(of[i])
	}
}

func (r *rig) readLog() (all []events.Event) {
	for e, err := range r.log.Scan(r.t.Context(), events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// report logs what has happened.
func (r *rig) report(n int, took time.Duration) {
	starts := 0
	for _, f := range r.fleet.Functions() {
		starts += f.Starts()
	}
	r.t.Logf("%d events of %d streams in %d batches, in %.1f s: %.0f/s; %d starts. Killed %d, hung %d, out of time %d, cold %d; answers lost %d, cut %d, of a part %d",
		n, len(r.order), r.batches.Load(), took.Seconds(), float64(n)/took.Seconds(), starts, r.had[kill].Load(), r.had[hang].Load(),
		r.had[short].Load(), r.had[cold].Load(), r.had[lost].Load(), r.had[cut].Load(), r.partial.Load())
}
