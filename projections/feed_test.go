package projections_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// feedStreams are three streams with feeds, one of them a user's.
var feedStreams = []events.Stream{events.RoomStream(plain), events.RoomStream(direct), events.UserStream("ada")}

// arriving makes n arrivals, most of them in the first stream, their ids in another order. Some have the
// id of another.
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
		all[i].Number = events.Number(strconv.Itoa(i + 1))
		if i >= 5 && i%4 == 0 {
			all[i].Event.ID, all[i].Event.Digest = all[i-5].Event.ID, events.Digest{1, byte(i >> 8), byte(i)}
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
	want := map[events.Stream][]events.Ref{}
	for _, a := range all {
		want[a.Event.Stream] = append(want[a.Event.Stream], a.Event.Ref())
	}
	for i, stream := range feedStreams {
		got := feedRefs(t, views, stream)
		if !slices.Equal(got, want[stream]) {
			t.Fatalf("feed %d: got %d entries, want %d, or another order", i, len(got), len(want[stream]))
		}
	}
}

func feedRefs(t failer, views projections.Views, stream events.Stream) []events.Ref {
	t.Helper()
	var refs []events.Ref
	for _, e := range dense(t, views, stream) {
		refs = append(refs, e.Ref)
	}
	return refs
}

// Whatever fails, comes again or restarts: each event once, in order of arrival, without a gap.
func TestFeedIsDense(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]struct{ all, batch int }{
		"one by one": {40, 1}, "together": {200, 60},
	} {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			views := viewtest.NewModel()
			faults := &viewtest.Faults{Views: views}
			feed := projections.NewFeed("eu", faults)
			all := arriving(size.all)
			trigger{
				most: size.batch,
				disturb: func() {
					faults.OnSave = viewtest.Script(drawFaults(t)...)
					fail := failing(rapid.IntRange(0, 1).Draw(t, "queries"))
					faults.OnQuery = func(string, projections.Range) error { return fail() }
					if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
						feed = projections.NewFeed("eu", faults)
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
	t.Parallel()
	all := arriving(1700)
	ways := map[string]viewtest.Fault{"failed": viewtest.NotStored, "half": viewtest.HalfStored, "stored": viewtest.Stored}
	for name, fault := range ways {
		for save := range 4 {
			t.Run(fmt.Sprintf("%s %d", name, save), func(t *testing.T) {
				views := viewtest.NewModel()
				faults := &viewtest.Faults{Views: views}
				feed := projections.NewFeed("eu", faults)
				script := append(make([]viewtest.Fault, save), fault)
				for _, batch := range [][]projections.Arrival{all[:1000], all[500:1000], all[1000:]} {
					faults.OnSave = viewtest.Script(script...)
					untilDone(t, func() error { return discard(feed.Append(t.Context(), batch)) })
					faults.OnSave = viewtest.Script()
					feed = projections.NewFeed("eu", faults)
					untilDone(t, func() error { return discard(feed.Append(t.Context(), batch)) })
				}
				eachOnce(t, views, all)
			})
		}
	}
}

// A batch of any size ends, though its beginning is long past when its end is added.
func TestFeedOfOneHugeBatch(t *testing.T) {
	t.Parallel()
	views, all := viewtest.NewModel(), arriving(12_000)
	if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	eachOnce(t, views, all)
}

// A batch of 1,024 comes again after it was taken one by one: small segments are no excuse.
func TestFeedRecognisesABatch(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"from memory": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			views, all := viewtest.NewModel(), arriving(1024)
			feed := projections.NewFeed("eu", views)
			for i := range all {
				if _, _, err := feed.Append(t.Context(), all[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if restart {
				feed = projections.NewFeed("eu", views)
			}
			if _, _, err := feed.Append(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			eachOnce(t, views, all)
		})
	}
}

// A change stream that lost its checkpoint delivers all records again: even old ones are deduplicated.
func TestFeedDeduplicatesAll(t *testing.T) {
	t.Parallel()
	views, all := viewtest.NewModel(), arriving(6000)
	for _, batch := range [][]projections.Arrival{all[:5000], all, all[1000:], all[5500:]} {
		if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	eachOnce(t, views, all)
}

// The numbers of records save reads and decide nothing: missing, going back or all the same, each event
// is in its feed once, in order of arrival.
func TestFeedTrustsNoNumber(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(60)
		numbers := rapid.SliceOfN(rapid.SampledFrom([]events.Number{"", "1", "7", "10", "99"}), len(all), len(all)).Draw(t, "numbers")
		for i := range all {
			all[i].Number = numbers[i]
		}
		trigger{
			most: 20, disturb: func() {},
			append: func(batch []projections.Arrival) error {
				return discard(projections.NewFeed("eu", views).Append(context.Background(), batch))
			},
		}.deliver(t, all)
		eachOnce(t, views, all)
	})
}

// What was read from the log, because the change stream had lost it, may come by the change stream all
// the same, with a number greater than any in the feed.
func TestFeedAfterARecovery(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views, now := viewtest.NewModel(), time.UnixMilli(5000)
		feed := projections.NewFeed("eu", views)
		feed.Now = func() time.Time { return now }
		all := arriving(60)
		handled, recovered := rapid.IntRange(0, 20).Draw(t, "handled"), rapid.IntRange(20, 60).Draw(t, "recovered")
		add := func(batch []projections.Arrival) {
			if _, _, err := feed.Append(context.Background(), batch); err != nil {
				t.Fatal(err)
			}
		}
		if handled > 0 {
			add(all[:handled])
		}
		lost := slices.Clone(all[handled:recovered])
		for i := range lost {
			lost[i].Number = ""
		}
		if len(lost) > 0 {
			add(lost)
		}
		for rest := all[rapid.IntRange(0, recovered).Draw(t, "resumed at"):]; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			add(rest[:n])
			rest = rest[n:]
		}
		want := map[events.Stream]int{}
		for _, a := range all {
			want[a.Event.Stream]++
		}
		for _, stream := range feedStreams {
			refs := feedRefs(t, views, stream)
			slices.SortFunc(refs, events.Ref.Compare)
			if got := len(slices.Compact(refs)); got != want[stream] || got != len(refs) {
				t.Fatalf("%s has %d entries, %d different, want %d", stream, len(refs), got, want[stream])
			}
		}
	})
}

