package main

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
	"parley/events/pebblelog"
	"parley/functions"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/viewtest"
)

// trimming is a stream that forgets what comes behind a sequence before it was read, and goes on
// behind another. When all is read it calls done.
type trimming struct {
	events.Follower
	at, resume string
	done       context.CancelFunc
	forgot     bool
}

// Next implements source.
func (s *trimming) Next(ctx context.Context, after string, limit int, _ bool) ([]events.Record, error) {
	if after == s.at && !s.forgot {
		s.forgot = true
		return nil, &events.TrimmedError{Resume: s.resume}
	}
	got, err := s.Follower.Next(ctx, after, limit, false)
	if err == nil && len(got) == 0 {
		s.done()
		<-ctx.Done()
	}
	return got, err
}

// collecting is a bus that counts by id what it takes.
type collecting map[string]int

// Publish implements stream.Bus.
func (c collecting) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	for _, e := range entries {
		c[string(e.Detail)]++
	}
	return make([]error, len(entries)), nil
}

// TestTrimmed loses a part of a stream before it was handled. All of it is handled all the same,
// and stands in the feeds once, wherever the stream goes on.
func TestTrimmed(t *testing.T) {
	const n, rooms, handled = 4000, 3, "520"
	log, err := pebblelog.Open("log", pebblelog.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	var names []string
	for i := range n {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		if i < rooms {
			names = append(names, id.String())
		}
		e, err := events.New(id, events.RoomStream(names[i%rooms]), "ada", "here", events.MessagePosted{Text: events.Plain("hello")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := log.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for _, shards := range []int{1, 4} {
		for name, resume := range map[string]string{"nothing is left": "4000", "a part is left": "3000", "it begins anew": ""} {
			t.Run(fmt.Sprint(name, ", shards: ", shards), func(t *testing.T) {
				views, bus := viewtest.NewModel(), collecting{}
				region := functions.New(functions.Parts{
					Region: "here", Log: log, Views: views, Bus: bus, SingleProcess: true,
				})
				function := region.NewStream()
				for index := range shards { // side by side only where the bus may be used so
					ctx, stop := context.WithCancel(t.Context())
					part, saved := events.Part{Index: index, Of: shards}, checkpoint{}
					tr := &trigger{
						source:   &trimming{Follower: log, at: handled, resume: resume, done: stop},
						part:     part,
						function: function,
						recovery: &recovery{log: log, part: part, feed: function.Feed},
						save:     func(_ context.Context, to checkpoint) error { saved = to; return nil },
						settings: triggerSettings{Batch: 130, Tries: 1}, log: quiet,
					}
					tr.run(ctx, checkpoint{})
					// Where the stream goes on is saved with the next record: only that has a number.
					if resume == "4000" && atoi(saved.Sequence) > atoi(handled) || resume != "4000" && saved != (checkpoint{"4000", "4000"}) {
						t.Errorf("the checkpoint is %v of %d", saved, n)
					}
				}
				if len(bus) != n {
					t.Errorf("%d of %d events were published", len(bus), n)
				}
				for i, room := range names {
					entries, _, err := projections.ListFeed(t.Context(), views, events.RoomStream(room), 0, 2*n)
					once := map[events.Ref]bool{}
					for _, e := range entries {
						once[e.Ref] = true
					}
					if want := (n - i + rooms - 1) / rooms; err != nil || len(entries) != want || len(once) != want {
						t.Errorf("the feed of a room has %d entries of %d events, want %d: %v", len(entries), len(once), want, err)
					}
				}
			})
		}
	}
}

// TestTrimmedThenStopped stops while what was lost is being made up for: none of it counts as done.
func TestTrimmedThenStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		tr := &trigger{
			source: &memorySource{n: 1, done: stop}, settings: defaultTrigger, log: quiet,
			save:     func(_ context.Context, to checkpoint) error { t.Errorf("saved checkpoint %v", to); return nil },
			recovery: cutShort{stop},
		}
		if err := tr.recover(ctx); err == nil {
			t.Error("it counts as done")
		}
	})
}

// cutShort is a recovery that is stopped before it hands over anything.
type cutShort struct{ stop context.CancelFunc }

func (s cutShort) each(context.Context, func([]events.Record)) error { s.stop(); return nil }
