package projections

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/events"
)

// Arrival is an event as it reaches this region.
type Arrival struct {
	Event   events.Event
	Number  events.Number // of its record; "": it does not come from the change stream
	At      time.Time     // of its record
	Replica bool          // of its record
	// Deleted is set by [Engine.Apply]: the event has a text of a message that is deleted by now, as
	// its view says, and must not be shown with it; see [Arrival.Shown].
	Deleted bool
}

// Shown returns the event as it may be shown once it was folded.
func (a Arrival) Shown() events.Event {
	if a.Deleted {
		return redacted(a.Event)
	}
	return a.Event
}

// Failure is an arrival that cannot be folded, to be parked.
type Failure struct {
	Index int // of the arrival in the batch
	Err   error
}

// Engine folds events into views. It is safe for concurrent use, in one process and in many.
type Engine struct {
	log         events.Log
	views       Views
	projections []Projection
	generations *Generations // nil: the first only
}

// NewEngine returns an engine that folds into views, and into these projections only. It reads
// log when a view must be folded again from its first event.
func NewEngine(log events.Log, views Views, projections ...Projection) *Engine {
	return &Engine{log: log, views: views, projections: projections}
}

// In returns an engine that folds into every generation of its views that is live, kept as the
// previous one or being built.
func (g *Engine) In(generations *Generations) *Engine {
	in := *g
	in.generations = generations
	return &in
}

// written returns the projections to fold into, each in all its generations that are written.
func (g *Engine) written(ctx context.Context) ([]Projection, error) {
	if g.generations == nil {
		return g.projections, nil
	}
	return g.generations.written(ctx, g.projections)
}

// Apply folds a batch into the views it touches: each is loaded once, folded in memory and
// saved once if it changed, and sets [Arrival.Deleted]; after a conflict with another writer it is loaded and folded again.
// After an error any part of the batch may have been saved: apply the same batch again. Arrivals
// that make a fold fail are left out and returned.
func (g *Engine) Apply(ctx context.Context, batch []Arrival) (failures []Failure, err error) {
	if !g.touches(batch) {
		return nil, nil
	}
	written, err := g.written(ctx)
	if err != nil {
		return nil, fmt.Errorf("fold %d events: %w", len(batch), err)
	}
	p, failures := newPlan(batch, written)
	failed, err := g.carryOut(ctx, p, p.works)
	failures = oncePerArrival(append(failures, failed...))
	if err != nil {
		return failures, fmt.Errorf("fold %d events: %w", len(batch), err)
	}
	return failures, nil
}

// touches reports whether a batch may touch any view: if not, not even the generations are read.
func (g *Engine) touches(batch []Arrival) (may bool) {
	err := guard(func() {
		may = slices.ContainsFunc(batch, func(a Arrival) bool {
			return slices.ContainsFunc(g.projections, func(p Projection) bool { return len(p.Keys(a.Event)) > 0 })
		})
	})
	return may || err != nil
}

// carryOut does the works of a plan, and does those again on which another writer was first.
func (g *Engine) carryOut(ctx context.Context, p *plan, pending []*work) (failures []Failure, err error) {
	if len(pending) == 0 {
		return nil, nil
	}
	err = RetryOnConflict(ctx, func() error {
		failed, err := g.round(ctx, pending)
		failures = append(failures, failed...)
		if lost := conflicts(err); lost != nil {
			pending = p.of(lost)
		}
		return err
	})
	return failures, err
}

// oncePerArrival keeps one failure of each arrival, which may fail in several views.
func oncePerArrival(failures []Failure) []Failure {
	slices.SortStableFunc(failures, func(a, b Failure) int { return cmp.Compare(a.Index, b.Index) })
	return slices.CompactFunc(failures, func(a, b Failure) bool { return a.Index == b.Index })
}

// work is what a batch does to one view.
type work struct {
	projection Projection
	key        Key
	stream     events.Stream
	begins     bool // most likely the view is not stored yet
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
	e := &batch[index].Event
	for _, key := range projection.Keys(*e) {
		w := p.byKey[key]
		if w == nil {
			// No event with a lesser id touches the view: it is not loaded. If it is stored all the
			// same, saving it conflicts, and then it is loaded like any other.
			begins := projection.Since(key) == e.ID
			w = &work{projection: projection, key: key, stream: e.Stream, begins: begins, batch: batch}
			p.byKey[key] = w
			p.works = append(p.works, w)
		}
		w.indexes = append(w.indexes, index)
	}
}