// A head that is read stale costs another try and nothing else.
func TestFeedOverStaleReads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views, all := &staleViews{Model: viewtest.NewModel(), hide: func() bool { return rapid.Bool().Draw(t, "hidden") }}, arriving(40)
		trigger{
			most: 10, disturb: func() {},
			append: func(batch []projections.Arrival) error {
				return discard(projections.NewFeed("eu", views).Append(context.Background(), batch))
			},
		}.deliver(t, all)
		eachOnce(t, views.Model, all)
	})
}

// staleViews may leave out of a stale read what was saved last.
type staleViews struct {
	*viewtest.Model
	hide func() bool

	mu   sync.Mutex
	last []projections.Key
}

func (v *staleViews) Save(ctx context.Context, views ...projections.View) error {
	err := v.Model.Save(ctx, views...)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, view := range views {
		v.last = append(v.last, view.Key)
	}
	v.last = v.last[max(0, len(v.last)-4):]
	return err
}

func (v *staleViews) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	limit := r.Limit
	r.Limit += len(v.last)
	got, err := v.Model.Query(ctx, partition, r)
	if r.Stale {
		got = slices.DeleteFunc(got, func(view projections.View) bool { return slices.Contains(v.last, view.Key) && v.hide() })
	}
	return got[:min(limit, len(got))], err
}

// Adding to a feed reads its head and nothing more, whatever is in it, and nothing of another call.
func TestFeedReadsHeads(t *testing.T) {
	t.Parallel()
	views, all := viewtest.NewModel(), arriving(900)
	faults := &viewtest.Faults{Views: views}
	for batch := range slices.Chunk(all[:800], 7) {
		if _, _, err := projections.NewFeed("eu", faults).Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	queries, rows := 0, 0
	faults.OnQuery = func(_ string, r projections.Range) error {
		mu.Lock()
		defer mu.Unlock()
		queries++
		rows += r.Limit
		return nil
	}
	if _, _, err := projections.NewFeed("eu", faults).Append(t.Context(), all[800:]); err != nil {
		t.Fatal(err)
	}
	same(t, "queries and rows", []int{queries, rows}, []int{3, 3}, nil)
}

// What a feed was never given is missing from it, wherever it stands among the rest.
func TestFeedMissing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(rapid.IntRange(1, 1500).Draw(t, "events"))
		feed := projections.NewFeed("eu", views)
		var given []projections.Arrival
		want, got := map[events.Stream][]events.Ref{}, map[events.Stream][]events.Ref{}
		of := map[events.Stream][]events.Event{}
		missing := rapid.IntRange(1, 5).Draw(t, "one in so many is missing")
		for i, a := range all {
			of[a.Event.Stream] = append(of[a.Event.Stream], a.Event)
			if i%missing == 0 {
				want[a.Event.Stream] = append(want[a.Event.Stream], a.Event.Ref())
			} else {
				given = append(given, a)
			}
		}
		if _, _, err := feed.Append(context.Background(), given); err != nil {
			t.Fatal(err)
		}
		for stream, list := range of {
			left, err := feed.Missing(context.Background(), stream, list)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				got[stream] = append(got[stream], e.Ref())
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("missing are\n%v, want\n%v", got, want)
		}
	})
}

