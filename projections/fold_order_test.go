package projections_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// The keystone: whatever the order, the repeats and the batches in which any events arrive, the
// views are those of the same events folded once, in order.
func TestAnyOrderSameViews(t *testing.T) {
	t.Parallel()
	for _, p := range projections.All() {
		t.Run(p.Name(), func(t *testing.T) {
			types := typesOf(t, p)
			rapid.Check(t, func(t *rapid.T) {
				checkAnyOrder(t, eventsOf(types, 24).Draw(t, "set"), p)
			})
		})
	}
	t.Run("together", rapid.MakeCheck(func(t *rapid.T) {
		checkAnyOrder(t, eventsOf(events.Types(), 60).Draw(t, "set"), projections.All()...)
	}))
}

// However many reactions regions accept side by side, a message keeps a bounded number of them, and
// the same ones in any order and split. Some of them are on again and off again.
func TestReactionsAreBoundedInAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, seed))
		message := post(1, "ada", "one")
		set := []events.Event{message}
		people, emoji := 1+random.IntN(80), 1+random.IntN(40)
		for n := range 2400 {
			user := fmt.Sprintf("user%d", random.IntN(people))
			var p events.Payload = events.ReactionAdded{Message: message.ID, Emoji: fmt.Sprintf(":%d:", random.IntN(emoji))}
			if random.IntN(4) == 0 {
				p = events.ReactionRemoved(p.(events.ReactionAdded))
			}
			set = append(set, newEvent(makeID(100+uint64(random.IntN(3000)), user, uint32(n)), events.RoomStream(plain), user, "eu", p))
		}
		once, anyhow := viewtest.NewModel(), viewtest.NewModel()
		apply(t, projections.NewEngine(nil, once, projections.Timeline), arrivals(set...))
		random.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		engine := projections.NewEngine(nil, anyhow, projections.Timeline)
		for batch := range slices.Chunk(arrivals(set...), 100+random.IntN(len(set))) {
			apply(t, engine, batch)
			apply(t, engine, batch[:random.IntN(len(batch))])
		}
		sameViews(t, set, anyhow, once, projections.Timeline)
		for u := range people {
			all, own, err := projections.CountReactions(t.Context(), once, plain, message.ID, fmt.Sprintf("user%d", u), "")
			if err != nil || all > projections.MaxReactions || own > projections.ReactionsPerUser {
				t.Fatalf("a message carries %d reactions, %d of one user, error %v", all, own, err)
			}
		}
	}
}

// typesOf returns the event types that touch a projection's views: a new projection that the
// generator has no event for must not pass untested.
func typesOf(t *testing.T, p projections.Projection) []string {
	t.Helper()
	var types []string
	for _, name := range events.Types() {
		examples := rapid.Custom(func(t *rapid.T) events.Event { return draw{t}.event(name) })
		for seed := range 50 {
			if len(p.Keys(examples.Example(seed))) > 0 {
				types = append(types, name)
				break
			}
		}
	}
	if len(types) == 0 {
		t.Fatalf("no event of the generator touches a view of %s", p.Name())
	}
	return types
}

func checkAnyOrder(t *rapid.T, set []events.Event, ps ...projections.Projection) {
	once, anyhow := viewtest.NewModel(), viewtest.NewModel()
	apply(t, projections.NewEngine(nil, once, ps...), arrivals(set...))
	engine := projections.NewEngine(nil, anyhow, ps...)
	for _, batch := range batchesOf(set).Draw(t, "batches") {
		apply(t, engine, batch)
	}
	sameViews(t, set, anyhow, once, ps...)
}

// Two engines that race over the same views lose nothing of what either folds.
func TestRacingEnginesSameViews(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := eventsOf(events.Types(), 40).Draw(t, "set")
		once, raced := viewtest.NewModel(), viewtest.NewModel()
		apply(t, projections.NewEngine(nil, once, projections.All()...), arrivals(set...))
		shares := [][][]projections.Arrival{nil, nil}
		for _, batch := range batchesOf(set).Draw(t, "batches") {
			who := rapid.IntRange(0, 1).Draw(t, "engine")
			shares[who] = append(shares[who], batch)
		}
		var wait sync.WaitGroup
		errs := make([]error, len(shares))
		for i, share := range shares {
			wait.Go(func() {
				engine := projections.NewEngine(nil, raced, projections.All()...)
				for _, batch := range share {
					_, err := engine.Apply(context.Background(), batch)
					errs[i] = errors.Join(errs[i], err)
				}
			})
		}
		wait.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("Apply: %v", err)
		}
		sameViews(t, set, raced, once, projections.All()...)
	})
}

// failer is what a test and a property have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// apply folds a batch in which no event makes a fold fail.
func apply(t failer, engine *projections.Engine, batch []projections.Arrival) {
	t.Helper()
	failures, err := engine.Apply(context.Background(), batch)
	if err != nil || len(failures) > 0 {
		t.Fatalf("Apply: error %v, failures %v", err, failures)
	}
}

// sameViews compares every view that the set of events touches, byte by byte.
func sameViews(t failer, set []events.Event, got, want projections.Views, ps ...projections.Projection) {
	t.Helper()
	keys := keysOf(set, ps...)
	a, b := bodies(t, got, keys), bodies(t, want, keys)
	for i, key := range keys {
		if !bytes.Equal(a[i], b[i]) {
			t.Fatalf("view %v differs:\n got %s\nwant %s", key, a[i], b[i])
		}
	}
}

func keysOf(set []events.Event, ps ...projections.Projection) []projections.Key {
	var keys []projections.Key
	seen := map[projections.Key]bool{}
	for _, e := range set {
		for _, p := range ps {
			for _, key := range p.Keys(e) {
				if !seen[key] {
					keys = append(keys, key)
				}
				seen[key] = true
			}
		}
	}
	return keys
}

func bodies(t failer, views projections.Views, keys []projections.Key) [][]byte {
	t.Helper()
	got, err := views.Get(context.Background(), keys...)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	out := make([][]byte, len(got))
	for i, view := range got {
		out[i] = view.Body
	}
	return out
}

// Every view can be folded again from one stream, from the id that Since names.
func TestSince(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		streams := map[projections.Key]events.Stream{}
		for _, e := range eventsOf(events.Types(), 30).Draw(t, "set") {
			for _, p := range projections.All() {
				for _, key := range p.Keys(e) {
					if since := p.Since(key); e.ID.Compare(since) < 0 {
						t.Fatalf("%s: %s touches a view of %s before it can be touched", p.Name(), e.Type, since)
					}
					if s := p.Stream(key); s != e.Stream {
						t.Fatalf("%s: a view of %s is said to be of %s", p.Name(), e.Stream, s)
					}
					if s, ok := streams[key]; ok && s != e.Stream {
						t.Fatalf("%s: events of two streams touch one view", p.Name())
					}
					streams[key] = e.Stream
				}
			}
		}
	})
}

// Projections keep to their own partitions.
func TestPartitionsApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		owner := map[projections.Key]string{}
		for _, e := range eventsOf(events.Types(), 30).Draw(t, "set") {
			for _, p := range projections.All() {
				for _, key := range p.Keys(e) {
					if o := owner[key]; o != "" && o != p.Name() {
						t.Fatalf("%s and %s fold into one view", o, p.Name())
					}
					owner[key] = p.Name()
				}
			}
		}
	})
}
