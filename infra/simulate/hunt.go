package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// twice is of how many seeds one is run twice: both runs must have the same trace.
	twice = 50
	// checkSame fails if two runs of a schedule differ.
	checkSame = "determinism"
	// printedSteps is how many steps of a schedule are printed.
	printedSteps = 25
	// shrunkOfCheck is how many failures of one check are shrunk: after a few, more of them say little.
	shrunkOfCheck = 3
)

// hunt runs the worlds of many seeds.
type hunt struct {
	options
	binary string
	out    io.Writer
	shrink bool // the schedules that fail, and write them

	mu       sync.Mutex
	next     uint64 // seed
	ended    bool
	done     int
	failures []found
	checks   map[string]int // failures, by check
	kinds    map[string]int
	faults   map[string]int
}

// found is a schedule that fails.
type found struct {
	seed    uint64
	failure Failure
}

// runSeeds runs the worlds of all seeds, and prints how it goes and what fails.
func runSeeds(ctx context.Context, binary string, o options, out io.Writer) error {
	h := &hunt{options: o, binary: binary, out: out, shrink: true}
	start := time.Now()
	stop := h.reportProgress(start)
	err := h.run(ctx)
	stop()
	took := time.Since(start)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	h.printf("\n")
	writeCoverage(out, h.kinds, h.faults)
	h.printf("\n%d worlds of %d steps in %.0f s: %.0f a second\n", h.done, o.steps, took.Seconds(), float64(h.done)/took.Seconds())
	if len(h.failures) == 0 {
		h.printf("no check failed\n")
		return err
	}
	for _, check := range slices.Sorted(maps.Keys(h.checks)) {
		h.printf("failed: %s, with %s\n", check, count(h.checks[check], "seed"))
	}
	return errFound
}

// run runs the worlds until all have run, so many have failed, or ctx ends.
func (h *hunt) run(ctx context.Context) error {
	h.next, h.checks, h.kinds, h.faults = h.first, map[string]int{}, map[string]int{}, map[string]int{}
	errs := make([]error, h.workers)
	var workers sync.WaitGroup
	for i := range h.workers {
		workers.Go(func() {
			w := &worker{binary: h.binary}
			defer w.close()
			for seed, more := h.take(); more && errs[i] == nil; seed, more = h.take() {
				errs[i] = h.runSeed(ctx, w, seed)
			}
			if errs[i] != nil {
				h.end()
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// take returns the next seed.
func (h *hunt) take() (seed uint64, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.next > h.last {
		return 0, false
	}
	h.next++
	h.ended = h.next == 0
	return h.next - 1, true
}

func (h *hunt) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

func (h *hunt) runSeed(ctx context.Context, w *worker, seed uint64) error {
	s := Generate(seed, h.steps)
	r, err := w.run(ctx, s, h.world())
	if err != nil {
		return err
	}
	if r.Failure == nil && seed%twice == 0 {
		again, err := w.run(ctx, s, h.world())
		if err != nil {
			return err
		}
		if again.Hash != r.Hash || again.Failure != nil {
			r.Failure = &Failure{Step: noStep, Check: checkSame, Text: fmt.Sprintf("two runs of one schedule have the traces %016x and %016x", r.Hash, again.Hash)}
		}
	}
	if h.add(seed, r) && h.shrink {
		return h.explain(ctx, w, s, *r.Failure)
	}
	return nil
}

// add counts a result, and reports whether it is a failure to be explained.
func (h *hunt) add(seed uint64, r Result) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done++
	for kind, n := range r.Kinds {
		h.kinds[kind] += n
	}
	for fault, n := range r.Faults {
		h.faults[fault] += n
	}
	if r.Failure == nil {
		return false
	}
	h.failures = append(h.failures, found{seed, *r.Failure})
	h.checks[r.Failure.Check]++
	h.ended = h.ended || len(h.failures) >= h.enough
	return h.checks[r.Failure.Check] <= shrunkOfCheck
}

// explain shrinks a schedule that fails, writes it with a picture, and prints where.
func (h *hunt) explain(ctx context.Context, w *worker, s Schedule, f Failure) error {
	var ended error
	how := h.world()
	small, failure, tries := Shrink(s, h.tries, func(s Schedule) *Failure {
		if ended != nil {
			return nil
		}
		var r Result
		if r, ended = w.run(ctx, s, how); f.Check != checkSame || ended != nil || r.Failure != nil {
			return r.Failure
		}
		var again Result
		if again, ended = w.run(ctx, s, how); again.Hash != r.Hash {
			return &f
		}
		return nil
	})
	if ended != nil {
		return ended
	}
	if failure == nil && h.tries == 0 {
		failure = &f
	}
	if failure == nil {
		failure = &Failure{Step: noStep, Check: checkSame, Text: "it failed once and not again, the check " + f.Check + ": " + f.Text}
	}
	small.Note = firstLine(failure.Check + ": " + failure.Text)
	how.Trace = true
	r, err := w.run(ctx, small, how)
	if err != nil {
		return err
	}
	if r.Failure == nil {
		r.Failure = failure
	}
	file := filepath.Join(h.folder, fmt.Sprintf("%s-%d.json", fileName(failure.Check), s.Seed))
	page := strings.TrimSuffix(file, ".json") + ".html"
	if err := os.MkdirAll(h.folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, small.Encode(), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(page, picture(small, r), 0o644); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.printf("\n\nseed %d fails; shrunk from %d steps to %d in %d runs\n", s.Seed, len(s.Steps), len(small.Steps), tries)
	writeOutcome(h.out, small, r)
	for _, step := range small.Steps[:min(len(small.Steps), printedSteps)] {
		h.printf("  %s\n", encodeLine(step))
	}
	if more := len(small.Steps) - printedSteps; more > 0 {
		h.printf("  and %s more\n", count(more, "step"))
	}
	h.printf("%s\n%s\n\n", page, h.again(file))
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// fileName makes a check's name fit for the name of a file.
func fileName(check string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(check))
}

func (h *hunt) printf(format string, a ...any) { fmt.Fprintf(h.out, format, a...) }

// reportProgress prints a line about the hunt now and then, until stop is called: over the last one on a
// terminal.
func (h *hunt) reportProgress(start time.Time) (stop func()) {
	every, begin, end := 10*time.Second, "", "\n"
	if file, is := h.out.(*os.File); is {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			every, begin, end = time.Second, "\r\033[K", ""
		}
	}
	ticks, done, stopped := time.NewTicker(every), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticks.C:
				h.mu.Lock()
				all := h.last - h.first + 1
				h.printf("%s%d of %d seeds, %.0f a second, %d failed%s", begin, h.done, all,
					float64(h.done)/time.Since(start).Seconds(), len(h.failures), end)
				h.mu.Unlock()
			case <-done:
				return
			}
		}
	}()
	return func() { ticks.Stop(); close(done); <-stopped }
}
