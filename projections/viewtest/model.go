package viewtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/projections"
)

// Model is Views in memory: a map of each partition under one lock, simple enough to be obviously correct.
// It passes the suite, so other packages may test against it. Make one with [NewModel].
type Model struct {
	mu         sync.Mutex
	partitions map[string]map[string]projections.View // by sort key
}

var _ projections.Views = (*Model)(nil)

// NewModel returns an empty model.
func NewModel() *Model { return &Model{partitions: map[string]map[string]projections.View{}} }

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
	return m.change(ctx, "save views", views, func(view projections.View, stored int64) bool {
		if view.Version != stored {
			return false
		}
		partition := m.partitions[view.Key.Partition]
		if partition == nil {
			partition = map[string]projections.View{}
			m.partitions[view.Key.Partition] = partition
		}
		partition[view.Key.Sort] = projections.View{Key: view.Key, Version: view.Version + 1, Body: bytes.Clone(view.Body)}
		return true
	})
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
	for sort, view := range m.partitions[partition] {
		if sort >= r.From && (r.Before == "" || sort < r.Before) {
			views = append(views, view)
		}
	}
	slices.SortFunc(views, func(a, b projections.View) int { return strings.Compare(a.Key.Sort, b.Key.Sort) })
	if r.Reverse {
		slices.Reverse(views)
	}
	return copies(views[:min(len(views), r.Limit)]), nil
}

// Delete implements [projections.Views].
func (m *Model) Delete(ctx context.Context, views ...projections.View) error {
	return m.change(ctx, "delete views", views, func(view projections.View, stored int64) bool {
		if stored != 0 && stored != view.Version {
			return false
		}
		delete(m.partitions[view.Key.Partition], view.Key.Sort)
		return true
	})
}

// change changes views one by one. One for which do returns false, given the stored version, is a
// conflict.
func (m *Model) change(ctx context.Context, what string, views []projections.View, do func(view projections.View, stored int64) bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	given := map[projections.Key]bool{}
	for _, view := range views {
		if given[view.Key] {
			return fmt.Errorf("%s: a key was given twice", what)
		}
		given[view.Key] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var conflict projections.ConflictError
	for _, view := range views {
		if !do(view, m.partitions[view.Key.Partition][view.Key.Sort].Version) {
			conflict.Keys = append(conflict.Keys, view.Key)
		}
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
	for name, partition := range m.partitions {
		begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, begins) {
			continue
		}
		for _, view := range partition {
			if compare(view.Key, after) > 0 {
				views = append(views, view)
			}
		}
	}
	slices.SortFunc(views, func(a, b projections.View) int { return compare(a.Key, b.Key) })
	if len(views) <= limit {
		return copies(views), projections.Key{}, nil
	}
	return copies(views[:limit]), views[limit-1].Key, nil
}

func compare(a, b projections.Key) int {
	return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Sort, b.Sort))
}

// view returns a copy of a view.
func (m *Model) view(key projections.Key) projections.View {
	view := m.partitions[key.Partition][key.Sort]
	return projections.View{Key: key, Version: view.Version, Body: bytes.Clone(view.Body)}
}

// copies makes copies of views in their place: what the caller does to them must not reach the model.
func copies(views []projections.View) []projections.View {
	for i := range views {
		views[i].Body = bytes.Clone(views[i].Body)
	}
	return views
}

// ErrFault is the error of a call that [Faults] let fail.
var ErrFault = errors.New("a fault that a test asked for")

// Fault is the outcome of one Save or one Delete.
type Fault int

// The outcomes of a Save and of a Delete.
const (
	Pass       Fault = iota // without a fault
	NotStored               // fails with [ErrFault]; nothing was saved
	HalfStored              // fails with [ErrFault]; every other view, from the first, was saved
	Stored                  // fails with [ErrFault]; all was saved
)

// Faults are Views whose calls fail on demand. Set the functions before the views are shared;
// they may be called from several goroutines at once.
type Faults struct {
	Views projections.Views // do the work

	// OnSave and OnDelete return the outcome of a Save or a Delete. A nil function lets all pass.
	OnSave   func(views []projections.View) Fault
	OnDelete func(views []projections.View) Fault

	// OnGet, OnQuery and OnScan return the error a call fails with, or nil. A nil function lets
	// all pass.
	OnGet   func(keys []projections.Key) error
	OnQuery func(partition string, r projections.Range) error
	OnScan  func(prefixes []string, after projections.Key) error
}

