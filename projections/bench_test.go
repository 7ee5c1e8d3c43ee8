package projections_test

import (
	"context"
	"fmt"
	"testing"

	"parley/events"
	"parley/events/pebbledb"
	"parley/projections"
	"parley/projections/pebbleview"
)

// batchSize is how many events the benchmarks hand over at once.
const batchSize = 1000

// benchViews are views on disk, as a region has them.
func benchViews(b *testing.B) projections.Views {
	b.Helper()
	db, err := pebbleview.Open(b.TempDir(), pebbledb.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return pebbleview.New(db)
}

// conversation makes the n-th batch of a room: messages of 80 bytes, a third of them replies;
// if mixed, half of the events are edits of, reactions to and replies in threads below them.
func conversation(n int, mixed bool) []projections.Arrival {
	const text = "Okay, Houston, we've had a problem here. – This is Houston. Say again, please."
	batch := make([]projections.Arrival, batchSize)
	var last, root events.ID
	for i := range batch {
		actor := fmt.Sprintf("user-%d", i%50)
		var p events.Payload = events.MessagePosted{Text: events.Plain(text)}
		switch {
		case i == 0:
		case mixed && i%8 == 1:
			p = events.MessageEdited{Message: last, Text: events.Plain(text)}
			actor = fmt.Sprintf("user-%d", (i-1)%50)
		case mixed && i%8 == 3:
			p = events.MessagePosted{Text: events.Plain(text), Thread: &root}
		case mixed && i%2 == 1:
			p = events.ReactionAdded{Message: last, Emoji: "👍"}
		case i%3 == 1:
			p = events.MessagePosted{Text: events.Plain(text), ReplyTo: &last}
		}
		id := makeID(uint64(1_000_000+n*batchSize+i), actor, uint32(i))
		if _, ok := p.(events.MessagePosted); ok {
			last = id
			if i%64 == 0 {
				root = id
			}
		}
		batch[i].Event = newEvent(id, events.RoomStream(plain), actor, "eu", p)
	}
	return batch
}

func benchBatches(b *testing.B, mixed bool, handle func(ctx context.Context, batch []projections.Arrival) error) {
	b.Helper()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		batch := conversation(n, mixed)
		b.StartTimer()
		if err := handle(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batchSize), "µs/event")
}

func BenchmarkApply(b *testing.B) {
	for name, mixed := range map[string]bool{"posts": false, "mixed": true} {
		b.Run(name, func(b *testing.B) {
			engine := projections.NewEngine(nil, benchViews(b), projections.All()...)
			benchBatches(b, mixed, func(ctx context.Context, batch []projections.Arrival) error {
				_, err := engine.Apply(ctx, batch)
				return err
			})
		})
	}
}

func BenchmarkFeed(b *testing.B) {
	feed := projections.NewFeed("eu", benchViews(b))
	benchBatches(b, false, func(ctx context.Context, batch []projections.Arrival) error {
		return discard(feed.Append(ctx, batch))
	})
}

// BenchmarkProject is the whole of what a region does to project an event: fold it, then record
// its arrival.
func BenchmarkProject(b *testing.B) {
	views := benchViews(b)
	engine, feed := projections.NewEngine(nil, views, projections.All()...), projections.NewFeed("eu", views)
	benchBatches(b, true, func(ctx context.Context, batch []projections.Arrival) error {
		if _, err := engine.Apply(ctx, batch); err != nil {
			return err
		}
		return discard(feed.Append(ctx, batch))
	})
}
