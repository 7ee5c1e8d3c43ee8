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
	Stage  string          `json:"stage"` // where it failed: "decode", "project", "publish" or "trigger"
	Error  string          `json:"error"`
	At     time.Time       `json:"at"`               // of the latest failure
	Tries  int             `json:"tries"`            // how often it was parked
	Stream string          `json:"stream,omitempty"` // as far as it is known
	ID     string          `json:"id,omitempty"`
	Record json.RawMessage `json:"record"` // the event as it came; a string if that is not JSON
}

const parkedPartition = "parked"

// Park sets an event aside under a key of the caller's choice, unique to the event and stage.
// Parking it again raises Tries.
func Park(ctx context.Context, views Views, key string, parked Parked) error {
	if !json.Valid(parked.Record) {
		record, err := encode(string(parked.Record))
		if err != nil {
			return err
		}
		parked.Record = record
	}
	for try := range attempts {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		got, err := views.Get(ctx, Key{parkedPartition, key})
		if err != nil {
			return fmt.Errorf("park an event: %w", err)
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
		err = views.Save(ctx, View{Key{parkedPartition, key}, got[0].Version, body})
		if err == nil {
			return nil
		}
		if conflicts(err) == nil {
			return fmt.Errorf("park an event: %w", err)
		}
	}
	return fmt.Errorf("park an event: gave up after %d conflicts with other writers", attempts)
}

// ListParked reads parked events in the order of their keys, beginning behind after.
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
