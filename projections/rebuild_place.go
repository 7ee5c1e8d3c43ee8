package projections

import (
	"context"
	"time"

	"parley/events"
)

// feedFolder appends to feeds what they lack.
type feedFolder struct {
	*Rebuilder
	feed *Feed
}

// fold goes on with a part until it is done or the time has come.
func (f *feedFolder) fold(ctx context.Context, part *Folded, until time.Time) error {
	return f.chunks(ctx, part, until, func(chunk []Arrival, _ events.Key) error {
		for len(chunk) > 0 {
			stream := chunk[0].Event.Stream
			var of []events.Event
			for len(chunk) > 0 && chunk[0].Event.Stream == stream {
				of, chunk = append(of, chunk[0].Event), chunk[1:]
			}
			if err := f.append(ctx, stream, of); err != nil {
				return err
			}
		}
		return nil
	})
}

// append appends what the feed of a stream lacks of its events.
func (f *feedFolder) append(ctx context.Context, stream events.Stream, of []events.Event) error {
	missing, err := f.feed.Missing(ctx, stream, of)
	if err != nil || len(missing) == 0 {
		return err
	}
	batch := make([]Arrival, len(missing))
	for i, e := range missing {
		batch[i].Event = e
	}
	_, err = f.feed.Append(ctx, batch)
	return err
}

// foldRoom folds views of one room again, in place: those that the next events of its stream
// touch, from all events that do. A step may have to read the whole stream.
func (r *Rebuilder) foldRoom(ctx context.Context, b *Rebuild) error {
	stream := events.RoomStream(b.Room)
	if err := stream.Validate(); err != nil {
		return err
	}
	if len(b.Parts) == 0 {
		b.Parts = []Folded{{Part: events.Part{Of: 1}}}
	}
	part := &b.Parts[0]
	chunk, err := readRange(ctx, r.log, stream, events.Range{After: part.After.ID, Limit: r.sizes.room})
	if err != nil {
		return err
	}
	if b.ofFeed() {
		f := &feedFolder{r, NewFeed(r.views)}
		err = f.append(ctx, stream, chunk)
	} else {
		err = r.refoldTouched(ctx, b, chunk)
	}
	if err != nil {
		return err
	}
	part.Events += int64(len(chunk))
	if len(chunk) > 0 {
		part.After = events.Key{Stream: stream, ID: chunk[len(chunk)-1].ID}
	}
	if len(chunk) < r.sizes.room {
		part.Done, b.Phase = true, Done
	}
	return nil
}

func readRange(ctx context.Context, log events.Log, stream events.Stream, r events.Range) (all []events.Event, err error) {
	for e, err := range log.Read(ctx, stream, r) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// refoldTouched folds the views again that events touch, in all generations.
func (r *Rebuilder) refoldTouched(ctx context.Context, b *Rebuild, touching []events.Event) error {
	named, err := projectionsNamed(b.Projections)
	if err != nil {
		return err
	}
	state, _, err := r.generations.load(ctx)
	if err != nil {
		return err
	}
	written := state.written(named)
	var views []owned
	seen := map[Key]bool{}
	for _, e := range touching {
		for _, p := range written {
			for _, key := range p.Keys(e) {
				if !seen[key] {
					seen[key] = true
					views = append(views, owned{p, key})
				}
			}
		}
	}
	return r.refold(ctx, views)
}
