package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// A chunk is what is folded in memory before it is saved. A view that is touched within one chunk
// alone, as nearly all are, is written once.
const (
	chunkBytes = 8 << 20
	// saveAtOnce bounds the views of one Save, so that it does not delay live events.
	saveAtOnce = 512
)

// foldLog folds the parts of the log in parallel, for a slice.
func (r *Rebuilder) foldLog(ctx context.Context, b *Rebuild) error {
	if b.Room != "" {
		return r.foldRoom(ctx, b)
	}
	if _, err := r.stillBuilt(ctx, b); err != nil {
		return err
	}
	fold, err := r.chunkFolder(b)
	if err != nil {
		return err
	}
	if len(b.Parts) == 0 {
		for i := range max(r.Parts, 1) {
			b.Parts = append(b.Parts, Folded{Part: events.Part{Index: i, Of: max(r.Parts, 1)}})
		}
	}
	until := r.now().Add(r.Slice)
	group, folding := errgroup.WithContext(ctx)
	for i := range b.Parts {
		if part := &b.Parts[i]; !part.Done {
			group.Go(func() error { return r.foldPart(folding, part, until, fold) })
		}
	}
	if err = group.Wait(); err != nil || slices.ContainsFunc(b.Parts, func(p Folded) bool { return !p.Done }) {
		return err
	}
	if !b.ofFeed() {
		b.Phase = Compare
		return nil
	}
	return r.endFeed(ctx, b, until)
}

// endFeed ends a rebuild of all feeds: it deletes what they replaced, until the time has come.
func (r *Rebuilder) endFeed(ctx context.Context, b *Rebuild, until time.Time) error {
	_, done, err := dropJournal(ctx, r.views, r.sizes.page, func() bool { return !r.now().Before(until) })
	if done {
		b.Phase = Done
	}
	return err
}

// chunkFolder returns what folds a chunk of the log, which follows the event after in its part,
// and counts the events that make a fold fail.
func (r *Rebuilder) chunkFolder(b *Rebuild) (fold func(ctx context.Context, chunk []Arrival, after events.Key) (failed int, err error), err error) {
	if b.ofFeed() {
		feed := r.feed()
		return func(ctx context.Context, chunk []Arrival, _ events.Key) (int, error) {
			return 0, appendMissing(ctx, feed, chunk)
		}, nil
	}
	if len(b.Numbers) == 0 {
		return nil, errors.New("no generation was announced")
	}
	built, err := projectionsNamed(b.Projections)
	if err != nil {
		return nil, err
	}
	for i, p := range built {
		built[i] = generationOf(p, b.Numbers[p.Name()])
	}
	engine := NewEngine(r.log, r.views, built...)
	return func(ctx context.Context, chunk []Arrival, after events.Key) (int, error) {
		return engine.build(ctx, chunk, after.Stream)
	}, nil
}

