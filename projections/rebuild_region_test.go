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
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// replaceable is a log in which another region's content may take the place of an event's.
type replaceable struct {
	mu sync.Mutex
	*logtest.Model
}

func (l *replaceable) replace(t failer, e events.Event) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	after := logtest.NewModel()
	for there, err := range l.Model.Scan(context.Background(), events.Part{Of: 1}, events.Key{}) {
		if there.Stream == e.Stream && there.ID == e.ID {
			there = e
		}
		if err == nil {
			_, _, err = after.Append(context.Background(), there)
		}
		if err != nil {
			t.Fatalf("replace an event: %v", err)
		}
	}
	l.Model = after
}

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
	log   *replaceable
	views *viewtest.Model

	clock     testClock
	mu        sync.Mutex
	dice      *rand.Rand
	engines   []*projections.Engine // of processes that handle what arrives
	toAppend  []events.Event
	toHandle  []projections.Arrival
	faults    int // to come
	meddling  bool
	still     bool // nothing happens any more
	projected int
}

// newRegion returns a region in which a part of the set has happened and the rest is to come.
func newRegion(t failer, seed uint64, set []events.Event) *region {
	r := &region{t: t, log: &replaceable{Model: logtest.NewModel()}, views: viewtest.NewModel(), dice: rand.New(rand.NewPCG(seed, 1))}
	for range 2 {
		r.engines = append(r.engines, projections.NewEngine(r.log, r.views, projections.All()...).In(r.generations()))
	}
	r.toAppend = slices.Clone(set)
	r.dice.Shuffle(len(set), func(i, j int) { r.toAppend[i], r.toAppend[j] = r.toAppend[j], r.toAppend[i] })
	for range r.dice.IntN(len(set) + 1) {
		r.happen()
	}
	return r
}

func (r *region) generations() *projections.Generations {
	gens := projections.NewGenerations(r.views)
	gens.SetClock(r.clock.now)
	return gens
}

// happen appends the next event, or replaces one, or handles a few that were appended: in any
// order, some of them twice.
func (r *region) happen() {
	switch n := r.dice.IntN(8); {
	case n < 3 && len(r.toAppend) > 0:
		e := r.toAppend[0]
		r.toAppend = r.toAppend[1:]
		stored, _, err := r.log.Append(context.Background(), e)
		if errors.Is(err, events.ErrConflict) {
			return // it was replaced
		}
		if err != nil {
			r.t.Fatalf("Append: %v", err)
		}
		r.toHandle = append(r.toHandle, projections.Arrival{Event: stored})
	case n == 3 && len(r.toHandle) > 0:
		was := r.toHandle[r.dice.IntN(len(r.toHandle))].Event
		post, ok := was.Payload.(events.MessagePosted)
		if !ok {
			return
		}
		post.Text = texts[2] // that it is no longer a reply is told by the message, not by its thread
		is := newEvent(was.ID, was.Stream, was.Actor, "us", post)
		r.log.replace(r.t, is)
		r.toHandle = append(r.toHandle, projections.Arrival{Event: is, Replaced: true})
	case len(r.toHandle) > 0:
		r.handle(1 + r.dice.IntN(len(r.toHandle)))
	}
}

// handle folds the first arrivals. What replaces another event comes behind it.
func (r *region) handle(n int) {
	batch := slices.Clone(r.toHandle[:n])
	if r.dice.IntN(2) == 0 {
		r.toHandle = r.toHandle[n:] // else it is told again
	}
	failures, err := r.engines[r.dice.IntN(len(r.engines))].Apply(context.Background(), batch)
	if err != nil || len(failures) > 0 {
		r.t.Fatalf("Apply: error %v, failures %v", err, failures)
	}
	r.projected += n
}

// meddle lets things happen in the middle of whatever the rebuild does.
func (r *region) meddle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.meddling || r.dice.IntN(4) > 0 {
		return
	}
	for range 1 + r.dice.IntN(3) {
		r.happen()
	}
}

func (r *region) fault() viewtest.Fault {
	r.meddle()
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
	r.faults, r.meddling = 6, !r.still
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

// settle lets all happen that is to come.
func (r *region) settle() {
	r.meddling = false
	for len(r.toAppend) > 0 {
		r.happen()
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
