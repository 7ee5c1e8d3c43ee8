package main

import (
	"context"
	"encoding/json"
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
	*pebblelog.Log
	every int
}

// Replicate implements replica.
func (f failing) Replicate(ctx context.Context, batch []pebblelog.Record) error {
	if f.every > 0 && rand.N(f.every) == 0 {
		if rand.N(2) == 0 {
			_ = f.Log.Replicate(ctx, batch)
		}
		return errors.New("the other region did not answer")
	}
	return f.Log.Replicate(ctx, batch)
}

// world is some regions that are nothing but logs, and the flows between them.
type world struct {
	t       testing.TB
	names   []string
	logs    map[string]*pebblelog.Log
	marks   map[string]marks
	network *network
	weather weather
	every   int // one in so many deliveries fails
	running []string
	stop    context.CancelFunc
	flows   sync.WaitGroup
}

func newWorld(t testing.TB, w weather, names ...string) *world {
	world := &world{
		t: t, names: names, logs: map[string]*pebblelog.Log{}, marks: map[string]marks{},
		network: newNetwork(), weather: w, stop: func() {},
	}
	for _, name := range names {
		log, err := pebblelog.Open(name, pebblelog.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		world.logs[name] = log
		world.marks[name] = marks{openMemory(t)}
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
				from: from, to: to, source: w.logs[from], target: failing{w.logs[to], w.every}, identity: "of " + to,
				network: w.network, weather: w.weather, regions: names, marks: w.marks[from], log: quiet,
			}
			if err := f.resume(); err != nil {
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
		w.eachMark(func(m marks, name string) { before[fmt.Sprint(m, name)], _ = m.load(name) })
	}
	w.stop()
	w.flows.Wait()
	if crash {
		w.eachMark(func(m marks, name string) {
			if mark := before[fmt.Sprint(m, name)]; mark != "" {
				_ = m.save(name, mark)
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
	e, err := events.New(id, events.RoomStream(room), "ada", region, events.MessagePosted{Text: events.Content(text)})
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
	spy := &spy{Log: w.logs["b"]}
	f := &flow{
		from: "a", to: "b", source: w.logs["a"], target: spy, network: w.network, weather: w.weather,
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
	if slices.IsSorted(spy.positions) {
		t.Error("all items came in order")
	}
	if len(spy.positions) == n {
		t.Error("no item came twice")
	}
	if f.waited(time.Now()) != 0 {
		t.Error("something is said to wait")
	}
}

// spy notes what is delivered.
type spy struct {
	*pebblelog.Log
	positions []uint64
	early     int
}

// Replicate implements replica.
func (s *spy) Replicate(ctx context.Context, batch []pebblelog.Record) error {
	for _, r := range batch {
		s.positions = append(s.positions, r.Position)
		if time.Since(r.At) < 20*time.Millisecond {
			s.early++
		}
	}
	return s.Log.Replicate(ctx, batch)
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
	db, source := w.marks["a"].db, w.logs["a"]
	f := &flow{to: "b", regions: []string{"a", "b"}, marks: marks{db}, identity: "first", after: 7, full: 3, source: source}
	if err := f.save(1); err != nil {
		t.Fatal(err)
	}
	for identity, want := range map[string][2]uint64{"first": {7, 3}, "second": {0, 9}} {
		again := &flow{to: "b", regions: []string{"a", "b"}, marks: marks{db}, identity: identity, source: source}
		if err := again.resume(); err != nil || [2]uint64{again.after, again.full} != want {
			t.Errorf("for the %s log: resumes after %d, all up to %d, %v; want %d", identity, again.after, again.full, err, want)
		}
	}
	var mark flowMark
	text, _ := f.marks.load("replicate/b")
	if err := json.Unmarshal([]byte(text), &mark); err != nil || mark.Position != 7 {
		t.Errorf("mark is %s, %v", text, err)
	}
}

// TestMerge delivers only the last of two changes of one event.
func TestMerge(t *testing.T) {
	var tr transit
	at := time.Unix(1000, 0)
	e := events.Event{ID: events.ID{1}, Stream: "room/a"}
	tr.add(pebblelog.Record{Position: 1, Event: e, At: at}, weather{Twice: 1})
	tr.add(pebblelog.Record{Position: 2, Event: events.Event{ID: events.ID{2}, Stream: "room/a"}, At: at}, weather{})
	tr.merge(pebblelog.Record{Position: 3, Event: e, Modified: true})
	if got := tr.settled(3); got != 1 {
		t.Errorf("settled up to %d before the other left, want 1", got)
	}
	due := tr.due(at, 10)
	if len(due) != 1 || due[0].item.record.Position != 2 {
		t.Fatalf("due are %d items", len(due))
	}
	tr.back(due)
	tr.done(tr.due(at, 10))
	if got := tr.settled(3); got != 3 || tr.bytes != 0 {
		t.Errorf("settled up to %d with %d bytes, want all", got, tr.bytes)
	}
}
