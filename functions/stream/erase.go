package stream

import (
	"context"
	"fmt"

	"parley/events"
)

// erase destroys the keys of users who were erased, before anything of the batch is opened.
func (h *Handler) erase(ctx context.Context, batch []arrival) error {
	for _, a := range batch {
		if _, is := a.Event.Payload.(events.UserErased); is {
			if err := h.Keys.Erase(ctx, a.Event.Actor); err != nil {
				return err
			}
		}
	}
	return nil
}

// acknowledge says, once for each erasure however often it comes, that the keys are destroyed here.
func (h *Handler) acknowledge(ctx context.Context, batch []arrival) error {
	for _, a := range batch {
		if _, is := a.Event.Payload.(events.UserErased); !is {
			continue
		}
		destroyed, err := events.Destroyed(a.Event, h.Region)
		if err != nil {
			return err
		}
		if _, _, err := h.Events.Append(ctx, destroyed); err != nil {
			return fmt.Errorf("acknowledge an erasure: %w", err)
		}
	}
	return nil
}
