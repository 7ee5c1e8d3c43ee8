package viewtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"parley/projections"
)

// ErrFault is what a Save fails with that [Faults] let fail.
var ErrFault = errors.New("a fault that a test asked for")

// Fault is a way in which one Save or one Delete goes.
type Fault int

// The ways a Save goes, and a Delete.
const (
	Pass       Fault = iota // as the views would have it
	NotStored               // fails with [ErrFault]; nothing was saved
	HalfStored              // fails with [ErrFault]; every other view, from the first, was saved
	Stored                  // fails with [ErrFault]; all was saved
)

// Faults are Views whose calls fail on demand. Set the functions before the views are shared;
// they may be called from several goroutines at once.
type Faults struct {
	Views projections.Views // do the work

	// OnSave and OnDelete say how a Save or a Delete goes. A nil function lets all pass.
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
