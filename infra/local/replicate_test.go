package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"parley/events"
	"parley/events/pebblelog"
)

// failing is a replica whose Replicate fails now and then, with nothing stored or with all.
type failing struct {
	tail
	every int
}

// Replicate implements replica.
func (f failing) Replicate(ctx context.Context, batch []accepted) error {
	if f.every > 0 && rand.N(f.every) == 0 {
		if rand.N(2) == 0 {
			_ = f.tail.Replicate(ctx, batch)
		}
		return errors.New("the other region did not answer")
	}
	return f.tail.Replicate(ctx, batch)
}

// world is some regions that are nothing but logs, and the flows between them.
type world struct {
	t       testing.TB
	names   []string
	logs    map[string]*pebblelog.Log
	marks   map[string]pebbleMarks
	network *network
	weather weather
	every   int // one in so many deliveries fails
	running []string
	stop    context.CancelFunc
	flows   sync.WaitGroup
}

func newWorld(t testing.TB, w weather, names ...string) *world {
	world := &world{
		t: t, names: names, logs: map[string]*pebblelog.Log{}, marks: map[string]pebbleMarks{},
		network: newNetwork(), weather: w, stop: func() {},
	}
	for _, name := range names {
		log, err := pebblelog.Open(name, pebblelog.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		world.logs[name] = log
		world.marks[name] = pebbleMarks{openMemory(t)}
	}
	return world
}

func openMemory(t testing.TB) *pebble.DB {
	db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Logger: noLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

type noLogger struct{}

func (noLogger) Infof(string, ...any)  {}
func (noLogger) Errorf(string, ...any) {}
func (noLogger) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// start lets these regions run, and only these.
func (w *world) start(names ...string) {
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.running = stop, names
	for _, from := range names {
		for _, to := range names {
			if from == to {
				continue
			}
			f := &flow{
				from: from, to: to, source: tail{w.logs[from]}, target: failing{tail{w.logs[to]}, w.every}, identity: "of " + to,
				network: w.network, weather: w.weather, regions: names, marks: w.marks[from], log: quiet,
			}
			if err := f.resume(ctx); err != nil {
				w.t.Fatal(err)
			}
			w.flows.Go(func() { f.run(ctx) })
		}
	}
}

// halt stops all flows. After a crash the marks are those of some time before.
func (w *world) halt(crash bool) {
	before := map[string]string{}
	if crash {
		w.eachMark(func(m marks, name string) { before[fmt.Sprint(m, name)], _ = m.load(context.Background(), name) })
	}
	w.stop()
	w.flows.Wait()
	if crash {
		w.eachMark(func(m marks, name string) {
			if mark := before[fmt.Sprint(m, name)]; mark != "" {
				_ = m.save(context.Background(), name, mark)
			}
		})
	}
}

func (w *world) eachMark(f func(m marks, name string)) {
	for _, from := range w.running {
		for _, to := range w.running {
			f(w.marks[from], "replicate/"+to)
		}
	}
}

func (w *world) close() {
	w.stop()
	w.flows.Wait()
	for _, name := range w.names {
		_ = w.logs[name].Close()
		_ = w.marks[name].db.Close()
	}
}

// append accepts a message in a region.
func (w *world) append(region string, id events.ID, room, text string) {
	e, err := events.New(id, events.RoomStream(room), "ada", region, events.MessagePosted{Text: events.Plain(text)})
	if err != nil {
		w.t.Fatal(err)
	}
	_, _, err = w.logs[region].Append(context.Background(), e)
	if err != nil && !errors.Is(err, events.ErrConflict) {
		w.t.Fatal(err)
	}
}

// contents is what a log holds, by stream and id: region and data, as in the log.
func (w *world) contents(region string) map[string]string {
	found := map[string]string{}
	for after := uint64(0); after < w.logs[region].Head(); {
		got, err := w.logs[region].Tail(context.Background(), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range got {
			after = r.Position
			e, err := w.logs[region].Get(context.Background(), r.Event.Stream, r.Event.ID)
			if err != nil {
				w.t.Fatal(err)
			}
			found[string(e.Stream)+" "+e.ID.String()] = e.Region + " " + string(e.Data)
		}
	}
	return found
}

// differ returns the regions that do not hold exactly so many events, the same as the first.
func (w *world) differ(names []string, count int) []string {
	var behind []string
	first := w.contents(names[0])
	for _, name := range names {
		got := w.contents(name)
		same := len(got) == count
		for key, value := range got {
			same = same && first[key] == value
		}
		if !same {
			behind = append(behind, fmt.Sprintf("%s has %d", name, len(got)))
		}
	}
	return behind
}

// settle waits until all these regions hold the same events, so many.
func (w *world) settle(names []string, count int) {
	var behind []string
	if !eventually(20*time.Second, func() bool { behind = w.differ(names, count); return len(behind) == 0 }) {
		w.t.Fatalf("regions do not settle on %d events: %v", count, behind)
	}
}

// eventually asks again and again until something holds, or it took too long.
func eventually(patience time.Duration, holds func() bool) bool {
	deadline := time.After(patience)
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			return holds()
		}
	}
	return true
}

// TestReplicationConverges accepts events anywhere, also one id with several contents, while
// regions are isolated and healed, deliveries fail, and flows stop and crash. In the end all
// logs are equal.
func TestReplicationConverges(t *testing.T) {
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, weather{Lag: time.Duration(rapid.IntRange(0, 4).Draw(rt, "lag")) * time.Millisecond, Twice: 0.2}, names...)
		defer w.close()
		w.every = rapid.SampledFrom([]int{0, 3, 10}).Draw(rt, "one in so many deliveries fails")
		clock := events.NewClock(time.Now)
		w.start(names...)
		type said struct {
			id   events.ID
			room string
		}
		var ids []said
		region := rapid.SampledFrom(names)
		rt.Repeat(map[string]func(*rapid.T){
			"accept": func(rt *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(rt, "events") {
					id, err := clock.Mint("ada")
					if err != nil {
						rt.Fatal(err)
					}
					s := said{id, id.String()}
					ids = append(ids, s)
					w.append(region.Draw(rt, "region"), s.id, s.room, "hello")
				}
			},
			"accept again": func(rt *rapid.T) {
				if len(ids) == 0 {
					rt.Skip("nothing was said")
				}
				s := rapid.SampledFrom(ids[max(0, len(ids)-5):]).Draw(rt, "said")
				w.append(region.Draw(rt, "region"), s.id, s.room, rapid.SampledFrom([]string{"hello", "well"}).Draw(rt, "text"))
			},
			"isolate": func(rt *rapid.T) {
				w.network.isolate(region.Draw(rt, "region"), rapid.Bool().Draw(rt, "cut"))
			},
			"restart": func(rt *rapid.T) {
				w.halt(rapid.Bool().Draw(rt, "crash"))
				w.start(names...)
			},
		})
		for _, name := range names {
			w.network.isolate(name, false)
		}
		w.settle(names, len(ids))
	})
}

