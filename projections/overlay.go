package projections

import (
	"context"
	"slices"
	"strings"

	"parley/events"
)

// overlay shows views as they will be once certain events are folded in.
type overlay struct {
	Views
	touched map[Key]touch
}

// touch is what the events do to one view.
type touch struct {
	projection Projection
	events     []events.Event
}

// WithEvents returns views for reading into which the given events are folded, whether or not the
// stream has delivered them. Folding is idempotent, so an event that was delivered changes nothing.
func WithEvents(views Views, es ...events.Event) Views {
	if len(es) == 0 {
		return views
	}
	touched := map[Key]touch{}
	for _, e := range es {
		for _, p := range All() {
			for _, key := range p.Keys(e) {
				touched[key] = touch{p, append(touched[key].events, e)}
			}
		}
	}
	return &overlay{views, touched}
}

// Get implements [Views].
func (o *overlay) Get(ctx context.Context, keys ...Key) ([]View, error) {
	got, err := o.Views.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	return got, o.foldAll(got)
}

// Query implements [Views]. A view that the events create is inserted into the range; the view it
// pushes over the limit is left out.
func (o *overlay) Query(ctx context.Context, partition string, r Range) ([]View, error) {
	got, err := o.Views.Query(ctx, partition, r)
	if err != nil {
		return nil, err
	}
	if err := o.foldAll(got); err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, view := range got {
		there[view.Key.Sort] = true
	}
	var keys []Key
	for key := range o.touched {
		full := len(got) == r.Limit
		beyond := full && key.Sort > got[len(got)-1].Key.Sort
		if r.Reverse {
			beyond = full && key.Sort < got[len(got)-1].Key.Sort
		}
		if key.Partition == partition && key.Sort >= r.From && (r.Before == "" || key.Sort < r.Before) && !there[key.Sort] && !beyond {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		missing, err := o.Get(ctx, keys...)
		if err != nil {
			return nil, err
		}
		got = append(got, missing...)
	}
	slices.SortFunc(got, func(a, b View) int {
		if r.Reverse {
			a, b = b, a
		}
		return strings.Compare(a.Key.Sort, b.Key.Sort)
	})
	return got[:min(len(got), r.Limit)], nil
}

// foldAll folds the events into the views' bodies.
func (o *overlay) foldAll(views []View) error {
	for i, view := range views {
		touch, ok := o.touched[view.Key]
		if !ok {
			continue
		}
		doc, err := touch.projection.Open(view.Key, view.Body)
		if err != nil {
			return err
		}
		for _, e := range touch.events {
			doc.Fold(e)
		}
		if views[i].Body, err = doc.Body(); err != nil {
			return err
		}
	}
	return nil
}
