package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/goldentest"
	"parley/events/keys"
	"parley/projections"
	"parley/projections/viewtest"
)

// changeStream is a change stream of one shard in memory: the records of some rooms in turn, each with
// its position as sequence and number.
type changeStream struct {
	events.Replica

	mu      sync.Mutex
	records []events.Record
	changed chan struct{}
}

func newChangeStream(n, rooms int) *changeStream {
	s := &changeStream{changed: make(chan struct{})}
	for i := range n {
		s.put(events.Record{Event: events.Event{Stream: events.Stream("room/" + strconv.Itoa(i%rooms))}})
	}
	return s
}

func (s *changeStream) put(r events.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Sequence, r.At = strconv.Itoa(len(s.records)+1), time.Now()
	r.Number = events.Number(r.Sequence)
	s.records = append(s.records, r)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Next implements [events.Follower].
func (s *changeStream) Next(ctx context.Context, after string, limit int, _ bool) ([]events.Record, error) {
	for ctx.Err() == nil {
		s.mu.Lock()
		records, changed := s.records[atoi(after):], s.changed
		s.mu.Unlock()
		if len(records) > 0 {
			return slices.Clone(records[:min(limit, len(records))]), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil, ctx.Err()
}

// handler records what it handles, and checks the order within each stream. It may be called by all
// lanes at once.
type handler struct {
	t     interface{ Errorf(string, ...any) }
	fails func(events.Record) error // or blocks

	mu      sync.Mutex
	times   map[string]int           // by sequence: how often it was handled
	parked  map[string]events.Record // by sequence
	streams map[events.Stream][]int  // the sequences of each stream
	next    map[events.Stream]int    // how many of them are handled or parked
}

func newHandler(t interface{ Errorf(string, ...any) }, s *changeStream) *handler {
	h := &handler{t: t, times: map[string]int{}, next: map[events.Stream]int{}, parked: map[string]events.Record{}, streams: map[events.Stream][]int{}}
	for _, r := range s.records {
		h.streams[r.Event.Stream] = append(h.streams[r.Event.Stream], atoi(r.Sequence))
	}
	return h
}

// Handle implements function.
func (h *handler) Handle(ctx context.Context, batch []events.Record) (int, error) {
	for i, r := range batch {
		if ctx.Err() != nil {
			return i, ctx.Err()
		}
		if h.fails != nil {
			if err := h.fails(r); err != nil {
				return i, err
			}
		}
		h.done(r)
	}
	return len(batch), nil
}

// done notes that a record is handled or parked.
func (h *handler) done(r events.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, stream := atoi(r.Sequence), r.Event.Stream
	if i, known := slices.BinarySearch(h.streams[stream], at); known {
		if next := h.next[stream]; i > next {
			h.t.Errorf("record %d was handled before %d of its stream", at, h.streams[stream][next])
		}
		h.next[stream] = max(h.next[stream], i+1)
	}
	h.times[r.Sequence]++
}

// Park implements function.
func (h *handler) Park(_ context.Context, _ string, r events.Record, _ error) error {
	h.mu.Lock()
	h.parked[r.Sequence] = r
	h.mu.Unlock()
	h.done(r)
	return nil
}

// count returns how many of the records were handled, and how often records were handled again.
func (h *handler) count() (handled, again int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.times {
		again += n - 1
	}
	return len(h.times), again
}

var quickTrigger = triggerSettings{Batch: 50, Tries: 3, Pause: time.Millisecond, Max: time.Second}

// startLanes opens n lanes as a region does, and runs them until stop is called. A process that is
// killed saves nothing more.
func startLanes(t interface {
	Fatal(...any)
	Context() context.Context
}, s *changeStream, store checkpoints, n int, f function,
) (lanes []lane, stop func(kill bool)) {
	mortal := &mortalCheckpoints{checkpoints: store}
	starts, err := openLanes(t.Context(), mortal, n, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	p := laneParts{
		follow: func(events.Part) events.Replica { return s }, functions: instances{f, f, f}, checkpoints: mortal, settings: quickTrigger, log: quiet,
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	lanes = p.lanes(starts)
	for _, l := range lanes {
		running.Go(func() { l.run(ctx, l.start) })
	}
	return lanes, func(kill bool) {
		mortal.mu.Lock()
		mortal.dead = kill
		mortal.mu.Unlock()
		cancel()
		running.Wait()
	}
}

// mortalCheckpoints are checkpoints of a process that may be dead.
type mortalCheckpoints struct {
	checkpoints
	mu    sync.Mutex
	dead  bool
	saves int // how many fail at first, from the one after that many; 0: none
}

func (c *mortalCheckpoints) save(ctx context.Context, name, text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saves > 0 {
		if c.saves--; c.saves == 0 {
			c.dead = true
		}
	}
	if c.dead {
		return errors.New("the process is dead")
	}
	return c.checkpoints.save(ctx, name, text)
}

func newCheckpoints() checkpoints { return newViewCheckpoints(viewtest.NewModel()) }

// laneOf returns the lane of a stream.
func laneOf(stream events.Stream, n int) int {
	for i := range n {
		if (events.Part{Index: i, Of: n}).Holds(stream) {
			return i
		}
	}
	return -1
}

// TestLanesAreIndependent: of four lanes one hangs and one fails. The others go on and save their
// checkpoints; after a kill each resumes where it was.
func TestLanesAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, rooms, shards, hangs, fails = 2000, 40, 4, 1, 2
		s, store := newChangeStream(n, rooms), newCheckpoints()
		h := newHandler(t, s)
		healed := make(chan struct{})
		ctx, end := context.WithCancel(t.Context())
		h.fails = func(r events.Record) error {
			switch laneOf(r.Event.Stream, shards) {
			case hangs:
				select {
				case <-healed:
				case <-ctx.Done():
					return ctx.Err()
				}
			case fails:
				return fmt.Errorf("as a test: %w", projections.ErrUnavailable)
			}
			return nil
		}
		want := 0
		for _, r := range s.records {
			if lane := laneOf(r.Event.Stream, shards); lane != hangs && lane != fails {
				want++
			}
		}
		lanes, stop := startLanes(t, s, store, shards, h)
		time.Sleep(time.Hour) // of the bubble
		if handled, again := h.count(); handled != want || again > 0 {
			t.Errorf("%d records were handled, want %d; %d again", handled, want, again)
		}
		for i, l := range lanes {
			if stuck := l.waited(time.Now()) > 50*time.Minute; stuck != (i == hangs || i == fails) {
				t.Errorf("lane %d has waited %v", i, l.waited(time.Now()))
			}
		}
		end()
		stop(true)
		if len(h.parked) > 0 {
			t.Errorf("%d were parked in an outage", len(h.parked))
		}
		starts, err := loadLanes(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range starts {
			if stuck := i == hangs || i == fails; stuck && at.Sequence != "" || !stuck && atoi(at.Sequence) < n-maxPassed {
				t.Errorf("the checkpoint of lane %d is %q of %d", i, at.Sequence, n)
			}
		}

		h.fails = nil
		_, stop = startLanes(t, s, store, shards, h)
		time.Sleep(time.Second)
		stop(false)
		if handled, again := h.count(); handled != n || again > 0 {
			t.Errorf("%d of %d were handled, %d again", handled, n, again)
		}
	})
}

// TestOutage: nothing is parked because of an outage, however long it is, and what is parked after it
// has failed for a reason of its own.
func TestOutage(t *testing.T) {
	for _, cause := range []error{
		events.ErrUnavailable, events.ErrThrottled, events.ErrUnknownOutcome, projections.ErrUnavailable, projections.ErrTooManyConflicts,
		keys.ErrMissing, context.DeadlineExceeded, context.Canceled,
	} {
		synctest.Test(t, func(t *testing.T) {
			const n, poisoned = 60, "17"
			s := newChangeStream(n, 6)
			h, out := newHandler(t, s), true
			h.fails = func(r events.Record) error {
				h.mu.Lock()
				defer h.mu.Unlock()
				switch {
				case out:
					return fmt.Errorf("project: %w", errors.Join(errors.New("one of many"), cause))
				case r.Sequence == poisoned:
					return errors.New("it cannot be handled")
				}
				return nil
			}
			_, stop := startLanes(t, s, newCheckpoints(), 4, h)
			time.Sleep(20 * time.Minute)
			if handled, _ := h.count(); handled > 0 {
				t.Errorf("%v: %d were handled or parked", cause, handled)
			}
			h.mu.Lock()
			out = false
			h.mu.Unlock()
			time.Sleep(time.Minute)
			stop(false)
			if handled, _ := h.count(); handled != n {
				t.Errorf("%v: %d of %d were handled", cause, handled, n)
			}
			if parked := slices.Collect(maps.Keys(h.parked)); !slices.Equal(parked, []string{poisoned}) {
				t.Errorf("%v: parked are %v", cause, parked)
			}
		})
	}
}

// TestUndecodable: a record without a stream is handled in the first lane, once.
func TestUndecodable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newChangeStream(10, 10)
		h := newHandler(t, s)
		s.put(events.Record{Err: errors.New("it is damaged")})
		lanes, stop := startLanes(t, s, newCheckpoints(), 4, h)
		time.Sleep(time.Minute)
		stop(false)
		if handled, again := h.count(); handled != 11 || again > 0 {
			t.Errorf("%d were handled, %d again", handled, again)
		}
		if own := lanes[0].ownOf(s.records[10:]); len(own) != 1 {
			t.Error("it is not in the first lane")
		}
	})
}

