package main

import (
	"bytes"
	"context"
	"fmt"

	"parley/events"
)

// opened opens what an entry says, for a subscriber. The archive keeps it as the log does: what of
// it was erased since is gone from it, too.
func (b *bus) opened(ctx context.Context, e busEntry) (busEntry, error) {
	if !bytes.Contains(e.Detail, []byte(`{"sealed":"`)) {
		return e, nil
	}
	var event events.Event
	if err := event.UnmarshalJSON(e.Detail); err != nil {
		return e, nil // it is no event, and none of ours
	}
	open, err := b.keys.ShowEvent(ctx, event)
	if err != nil {
		return e, fmt.Errorf("open an entry of the bus: %w", err)
	}
	const field = `"data":`
	e.Detail = bytes.Replace(e.Detail, append([]byte(field), event.Data...), append([]byte(field), open.Data...), 1)
	return e, nil
}
