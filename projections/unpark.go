package projections

import (
	"context"
	"fmt"
)

// LoadParked reads what is parked under a key, and whether there is anything.
func LoadParked(ctx context.Context, views Views, key string) (p Parked, there bool, err error) {
	got, err := views.Get(ctx, Key{parkedPartition, key})
	if err != nil || len(got[0].Body) == 0 {
		return Parked{}, false, err
	}
	state, err := decode[Parked](got[0].Body)
	if err != nil {
		return Parked{}, false, err
	}
	state.Key = key
	return *state, true, nil
}

// Unpark forgets what is parked under a key, if anything is. What is parked there at the same
// time stays. An empty view is left.
func Unpark(ctx context.Context, views Views, key string) error {
	got, err := views.Get(ctx, Key{parkedPartition, key})
	if err != nil {
		return fmt.Errorf("unpark an event: %w", err)
	}
	if len(got[0].Body) == 0 {
		return nil
	}
	err = views.Save(ctx, View{Key{parkedPartition, key}, got[0].Version, nil})
	if err != nil && conflicts(err) == nil {
		return fmt.Errorf("unpark an event: %w", err)
	}
	return nil
}
