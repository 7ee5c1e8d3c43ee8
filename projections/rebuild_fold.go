package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// foldOn folds the parts of the log side by side, for a slice.
func (r *Rebuilder) foldOn(ctx context.Context, b *Rebuild) error {
	if b.Room != "" {
		return r.foldRoom(ctx, b)
	}
	if _, err := r.holds(ctx, b); err != nil {
		return err
	}
	fold, err := r.folder(b)
	if err != nil {
		return err
	}
	if len(b.Parts) == 0 {
		for i := range max(r.Parts, 1) {
			b.Parts = append(b.Parts, Folded{Part: events.Part{Index: i, Of: max(r.Parts, 1)}})
		}
	}
	until := r.now().Add(r.Slice)
	group, ctx := errgroup.WithContext(ctx)
	for i := range b.Parts {
		if part := &b.Parts[i]; !part.Done {
			group.Go(func() error { return fold(ctx, part, until) })
		}
	}
	err = group.Wait()
	if err == nil && !slices.ContainsFunc(b.Parts, func(p Folded) bool { return !p.Done }) {
		b.Phase = Compare
		if len(b.Numbers) == 0 {
			b.Phase = Done
		}
	}
	return err
}

// folder returns what folds a part until a time.
func (r *Rebuilder) folder(b *Rebuild) (func(context.Context, *Folded, time.Time) error, error) {
	if b.ofFeed() {
		f := &feedFolder{r, NewFeed(r.views)}
		return f.fold, nil
	}
	if len(b.Numbers) == 0 {
		return nil, errors.New("no generation was announced")
	}
	built, err := b.built()
	if err != nil {
		return nil, err
	}
	f := &folder{r, NewEngine(r.log, r.views, built...)}
	return f.fold, nil
}

func (b *Rebuild) ofFeed() bool { return slices.Equal(b.Projections, []string{FeedName}) }

// built are the projections in the generations that are built.
func (b *Rebuild) built() ([]Projection, error) {
	list, err := projectionsNamed(b.Projections)
	for i, p := range list {
		list[i] = generationOf(p, b.Numbers[p.Name()])
	}
	return list, err
}

// A chunk is what is folded in memory before it is saved. A view that is touched within one chunk
// alone, as nearly all are, is written once.
const (
	chunkBytes = 8 << 20
	// savedAtOnce bounds the views of one Save, so that it does not keep live events waiting.
	savedAtOnce = 512
)

// folder folds parts of the log into generations.
type folder struct {
	*Rebuilder
	engine *Engine
}

// fold goes on with a part until it is done or the time has come.
func (f *folder) fold(ctx context.Context, part *Folded, until time.Time) error {
	return f.chunks(ctx, part, until, func(chunk []Arrival, after events.Key) error {
		failed, err := f.engine.build(ctx, chunk, after.Stream)
		part.Failed += int64(failed)
		return err
	})
}

// chunks hands a part of the log on in chunks, until it is done or the time has come, and moves
// it on behind each that was taken. After is the event before the chunk.
func (r *Rebuilder) chunks(ctx context.Context, part *Folded, until time.Time, take func(chunk []Arrival, after events.Key) error) error {
	var chunk []Arrival
	size := 0
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		if err := take(chunk, part.After); err != nil {
			return err
		}
		last := chunk[len(chunk)-1].Event
		part.After = events.Key{Stream: last.Stream, ID: last.ID}
		part.Events += int64(len(chunk))
		chunk, size = chunk[:0], 0
		return nil
	}
	for e, err := range r.log.Scan(ctx, part.Part, part.After) {
		if err != nil {
			return err
		}
		chunk, size = append(chunk, Arrival{Event: e}), size+len(e.Data)
		if len(chunk) < r.sizes.chunk && size < chunkBytes {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if !r.now().Before(until) {
			return nil
		}
	}
	if err := flush(); err != nil {
		return err
	}
	part.Done = true
	return nil
}

// build folds a chunk of a scan of the log into views that hardly anybody else writes to. The
// streams in it begin with it, but for the one that goes on: their views are taken for missing.
func (g *Engine) build(ctx context.Context, chunk []Arrival, goesOn events.Stream) (failed int, err error) {
	p, failures := newPlan(chunk, g.projections)
	for _, w := range p.works {
		w.begins = w.begins || w.stream != goesOn
	}
	for works := range slices.Chunk(p.works, savedAtOnce) {
		more, err := g.carryOut(ctx, p, works)
		if err != nil {
			return 0, fmt.Errorf("fold %d events: %w", len(chunk), err)
		}
		failures = append(failures, more...)
	}
	return len(once(failures)), nil
}
