package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// testClock is a clock on which waiting takes no time.
type testClock struct {
	mu sync.Mutex
	at time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at += time.Microsecond // work takes some
	return time.Unix(1_000_000_000, 0).Add(c.at)
}

func (c *testClock) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at += d
}

func (c *testClock) pause(ctx context.Context, d time.Duration) error {
	c.sleep(d)
	return ctx.Err()
}

// region is a region in which events arrive while its views are rebuilt.
type region struct {
	t     failer
	log   *logtest.Model
	views *viewtest.Model

	clock        testClock
	mu           sync.Mutex
	dice         *rand.Rand
	engines      []*projections.Engine // of processes that handle what arrives
	toAppend     []events.Event
	toHandle     []projections.Arrival
	faults       int // to come
	interleaving bool
	still        bool // no more events come
	projected    int
}

// newRegion returns a region in which a part of the set has happened and the rest is to come.
func newRegion(t failer, seed uint64, set []events.Event) *region {
	r := &region{t: t, log: logtest.NewModel(), views: viewtest.NewModel(), dice: rand.New(rand.NewPCG(seed, 1))}
	for range 2 {
		r.engines = append(r.engines, projections.NewEngine(r.log, r.views, projections.All()...).In(r.generations()))
	}
	r.toAppend = slices.Clone(set)
	r.dice.Shuffle(len(set), func(i, j int) { r.toAppend[i], r.toAppend[j] = r.toAppend[j], r.toAppend[i] })
	for range r.dice.IntN(len(set) + 1) {
		r.advance()
	}
	return r
}

func (r *region) generations() *projections.Generations {
	gens := projections.NewGenerations(r.views)
	gens.SetClock(r.clock.now)
	return gens
}

// advance appends the next event, or other content under the id of one, or handles a few that were appended, in any
// order and some of them twice.
func (r *region) advance() {
	switch n := r.dice.IntN(8); {
	case n < 3 && len(r.toAppend) > 0:
		e := r.toAppend[0]
		r.toAppend = r.toAppend[1:]
		r.append(e)
	case n == 3 && len(r.toHandle) > 0:
		was := r.toHandle[r.dice.IntN(len(r.toHandle))].Event
		post, ok := was.Payload.(events.MessagePosted)
		if !ok {
			return
		}
		post.Text = texts[2]
		r.append(newEvent(was.ID, was.Stream, was.Actor, "us", post))
	case len(r.toHandle) > 0:
		r.handle(1 + r.dice.IntN(len(r.toHandle)))
	}
}

func (r *region) append(e events.Event) {
	r.t.Helper()
	stored, _, err := r.log.Append(context.Background(), e)
	if err != nil {
		r.t.Fatalf("Append: %v", err)
	}
	r.toHandle = append(r.toHandle, projections.Arrival{Event: stored})
}

// handle folds the first arrivals.
func (r *region) handle(n int) {
	batch := slices.Clone(r.toHandle[:n])
	if r.dice.IntN(2) == 0 {
		r.toHandle = r.toHandle[n:] // else it is delivered again
	}
	failures, err := r.engines[r.dice.IntN(len(r.engines))].Apply(context.Background(), batch)
	if err != nil || len(failures) > 0 {
		r.t.Fatalf("Apply: error %v, failures %v", err, failures)
	}
	r.projected += n
}

// interleave advances the region in the middle of a call of the rebuild.
func (r *region) interleave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.interleaving || r.dice.IntN(4) > 0 {
		return
	}
	for range 1 + r.dice.IntN(3) {
		r.advance()
	}
}

func (r *region) fault() viewtest.Fault {
	r.interleave()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.faults > 0 && r.dice.IntN(3) == 0 {
		r.faults--
		return viewtest.Fault(r.dice.IntN(4))
	}
	return viewtest.Pass
}

