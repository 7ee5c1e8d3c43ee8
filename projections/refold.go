package projections

import (
	"bytes"
	"context"
	"fmt"

	"parley/events"
)

// owned is a view and whose it is.
type owned struct {
	projection Projection // in its generation
	key        Key
}

// refold folds views again from the log alone and saves what comes out, whatever they held. What
// no event touches is deleted. It holds against whoever folds live events meanwhile: a view is
// loaded before the log is read, and saved only if nobody has saved it since, or else done again.
// Views of one stream are folded in one pass, so hand over together what belongs together.
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
		if err := r.refoldStream(ctx, stream, streams[stream]); err != nil {
			return fmt.Errorf("fold views again: %w", err)
		}
	}
	return nil
}

func (r *Rebuilder) refoldStream(ctx context.Context, stream events.Stream, views []owned) error {
	for try := range attempts {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		lost, err := r.refoldOnce(ctx, stream, views)
		if err != nil || len(lost) == 0 {
			return err
		}
		left := views[:0:0]
		for _, v := range views {
			if lost[v.key] {
				left = append(left, v)
			}
		}
		views = left
	}
	return fmt.Errorf("gave up after %d conflicts with other writers", attempts)
}

// refoldOnce returns the views that somebody else was ahead on.
func (r *Rebuilder) refoldOnce(ctx context.Context, stream events.Stream, views []owned) (map[Key]bool, error) {
	keys := make([]Key, len(views))
	for i, v := range views {
		keys[i] = v.key
	}
	stored, err := r.views.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	fresh, err := foldFresh(ctx, r.log, stream, views)
	if err != nil {
		return nil, err
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
			return nil, err
		}
		if view.Version == 0 || !bytes.Equal(body, view.Body) {
			save = append(save, View{view.Key, view.Version, body})
		}
	}
	lost := map[Key]bool{}
	for _, change := range []struct {
		do    func(context.Context, ...View) error
		views []View
	}{{r.views.Save, save}, {r.views.Delete, remove}} {
		for len(change.views) > 0 {
			n := min(len(change.views), savedAtOnce)
			err := change.do(ctx, change.views[:n]...)
			for _, key := range conflicts(err) {
				lost[key] = true
			}
			if err != nil && conflicts(err) == nil {
				return nil, err
			}
			change.views = change.views[n:]
		}
	}
	return lost, nil
}

// freshDocument is a document folded from nothing.
type freshDocument struct {
	Document
	touched bool // by any event
}

// foldFresh folds views of one stream from nothing, in one pass.
func foldFresh(ctx context.Context, log events.Log, stream events.Stream, views []owned) (map[Key]*freshDocument, error) {
	docs := make(map[Key]*freshDocument, len(views))
	projections := map[Projection]bool{}
	var first events.ID // below which no event touches any of the views
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
		return docs, nil // a view that is nobody's
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
