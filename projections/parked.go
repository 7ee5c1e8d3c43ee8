package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Parked is an event that could not be handled, set aside for an operator.
type Parked struct {
	Key    string          `json:"-"`     // what it was parked under
	Stage  string          `json:"stage"` // where handling failed: "decode", "project", "publish" or "trigger"
	Error  string          `json:"error"`
	At     time.Time       `json:"at"`               // of the latest failure
	Tries  int             `json:"tries"`            // how often it was parked
	Stream string          `json:"stream,omitempty"` // if it is known
	ID     string          `json:"id,omitempty"`
	Record json.RawMessage `json:"record"` // the event as it was read; a string if that is not JSON
}

const parkedPartition = "parked"

// Park stores an event that cannot be handled, under a key of the caller's choice, unique to the
// event and stage. Parking it again raises Tries.
func Park(ctx context.Context, views Views, key string, parked Parked) error {
	if !json.Valid(parked.Record) {
		record, err := encode(string(parked.Record))
		if err != nil {
			return err
		}
		parked.Record = record
	}
	err := RetryOnConflict(ctx, func() error {
		got, err := views.Get(ctx, Key{parkedPartition, key})
		if err != nil {
			return err
		}
		before, err := decode[Parked](got[0].Body)
		if err != nil {
			before = &Parked{} // damaged: what is parked now matters more
		}
		parked.Tries = before.Tries + 1
		body, err := encode(parked)
		if err != nil {
			return err
		}
		return views.Save(ctx, View{Key{parkedPartition, key}, got[0].Version, body})
	})
	if err != nil {
		return fmt.Errorf("park an event: %w", err)
	}
	return nil
}

// ListParked reads at most limit parked events in the order of their keys, those behind after.
func ListParked(ctx context.Context, views Views, after string, limit int) ([]Parked, error) {
	got, err := views.Query(ctx, parkedPartition, Range{From: next(after), Limit: limit})
	if err != nil {
		return nil, err
	}
	all := make([]Parked, len(got))
	for i, view := range got {
		p, err := decode[Parked](view.Body)
		if err != nil {
			return nil, err
		}
		all[i] = *p
		all[i].Key = view.Key.Sort
	}
	return all, nil
}

// LoadParked reads the parked event of a key, and reports whether there is one.
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

// Unpark deletes the parked event of a key, if there is one. An event that is parked there at the
// same time stays.
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
