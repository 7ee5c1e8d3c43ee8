package viewtest

import (
	"context"
	"errors"
	"sync"

	"parley/projections"
)

// ErrFault is the error of every call that [Faults] made fail.
var ErrFault = errors.New("views failed on purpose")

// Fault is how a Save goes.
type Fault int

// The ways a Save can go.
const (
	None         Fault = iota // it goes as it goes
	Failed                    // it fails, and stored nothing
	FailedHalf                // it fails, and saved every other view, from the first
	FailedStored              // it fails, and saved all the same
)

// Faults are Views that fail on request: by default each call goes through to the Views they
// wrap. Make them with [NewFaults].
type Faults struct {
	views projections.Views

	mu            sync.Mutex
	saves         []Fault
	gets, queries int // still to fail
}

var _ projections.Views = (*Faults)(nil)

// NewFaults wraps views.
func NewFaults(views projections.Views) *Faults { return &Faults{views: views} }

// FailSaves says how the next Saves go, one fault for each call. After that they go well again.
func (f *Faults) FailSaves(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saves = append([]Fault(nil), faults...)
}

// FailGets makes the next n Gets fail.
func (f *Faults) FailGets(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets = n
}

// FailQueries makes the next n Queries fail.
func (f *Faults) FailQueries(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = n
}

// Get implements [projections.Views].
func (f *Faults) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	if f.take(&f.gets) {
		return nil, ErrFault
	}
	return f.views.Get(ctx, keys...)
}

// Query implements [projections.Views].
func (f *Faults) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	if f.take(&f.queries) {
		return nil, ErrFault
	}
	return f.views.Query(ctx, partition, r)
}

// Save implements [projections.Views].
func (f *Faults) Save(ctx context.Context, views ...projections.View) error {
	switch f.nextSave() {
	case Failed:
		return ErrFault
	case FailedHalf:
		var half []projections.View
		for i := 0; i < len(views); i += 2 {
			half = append(half, views[i])
		}
		return errors.Join(ErrFault, unexpected(f.views.Save(ctx, half...)))
	case FailedStored:
		return errors.Join(ErrFault, unexpected(f.views.Save(ctx, views...)))
	default:
		return f.views.Save(ctx, views...)
	}
}

// unexpected drops a conflict: a caller that only got an error never hears of it.
func unexpected(err error) error {
	var conflict *projections.ConflictError
	if errors.As(err, &conflict) {
		return nil
	}
	return err
}

func (f *Faults) take(left *int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *left <= 0 {
		return false
	}
	*left--
	return true
}

func (f *Faults) nextSave() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.saves) == 0 {
		return None
	}
	fault := f.saves[0]
	f.saves = f.saves[1:]
	return fault
}
