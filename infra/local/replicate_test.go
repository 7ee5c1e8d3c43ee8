package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"parley/events"
	"parley/events/pebblelog"
)

// failing is a replica whose Replicate fails now and then, with nothing stored or with all. It counts
// records.
type failing struct {
	events.Replica
	every   int
	records *atomic.Int64
}

// Replicate implements replica.
func (f failing) Replicate(ctx context.Context, batch []events.Record) error {
	f.records.Add(int64(len(batch)))
	if f.every > 0 && rand.N(f.every) == 0 {
		if rand.N(2) == 0 {
			_ = f.Replica.Replicate(ctx, batch)
		}
		return errors.New("the other region did not answer")
	}
	return f.Replica.Replicate(ctx, batch)
}

// world is some regions that are nothing but logs, and the replicators between them.
type world struct {
	t           testing.TB
	names       []string
	logs        map[string]*pebblelog.Log
	checkpoints map[string]pebbleCheckpoints
	identities  map[string]string // of the logs
	delivered   atomic.Int64      // records, to all regions
	network     *network
	linkFaults  linkFaults
	every       int // one in so many deliveries fails
	running     []string
	stop        context.CancelFunc
	replicators sync.WaitGroup
}

func newWorld(t testing.TB, w linkFaults, names ...string) *world {
	world := &world{
		t: t, names: names, logs: map[string]*pebblelog.Log{}, checkpoints: map[string]pebbleCheckpoints{}, identities: map[string]string{},
		network: newNetwork(), linkFaults: w, stop: func() {},
	}
	for _, name := range names {
		world.open(name)
	}
	return world
}

