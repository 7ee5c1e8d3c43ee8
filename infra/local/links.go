package main

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"parley/events"
)

// linkFaults are the lag and the duplicates of a link between two regions.
type linkFaults struct {
	Lag time.Duration // from accepted to delivered, on average; an item takes 0.5 to 1.5 of it
	// Twice is the fraction of items that are delivered twice, 0 to 1.
	Twice float64
}

// defaultFaults are usual figures between continents.
var defaultFaults = linkFaults{Lag: 150 * time.Millisecond, Twice: 0.01}

// delay returns a random time after which an item is due. Waiting for the next tick adds the rest.
func (w linkFaults) delay() time.Duration {
	if w.Lag <= 0 {
		return 0
	}
	return w.Lag/2 + rand.N(w.Lag-w.tick())
}

// tick is how often a replicator reads records and delivers due items while it has items in flight.
// All replicators tick at the same moments, so that their deliveries to one region share an fsync.
func (w linkFaults) tick() time.Duration { return min(w.Lag/8, 20*time.Millisecond) }

// await waits for the next tick.
func (w linkFaults) await(ctx context.Context) {
	now := time.Now()
	if next := now.Truncate(w.tick()).Add(w.tick()); next.After(now) {
		_ = events.Sleep(ctx, next.Sub(now))
	}
}

// inFlight holds the items that one replicator has read and not yet delivered. They are delivered in
// any order; [inFlight.checkpoint] is the sequence up to which all are delivered. The zero value is
// empty.
type inFlight struct {
	window []*item // in the source's order, from the oldest that is not done
	times  times
	bytes  int // of data in the window
}

// item is a record in flight.
type item struct {
	record events.Record
	before string // the sequence in the source before its own
	done   bool   // it is durable in the target
}

// delivery is when an item is due. An item that is delivered twice has two.
type delivery struct {
	at   time.Time
	item *item
}

func (t *inFlight) items() int { return len(t.window) }

// add adds a record that follows a sequence in the source.
func (t *inFlight) add(r events.Record, before string, w linkFaults) {
	it := &item{record: r, before: before}
	t.window = append(t.window, it)
	t.bytes += len(r.Event.Data)
	at := r.At.Add(w.delay())
	heap.Push(&t.times, delivery{at, it})
	if rand.Float64() < w.Twice {
		heap.Push(&t.times, delivery{at.Add(w.delay()), it})
	}
}

// due removes and returns deliveries that are due, at most limit of them.
func (t *inFlight) due(now time.Time, limit int) []delivery {
	var due []delivery
	for len(t.times) > 0 && len(due) < limit && !t.times[0].at.After(now) {
		due = append(due, heap.Pop(&t.times).(delivery))
	}
	return due
}

// putBack returns deliveries that failed, so that they are due again.
func (t *inFlight) putBack(due []delivery) {
	for _, d := range due {
		heap.Push(&t.times, d)
	}
}

// done removes items that were delivered.
func (t *inFlight) done(due []delivery) {
	for _, d := range due {
		d.item.done = true
	}
	t.advance()
}

// advance removes the oldest items as far as they are done.
func (t *inFlight) advance() {
	for len(t.window) > 0 && t.window[0].done {
		t.bytes -= len(t.window[0].record.Event.Data)
		t.window[0] = nil
		t.window = t.window[1:]
	}
}

// checkpoint returns the sequence up to which all items are done. Read is the sequence up to which the
// source was read.
func (t *inFlight) checkpoint(read string) string {
	if len(t.window) == 0 {
		return read
	}
	return t.window[0].before
}

// oldest returns when the oldest item in flight was accepted; the zero time if there is none.
func (t *inFlight) oldest() time.Time {
	if len(t.window) == 0 {
		return time.Time{}
	}
	return t.window[0].record.At
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

// network connects the regions. Nothing passes to or from a region that is isolated.
type network struct {
	mu      sync.RWMutex // held for reading while a call passes
	cut     map[string]bool
	changed chan struct{} // closed and replaced when cut changes
}

func newNetwork() *network {
	return &network{cut: map[string]bool{}, changed: make(chan struct{})}
}

// isolate isolates a region or ends that. When it returns, no call to or from the region is in progress.
func (n *network) isolate(region string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[region] = cut
	close(n.changed)
	n.changed = make(chan struct{})
}

// pass calls f unless either region is isolated, and reports whether it did.
func (n *network) pass(a, b string, f func() error) (bool, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.cut[a] || n.cut[b] {
		return false, nil
	}
	return true, f()
}

// await waits until neither region is isolated, or ctx ends.
func (n *network) await(ctx context.Context, a, b string) {
	for {
		n.mu.RLock()
		cut, changed := n.cut[a] || n.cut[b], n.changed
		n.mu.RUnlock()
		if !cut {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