// TestLanesFaults lets parts of batches fail at random in lanes whose number changes with each start. Every
// record is handled, in the order of its stream; few are handled again.
func TestLanesFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(rt, "records")
		rooms := rapid.IntRange(1, 40).Draw(rt, "rooms")
		failures := rapid.MapOfN(rapid.IntRange(1, n), rapid.IntRange(1, 4), 0, 20).Draw(rt, "failures")
		shards := append([]int{1}, rapid.SliceOfN(rapid.IntRange(1, maxShards), 0, 3).Draw(rt, "shards")...)
		shards = append(shards, rapid.SampledFrom([]int{1, 4, 16, 2}).Draw(rt, "last shards"))
		kill := rapid.Bool().Draw(rt, "kill")
		before := rapid.IntRange(0, 300).Draw(rt, "handled before each restart")
		synctest.Test(t, func(t *testing.T) {
			s, store := newChangeStream(n, rooms), newCheckpoints()
			h := newHandler(rt, s)
			reached := make(chan struct{}, 1)
			left := 0
			h.fails = func(r events.Record) error {
				h.mu.Lock()
				defer h.mu.Unlock()
				if left--; left == 0 {
					reached <- struct{}{}
				}
				if at := atoi(r.Sequence); failures[at] > 0 {
					failures[at]--
					return errors.New("as a test")
				}
				return nil
			}
			for run, of := range shards {
				h.mu.Lock()
				left = before
				h.mu.Unlock()
				_, stop := startLanes(t, s, store, of, h)
				if run < len(shards)-1 {
					select {
					case <-reached:
					case <-time.After(time.Hour):
					}
				} else {
					time.Sleep(time.Hour)
				}
				stop(kill)
			}
			for i := 1; i <= n; i++ {
				if h.times[strconv.Itoa(i)] == 0 {
					rt.Errorf("record %d was not handled", i)
				}
			}
			for sequence := range h.parked {
				if failures[atoi(sequence)] > 1 {
					rt.Errorf("record %s was parked before its time", sequence)
				}
			}
		})
	})
}

