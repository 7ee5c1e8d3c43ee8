package viewtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"parley/projections"
)

// Model is Views in memory: one map under one lock, plain enough to be right at a glance. It
// passes the suite, so other packages may test against it. Make one with [NewModel].
type Model struct {
	mu    sync.Mutex
	views map[projections.Key]projections.View
}

var _ projections.Views = (*Model)(nil)

// NewModel returns an empty model.
func NewModel() *Model { return &Model{views: map[projections.Key]projections.View{}} }

// Get implements [projections.Views].
func (m *Model) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get views: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	views := make([]projections.View, len(keys))
	for i, key := range keys {
		views[i] = m.view(key)
	}
	return views, nil
}

// Save implements [projections.Views].
func (m *Model) Save(ctx context.Context, views ...projections.View) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save views: %w", err)
	}
	given := map[projections.Key]bool{}
	for _, view := range views {
		if given[view.Key] {
			return errors.New("save views: a key was given twice")
		}
		given[view.Key] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var conflict projections.ConflictError
	for _, view := range views {
		if view.Version != m.views[view.Key].Version {
			conflict.Keys = append(conflict.Keys, view.Key)
			continue
		}
		m.views[view.Key] = projections.View{Key: view.Key, Version: view.Version + 1, Body: bytes.Clone(view.Body)}
	}
	if len(conflict.Keys) > 0 {
		return &conflict
	}
	return nil
}

// Query implements [projections.Views].
func (m *Model) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("query views: %w", err)
	}
	if r.Limit < 1 {
		return nil, errors.New("query views: the limit must be above 0")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var views []projections.View
	for key := range m.views {
		if key.Partition == partition && key.Sort >= r.From && (r.Before == "" || key.Sort < r.Before) {
			views = append(views, m.view(key))
		}
	}
	slices.SortFunc(views, func(a, b projections.View) int { return strings.Compare(a.Key.Sort, b.Key.Sort) })
	if r.Reverse {
		slices.Reverse(views)
	}
	return views[:min(len(views), r.Limit)], nil
}

// Delete implements [projections.Views].
func (m *Model) Delete(ctx context.Context, views ...projections.View) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete views: %w", err)
	}
	given := map[projections.Key]bool{}
	for _, view := range views {
		if given[view.Key] {
			return errors.New("delete views: a key was given twice")
		}
		given[view.Key] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var conflict projections.ConflictError
	for _, view := range views {
		stored := m.views[view.Key].Version
		if stored != 0 && stored != view.Version {
			conflict.Keys = append(conflict.Keys, view.Key)
			continue
		}
		delete(m.views, view.Key)
	}
	if len(conflict.Keys) > 0 {
		return &conflict
	}
	return nil
}

// Scan implements [projections.Views].
func (m *Model) Scan(ctx context.Context, prefixes []string, after projections.Key, limit int) ([]projections.View, projections.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
	}
	if limit < 1 {
		return nil, projections.Key{}, errors.New("scan views: the limit must be above 0")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var views []projections.View
	for key := range m.views {
		begins := func(prefix string) bool { return strings.HasPrefix(key.Partition, prefix) }
		if compare(key, after) > 0 && (len(prefixes) == 0 || slices.ContainsFunc(prefixes, begins)) {
			views = append(views, m.view(key))
		}
	}
	slices.SortFunc(views, func(a, b projections.View) int { return compare(a.Key, b.Key) })
	if len(views) <= limit {
		return views, projections.Key{}, nil
	}
	return views[:limit], views[limit-1].Key, nil
}

func compare(a, b projections.Key) int {
	return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Sort, b.Sort))
}

// view returns a copy: what the caller does to it must not reach the model.
func (m *Model) view(key projections.Key) projections.View {
	view := m.views[key]
	return projections.View{Key: key, Version: view.Version, Body: bytes.Clone(view.Body)}
}
