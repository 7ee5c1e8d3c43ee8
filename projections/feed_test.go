package projections_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// feedStreams are three streams with feeds, one of them a user's.
var feedStreams = []events.Stream{events.RoomStream(plain), events.RoomStream(direct), events.UserStream("ada")}

// arriving makes n arrivals, most of them in the first stream, their ids in another order.
func arriving(n int) []projections.Arrival {
	all := make([]projections.Arrival, n)
	for i := range all {
		stream := feedStreams[0]
		if i%5 == 3 {
			stream = feedStreams[1+i%2]
		}
		all[i].Event = events.Event{
			ID: makeID(uint64(1000+i*7919%997), "ada", uint32(i)), Stream: stream, Type: "message.posted", Actor: "ada",
		}
	}
	return all
}

// trigger hands arrivals to a feed as a stream does: in batches, each again whole or in half
// until it was taken, and again from somewhere in it. Before every attempt it calls disturb.
type trigger struct {
	most    int // in a batch
	disturb func()
	append  func([]projections.Arrival) error
}

func (g trigger) deliver(t *rapid.T, all []projections.Arrival) {
	for len(all) > 0 {
		n := rapid.IntRange(1, min(len(all), g.most)).Draw(t, "batch")
		batch := all[:n]
		all = all[n:]
		for range rapid.IntRange(0, 2).Draw(t, "attempts") {
			g.disturb()
			if err := g.append(batch[:rapid.SampledFrom([]int{n, (n + 1) / 2}).Draw(t, "of")]); err != nil && !errors.Is(err, viewtest.ErrFault) {
				t.Fatalf("Append: %v", err)
			}
		}
		untilDone(t, func() error { return g.append(batch) })
		g.disturb()
		from := rapid.IntRange(0, n-1).Draw(t, "again from")
		untilDone(t, func() error { return g.append(batch[from:]) })
	}
}

// dense reads a whole feed and fails the test unless its positions are 1, 2, 3 and so on.
func dense(t failer, views projections.Views, stream events.Stream) []projections.FeedEntry {
	t.Helper()
	entries, _, err := projections.ListFeed(context.Background(), views, stream, 0, math.MaxInt)
	if err != nil {
		t.Fatalf("ListFeed: %v", err)
	}
	for i, e := range entries {
		if e.Position != uint64(i+1) {
			t.Fatalf("entry %d has position %d", i, e.Position)
		}
	}
	return entries
}

// eachOnce fails the test unless every stream's feed has its arrivals once, in their order.
func eachOnce(t failer, views projections.Views, all []projections.Arrival) {
	t.Helper()
	want := map[events.Stream][]events.ID{}
	for _, a := range all {
		want[a.Event.Stream] = append(want[a.Event.Stream], a.Event.ID)
	}
	for i, stream := range feedStreams {
		got := feedIDs(t, views, stream)
		if !slices.Equal(got, want[stream]) {
			t.Fatalf("feed %d: got %d entries, want %d, or another order", i, len(got), len(want[stream]))
		}
	}
}

func feedIDs(t failer, views projections.Views, stream events.Stream) []events.ID {
	t.Helper()
	var ids []events.ID
	for _, e := range dense(t, views, stream) {
		ids = append(ids, e.ID)
	}
	return ids
}

// Whatever fails, comes again or restarts: each event once, in order of arrival, without a gap.
func TestFeedIsDense(t *testing.T) {
	for name, size := range map[string]struct{ all, batch int }{
		"one by one": {40, 1}, "together": {200, 60},
	} {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			views := viewtest.NewModel()
			faults := &viewtest.Faults{Views: views}
			feed := projections.NewFeed(faults)
			all := arriving(size.all)
			trigger{
				most: size.batch,
				disturb: func() {
					faults.OnSave = viewtest.Script(drawFaults(t)...)
					fail := failing(rapid.IntRange(0, 1).Draw(t, "queries"))
					faults.OnQuery = func(string, projections.Range) error { return fail() }
					if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
						feed = projections.NewFeed(faults)
					}
				},
				append: func(batch []projections.Arrival) error { return discard(feed.Append(context.Background(), batch)) },
			}.deliver(t, all)
			eachOnce(t, views, all)
		}))
	}
}

// A batch of more than a segment, whichever of its Saves fails in whichever way.
func TestFeedIsDenseAcrossSegments(t *testing.T) {
	all := arriving(1700)
	ways := map[string]viewtest.Fault{"failed": viewtest.NotStored, "half": viewtest.HalfStored, "stored": viewtest.Stored}
	for name, fault := range ways {
		for save := range 4 {
			t.Run(fmt.Sprintf("%s %d", name, save), func(t *testing.T) {
				views := viewtest.NewModel()
				faults := &viewtest.Faults{Views: views}
				feed := projections.NewFeed(faults)
				script := append(make([]viewtest.Fault, save), fault)
				for _, batch := range [][]projections.Arrival{all[:1000], all[500:1000], all[1000:]} {
					faults.OnSave = viewtest.Script(script...)
					untilDone(t, func() error { return discard(feed.Append(t.Context(), batch)) })
					faults.OnSave = viewtest.Script()
					feed = projections.NewFeed(faults)
					untilDone(t, func() error { return discard(feed.Append(t.Context(), batch)) })
				}
				eachOnce(t, views, all)
			})
		}
	}
}

