package projections

import (
	"context"
	"fmt"
	"time"
)

// announce registers the generations to be built. Done again it finds them registered.
func (r *Rebuilder) announce(ctx context.Context, b *Rebuild) error {
	numbers, since := map[string]int{}, r.now().UTC()
	err := r.generations.change(ctx, b.Projections, func(one *Generation) error {
		switch {
		case one.Next > 0 && one.By != b.ID:
			return ErrRebuilding
		case one.Next == 0 && one.Previous > 0 && !b.Audit:
			return ErrPreviousKept
		case one.Next == 0:
			one.Last++
			one.Next, one.By = one.Last, b.ID
		}
		numbers[one.Projection] = one.Next
		return nil
	})
	if err != nil {
		return err
	}
	b.Numbers, b.Phase, b.Since = numbers, Wait, since
	return nil
}

func (r *Rebuilder) wait(ctx context.Context, b *Rebuild) error {
	done, err := r.waited(ctx, b.Since, r.Grace)
	if done && err == nil {
		b.Phase, b.Since = Fold, time.Time{}
	}
	return err
}

// waited waits for a second at most, and reports whether so much time has passed since.
func (r *Rebuilder) waited(ctx context.Context, since time.Time, d time.Duration) (bool, error) {
	left := d - r.now().Sub(since)
	if left > 0 {
		if err := r.pause(ctx, min(left, time.Second)); err != nil {
			return false, err
		}
	}
	return left <= time.Second, nil
}

// switchOver makes what was built live. Done again it finds it so.
func (r *Rebuilder) switchOver(ctx context.Context, b *Rebuild) error {
	err := r.generations.change(ctx, b.Projections, func(one *Generation) error {
		switch number := b.Numbers[one.Projection]; {
		case one.Next == number:
			one.Live, one.Previous, one.Next, one.By = number, one.Live, 0, ""
		case one.Live != number && one.Previous != number:
			return ErrWithdrawn
		}
		return nil
	})
	if err == nil {
		b.Phase = Done
	}
	return err
}

func (r *Rebuilder) dropOn(ctx context.Context, b *Rebuild) error {
	err := r.StepDrop(ctx, b.Drop)
	if err == nil && b.Drop.Phase == Done {
		b.Phase = Done
	}
	return err
}

// holds fails if what is being built was dropped by somebody else, and returns the generations.
func (r *Rebuilder) holds(ctx context.Context, b *Rebuild) (*generations, error) {
	state, _, err := r.generations.load(ctx)
	if err != nil {
		return nil, err
	}
	for name, number := range b.Numbers {
		if one := state.of(name); one.Next != number || one.By != b.ID {
			return nil, fmt.Errorf("%s: %w", name, ErrWithdrawn)
		}
	}
	return state, nil
}
