package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
	"parley/events/pebblelog"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/viewtest"
)

// trimming is a stream that forgets what comes behind a sequence before it was read, and goes on
// behind another. When all is read it calls done.
type trimming struct {
	tail
	at, resume string
	done       context.CancelFunc
	forgot     bool
}

// Next implements source.
func (s *trimming) Next(ctx context.Context, after string, limit int, _ bool) (records, error) {
	if after == s.at && !s.forgot {
		s.forgot = true
		return records{}, &trimmedError{s.resume}
	}
	got, err := s.tail.Next(ctx, after, limit, false)
	if err == nil && len(got.list) == 0 {
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
	clock := events.NewClock(time.Now)
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
	for name, resume := range map[string]string{"nothing is left": "4000", "a part is left": "3000", "it begins anew": ""} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			views, bus := viewtest.NewModel(), collecting{}
			feed := projections.NewFeed(views)
			marked := ""
			tr := &trigger{
				source: &trimming{tail: tail{log}, at: handled, resume: resume, done: stop},
				function: &stream.Handler{
					Region: "here", Engine: projections.NewEngine(log, views, projections.All()...),
					Feed: feed, Views: views, Events: log, Bus: bus,
				},
				recovery: &recovery{tail{log}, feed},
				mark:     func(_ context.Context, sequence string) error { marked = sequence; return nil },
				settings: triggerSettings{Batch: 130, Tries: 1}, log: quiet,
			}
			tr.run(ctx, "")
			if marked != "4000" || tr.recovering && resume != "4000" { // that shows with the next event
				t.Errorf("the mark stands at %s of %d, still recovering: %v", marked, n, tr.recovering)
			}
			if len(bus) != n {
				t.Errorf("%d of %d events were published", len(bus), n)
			}
			for i, room := range names {
				entries, _, err := projections.ListFeed(t.Context(), views, events.RoomStream(room), 0, 2*n)
				once := map[events.ID]bool{}
				for _, e := range entries {
					once[e.ID] = true
				}
				if want := (n - i + rooms - 1) / rooms; err != nil || len(entries) != want || len(once) != want {
					t.Errorf("the feed of a room has %d entries of %d events, want %d: %v", len(entries), len(once), want, err)
				}
			}
		})
	}
}

// TestTrimmedThenStopped stops while what was lost is being made up for: none of it counts as done.
func TestTrimmedThenStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		tr := &trigger{
			source: &memorySource{n: 1, done: stop}, settings: defaultTrigger, log: quiet,
			mark:     func(_ context.Context, sequence string) error { t.Errorf("marked %s", sequence); return nil },
			recovery: cutShort{stop},
		}
		if after, err := tr.recover(ctx, "3", "9"); err == nil || after != "3" {
			t.Errorf("goes on behind %s, %v", after, err)
		}
	})
}

// cutShort is a recovery that is stopped before it hands over anything.
type cutShort struct{ stop context.CancelFunc }

func (s cutShort) each(context.Context, func([]stream.Record)) error { s.stop(); return nil }
func (s cutShort) over()                                             {}