// TestOtherShards starts with 1, 4, 16 and 2 shards, and kills each. Nothing is lost, and little is
// handled again.
func TestOtherShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, more, rooms = 1000, 700, 30
		s, store := newChangeStream(n, rooms), newCheckpoints()
		for run, shards := range []int{1, 4, 16, 2} {
			h := newHandler(t, s)
			if run > 0 { // what came before may be handled from the middle on
				h.streams = nil
			}
			_, stop := startLanes(t, s, store, shards, h)
			time.Sleep(time.Minute)
			stop(true)
			handled, again := h.count()
			switch extra := handled - len(s.records); {
			case run == 0 && (extra != 0 || again > 0):
				t.Errorf("%d of %d were handled, %d again", handled, n, again)
			case run > 0 && (handled < more || handled > more+maxPassed || again > 0):
				t.Errorf("with %d shards %d were handled, want %d and at most %d again; %d twice", shards, handled, more, maxPassed, again)
			}
			for i := len(s.records) - more; run > 0 && i < len(s.records); i++ {
				if h.times[s.records[i].Sequence] == 0 {
					t.Errorf("with %d shards record %d was lost", shards, i+1)
				}
			}
			for i := range more {
				s.put(events.Record{Event: events.Event{Stream: events.Stream("room/" + strconv.Itoa(i%rooms))}})
			}
		}
	})
}

