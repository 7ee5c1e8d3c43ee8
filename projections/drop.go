package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Drop is how far the deletion of generations has come. Keep it, as JSON, after each step, as a
// [Rebuild]. Make one with [NewDrop] or [NewWithdrawal].
type Drop struct {
	Projections []string `json:"projections"`
	// By is the rebuild whose generation is dropped; "" drops the previous ones.
	By    string    `json:"by,omitempty"`
	Phase Phase     `json:"phase,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Numbers are the generations that are deleted, by projection.
	Numbers map[string][]int `json:"numbers,omitempty"`
	After   Key              `json:"after,omitzero"` // how far the views were gone through
	Deleted int64            `json:"deleted"`        // so many views
}

// NewDrop returns the deletion of the previous generations of these projections. From its first
// step on there is no way back.
func NewDrop(names ...string) (*Drop, error) {
	_, err := projectionsNamed(names)
	return &Drop{Projections: names}, err
}

// NewWithdrawal returns the deletion of what a rebuild or audit builds that nobody steps on with:
// By of a [Generation] names it. The rebuild, should it live, ends with [ErrWithdrawn].
func NewWithdrawal(by string, names ...string) (*Drop, error) {
	if by == "" {
		return nil, errors.New("withdraw a generation: it must be said whose")
	}
	d, err := NewDrop(names...)
	if err == nil {
		d.By = by
	}
	return d, err
}

// StepDrop does a piece of a drop, about a slice long: it is over in the phase Done. First the
// generation is no longer read and written, then every process gets the time to see so, then the
// views are deleted.
func (r *Rebuilder) StepDrop(ctx context.Context, d *Drop) error {
	err := r.stepDrop(ctx, d)
	if err != nil {
		return fmt.Errorf("drop a generation: %w", err)
	}
	return nil
}

func (r *Rebuilder) stepDrop(ctx context.Context, d *Drop) error {
	switch d.Phase {
	case "", Announce:
		return r.withdraw(ctx, d)
	case Wait:
		done, err := r.waited(ctx, d.Since, r.Grace)
		if done && err == nil {
			d.Phase, d.Since = Dropping, time.Time{}
		}
		return err
	case Dropping:
		return r.deleteOn(ctx, d)
	case Done:
		return nil
	default:
		return fmt.Errorf("there is no phase %q", d.Phase)
	}
}

// withdraw takes generations out of use. Done again it finds them withdrawn.
func (r *Rebuilder) withdraw(ctx context.Context, d *Drop) error {
	numbers, since := map[string][]int{}, r.now().UTC()
	err := r.generations.change(ctx, d.Projections, func(one *Generation) error {
		switch {
		case d.By != "" && one.By == d.By && one.Next > 0:
			one.Dropped = append(one.Dropped, one.Next)
			one.Next, one.By = 0, ""
		case d.By == "" && one.Previous > 0:
			one.Dropped = append(one.Dropped, one.Previous)
			one.Previous = 0
		case d.By == "" && len(one.Dropped) == 0:
			return ErrNoPrevious
		}
		numbers[one.Projection] = one.Dropped
		return nil
	})
	if err != nil {
		return err
	}
	d.Numbers, d.Phase, d.Since = numbers, Wait, since
	return nil
}

// deleteOn deletes the views of the generations, for a slice, and at the end takes them off the
// list.
func (r *Rebuilder) deleteOn(ctx context.Context, d *Drop) error {
	var prefixes []string
	for _, name := range d.Projections {
		for _, n := range d.Numbers[name] {
			prefixes = append(prefixes, prefix(n)+name)
		}
	}
	for until := r.now().Add(r.Slice); len(prefixes) > 0; {
		views, next, err := r.views.Scan(ctx, prefixes, d.After, r.sizes.page)
		if err != nil {
			return err
		}
		views = slices.DeleteFunc(views, func(v View) bool {
			n, base := splitPartition(v.Key.Partition)
			return !slices.Contains(d.Numbers[ownerOf(base)], n)
		})
		// Whoever has not seen for long that the generation is dropped may still write to it. Nobody
		// reads what he leaves behind, and no generation is built under its number.
		if err := r.views.Delete(ctx, views...); err != nil && conflicts(err) == nil {
			return err
		}
		d.Deleted += int64(len(views))
		if d.After = next; next == (Key{}) {
			break
		}
		if !r.now().Before(until) {
			return nil
		}
	}
	err := r.generations.change(ctx, d.Projections, func(one *Generation) error {
		one.Dropped = slices.DeleteFunc(one.Dropped, func(n int) bool { return slices.Contains(d.Numbers[one.Projection], n) })
		return nil
	})
	if err == nil {
		d.Phase = Done
	}
	return err
}