func (p *plan) of(keys []Key) []*work {
	works := make([]*work, len(keys))
	for i, key := range keys {
		works[i] = p.byKey[key]
	}
	return works
}

// round loads, folds and saves each view once. The error names conflicts.
func (g *Engine) round(ctx context.Context, works []*work) ([]Failure, error) {
	views, err := g.load(ctx, works)
	if err != nil {
		return nil, err
	}
	var failures []Failure
	changed, of := views[:0], make([]*work, 0, len(works))
	for i, w := range works {
		body, failed, err := g.fold(ctx, w, views[i].Body)
		if err != nil {
			return failures, err
		}
		failures = append(failures, failed...)
		if !bytes.Equal(body, views[i].Body) {
			changed, of = append(changed, View{w.key, views[i].Version, body}), append(of, w)
		}
	}
	if len(changed) == 0 {
		return failures, nil
	}
	if err = g.views.Save(ctx, changed...); errors.Is(err, ErrRefused) {
		failed, err := g.saveEach(ctx, changed, of)
		return append(failures, failed...), err
	}
	return failures, err
}

// saveEach saves views one by one, because the store refuses some of them for good. The events of those
// are failures.
func (g *Engine) saveEach(ctx context.Context, views []View, of []*work) (failures []Failure, err error) {
	var lost ConflictError
	for i, view := range views {
		err := g.views.Save(ctx, view)
		switch {
		case errors.Is(err, ErrRefused):
			for _, index := range of[i].indexes {
				failures = append(failures, Failure{index, fmt.Errorf("fold into %s: %w", of[i].projection.Name(), err)})
			}
		case conflicts(err) != nil:
			lost.Keys = append(lost.Keys, view.Key)
		case err != nil:
			return failures, err
		}
	}
	if len(lost.Keys) > 0 {
		return failures, &lost
	}
	return failures, nil
}

// load reads the views of works, in their order, except those that most likely are not stored: it
// takes them for missing, once.
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

// fold returns the body of a view after a batch. A body that does not decode is folded again from the
// log.
func (g *Engine) fold(ctx context.Context, w *work, body []byte) ([]byte, []Failure, error) {
	doc, err := w.projection.Open(w.key, body)
	if err == nil {
		return w.foldInto(doc, body)
	}
	doc, err = w.projection.Open(w.key, nil)
	if err != nil {
		return nil, nil, err
	}
	first := events.Range{After: events.PrecedingID(w.projection.Since(w.key))}
	for e, err := range g.log.Read(ctx, w.stream, first) {
		if err != nil {
			return nil, nil, fmt.Errorf("fold a view of %s again from the log: %w", w.projection.Name(), err)
		}
		if slices.Contains(w.projection.Keys(e), w.key) {
			_ = guard(func() { doc.Fold(e) }) // it was parked when it arrived
		}
	}
	w.markDeleted(doc)
	after, err := doc.Body()
	return after, nil, err
}

// markDeleted marks the work's events whose text the view says must not be shown.
func (w *work) markDeleted(doc Document) {
	view, is := doc.(interface{ hides(e events.Event) bool })
	for _, index := range w.indexes {
		a := &w.batch[index]
		if is && !a.Deleted {
			a.Deleted = view.hides(a.Event)
		}
	}
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
	w.markDeleted(doc)
	after, err := doc.Body()
	switch {
	case err != nil || len(after) <= max(maxBody, len(body)):
		return after, nil, err
	case len(w.indexes) == 1:
		return body, []Failure{{w.indexes[0], fmt.Errorf("fold into %s: %w", w.projection.Name(), errTooLarge)}}, nil
	}
	var failures []Failure
	for half := range slices.Chunk(w.indexes, (len(w.indexes)+1)/2) { // to find those that make it too large
		part := *w
		part.indexes = slices.Clone(half)
		doc, err := w.projection.Open(w.key, body)
		if err != nil {
			return nil, nil, err
		}
		var failed []Failure
		if body, failed, err = part.foldInto(doc, body); err != nil {
			return nil, nil, err
		}
		failures = append(failures, failed...)
	}
	return body, failures, nil
}

// maxBody bounds the body of a view, in bytes: an item of DynamoDB holds 400 KB. An event that makes a
// view larger is a failure, so that one view never stops a stream.
const maxBody = 350 << 10

var errTooLarge = fmt.Errorf("view would have more than %d bytes", maxBody)

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