// TestIsolatedRegion gets nothing and gives nothing, and everything once it is healed.
func TestIsolatedRegion(t *testing.T) {
	w := newWorld(t, weather{Lag: time.Millisecond}, "a", "b", "c")
	defer w.close()
	w.start("a", "b", "c")
	w.network.isolate("c", true)
	clock := events.NewClock(time.Now)
	for range 100 {
		id, _ := clock.Mint("ada")
		w.append([]string{"a", "b", "c"}[rand.N(3)], id, id.String(), "hello")
	}
	own := len(w.contents("c"))
	w.settle([]string{"a", "b"}, 100-own)
	if got := len(w.contents("c")); got != own {
		t.Errorf("the isolated region got %d events", got-own)
	}
	w.network.isolate("c", false)
	w.settle([]string{"a", "b", "c"}, 100)
}

// TestReplicationReorders shows that the weather is as bad as it says: items arrive out of
// order, some are delivered twice, and none earlier than half the lag.
func TestReplicationReorders(t *testing.T) {
	const n = 300
	w := newWorld(t, weather{Lag: 40 * time.Millisecond, Twice: 0.5}, "a", "b")
	defer w.close()
	spy := &spy{tail: tail{w.logs["b"]}}
	f := &flow{
		from: "a", to: "b", source: tail{w.logs["a"]}, target: spy, network: w.network, weather: w.weather,
		regions: []string{"a", "b"}, marks: w.marks["a"], log: quiet,
	}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	w.flows.Go(func() { f.run(ctx) })
	clock := events.NewClock(time.Now)
	for range n {
		id, _ := clock.Mint("ada")
		w.append("a", id, id.String(), "hello")
	}
	w.settle([]string{"a", "b"}, n)
	stop()
	w.flows.Wait()
	if spy.early > 0 {
		t.Errorf("%d items came too early", spy.early)
	}
	if slices.IsSorted(spy.ids) {
		t.Error("all items came in order")
	}
	if len(spy.ids) == n {
		t.Error("no item came twice")
	}
	if f.waited(time.Now()) != 0 {
		t.Error("something is said to wait")
	}
}