// rebuilder is one that is always interrupted, and whose calls fail now and then.
func (r *region) rebuilder() *projections.Rebuilder {
	read := func() error {
		if r.fault() == viewtest.NotStored {
			return viewtest.ErrFault
		}
		return nil
	}
	log := &logtest.Faults{Log: r.log, OnRead: func(events.Stream) error { return read() }}
	views := &viewtest.Faults{
		Views:  r.views,
		OnSave: func([]projections.View) viewtest.Fault { return r.fault() }, OnDelete: func([]projections.View) viewtest.Fault { return r.fault() },
		OnGet:  func([]projections.Key) error { return read() },
		OnScan: func([]string, projections.Key) error { return read() },
	}
	gens := projections.NewGenerations(views)
	gens.SetClock(r.clock.now)
	b := projections.NewRebuilder(log, views, gens)
	b.SetClock(r.clock.now, r.clock.pause)
	b.Slice = time.Nanosecond // a step is as short as can be
	b.SetSizes(1 + r.dice.IntN(8))
	b.Parts = 1 + r.dice.IntN(3)
	return b
}

// run steps until it is over. Now and then a step is forgotten, as after a crash.
func (r *region) run(b *projections.Rebuild) *projections.Rebuild {
	r.t.Helper()
	kept := roundTrip(r.t, b)
	rebuilder := r.rebuilder()
	r.faults, r.interleaving = 6, !r.still
	for range 100_000 {
		err := rebuilder.Step(context.Background(), b)
		switch {
		case err != nil && !errors.Is(err, viewtest.ErrFault):
			r.t.Fatalf("Step: %v", err)
		case b.Phase == projections.Done && err == nil:
			return b
		}
		if r.dice.IntN(5) == 0 { // crash
			b, rebuilder = roundTrip(r.t, kept), r.rebuilder()
		} else if err == nil {
			kept = roundTrip(r.t, b)
		}
	}
	r.t.Fatalf("the rebuild does not end: %+v", b)
	return nil
}

func roundTrip[V any](t failer, v *V) *V {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	again := new(V)
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatalf("decode: %v", err)
	}
	return again
}

// finish appends and handles everything that is left.
func (r *region) finish() {
	r.interleaving = false
	for len(r.toAppend) > 0 {
		r.advance()
	}
	for len(r.toHandle) > 0 {
		r.handle(len(r.toHandle))
	}
}

// fresh folds the whole log into new views.
func (r *region) fresh() *viewtest.Model {
	views := viewtest.NewModel()
	engine := projections.NewEngine(r.log, views, projections.All()...)
	for e, err := range r.log.Scan(context.Background(), events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			r.t.Fatalf("Scan: %v", err)
		}
		apply(r.t, engine, arrivals(e))
	}
	return views
}

// rows are the views of a generation of projections that say anything, in the keys of the first.
func rows(t failer, views projections.Views, prefix string, names ...string) map[projections.Key]string {
	t.Helper()
	all := map[projections.Key]string{}
	for after, first := (projections.Key{}), true; first || after != (projections.Key{}); first = false {
		page, next, err := views.Scan(context.Background(), nil, after, 100)
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		for _, view := range page {
			base, ok := strings.CutPrefix(view.Key.Partition, prefix)
			name, _, _ := strings.Cut(base, "/")
			if ok && slices.Contains(names, name) && !saysNothing(t, name, view) {
				all[projections.Key{Partition: base, Sort: view.Key.Sort}] = string(view.Body)
			}
		}
		after = next
	}
	return all
}

func saysNothing(t failer, name string, view projections.View) bool {
	t.Helper()
	for _, p := range projections.All() {
		if p.Name() == name {
			doc, err := p.Open(projections.Key{Partition: name + "/x", Sort: "x"}, nil)
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			body, _ := doc.Body()
			return string(body) == string(view.Body)
		}
	}
	return false
}