// A batch of any size ends, though its beginning is long past when its end is added.
func TestFeedOfOneHugeBatch(t *testing.T) {
	views, all := viewtest.NewModel(), arriving(12_000)
	if _, err := projections.NewFeed(views).Append(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, views, all)
}

// A batch of 1,024 comes again after it was taken one by one: small segments are no excuse.
func TestFeedRecognisesABatch(t *testing.T) {
	for name, restart := range map[string]bool{"from memory": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			views, all := viewtest.NewModel(), arriving(1024)
			feed := projections.NewFeed(views)
			for i := range all {
				if _, err := feed.Append(t.Context(), all[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if restart {
				feed = projections.NewFeed(views)
			}
			if _, err := feed.Append(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			eachOnce(t, views, all)
		})
	}
}

// A stream that lost its place tells all again: what was told long ago is still recognised.
func TestFeedRecognisesAll(t *testing.T) {
	views, all := viewtest.NewModel(), arriving(6000)
	feed := projections.NewFeed(views)
	if _, err := feed.Append(t.Context(), all[:5000]); err != nil {
		t.Fatal(err)
	}
	feed.RecogniseAll(true)
	for from := range 3 { // the whole, and again from memory
		if _, err := feed.Append(t.Context(), all[from*1000:]); err != nil {
			t.Fatal(err)
		}
	}
	eachOnce(t, views, all)
	feed.RecogniseAll(false)
	if _, err := feed.Append(t.Context(), all[5500:]); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, views, all)
}

// What a feed was never given is missing from it, wherever it stands among the rest.
func TestFeedMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(rapid.IntRange(1, 1500).Draw(t, "events"))
		feed := projections.NewFeed(views)
		var given []projections.Arrival
		want, got := map[events.Stream][]events.ID{}, map[events.Stream][]events.ID{}
		of := map[events.Stream][]events.Event{}
		missing := rapid.IntRange(1, 5).Draw(t, "one in so many is missing")
		for i, a := range all {
			of[a.Event.Stream] = append(of[a.Event.Stream], a.Event)
			if i%missing == 0 {
				want[a.Event.Stream] = append(want[a.Event.Stream], a.Event.ID)
			} else {
				given = append(given, a)
			}
		}
		if _, err := feed.Append(context.Background(), given); err != nil {
			t.Fatal(err)
		}
		for stream, list := range of {
			left, err := feed.Missing(context.Background(), stream, list)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				got[stream] = append(got[stream], e.ID)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("missing are\n%v, want\n%v", got, want)
		}
	})
}

// Two writers of the same arrivals, as when a trigger is started before the last one ended.
func TestRacingFeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(300)
		race(t, func(writer, batch int) error {
			feed := projections.NewFeed(views)
			for part := range slices.Chunk(all, batch) {
				if _, err := feed.Append(context.Background(), part); err != nil {
					return err
				}
			}
			return nil
		})
		eachOnce(t, views, all)
	})
}

// Two writers of different arrivals: each event once, those of a writer in its order.
func TestRacingFeedsOfDifferentArrivals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(300)
		halves := [][]projections.Arrival{all[:150], all[150:]}
		race(t, func(writer, batch int) error {
			feed := projections.NewFeed(views)
			for part := range slices.Chunk(halves[writer], batch) {
				if _, err := feed.Append(context.Background(), part); err != nil {
					return err
				}
			}
			return nil
		})
		for _, stream := range feedStreams {
			ids := feedIDs(t, views, stream)
			for _, half := range halves {
				var mine, want []events.ID
				for _, a := range half {
					if a.Event.Stream == stream {
						want = append(want, a.Event.ID)
					}
				}
				for _, id := range ids {
					if slices.Contains(want, id) {
						mine = append(mine, id)
					}
				}
				if !slices.Equal(mine, want) {
					t.Fatalf("got %d of %d arrivals, or another order", len(mine), len(want))
				}
			}
		}
	})
}