var _ projections.Views = (*Faults)(nil)

// Script returns a function for OnSave that lets the calls go as given, one after the other,
// and all further ones pass.
func Script(faults ...Fault) func([]projections.View) Fault {
	var mu sync.Mutex
	return func([]projections.View) Fault {
		mu.Lock()
		defer mu.Unlock()
		if len(faults) == 0 {
			return Pass
		}
		next := faults[0]
		faults = faults[1:]
		return next
	}
}

// Get implements [projections.Views].
func (f *Faults) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	if f.OnGet != nil {
		if err := f.OnGet(keys); err != nil {
			return nil, fmt.Errorf("get views: %w", err)
		}
	}
	return f.Views.Get(ctx, keys...)
}

// Query implements [projections.Views].
func (f *Faults) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	if f.OnQuery != nil {
		if err := f.OnQuery(partition, r); err != nil {
			return nil, fmt.Errorf("query views: %w", err)
		}
	}
	return f.Views.Query(ctx, partition, r)
}

// Scan implements [projections.Views].
func (f *Faults) Scan(ctx context.Context, prefixes []string, after projections.Key, limit int) ([]projections.View, projections.Key, error) {
	if f.OnScan != nil {
		if err := f.OnScan(prefixes, after); err != nil {
			return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
		}
	}
	return f.Views.Scan(ctx, prefixes, after, limit)
}

// Save implements [projections.Views]. A fault hides a conflict: the caller only learns that
// the Save failed.
func (f *Faults) Save(ctx context.Context, views ...projections.View) error {
	return change(ctx, "save views", f.OnSave, f.Views.Save, views)
}

// Delete implements [projections.Views]. A fault hides a conflict, as in a Save.
func (f *Faults) Delete(ctx context.Context, views ...projections.View) error {
	return change(ctx, "delete views", f.OnDelete, f.Views.Delete, views)
}

func change(
	ctx context.Context, what string, on func([]projections.View) Fault,
	do func(context.Context, ...projections.View) error, views []projections.View,
) error {
	fault := Pass
	if on != nil {
		fault = on(views)
	}
	switch fault {
	case Pass:
		return do(ctx, views...)
	case HalfStored:
		views = everyOther(views)
	case NotStored:
		views = nil
	}
	var conflict *projections.ConflictError
	if err := do(ctx, views...); err != nil && !errors.As(err, &conflict) {
		return err
	}
	return fmt.Errorf("%s: %w", what, ErrFault)
}

func everyOther(views []projections.View) (half []projections.View) {
	for i := 0; i < len(views); i += 2 {
		half = append(half, views[i])
	}
	return half
}

// Close closes the views below, if they can be closed.
func (f *Faults) Close() error {
	if c, ok := f.Views.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Line is a stored view as a line of a golden file.
type Line struct {
	Partition string          `json:"partition"`
	Sort      string          `json:"sort"`
	Version   int64           `json:"version"`
	Body      json.RawMessage `json:"body"`
}

// epochs are random: golden files have another in their place.
var epochs = regexp.MustCompile(`"epoch":"[A-Z2-7]{26}"`)

// Dump returns the views whose partitions begin with one of the prefixes, in the order of their keys.
func Dump(t testing.TB, views projections.Views, prefixes ...string) []Line {
	t.Helper()
	all, more, err := views.Scan(context.Background(), prefixes, projections.Key{}, 10_000)
	if err != nil || more != (projections.Key{}) {
		t.Fatalf("dump views: error %v, more %v", err, more)
	}
	lines := make([]Line, len(all))
	for i, v := range all {
		body := epochs.ReplaceAll(v.Body, []byte(`"epoch":"EPOCHOFTHEGOLDENFILES22222"`))
		lines[i] = Line{v.Key.Partition, v.Key.Sort, v.Version, body}
	}
	return lines
}

// Restore stores views in a model as they were dumped.
func Restore(t testing.TB, into *Model, lines []Line) {
	t.Helper()
	for _, line := range lines {
		for version := range line.Version {
			view := projections.View{Key: projections.Key{Partition: line.Partition, Sort: line.Sort}, Version: version, Body: line.Body}
			if err := into.Save(context.Background(), view); err != nil {
				t.Fatalf("restore a view: %v", err)
			}
		}
	}
}
