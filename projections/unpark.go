package projections

import (
	"context"
	"fmt"
)

// LoadParked reads what is parked under a key, and whether there is anything.
func LoadParked(ctx context.Context, views Views, key string) (p Parked, there bool, err error) {
	got, err := views.Get(ctx, Key{parkedPartition, key})
	if err != nil || got[0].Version == 0 {
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
// time stays.
func Unpark(ctx context.Context, views Views, key string) error {
	got, err := views.Get(ctx, Key{parkedPartition, key})
	if err == nil && got[0].Version > 0 {
		err = views.Delete(ctx, got[0])
	}
	if err != nil && conflicts(err) == nil {
		return fmt.Errorf("unpark an event: %w", err)
	}
	return nil
}