// race runs two writers at once, each with a batch size of its own.
func race(t *rapid.T, write func(writer, batch int) error) {
	sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 2, 2).Draw(t, "batch sizes")
	errs := make([]error, len(sizes))
	var wait sync.WaitGroup
	for writer, size := range sizes {
		wait.Go(func() { errs[writer] = write(writer, size) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

// A feed can be read from any position, and its epoch stays.
func TestListFeedPages(t *testing.T) {
	views, all := viewtest.NewModel(), arriving(2600)
	for len(all) > 0 { // segments of 1, 2, 3 …, 512, …
		n := min(len(all), 1+len(dense(t, views, feedStreams[0])))
		if _, err := projections.NewFeed(views).Append(t.Context(), all[:n]); err != nil {
			t.Fatal(err)
		}
		all = all[n:]
	}
	whole := dense(t, views, feedStreams[0])
	_, epoch, _ := projections.ListFeed(t.Context(), views, feedStreams[0], 0, 1)
	if epoch == "" {
		t.Fatal("a feed has no epoch")
	}
	rapid.Check(t, func(t *rapid.T) {
		after := rapid.OneOf(rapid.IntRange(0, len(whole)+5), rapid.IntRange(510, 515)).Draw(t, "after")
		limit := rapid.IntRange(0, 700).Draw(t, "limit")
		want := whole[min(after, len(whole)):]
		got, e, err := projections.ListFeed(context.Background(), views, feedStreams[0], uint64(after), limit)
		same(t, "ListFeed", got, want[:min(limit, len(want))], err)
		same(t, "epoch", e, epoch, nil)
	})
	got, e, err := projections.ListFeed(t.Context(), views, feedStreams[0], math.MaxUint64, 10)
	same(t, "behind the last position there is", len(got), 0, err)
	same(t, "epoch", e, epoch, nil)
}

// What replaced another event arrives again, once, under its id.
func TestFeedOfReplaced(t *testing.T) {
	views := viewtest.NewModel()
	batch := arrivals(post(1, "ada", "was"), post(2, "bob", "other"))
	batch = append(batch, projections.Arrival{Event: post(1, "ada", "is"), Replaced: true})
	for range 3 { // also of a feed that must read its end
		if _, err := projections.NewFeed(views).Append(t.Context(), append(batch, batch...)); err != nil {
			t.Fatal(err)
		}
	}
	var got []bool
	for _, e := range dense(t, views, events.RoomStream(plain)) {
		got = append(got, e.Replaced)
	}
	same(t, "replaced", got, []bool{false, false, true}, nil)
}

func TestBeatsHaveNoFeed(t *testing.T) {
	views := viewtest.NewModel()
	beat := newEvent(makeID(1, "eu", 1), events.RegionStream("eu"), "eu", "eu", events.RegionBeat{})
	if _, err := projections.NewFeed(views).Append(t.Context(), arrivals(beat)); err != nil {
		t.Fatal(err)
	}
	entries, epoch, err := projections.ListFeed(t.Context(), views, beat.Stream, 0, 10)
	same(t, "feed of beats", len(entries), 0, err)
	same(t, "epoch", epoch, "", nil)
	missing, err := projections.NewFeed(views).Missing(t.Context(), beat.Stream, []events.Event{beat})
	same(t, "missing beats", len(missing), 0, err)
}

// What operators did is told to nobody: it is in no feed and not in the journal.
func TestOpsAreNotTold(t *testing.T) {
	views := viewtest.NewModel()
	act := newEvent(makeID(1, "ada", 1), events.OpsStream("eu"), "ada", "eu", events.OpsActed{What: "drain"})
	feed := projections.NewFeed(views)
	for range 2 {
		entries, err := feed.Append(t.Context(), arrivals(act, post(2, "bob", "other"), act))
		same(t, "entries", len(entries), 3, err)
		same(t, "numbers", []uint64{entries[0].Number, entries[1].Number, entries[2].Number}, []uint64{0, 1, 0}, nil)
		same(t, "positions", []uint64{entries[0].Position, entries[1].Position}, []uint64{0, 1}, nil)
	}
	_, epoch, err := projections.ListFeed(t.Context(), views, act.Stream, 0, 10)
	same(t, "epoch", epoch, "", err)
	missing, err := feed.Missing(t.Context(), act.Stream, []events.Event{act})
	same(t, "missing", len(missing), 0, err)
	got, err := views.Query(t.Context(), "journal", projections.Range{Limit: 10})
	same(t, "segments of the journal", len(got), 1, err)
}

// A feed that cannot be read is not begun anew.
func TestDamagedFeedIsAnError(t *testing.T) {
	views := viewtest.NewModel()
	if _, err := projections.NewFeed(views).Append(t.Context(), arriving(3)); err != nil {
		t.Fatal(err)
	}
	partition := "feed/" + string(feedStreams[0])
	got, err := views.Query(t.Context(), partition, projections.Range{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	got[0].Body = []byte("{")
	if err := views.Save(t.Context(), got...); err != nil {
		t.Fatal(err)
	}
	if _, err := projections.NewFeed(views).Append(t.Context(), arriving(9)); err == nil {
		t.Error("Append: no error")
	}
	if _, _, err := projections.ListFeed(t.Context(), views, feedStreams[0], 0, 10); err == nil {
		t.Error("ListFeed: no error")
	}
	if _, err := projections.CountUnread(t.Context(), views, plain, "bob", events.ID{}); err == nil {
		t.Error("CountUnread: no error")
	}
}

// discard keeps the error of an Append.
func discard(_ []projections.JournalEntry, err error) error { return err }