// TestIdleLanes: the checkpoints of lanes without records follow the stream, so that a start with another
// number of shards handles little again; a lane that stops in the middle of a batch saves no more than it
// has handled.
func TestIdleLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, stuck = 1000, 975
		s, store := newChangeStream(n, 1), newCheckpoints()
		h := newHandler(t, s)
		ctx, end := context.WithCancel(t.Context())
		h.fails = func(r events.Record) error {
			if atoi(r.Sequence) < stuck {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		_, stop := startLanes(t, s, store, maxShards, h)
		time.Sleep(time.Minute)
		starts, err := loadLanes(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		busy := laneOf(s.records[0].Event.Stream, maxShards)
		for i, at := range starts {
			if i != busy && atoi(at.Sequence) < n-maxPassed {
				t.Errorf("the checkpoint of idle lane %d is %q of %d", i, at.Sequence, n)
			}
		}
		end()
		time.Sleep(time.Minute) // what was handled of the batch is saved
		stop(false)
		if starts, err = loadLanes(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		for i, at := range starts {
			if want := map[bool]int{true: stuck - 1, false: n}[i == busy]; atoi(at.Sequence) < want || i == busy && atoi(at.Sequence) != want {
				t.Errorf("the checkpoint of lane %d is %q, want %d", i, at.Sequence, want)
			}
		}
	})
}

// TestOtherShardsFails ends the process while it saves the checkpoints for another number of shards: it
// begins no later than the earliest lane.
func TestOtherShardsFails(t *testing.T) {
	open := func(store checkpoints, n int) ([]checkpoint, error) {
		return openLanes(t.Context(), store, n, func(string) error { return nil })
	}
	for saves := 1; ; saves++ {
		store := newCheckpoints()
		for _, n := range []int{4, 2} {
			if _, err := open(store, n); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				to := checkpoint{strconv.Itoa(100*n + i), events.Number(strconv.Itoa(100*n + i))}
				if n == 2 {
					to = checkpoint{strconv.Itoa(998 + 3*i), events.Number(strconv.Itoa(998 + 3*i))} // 998 is less than 1001
				}
				if err := saveLane(t.Context(), store, events.Part{Index: i, Of: n}, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, failed := open(&mortalCheckpoints{checkpoints: store, saves: saves}, 4)
		got, err := open(store, 4)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range got {
			if at.Sequence != "998" {
				t.Errorf("after %d saves lane %d begins at %s", saves-1, i, at.Sequence)
			}
		}
		if failed == nil {
			if saves != 6 {
				t.Errorf("it took %d saves", saves-1)
			}
			return
		}
	}
}

// TestFormerCheckpoint: all lanes begin at the checkpoint that a former release stored for a single lane;
// a log that lacks the checkpoint of any lane is refused.
func TestFormerCheckpoint(t *testing.T) {
	load := func(name string) checkpoints {
		store := newCheckpoints()
		text, err := os.ReadFile(filepath.Join("testdata", "golden", "data", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range goldentest.ReadLines[goldentest.Pair](t, text) {
			if err := store.save(t.Context(), strings.TrimPrefix(string(row.Key), string(checkpointsPrefix)), string(row.Value)); err != nil {
				t.Fatal(err)
			}
		}
		return store
	}
	for name, number := range map[string]events.Number{"marks.jsonl": "", "checkpoints.jsonl": "", "lanes.jsonl": "1"} {
		for _, n := range []int{1, 4, 16} {
			got, err := openLanes(t.Context(), load(name), n, func(string) error { return nil })
			if want := slices.Repeat([]checkpoint{{"1", number}}, n); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %d lanes begin at %v, %v", name, n, got, err)
			}
		}
	}

	store := load("lanes.jsonl")
	if err := saveLane(t.Context(), store, events.Part{Index: 2, Of: 4}, checkpoint{"9", "9"}); err != nil {
		t.Fatal(err)
	}
	behind := errors.New("the log is behind")
	for _, n := range []int{4, 1} {
		_, err := openLanes(t.Context(), store, n, func(sequence string) error {
			if sequence == "9" {
				return behind
			}
			return nil
		})
		if !errors.Is(err, behind) {
			t.Errorf("%d lanes on a log that lacks the checkpoint of one: %v", n, err)
		}
	}
}