// foldPart folds a part of the log in chunks, until it is done or the time has come, and advances
// it behind each chunk.
func (r *Rebuilder) foldPart(
	ctx context.Context, part *Folded, until time.Time,
	fold func(ctx context.Context, chunk []Arrival, after events.Key) (failed int, err error),
) error {
	var chunk []Arrival
	size := 0
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		failed, err := fold(ctx, chunk, part.After)
		if err != nil {
			return err
		}
		part.After = chunk[len(chunk)-1].Event.Key()
		part.Events += int64(len(chunk))
		part.Failed += int64(failed)
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

// build folds a chunk of a scan of the log into views that hardly any other writer touches. All
// streams in the chunk begin with it, except continued: their views are taken for missing.
func (g *Engine) build(ctx context.Context, chunk []Arrival, continued events.Stream) (failed int, err error) {
	p, failures := newPlan(chunk, g.projections)
	for _, w := range p.works {
		w.begins = w.begins || w.stream != continued
	}
	for works := range slices.Chunk(p.works, saveAtOnce) {
		more, err := g.carryOut(ctx, p, works)
		if err != nil {
			return 0, fmt.Errorf("fold %d events: %w", len(chunk), err)
		}
		failures = append(failures, more...)
	}
	return len(oncePerArrival(failures)), nil
}

// feed returns what adds to feeds what they lack, and counts the messages of those that a former release began.
func (r *Rebuilder) feed() *Feed { return &Feed{Now: r.now, Rebuild: true, views: r.views} }

// appendMissing appends to feeds what they lack of a chunk, in which the events of a stream stand
// together. What this release cannot read is parked, and enters no feed until it can be handled.
func appendMissing(ctx context.Context, feed *Feed, chunk []Arrival) error {
	for len(chunk) > 0 {
		stream := chunk[0].Event.Stream
		var of []events.Event
		for ; len(chunk) > 0 && chunk[0].Event.Stream == stream; chunk = chunk[1:] {
			if _, unreadable := chunk[0].Event.Payload.(events.Unreadable); !unreadable {
				of = append(of, chunk[0].Event)
			}
		}
		missing, err := feed.Missing(ctx, stream, of)
		if err == nil && len(missing) > 0 {
			_, _, err = feed.Append(ctx, arrivalsOf(missing))
		}
		if err == nil {
			err = feed.countMessages(ctx, stream)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func arrivalsOf(es []events.Event) []Arrival {
	batch := make([]Arrival, len(es))
	for i, e := range es {
		batch[i].Event = e
	}
	return batch
}

// foldRoom folds views of one room again, in place: those that the next events of its stream
// touch, from all events that do. A step may have to read the whole stream.
func (r *Rebuilder) foldRoom(ctx context.Context, b *Rebuild) error {
	stream := events.RoomStream(b.Room)
	if err := stream.Validate(); err != nil {
		return err
	}
	if len(b.Parts) == 0 {
		b.Parts = []Folded{{Part: events.Part{Of: 1}}}
	}
	part := &b.Parts[0]
	var page []events.Event
	for e, err := range events.ReadBehind(ctx, r.log, stream, part.After.Ref(), events.Range{Limit: r.sizes.room}) {
		if err != nil {
			return err
		}
		if page = append(page, e); len(page) == r.sizes.room {
			break
		}
	}
	var err error
	if b.ofFeed() {
		err = appendMissing(ctx, r.feed(), arrivalsOf(page))
	} else {
		err = r.refoldTouched(ctx, b, page)
	}
	if err != nil {
		return err
	}
	part.Events += int64(len(page))
	if len(page) > 0 {
		part.After = page[len(page)-1].Key()
	}
	if len(page) < r.sizes.room {
		part.Done, b.Phase = true, Done
	}
	return nil
}

// refoldTouched folds the views again that events touch, in all generations.
func (r *Rebuilder) refoldTouched(ctx context.Context, b *Rebuild, touching []events.Event) error {
	named, err := projectionsNamed(b.Projections)
	if err != nil {
		return err
	}
	state, _, err := r.generations.load(ctx)
	if err != nil {
		return err
	}
	written := state.written(named)
	var views []owned
	seen := map[Key]bool{}
	for _, e := range touching {
		for _, p := range written {
			for _, key := range p.Keys(e) {
				if !seen[key] {
					seen[key] = true
					views = append(views, owned{p, key})
				}
			}
		}
	}
	return r.refold(ctx, views)
}

// owned is a view and its projection.
type owned struct {
	projection Projection // in its generation
	key        Key
}

// refold folds views again from the log alone and saves the result, whatever they held. Views that
// no event touches are deleted. It is safe beside processes that fold live events: a view is
// loaded before the log is read, and saved only if nobody has saved it since; else it is folded
// again. Views of one stream are folded in one pass, so pass them together.
func (r *Rebuilder) refold(ctx context.Context, views []owned) error {
	streams := map[events.Stream][]owned{}
	var order []events.Stream
	for _, v := range views {
		stream := v.projection.Stream(v.key)
		if streams[stream] == nil {
			order = append(order, stream)
		}
		streams[stream] = append(streams[stream], v)
	}
	for _, stream := range order {
		left := streams[stream]
		err := RetryOnConflict(ctx, func() (err error) {
			left, err = r.refoldOnce(ctx, stream, left)
			return err
		})
		if err != nil {
			return fmt.Errorf("fold views again: %w", err)
		}
	}
	return nil
}

// refoldOnce folds views of one stream again. Those that another writer saved meanwhile are left,
// and a [ConflictError].
func (r *Rebuilder) refoldOnce(ctx context.Context, stream events.Stream, views []owned) (left []owned, err error) {
	keys := make([]Key, len(views))
	for i, v := range views {
		keys[i] = v.key
	}
	stored, err := r.views.Get(ctx, keys...)
	if err != nil {
		return views, err
	}
	fresh, err := foldFromNothing(ctx, r.log, stream, views)
	if err != nil {
		return views, err
	}
	var save, remove []View
	for _, view := range stored {
		doc := fresh[view.Key]
		if !doc.touched {
			if view.Version > 0 {
				remove = append(remove, view)
			}
			continue
		}
		body, err := doc.Body()
		if err != nil {
			return views, err
		}
		if view.Version == 0 || !bytes.Equal(body, view.Body) {
			save = append(save, View{view.Key, view.Version, body})
		}
	}
	var lost ConflictError
	for _, change := range []struct {
		do    func(context.Context, ...View) error
		views []View
	}{{r.views.Save, save}, {r.views.Delete, remove}} {
		for some := range slices.Chunk(change.views, saveAtOnce) {
			err := change.do(ctx, some...)
			if err != nil && conflicts(err) == nil {
				return views, err
			}
			lost.Keys = append(lost.Keys, conflicts(err)...)
		}
	}
	if len(lost.Keys) == 0 {
		return nil, nil
	}
	left = slices.DeleteFunc(views, func(v owned) bool { return !slices.Contains(lost.Keys, v.key) })
	return left, &lost
}

// freshDocument is a document folded from nothing.
type freshDocument struct {
	Document
	touched bool // by any event
}

// foldFromNothing folds views of one stream from all its events, in one pass.
func foldFromNothing(ctx context.Context, log events.Log, stream events.Stream, views []owned) (map[Key]*freshDocument, error) {
	docs := make(map[Key]*freshDocument, len(views))
	projections := map[Projection]bool{}
	var first events.ID // below it no event touches any of the views
	for i, v := range views {
		doc, err := v.projection.Open(v.key, nil)
		if err != nil {
			return nil, err
		}
		docs[v.key] = &freshDocument{Document: doc}
		projections[v.projection] = true
		if since := v.projection.Since(v.key); i == 0 || since.Compare(first) < 0 {
			first = since
		}
	}
	if stream.Validate() != nil {
		return docs, nil // no stream can have events for such a view
	}
	for e, err := range log.Read(ctx, stream, events.Range{After: events.PrecedingID(first)}) {
		if err != nil {
			return nil, err
		}
		for p := range projections {
			for _, key := range p.Keys(e) {
				if doc := docs[key]; doc != nil {
					doc.touched = true
					_ = guard(func() { doc.Fold(e) }) // it was parked when it arrived
				}
			}
		}
	}
	return docs, nil
}
