package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parley/events"
)

// memorySource is a stream of n records, with the sequences 1 to n.
type memorySource struct {
	n    int
	fail int // how often Next fails before it works
	done context.CancelFunc
}

// Next implements source. A call with the last sequence means that all records are done.
func (s *memorySource) Next(ctx context.Context, after string, limit int, _ bool) ([]events.Record, error) {
	if s.fail > 0 {
		s.fail--
		return nil, errors.New("the stream is not available")
	}
	first := 1 + atoi(after)
	if first > s.n {
		s.done()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var list []events.Record
	for i := first; i <= s.n && len(list) < limit; i++ {
		list = append(list, events.Record{Sequence: strconv.Itoa(i), Number: events.Number(strconv.Itoa(i)), At: time.Now()})
	}
	return list, nil
}

func atoi(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// fault is how the handling of a record fails.
type fault struct {
	How   string // "partial", "whole", "panic", "lies"
	Times int    // how often; poison is forever
	Park  int    // how often parking fails; every other time by a panic
}

const poison = 1 << 30

// faultyFunction handles records in order, and fails as its faults say.
type faultyFunction struct {
	faults  map[int]*fault
	handled map[int]bool
	parked  map[int]string
	calls   int
}

// Handle implements function.
func (f *faultyFunction) Handle(_ context.Context, batch []events.Record) (int, error) {
	f.calls++
	for i, r := range batch {
		n := atoi(r.Sequence)
		if fault := f.faults[n]; fault != nil && fault.Times > 0 {
			fault.Times--
			switch fault.How {
			case "partial":
				return i, errors.New("failed at a record")
			case "panic":
				panic("failed hard")
			case "lies":
				return i, nil
			case "nonsense":
				return len(batch) + 1, errors.New("failed, and cannot count")
			default:
				return 0, errors.New("failed somewhere")
			}
		}
		f.handled[n] = true
	}
	return len(batch), nil
}

// Park implements function.
func (f *faultyFunction) Park(_ context.Context, stage string, r events.Record, cause error) error {
	n := atoi(r.Sequence)
	if fault := f.faults[n]; fault.Park > 0 {
		if fault.Park--; fault.Park%2 == 1 {
			panic(errors.New("parking failed hard"))
		}
		return errors.New("parking failed")
	}
	if cause == nil {
		return errors.New("no cause was given")
	}
	f.parked[n] = stage
	return nil
}

var quiet = slog.New(slog.DiscardHandler)

// TestTriggerFaults lets anything go wrong anywhere: every record is handled or, if it can never
// be, parked; and no checkpoint is saved before that.
func TestTriggerFaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "records")
		faults := rapid.MapOfN(rapid.IntRange(1, n), rapid.Custom(drawFault), 0, 8).Draw(t, "faults")
		poisoned := map[int]bool{}
		for i, fault := range faults {
			poisoned[i] = fault.Times == poison
		}
		f := &faultyFunction{faults: faults, handled: map[int]bool{}, parked: map[int]string{}}
		marked := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		runs := rapid.IntRange(1, 3).Draw(t, "runs")
		for run := range runs {
			runCtx, stop := context.WithCancel(ctx)
			tr := &trigger{
				source:   &memorySource{n: n, fail: rapid.IntRange(0, 2).Draw(t, "stream away"), done: stop},
				function: f,
				settings: triggerSettings{Batch: rapid.IntRange(1, 70).Draw(t, "batch"), Tries: 3, Pause: time.Microsecond, Max: time.Microsecond},
				log:      quiet,
			}
			saves := rapid.IntRange(0, 5).Draw(t, "saves before a restart")
			tr.save = func(_ context.Context, to checkpoint) error {
				sequence := to.Sequence
				for i := marked + 1; i <= atoi(sequence); i++ {
					if !f.handled[i] && f.parked[i] == "" {
						t.Fatalf("checkpoint %s was saved before %d was handled or parked", sequence, i)
					}
				}
				if atoi(sequence) <= marked {
					t.Fatalf("the checkpoint went from %d to %s", marked, sequence)
				}
				if saves--; saves == 0 && run < runs-1 {
					stop()                                // the process ends, and
					return errors.New("the disk is full") // the checkpoint is lost
				}
				marked = atoi(sequence)
				return nil
			}
			tr.run(runCtx, checkpoint{Sequence: strconv.Itoa(marked)})
			stop()
		}
		if ctx.Err() != nil {
			t.Fatal("the trigger has not come to an end")
		}
		for i := 1; i <= n; i++ {
			if f.handled[i] == poisoned[i] || (f.parked[i] == "trigger") != poisoned[i] {
				t.Fatalf("record %d (poison %v): handled %v, parked %q", i, poisoned[i], f.handled[i], f.parked[i])
			}
		}
		if marked != n {
			t.Fatalf("the checkpoint is %d of %d", marked, n)
		}
	})
}

func drawFault(t *rapid.T) *fault {
	return &fault{
		How:   rapid.SampledFrom([]string{"partial", "whole", "panic", "lies", "nonsense"}).Draw(t, "how"),
		Times: rapid.SampledFrom([]int{1, 2, poison}).Draw(t, "times"),
		Park:  rapid.IntRange(0, 3).Draw(t, "parking fails"),
	}
}

// TestTriggerBisects finds one poisoned record among many in few calls, and still hands over
// the others in large batches.
func TestTriggerBisects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faultyFunction{
			faults:  map[int]*fault{617: {How: "whole", Times: poison}},
			handled: map[int]bool{}, parked: map[int]string{},
		}
		ctx, stop := context.WithCancel(t.Context())
		tr := &trigger{
			source: &memorySource{n: 1000, done: stop}, function: f, save: func(context.Context, checkpoint) error { return nil },
			settings: defaultTrigger, log: quiet,
		}
		tr.run(ctx, checkpoint{})
		if len(f.handled) != 999 || f.parked[617] != "trigger" {
			t.Errorf("handled %d, parked %v", len(f.handled), f.parked)
		}
		if f.calls > 100 {
			t.Errorf("took %d calls", f.calls)
		}
	})
}

