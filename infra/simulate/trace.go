package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Line is one line of the trace of a run.
type Line struct {
	At    time.Duration // since the run began
	Step  int           // its N; -1 before the first, -2 while the world settles at the end
	Actor string        // "eu/2" is a process, "eu" its region, "client ada", "operator", "bus eu"
	Kind  string        // step, accept, deliver, fault, project, replicate, publish, check or note
	Event string        // a short id; "" if it is about no event
	What  string
}

// Failure is a promise that was not kept.
type Failure struct {
	Step  int    // see [Line]
	Check string // the name of the check, always the same
	Text  string
}

// trace hashes what happens. Within a step the order does not matter: the goroutines that a call of the
// product starts run in any order. Steps follow one another.
type trace struct {
	mu     sync.Mutex
	began  time.Time
	step   int
	sum    uint64 // of the step
	hash   uint64 // of the steps before
	keep   bool
	ports  bool // keep calls of ports, too
	lines  []Line
	faults map[string]int
	nth    map[uint64]int // how often something happened in this step
}

// next begins a step.
func (t *trace) next(step int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hash = mix(t.hash, t.sum)
	t.step, t.sum = step, uint64(time.Since(t.began))
	clear(t.nth)
}

// add adds what happened to the hash.
func (t *trace) add(h uint64) {
	t.mu.Lock()
	t.sum += h
	t.mu.Unlock()
}

// count returns how often something happened in this step before.
func (t *trace) count(h uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nth[h]
	t.nth[h]++
	return n
}

// note adds what happened to the hash, and keeps a line of it if lines are kept.
func (t *trace) note(actor, kind, event, format string, args ...any) {
	what := format
	if len(args) > 0 {
		what = fmt.Sprintf(format, args...)
	}
	t.add(hashOf(actor, kind, event, what))
	if t.keep {
		t.line(actor, kind, event, what)
	}
}

// line keeps a line that does not count.
func (t *trace) line(actor, kind, event, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, Line{time.Since(t.began), t.step, actor, kind, event, what})
}

// logOf returns where a process logs to: the trace, if it keeps the calls of ports.
func (w *world) logOf(process string) slog.Handler {
	if !w.trace.ports {
		return slog.DiscardHandler
	}
	return slog.NewTextHandler(logger{w.trace, process}, nil)
}

// logger writes what a process logs into the trace.
type logger struct {
	trace   *trace
	process string
}

// Write implements [io.Writer].
func (l logger) Write(line []byte) (int, error) {
	l.trace.line(l.process, "note", "", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// The hashes of a run must be the same in every process, so they are FNV-1a with a finish of splitmix64.

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// hashOf hashes texts.
func hashOf(texts ...string) uint64 {
	h := uint64(fnvOffset)
	for _, text := range texts {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * fnvPrime
		}
		h = (h ^ 0xff) * fnvPrime
	}
	return finish(h)
}

// mix hashes numbers.
func mix(numbers ...uint64) uint64 {
	h := uint64(fnvOffset)
	for _, n := range numbers {
		h = finish(h ^ n + 0x9e3779b97f4a7c15)
	}
	return h
}

func finish(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