// open opens the folder of a region, a new one.
func (w *world) open(name string) {
	log, err := pebblelog.Open(name, pebblelog.Options{FS: vfs.NewMem()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.logs[name] = log
	w.checkpoints[name] = pebbleCheckpoints{openMemory(w.t)}
	w.identities[name] = fmt.Sprintf("%p", log)
}

// deleteFolder deletes the folder of a region, and makes a new one.
func (w *world) deleteFolder(name string) {
	_ = w.logs[name].Close()
	_ = w.checkpoints[name].db.Close()
	w.open(name)
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
	logs := map[string]string{}
	for _, name := range names {
		logs[name] = w.identities[name]
	}
	for _, from := range names {
		for _, to := range names {
			if from == to {
				continue
			}
			f := &replicator{
				from: from, to: to, source: w.logs[from], target: failing{w.logs[to], w.every, &w.delivered},
				network: w.network, linkFaults: w.linkFaults, logs: logs, checkpoints: w.checkpoints[from], log: quiet,
			}
			if err := f.resume(ctx); err != nil {
				w.t.Fatal(err)
			}
			w.replicators.Go(func() { f.run(ctx) })
		}
	}
}

// halt stops all replicators. After a crash the checkpoints are those of some time before.
func (w *world) halt(crash bool) {
	before := map[string]string{}
	if crash {
		w.eachMark(func(m checkpoints, name string) { before[fmt.Sprint(m, name)], _ = m.load(context.Background(), name) })
	}
	w.stop()
	w.replicators.Wait()
	if crash {
		w.eachMark(func(m checkpoints, name string) {
			if checkpoint := before[fmt.Sprint(m, name)]; checkpoint != "" {
				_ = m.save(context.Background(), name, checkpoint)
			}
		})
	}
}

func (w *world) eachMark(f func(m checkpoints, name string)) {
	for _, from := range w.running {
		for _, to := range w.running {
			if from != to {
				f(w.checkpoints[from], "replicate/"+to)
			}
		}
	}
}

func (w *world) close() {
	w.stop()
	w.replicators.Wait()
	for _, name := range w.names {
		_ = w.logs[name].Close()
		_ = w.checkpoints[name].db.Close()
	}
}

// append accepts a message in a region, and returns its key.
func (w *world) append(region string, id events.ID, room, text string) events.Key {
	return w.appendFrom(region, region, id, room, text)
}

// appendFrom appends a message in a region that names another, as an import does.
func (w *world) appendFrom(named, region string, id events.ID, room, text string) events.Key {
	e, err := events.New(id, events.RoomStream(room), "ada", named, events.MessagePosted{Text: events.Plain(text)})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, _, err = w.logs[region].Append(context.Background(), e); err != nil {
		w.t.Fatal(err)
	}
	return e.Key()
}

// contents is what a log holds: data, by key.
func (w *world) contents(region string) map[events.Key]string {
	found := map[events.Key]string{}
	for e, err := range w.logs[region].Scan(context.Background(), events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		found[e.Key()] = string(e.Data)
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

// TestReplicationConverges accepts events anywhere, also one id with several contents and whichever
// region they name, while regions are isolated and healed, deliveries fail, and replicators stop and
// crash. In the end all logs are equal and nothing is lost.
func TestReplicationConverges(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, linkFaults{Lag: time.Duration(rapid.IntRange(0, 4).Draw(rt, "lag")) * time.Millisecond, Twice: 0.2}, names...)
		defer w.close()
		w.every = rapid.SampledFrom([]int{0, 3, 10}).Draw(rt, "one in so many deliveries fails")
		clock := events.NewClock(time.Now, events.NewMarks(nil))
		w.start(names...)
		type said struct {
			id   events.ID
			room string
		}
		var ids []said
		accepted := map[events.Key]bool{}
		region := rapid.SampledFrom(names)
		named := rapid.SampledFrom(append([]string{"elsewhere"}, names...))
		rt.Repeat(map[string]func(*rapid.T){
			"accept": func(rt *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(rt, "events") {
					id, err := clock.Mint("ada")
					if err != nil {
						rt.Fatal(err)
					}
					s := said{id, id.String()}
					ids = append(ids, s)
					accepted[w.appendFrom(named.Draw(rt, "named"), region.Draw(rt, "region"), s.id, s.room, "hello")] = true
				}
			},
			"accept again": func(rt *rapid.T) {
				if len(ids) == 0 {
					rt.Skip("nothing was said")
				}
				s := rapid.SampledFrom(ids[max(0, len(ids)-5):]).Draw(rt, "said")
				text := rapid.SampledFrom([]string{"hello", "well"}).Draw(rt, "text")
				accepted[w.appendFrom(named.Draw(rt, "named"), region.Draw(rt, "region"), s.id, s.room, text)] = true
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
		w.settle(names, len(accepted))
	})
}

// TestIsolatedRegion gets nothing and gives nothing, and everything once it is healed.
func TestIsolatedRegion(t *testing.T) {
	w := newWorld(t, linkFaults{Lag: time.Millisecond}, "a", "b", "c")
	defer w.close()
	w.start("a", "b", "c")
	w.network.isolate("c", true)
	clock := events.NewClock(time.Now, events.NewMarks(nil))
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

// TestReplicationReorders shows that the linkFaults is as bad as it says: items arrive out of
// order, some are delivered twice, and none earlier than half the lag.
func TestReplicationReorders(t *testing.T) {
	const n = 300
	w := newWorld(t, linkFaults{Lag: 40 * time.Millisecond, Twice: 0.5}, "a", "b")
	defer w.close()
	spy := &spy{Replica: w.logs["b"]}
	f := &replicator{
		from: "a", to: "b", source: w.logs["a"], target: spy, network: w.network, linkFaults: w.linkFaults,
		checkpoints: w.checkpoints["a"], log: quiet,
	}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	w.replicators.Go(func() { f.run(ctx) })
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	for range n {
		id, _ := clock.Mint("ada")
		w.append("a", id, id.String(), "hello")
	}
	w.settle([]string{"a", "b"}, n)
	stop()
	w.replicators.Wait()
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
	events.Replica
	ids   []string
	early int
}

// Replicate implements replica.
func (s *spy) Replicate(ctx context.Context, batch []events.Record) error {
	for _, a := range batch {
		s.ids = append(s.ids, a.Event.ID.String())
		if time.Since(a.At) < 20*time.Millisecond {
			s.early++
		}
	}
	return s.Replica.Replicate(ctx, batch)
}

// TestRegionsComeAndGo lets a region leave before all have heard of what it accepted, and
// another come that has never heard of anything: who stays tells for who has left.
func TestRegionsComeAndGo(t *testing.T) {
	w := newWorld(t, linkFaults{}, "a", "b", "c", "d")
	defer w.close()
	clock := events.NewClock(time.Now, events.NewMarks(nil))
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

// TestReplicationOfAnImport: what names other regions arrives everywhere, and once: no region passes on
// what it got from another.
func TestReplicationOfAnImport(t *testing.T) {
	names := []string{"a", "b", "c"}
	w := newWorld(t, linkFaults{}, names...)
	defer w.close()
	w.start(names...)
	copied := func() (all bool) {
		all = true
		w.eachMark(func(m checkpoints, name string) {
			checkpoint, err := m.load(t.Context(), name)
			all = all && (err == nil && checkpoint != "")
		})
		return all
	}
	if !eventually(20*time.Second, copied) {
		t.Fatal("the empty logs were not copied")
	}
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	const n = 40
	for i := range n {
		id, _ := clock.Mint("ada")
		w.appendFrom([]string{"a", "b", "c", "elsewhere"}[i%4], "b", id, id.String(), "hello")
	}
	w.settle(names, n)
	id, _ := clock.Mint("ada")
	w.append("b", id, id.String(), "the last: what was passed on before has arrived")
	w.append("a", id, id.String(), "and there")
	w.append("c", id, id.String(), "and there, too")
	w.settle(names, n+3)
	if got := w.delivered.Load(); got != 2*(n+3) {
		t.Errorf("%d records were delivered to two regions each, want %d", got, 2*(n+3))
	}
}

// TestDeletedFolder deletes the folder of a region that accepted events, some of them named as
// another region's, which only one other region has heard of. All regions get them from that one.
func TestDeletedFolder(t *testing.T) {
	names := []string{"a", "b", "c"}
	w := newWorld(t, linkFaults{}, names...)
	defer w.close()
	w.start(names...)
	w.network.isolate("c", true)
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	for i := range 20 {
		id, _ := clock.Mint("ada")
		w.appendFrom([]string{"a", "elsewhere"}[i%2], "a", id, id.String(), "hello")
	}
	w.settle([]string{"a", "b"}, 20)
	w.halt(false)
	w.deleteFolder("a")
	w.network.isolate("c", false)
	w.start(names...)
	w.settle(names, 20)
}

// TestNewTarget fills a region whose folder was deleted: its log is another.
func TestNewTarget(t *testing.T) {
	w := newWorld(t, linkFaults{}, "a")
	defer w.close()
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	for range 9 {
		id, _ := clock.Mint("ada")
		w.append("a", id, id.String(), "hello")
	}
	checkpoints, source := w.checkpoints["a"], w.logs["a"]
	running := func(a, b string) map[string]string { return map[string]string{"a": a, "b": b} }
	f := &replicator{to: "b", logs: running("A", "B"), checkpoints: checkpoints, after: "7", source: source}
	if err := f.saveProgress(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		logs map[string]string
		want string
	}{
		"the same logs":             {running("A", "B"), "false 7"},
		"another log of the target": {running("A", "B2"), "true "},
		"another log of the source": {running("A2", "B"), "true "},
		"a region more":             {map[string]string{"a": "A", "b": "B", "c": "C"}, "false 7"},
		"a region has left":         {map[string]string{"b": "B", "c": "C"}, "true "},
	} {
		again := &replicator{to: "b", logs: tt.logs, checkpoints: checkpoints, source: source}
		if err := again.resume(t.Context()); err != nil || fmt.Sprint(again.fresh, " ", again.after) != tt.want {
			t.Errorf("%s: fresh %v, resumes after %q, %v; want %s", name, again.fresh, again.after, err, tt.want)
		}
	}
	former := `{"sequence":"7","target":"B","regions":["a","b"]}`
	if err := checkpoints.save(t.Context(), f.checkpointName(), former); err != nil {
		t.Fatal(err)
	}
	again := &replicator{to: "b", logs: running("A", "B"), checkpoints: checkpoints, source: source}
	if err := again.resume(t.Context()); err != nil || !again.fresh {
		t.Errorf("a checkpoint of a former release: fresh %v, %v", again.fresh, err)
	}
}
