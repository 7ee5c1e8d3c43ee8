package projections

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"parley/events"
)

// Arrival is an event as it reaches this region.
type Arrival struct {
	Event events.Event
	// Replaced is set when the event took the place of another with its id: its author sent
	// one id with two contents to two regions, and the last writer has won. Views that folded
	// the other content are then folded again from the log.
	Replaced bool
}

// Failure is an arrival that cannot be folded, to be parked.
type Failure struct {
	Index int // in the batch
	Err   error
}

// attempts bounds how often a view that others keep changing is loaded and folded again.
const attempts = 20

// Engine folds events into views. It is safe for concurrent use, in one process and in many.
type Engine struct {
	log         events.Log
	views       Views
	projections []Projection
	generations *Generations // nil: the first alone
}

// NewEngine returns an engine that folds into views, and into these projections only. It reads
// log where a view must be folded again from its beginning.
func NewEngine(log events.Log, views Views, projections ...Projection) *Engine {
	return &Engine{log: log, views: views, projections: projections}
}

// In returns an engine that folds into all generations of its views that generations says are
// written.
func (g *Engine) In(generations *Generations) *Engine {
	in := *g
	in.generations = generations
	return &in
}

// written are the projections to fold into, each in all its generations.
func (g *Engine) written(ctx context.Context) ([]Projection, error) {
	if g.generations == nil {
		return g.projections, nil
	}
	return g.generations.written(ctx, g.projections)
}

// Apply folds a batch into the views it touches: each is loaded once, folded in memory and
// saved once if it changed; one that another writer changed meanwhile is done again. After an
// error any part of the batch may have been saved: apply the same batch again. Arrivals that
// make a fold fail are left out and returned.
func (g *Engine) Apply(ctx context.Context, batch []Arrival) (failures []Failure, err error) {
	written, err := g.written(ctx)
	if err != nil {
		return nil, fmt.Errorf("fold %d events: %w", len(batch), err)
	}
	p, failures := newPlan(batch, written)
	failed, err := g.carryOut(ctx, p, p.works)
	failures = once(append(failures, failed...))
	if err != nil {
		return failures, fmt.Errorf("fold %d events: %w", len(batch), err)
	}
	return failures, nil
}

// carryOut does the works of a plan, again those that another writer was ahead on.
func (g *Engine) carryOut(ctx context.Context, p *plan, pending []*work) (failures []Failure, err error) {
	for try := range attempts {
		if len(pending) == 0 {
			return failures, nil
		}
		if err := backoff(ctx, try); err != nil {
			return failures, err
		}
		failed, err := g.round(ctx, pending)
		failures = append(failures, failed...)
		lost := conflicts(err)
		if err != nil && lost == nil {
			return failures, err
		}
		pending = p.of(lost)
	}
	return failures, fmt.Errorf("gave up after %d conflicts with other writers", attempts)
}

// once keeps one failure of each arrival, which may fail in several views.
func once(failures []Failure) []Failure {
	slices.SortStableFunc(failures, func(a, b Failure) int { return cmp.Compare(a.Index, b.Index) })
	return slices.CompactFunc(failures, func(a, b Failure) bool { return a.Index == b.Index })
}

// work is what a batch does to one view.
type work struct {
	projection Projection
	key        Key
	stream     events.Stream
	refold     bool // from the log, because what it holds may be wrong
	begins     bool // most likely the view is not there yet
	batch      []Arrival
	indexes    []int // in the batch, of the events that touch the view
}

// plan is what a batch does, by view.
type plan struct {
	works []*work
	byKey map[Key]*work
}

func newPlan(batch []Arrival, projections []Projection) (*plan, []Failure) {
	p := &plan{byKey: make(map[Key]*work, len(batch))}
	var failures []Failure
	for i := range batch {
		for _, projection := range projections {
			if err := guard(func() { p.add(batch, i, projection) }); err != nil {
				failures = append(failures, Failure{i, err})
			}
		}
	}
	return p, failures
}

func (p *plan) add(batch []Arrival, index int, projection Projection) {
	arrival := &batch[index]
	e := &arrival.Event
	for _, key := range touched(projection, *arrival) {
		w := p.byKey[key]
		if w == nil {
			// No event before this one touches the view: it is not looked for. Should it be there
			// all the same, saving it conflicts, and then it is loaded like any other.
			begins := !arrival.Replaced && projection.Since(key) == e.ID
			w = &work{projection: projection, key: key, stream: e.Stream, begins: begins, batch: batch}
			p.byKey[key] = w
			p.works = append(p.works, w)
		}
		w.refold = w.refold || arrival.Replaced
		w.indexes = append(w.indexes, index)
	}
}

