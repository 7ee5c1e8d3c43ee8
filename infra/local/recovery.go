package main

import (
	"context"

	"parley/events"
	"parley/functions/stream"
	"parley/projections"
)

// recovery makes up from the log for what a stream lost before it was handled: what is not in
// the feeds was never handled to its end.
type recovery struct {
	log  replica
	feed *projections.Feed
}

// each hands to handle what is in the log and was not handled. From then on the feeds recognise
// whatever the stream tells again, until over is called.
func (r *recovery) each(ctx context.Context, handle func([]stream.Record)) error {
	r.feed.RecogniseAll(true)
	_, err := r.log.All(ctx, func(batch []accepted) error {
		var order []events.Stream
		of := map[events.Stream][]events.Event{}
		for _, a := range batch {
			if of[a.event.Stream] == nil {
				order = append(order, a.event.Stream)
			}
			of[a.event.Stream] = append(of[a.event.Stream], a.event)
		}
		var list []stream.Record
		for _, name := range order {
			missing, err := r.feed.Missing(ctx, name, of[name])
			if err != nil {
				return err
			}
			for _, e := range missing {
				list = append(list, stream.Record{Event: e})
			}
		}
		handle(list)
		return ctx.Err()
	})
	return err
}

// over says that the stream tells only what is new again.
func (r *recovery) over() { r.feed.RecogniseAll(false) }