// Two writers of the same arrivals, as when a trigger is started before the last one ended.
func TestRacingFeeds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(300)
		race(t, func(writer, batch int) error {
			feed := projections.NewFeed("eu", views)
			for part := range slices.Chunk(all, batch) {
				if _, _, err := feed.Append(context.Background(), part); err != nil {
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
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views, all := viewtest.NewModel(), arriving(300)
		halves := [][]projections.Arrival{all[:150], all[150:]}
		race(t, func(writer, batch int) error {
			feed := projections.NewFeed("eu", views)
			for part := range slices.Chunk(halves[writer], batch) {
				if _, _, err := feed.Append(context.Background(), part); err != nil {
					return err
				}
			}
			return nil
		})
		for _, stream := range feedStreams {
			ids := feedRefs(t, views, stream)
			for _, half := range halves {
				var mine, want []events.Ref
				for _, a := range half {
					if a.Event.Stream == stream {
						want = append(want, a.Event.Ref())
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
	t.Parallel()
	views, all := viewtest.NewModel(), arriving(2600)
	for len(all) > 0 { // segments of 1, 2, 3 …, 512, …
		n := min(len(all), 1+len(dense(t, views, feedStreams[0])))
		if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), all[:n]); err != nil {
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

func TestBeatsHaveNoFeed(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	beat := newEvent(makeID(1, "eu", 1), events.RegionStream("eu"), "eu", "eu", events.RegionBeat{})
	if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), arrivals(beat)); err != nil {
		t.Fatal(err)
	}
	entries, epoch, err := projections.ListFeed(t.Context(), views, beat.Stream, 0, 10)
	same(t, "feed of beats", len(entries), 0, err)
	same(t, "epoch", epoch, "", nil)
	missing, err := projections.NewFeed("eu", views).Missing(t.Context(), beat.Stream, []events.Event{beat})
	same(t, "missing beats", len(missing), 0, err)
}

// Actions of operators are delivered to no client: they are in no feed.
func TestOpsAreNotDelivered(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	act := newEvent(makeID(1, "ada", 1), events.OpsStream("eu"), "ada", "eu", events.OpsActed{What: "drain"})
	feed := projections.NewFeed("eu", views)
	for range 2 {
		entries, _, err := feed.Append(t.Context(), arrivals(act, post(2, "bob", "other"), act))
		same(t, "entries", len(entries), 3, err)
		same(t, "positions", []uint64{entries[0].Position, entries[1].Position, entries[2].Position}, []uint64{0, 1, 0}, nil)
	}
	_, epoch, err := projections.ListFeed(t.Context(), views, act.Stream, 0, 10)
	same(t, "epoch", epoch, "", err)
	missing, err := feed.Missing(t.Context(), act.Stream, []events.Event{act})
	same(t, "missing", len(missing), 0, err)
}

// The feed of a user's memberships has each change once, however the batch comes again, and whichever
// half of it failed.
func TestFeedOfMemberships(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views := viewtest.NewModel()
		faults := &viewtest.Faults{Views: views}
		var all []projections.Arrival
		for i := range 12 {
			room := []string{plain, makeID(5, "eve", 1).String()}[i%2]
			e := newEvent(makeID(uint64(10+i), "ada", uint32(i)), events.RoomStream(room), "ada", "eu", events.MemberJoined{User: "bob", Role: events.RoleMember})
			all = append(all, projections.Arrival{Event: e, Number: events.Number(strconv.Itoa(i + 1))})
		}
		trigger{
			most: 4, disturb: func() { faults.OnSave = viewtest.Script(drawFaults(t)...) },
			append: func(batch []projections.Arrival) error {
				return discard(projections.NewFeed("eu", faults).Append(context.Background(), batch))
			},
		}.deliver(t, all)
		seen := map[events.Ref]bool{}
		for _, e := range dense(t, views, "membership/bob") {
			if seen[e.Ref] || e.Stream == "" {
				t.Fatalf("%v is there twice, or without its stream", e)
			}
			seen[e.Ref] = true
		}
		same(t, "changes", len(seen), len(all), nil)
	})
}

// A feed that cannot be read is not replaced by an empty one.
func TestDamagedFeedIsAnError(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), arriving(3)); err != nil {
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
	if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), arriving(9)); err == nil {
		t.Error("Append: no error")
	}
	if _, _, err := projections.ListFeed(t.Context(), views, feedStreams[0], 0, 10); err == nil {
		t.Error("ListFeed: no error")
	}
	if _, err := projections.CountUnread(t.Context(), views, projections.Member{Room: plain, User: "bob"}, projections.ReadMarker{}, nil); err == nil {
		t.Error("CountUnread: no error")
	}
}

// discard keeps the error of an Append.
func discard(_ []projections.FeedEntry, _ []projections.Late, err error) error { return err }