// touched names the views that an arrival may have touched.
func touched(p Projection, a Arrival) []Key {
	keys := p.Keys(a.Event)
	if a.Replaced && p.Name() == Timeline.Name() {
		// The other content may have been a message, whatever this one is.
		keys = append(keys, inGeneration(p, messageKey(a.Event.Stream.Name(), a.Event.ID)))
	}
	return keys
}

func (p *plan) of(keys []Key) []*work {
	works := make([]*work, len(keys))
	for i, key := range keys {
		works[i] = p.byKey[key]
	}
	return works
}

// round loads, folds and saves each view once. Conflicts are in the error.
func (g *Engine) round(ctx context.Context, works []*work) ([]Failure, error) {
	views, err := g.load(ctx, works)
	if err != nil {
		return nil, err
	}
	var failures []Failure
	changed := views[:0]
	for i, w := range works {
		body, failed, err := g.fold(ctx, w, views[i].Body)
		if err != nil {
			return failures, err
		}
		failures = append(failures, failed...)
		if !bytes.Equal(body, views[i].Body) {
			changed = append(changed, View{w.key, views[i].Version, body})
		}
	}
	if len(changed) == 0 {
		return failures, nil
	}
	return failures, g.views.Save(ctx, changed...)
}

// load reads the views of works, in their order, but those that most likely are not there: those
// it takes for missing, once.
func (g *Engine) load(ctx context.Context, works []*work) ([]View, error) {
	views := make([]View, len(works))
	var keys []Key
	var at []int
	for i, w := range works {
		if views[i].Key = w.key; w.begins {
			w.begins = false
			continue
		}
		keys, at = append(keys, w.key), append(at, i)
	}
	if len(keys) == 0 {
		return views, nil
	}
	got, err := g.views.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, view := range got {
		views[at[i]] = view
	}
	return views, nil
}

// fold returns the body of a view after a batch. A body that does not decode, or may hold what
// is no longer in the log, is folded from the beginning.
func (g *Engine) fold(ctx context.Context, w *work, body []byte) ([]byte, []Failure, error) {
	doc, err := w.projection.Open(w.key, body)
	if err == nil && !w.refold {
		return w.foldInto(doc, body)
	}
	doc, err = w.projection.Open(w.key, nil)
	if err != nil {
		return nil, nil, err
	}
	first := events.Range{After: events.PrecedingID(w.projection.Since(w.key))}
	for e, err := range g.log.Read(ctx, w.stream, first) {
		if err != nil {
			return nil, nil, fmt.Errorf("fold a view of %s again: %w", w.projection.Name(), err)
		}
		if slices.Contains(w.projection.Keys(e), w.key) {
			_ = guard(func() { doc.Fold(e) }) // it was parked when it arrived
		}
	}
	after, err := doc.Body()
	return after, nil, err
}

// foldInto folds the work's events into a document; body is what it was opened from. An event
// that cannot be folded leaves no trace: the others are folded again without it.
func (w *work) foldInto(doc Document, body []byte) ([]byte, []Failure, error) {
	for i, index := range w.indexes {
		err := guard(func() { doc.Fold(w.batch[index].Event) })
		if err == nil {
			continue
		}
		failure := Failure{index, fmt.Errorf("fold into %s: %w", w.projection.Name(), err)}
		w.indexes = slices.Delete(w.indexes, i, i+1)
		clean, err := w.projection.Open(w.key, body)
		if err != nil {
			return nil, nil, err
		}
		after, more, err := w.foldInto(clean, body)
		return after, append([]Failure{failure}, more...), err
	}
	if len(w.indexes) == 0 {
		return body, nil, nil
	}
	after, err := doc.Body()
	return after, nil, err
}

// guard turns a panic into an error: no event may stop a stream.
func guard(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("panic in a fold")
			if cause, ok := r.(error); ok {
				err = fmt.Errorf("panic in a fold: %w", cause)
			}
		}
	}()
	f()
	return nil
}

// backoff waits before the try-th attempt, a random time that grows to about 100 ms.
func backoff(ctx context.Context, try int) error {
	if try == 0 {
		return ctx.Err()
	}
	wait := rand.N(time.Millisecond << min(try, 7))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
