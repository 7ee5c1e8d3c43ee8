package projections

import (
	"context"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// load reads and decodes views of one kind, in the order of their keys.
func load[S any](ctx context.Context, views Views, keys []Key) ([]*S, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	got, err := views.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	states := make([]*S, len(got))
	for i, view := range got {
		if states[i], err = decode[S](view.Body); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// each calls f for 0 to n-1, some at a time, and returns the first error.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// with sets a key of a map that may be nil.
func with[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}

// next is the least sort key above one; "" stands for the beginning.
func next(sort string) string {
	if sort == "" {
		return ""
	}
	return sort + "\x00"
}

// idRange is the range of sort keys of a range of ids.
func idRange(r events.Range, limit int) Range {
	out := Range{Reverse: r.Reverse, Limit: limit}
	if r.After != (events.ID{}) {
		out.From = next(r.After.String())
	}
	if r.Before != (events.ID{}) {
		out.Before = r.Before.String()
	}
	return out
}

// behind is what of a range comes behind an id, in the range's order.
func behind(r events.Range, id events.ID) events.Range {
	if r.Reverse {
		r.Before = id
	} else {
		r.After = id
	}
	return r
}

// sortID reads the id that is a view's sort key; zero if it is none.
func sortID(key Key) events.ID {
	id, _ := events.ParseID("sort", key.Sort)
	return id
}
