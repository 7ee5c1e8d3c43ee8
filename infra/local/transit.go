package main

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"

	"parley/events"
)

// weather is how bad the way between two regions is.
type weather struct {
	Lag time.Duration // from accepted to delivered, on average; each item takes half of it to half more
	// Twice is the part of all items that is delivered a second time, 0 to 1.
	Twice float64
}

// defaultWeather is that of a good day between continents.
var defaultWeather = weather{Lag: 150 * time.Millisecond, Twice: 0.01}

// delay is after what time an item is due; it may have to wait for a tick, which makes up the rest.
func (w weather) delay() time.Duration {
	if w.Lag <= 0 {
		return 0
	}
	return w.Lag/2 + rand.N(w.Lag-w.tick())
}

// tick is how often a flow looks what is new and what is due while it has items under way. All
// flows do so at the same moments: what they bring to one region then shares an fsync, where each
// item at its own time would take one to itself.
func (w weather) tick() time.Duration { return min(w.Lag/8, 20*time.Millisecond) }

// await waits for the next tick.
func (w weather) await(ctx context.Context) {
	now := time.Now()
	if next := now.Truncate(w.tick()).Add(w.tick()); next.After(now) {
		pause(ctx, next.Sub(now))
	}
}

// transit holds the items that are under way in one flow. They leave in any order; it knows up
// to which sequence all have left. The zero transit is empty.
type transit struct {
	window []*item // in the source's order, from the oldest that has not left
	times  times
	bytes  int // of data in the window
}

// item is an event under way.
type item struct {
	accepted
	before string // the sequence in the source before its own
	left   bool   // it is durable in the target, or a later change of the event has replaced it
	merged bool   // the latter: it need not be delivered
}

// delivery is when an item is due. One that is delivered twice has two.
type delivery struct {
	at   time.Time
	item *item
}

func (t *transit) items() int { return len(t.window) }

// add sends an event on its way that comes behind a sequence.
func (t *transit) add(a accepted, before string, w weather) {
	it := &item{accepted: a, before: before}
	t.window = append(t.window, it)
	t.bytes += len(a.event.Data)
	at := a.at.Add(w.delay())
	heap.Push(&t.times, delivery{at, it})
	if rand.Float64() < w.Twice {
		heap.Push(&t.times, delivery{at.Add(w.delay()), it})
	}
}

// merge drops an older change of the same event that is still under way: of several changes a
// global table may deliver only the last.
func (t *transit) merge(e events.Event) {
	for _, it := range t.window {
		if it.event.ID == e.ID && it.event.Stream == e.Stream {
			it.left, it.merged = true, true
		}
	}
	t.advance()
}

// due takes out deliveries that are due, at most limit of them.
func (t *transit) due(now time.Time, limit int) []delivery {
	var due []delivery
	for len(t.times) > 0 && len(due) < limit && !t.times[0].at.After(now) {
		d := heap.Pop(&t.times).(delivery)
		if !d.item.merged {
			due = append(due, d)
		}
	}
	return due
}

// back returns deliveries that did not happen.
func (t *transit) back(due []delivery) {
	for _, d := range due {
		heap.Push(&t.times, d)
	}
}

// done notes deliveries that did.
func (t *transit) done(due []delivery) {
	for _, d := range due {
		d.item.left = true
	}
	t.advance()
}

// advance forgets the oldest items as far as they have left.
func (t *transit) advance() {
	for len(t.window) > 0 && t.window[0].left {
		t.bytes -= len(t.window[0].event.Data)
		t.window[0] = nil
		t.window = t.window[1:]
	}
}

// settled is the sequence up to which all have left, given the one up to which the source was
// read.
func (t *transit) settled(read string) string {
	if len(t.window) == 0 {
		return read
	}
	return t.window[0].before
}

// oldest is when the oldest item under way was accepted; the zero time if none is.
func (t *transit) oldest() time.Time {
	if len(t.window) == 0 {
		return time.Time{}
	}
	return t.window[0].at
}

// times is a heap of deliveries, the next one first.
type times []delivery

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push implements [heap.Interface].
func (t *times) Push(d any) { *t = append(*t, d.(delivery)) }

// Pop implements [heap.Interface].
func (t *times) Pop() any {
	last := len(*t) - 1
	d := (*t)[last]
	(*t)[last] = delivery{}
	*t = (*t)[:last]
	return d
}
