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
	projections []Projection
	events      []events.Event
}

// WithEvents returns views for reading in which the given events are folded already, whether or
// not they have come by stream. Folding is idempotent, so one that has come changes nothing.
func WithEvents(views Views, es ...events.Event) Views {
	if len(es) == 0 {
		return views
	}
	return &overlay{views, All(), es}
}

// Get implements [Views].
func (o *overlay) Get(ctx context.Context, keys ...Key) ([]View, error) {
	got, err := o.Views.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i := range got {
		if got[i].Body, err = o.fold(got[i].Key, got[i].Body); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// Query implements [Views]. A view that the events bring into being takes its place in the
// range; the one it pushes over the limit is dropped.
func (o *overlay) Query(ctx context.Context, partition string, r Range) ([]View, error) {
	got, err := o.Views.Query(ctx, partition, r)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for i := range got {
		there[got[i].Key.Sort] = true
		if got[i].Body, err = o.fold(got[i].Key, got[i].Body); err != nil {
			return nil, err
		}
	}
	for _, key := range o.keys(partition) {
		if there[key.Sort] || key.Sort < r.From || r.Before != "" && key.Sort >= r.Before {
			continue
		}
		there[key.Sort] = true
		missing, err := o.Get(ctx, key)
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

// keys names the views of a partition that the events touch.
func (o *overlay) keys(partition string) []Key {
	var keys []Key
	for _, e := range o.events {
		for _, p := range o.projections {
			for _, key := range p.Keys(e) {
				if key.Partition == partition {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys
}

// fold folds those events into a view's body that touch it.
func (o *overlay) fold(key Key, body []byte) ([]byte, error) {
	for _, p := range o.projections {
		var touching []events.Event
		for _, e := range o.events {
			if slices.Contains(p.Keys(e), key) {
				touching = append(touching, e)
			}
		}
		if len(touching) == 0 {
			continue
		}
		doc, err := p.Open(key, body)
		if err != nil {
			return nil, err
		}
		for _, e := range touching {
			doc.Fold(e)
		}
		return doc.Body()
	}
	return body, nil
}