// steadySource has a record each time the interval has passed since the last, until it has had n.
type steadySource struct {
	start    time.Time
	interval time.Duration
	n        int
	done     func()
}

// Next implements source; a sequence is the number of records up to it.
func (s *steadySource) Next(ctx context.Context, after string, limit int, _ bool) ([]events.Record, error) {
	last := atoi(after)
	if last == s.n {
		s.done()
		return nil, ctx.Err()
	}
	_ = events.Sleep(ctx, time.Until(s.start.Add(time.Duration(last+1)*s.interval)))
	var got []events.Record
	for i := last + 1; i <= min(s.n, int(time.Since(s.start)/s.interval)) && len(got) < limit; i++ {
		got = append(got, events.Record{Sequence: strconv.Itoa(i), Number: events.Number(strconv.Itoa(i)), At: time.Now()})
	}
	return got, nil
}

// calls records the number of records of each call.
type calls struct{ sizes []int }

func (c *calls) Handle(_ context.Context, records []events.Record) (int, error) {
	c.sizes = append(c.sizes, len(records))
	return len(records), nil
}

func (c *calls) Park(context.Context, string, events.Record, error) error { return nil }

// TestTriggerGathers: the first record is handled at once, and records that come fast are batched.
func TestTriggerGathers(t *testing.T) {
	for _, c := range []struct {
		interval time.Duration
		want     []int
	}{
		{10 * time.Millisecond, []int{1, 1, 1, 1}},
		{time.Millisecond, []int{1, 5, 5, 5, 4}},
	} {
		synctest.Test(t, func(t *testing.T) {
			total := 0
			for _, n := range c.want {
				total += n
			}
			ctx, stop := context.WithCancel(t.Context())
			f := &calls{}
			tr := &trigger{
				source:   &steadySource{time.Now(), c.interval, total, stop},
				function: f, save: func(context.Context, checkpoint) error { return nil },
				settings: triggerSettings{Batch: 100, Every: 5 * time.Millisecond, Tries: 1}, log: quiet,
			}
			tr.run(ctx, checkpoint{})
			if !slices.Equal(f.sizes, c.want) {
				t.Errorf("calls of %v records, one each %v; want %v", f.sizes, c.interval, c.want)
			}
		})
	}
}

// TestTriggerWaited: waited returns how long a record has been in progress, also while parking fails.
func TestTriggerWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faultyFunction{faults: map[int]*fault{1: {How: "whole", Times: poison, Park: poison}}, handled: map[int]bool{}, parked: map[int]string{}}
		ctx, stop := context.WithCancel(t.Context())
		tr := &trigger{
			source: &memorySource{n: 2, done: stop}, function: f, save: func(context.Context, checkpoint) error { return nil },
			settings: defaultTrigger, log: quiet,
		}
		if got := tr.waited(time.Now()); got != 0 {
			t.Errorf("waited %v before there was anything", got)
		}
		finished := make(chan struct{})
		go func() { tr.run(ctx, checkpoint{}); close(finished) }()
		_ = events.Sleep(t.Context(), time.Hour)
		if got := tr.waited(time.Now()); got < 59*time.Minute {
			t.Errorf("waited %v for an hour", got)
		}
		if len(f.handled) > 0 {
			t.Error("a later record was handled before the first was parked")
		}
		stop()
		<-finished
		if got := tr.waited(time.Now()); got != 0 {
			t.Errorf("waited %v after it had stopped", got)
		}
	})
}

// TestNetwork: await returns when neither region is isolated.
func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.isolate("a", true)
		n.isolate("b", true)
		passed := func() bool {
			passed, err := n.pass("a", "b", func() error { return nil })
			return passed && err == nil
		}
		through := make(chan struct{})
		go func() { n.await(t.Context(), "a", "b"); close(through) }()
		var seen []bool
		for _, heal := range []string{"b", "a"} {
			seen = append(seen, passed())
			n.isolate(heal, false)
			synctest.Wait()
			select {
			case <-through:
				seen = append(seen, true)
			default:
				seen = append(seen, false)
			}
		}
		seen = append(seen, passed())
		if want := []bool{false, false, false, true, true}; !slices.Equal(seen, want) {
			t.Errorf("passed %v, want %v", seen, want)
		}
	})
}

// stopping is a function during which the context ends.
type stopping struct {
	faultyFunction
	stop context.CancelFunc
}

// Handle implements function.
func (f *stopping) Handle(ctx context.Context, _ []events.Record) (int, error) {
	f.stop()
	return 0, ctx.Err()
}

// TestTriggerStops: a trigger that is stopped neither loses nor parks the records in progress.
func TestTriggerStops(t *testing.T) {
	for n := 1; n <= 3; n++ {
		ctx, stop := context.WithCancel(t.Context())
		f := &stopping{faultyFunction{parked: map[int]string{}}, stop}
		tr := &trigger{
			source: &memorySource{n: n, done: stop}, function: f, log: quiet,
			save:     func(_ context.Context, to checkpoint) error { t.Errorf("saved checkpoint %v", to); return nil },
			settings: triggerSettings{Batch: n, Tries: 1, Pause: time.Microsecond, Max: time.Second},
		}
		tr.run(ctx, checkpoint{})
		if len(f.parked) > 0 {
			t.Errorf("parked %v", f.parked)
		}
	}
}