func sameRows(t failer, what string, got, want map[projections.Key]string) {
	t.Helper()
	for key, body := range want {
		if got[key] != body {
			t.Fatalf("%s: view %v differs:\n got %s\nwant %s", what, key, got[key], body)
		}
	}
	for key := range maps.Keys(got) {
		if _, ok := want[key]; !ok {
			t.Fatalf("%s: there is a view %v too many: %s", what, key, got[key])
		}
	}
}

var names = []string{"beat", "inbox", "member", "room", "thread", "timeline", "user"}

// prefixOf is what the partitions of a generation begin with.
func prefixOf(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf("g%d/", n)
}

func drawRegion(t *rapid.T, most int) *region {
	return newRegion(t, rapid.Uint64().Draw(t, "seed"), eventsOf(events.Types(), most).Draw(t, "set"))
}

// Whatever happens during a rebuild, and whenever it is interrupted: afterwards both generations
// are what the log adds up to. So they are after switching back, and after the drop.
func TestRebuild(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRegion(t, 50)
		chosen := rapid.SampledFrom([][]string{names, {"timeline"}, {"member", "room"}}).Draw(t, "projections")
		b, err := projections.NewRebuild("one", chosen...)
		if err != nil {
			t.Fatal(err)
		}
		b = r.run(b)
		r.finish()
		fresh := r.fresh()
		for _, name := range chosen {
			want := rows(t, fresh, "", name)
			sameRows(t, "the old generation of "+name, rows(t, r.views, "", name), want)
			sameRows(t, "the new generation of "+name, rows(t, r.views, prefixOf(b.Numbers[name]), name), want)
		}
		gens := r.generations()
		sameReads(t, r, gens, fresh)

		r.back(gens, chosen)
		r.dropAll(chosen)
		for name, n := range b.Numbers {
			if left := rows(t, r.views, prefixOf(n), name); len(left) > 0 {
				t.Fatalf("%d views are left of a generation that was dropped", len(left))
			}
		}
		sameReads(t, r, gens, r.fresh())
	})
}

// sameReads compares what readers see with a fresh fold.
func sameReads(t *rapid.T, r *region, gens *projections.Generations, fresh projections.Views) {
	t.Helper()
	r.clock.sleep(gens.Fresh)
	var keys []projections.Key
	for key := range rows(t, fresh, "", names...) {
		keys = append(keys, key)
	}
	got, want := bodies(t, gens.Views(), keys), bodies(t, fresh, keys)
	for i := range got {
		if string(got[i]) != string(want[i]) {
			t.Fatalf("view %v reads differently:\n got %s\nwant %s", keys[i], got[i], want[i])
		}
		page, err := gens.Views().Query(context.Background(), keys[i].Partition, projections.Range{From: keys[i].Sort, Limit: 1})
		if err != nil || len(page) != 1 || page[0].Key != keys[i] || string(page[0].Body) != string(want[i]) {
			t.Fatalf("view %v is queried as %v, error %v", keys[i], page, err)
		}
	}
}

// back switches back, while events arrive.
func (r *region) back(gens *projections.Generations, names []string) {
	r.t.Helper()
	for _, name := range names {
		if err := gens.Back(context.Background(), name); err != nil {
			r.t.Fatalf("Back: %v", err)
		}
	}
}

// dropAll drops the previous generations, while events arrive and after crashes.
func (r *region) dropAll(names []string) {
	r.t.Helper()
	d, err := projections.NewDrop(names...)
	if err != nil {
		r.t.Fatalf("NewDrop: %v", err)
	}
	rebuilder := r.rebuilder()
	r.faults, r.interleaving = 4, true
	for d.Phase != projections.Done {
		before := roundTrip(r.t, d)
		if err := rebuilder.StepDrop(context.Background(), d); err != nil && !errors.Is(err, viewtest.ErrFault) {
			r.t.Fatalf("StepDrop: %v", err)
		}
		if r.dice.IntN(5) == 0 {
			d, rebuilder = before, r.rebuilder()
		}
	}
	r.finish()
}