// spy notes what is delivered.
type spy struct {
	tail
	ids   []string
	early int
}

// Replicate implements replica.
func (s *spy) Replicate(ctx context.Context, batch []accepted) error {
	for _, a := range batch {
		s.ids = append(s.ids, a.event.ID.String())
		if time.Since(a.at) < 20*time.Millisecond {
			s.early++
		}
	}
	return s.tail.Replicate(ctx, batch)
}

// TestRegionsComeAndGo lets a region leave before all have heard of what it accepted, and
// another come that has never heard of anything: who stays tells for who has left.
func TestRegionsComeAndGo(t *testing.T) {
	w := newWorld(t, weather{}, "a", "b", "c", "d")
	defer w.close()
	clock := events.NewClock(time.Now)
	say := func(region string) {
		for range 20 {
			id, _ := clock.Mint("ada")
			w.append(region, id, id.String(), "hello")
		}
	}
	w.start("a", "c")
	say("a")
	say("c")
	w.settle([]string{"a", "c"}, 40)
	w.halt(false)
	w.start("a", "b")
	w.settle([]string{"a", "b"}, 40)
	w.halt(false)

	w.start("a", "b", "c") // c is back and says more, which only b hears before it leaves again
	w.settle([]string{"a", "b", "c"}, 40)
	w.network.isolate("a", true)
	say("c")
	w.settle([]string{"b", "c"}, 60)
	w.halt(false)
	w.network.isolate("a", false)
	w.start("a", "b", "d")
	w.settle([]string{"a", "b", "d"}, 60)
}

// TestNewTarget fills a region whose folder was deleted: its log is another.
func TestNewTarget(t *testing.T) {
	w := newWorld(t, weather{}, "a")
	defer w.close()
	clock := events.NewClock(time.Now)
	for range 9 {
		id, _ := clock.Mint("ada")
		w.append("a", id, id.String(), "hello")
	}
	marks, source := w.marks["a"], tail{w.logs["a"]}
	f := &flow{to: "b", regions: []string{"a", "b"}, marks: marks, identity: "first", after: "7", source: source}
	if err := f.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	for identity, want := range map[string]string{"first": "false 7", "second": "true "} {
		again := &flow{to: "b", regions: []string{"a", "b"}, marks: marks, identity: identity, source: source}
		if err := again.resume(t.Context()); err != nil || fmt.Sprint(again.fresh, " ", again.after) != want {
			t.Errorf("for the %s log: fresh %v, resumes after %q, %v; want %s", identity, again.fresh, again.after, err, want)
		}
	}
	again := &flow{to: "b", regions: []string{"b", "c"}, marks: marks, identity: "first", source: source}
	if err := again.resume(t.Context()); err != nil || !again.fresh {
		t.Errorf("after a region has left: fresh %v, %v", again.fresh, err)
	}
}

// TestMerge delivers only the last of two changes of one event.
func TestMerge(t *testing.T) {
	var tr transit
	at := time.Unix(1000, 0)
	e := events.Event{ID: events.ID{1}, Stream: "room/a"}
	tr.add(accepted{e, at}, "", weather{Twice: 1})
	tr.add(accepted{events.Event{ID: events.ID{2}, Stream: "room/a"}, at}, "1", weather{})
	tr.merge(e)
	if got := tr.settled("3"); got != "1" {
		t.Errorf("settled up to %s before the other left, want 1", got)
	}
	due := tr.due(at, 10)
	if len(due) != 1 || due[0].item.event.ID != (events.ID{2}) {
		t.Fatalf("due are %d items", len(due))
	}
	tr.back(due)
	tr.done(tr.due(at, 10))
	if got := tr.settled("3"); got != "3" || tr.bytes != 0 {
		t.Errorf("settled up to %s with %d bytes, want all", got, tr.bytes)
	}
}
