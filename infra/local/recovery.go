package main

import (
	"context"

	"parley/events"
	"parley/projections"
)

// recovery finds in the log the events of a lane that the change stream lost before they were handled:
// those that are missing in the feeds.
type recovery struct {
	log  events.Replica
	part events.Part // the streams of the lane; the zero Part is all
	feed *projections.Feed
}

// each calls handle with the events of the log that were not handled. The change stream may repeat some of
// them: the feed deduplicates them.
func (r *recovery) each(ctx context.Context, handle func([]events.Record)) error {
	_, err := r.log.Snapshot(ctx, func(batch []events.Record) error {
		var order []events.Stream
		of := map[events.Stream][]events.Event{}
		for _, record := range batch {
			name := record.Event.Stream
			if !r.part.Holds(name) {
				continue
			}
			if of[name] == nil {
				order = append(order, name)
			}
			of[name] = append(of[name], record.Event)
		}
		var list []events.Record
		for _, name := range order {
			missing, err := r.feed.Missing(ctx, name, of[name])
			if err != nil {
				return err
			}
			for _, e := range missing {
				list = append(list, events.Record{Event: e})
			}
		}
		handle(list)
		return ctx.Err()
	})
	return err
}
