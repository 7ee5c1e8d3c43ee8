package projections_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
)

// digests are those of a log, scanned in so many parts and in steps.
func digests(t failer, log events.Log, of int, until time.Time, dice func(n int) int) map[string]projections.Digest {
	t.Helper()
	all := map[string]projections.Digest{}
	for i := range of {
		var after events.Key
		for more := true; more; {
			more = false
			for d, err := range projections.Digests(context.Background(), log, events.Part{Index: i, Of: of}, after, until) {
				if err != nil {
					t.Fatalf("Digests: %v", err)
				}
				name := string(d.Stream) + d.Hour.String()
				if _, twice := all[name]; twice {
					t.Fatalf("%s has two digests", name)
				}
				all[name], after = d, d.Last
				if more = dice(3) == 0; more {
					break
				}
			}
		}
	}
	return all
}

func sameDigest(a, b projections.Digest) bool {
	return a.Count == b.Count && slices.Equal(a.SHA256, b.SHA256)
}

// Two logs have the same digests if and only if they have the same events, however they were
// scanned and whichever region accepted the events; what differs is found event by event.
func TestDigests(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := eventsOf(events.Types(), 40).Filter(func(s []events.Event) bool { return len(s) > 0 }).Draw(t, "set")
		dice := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "dice") }
		for i, e := range set { // spread over hours
			e.ID = later(e.ID, time.Duration(dice(5))*time.Hour)
			set[i] = decoded(t, e.WithDigest())
		}
		a := logOf(t, set...)
		same := slices.Clone(set)
		for i := range same {
			if kind, _ := same[i].Stream.Split(); kind != events.KindRegion {
				same[i].Region = "us"
			}
		}
		b := logOf(t, same...)
		want := digests(t, a, 1, time.Time{}, func(int) int { return 1 })
		got := digests(t, b, 1+dice(3), time.Time{}, dice)
		count := 0
		for name, d := range want {
			if count += d.Count; !sameDigest(d, got[name]) {
				t.Fatalf("%s differs: %+v, want %+v", name, got[name], d)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d digests, want %d", len(got), len(want))
		}

		harmed, at := set[dice(len(set))], 0
		c := logtest.NewModel()
		drop := dice(2) == 0
		for e, err := range a.Scan(t.Context(), events.Part{Of: 1}, events.Key{}) {
			if e.Key() == harmed.Key() {
				if at++; drop {
					continue
				}
				e.Actor += "x"
			}
			if err == nil {
				_, _, err = c.Append(t.Context(), e)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got = digests(t, c, 2, time.Time{}, dice)
		for name, d := range want {
			here := d.Stream == harmed.Stream && d.Hour.Equal(harmed.ID.Timestamp().Truncate(time.Hour))
			if sameDigest(d, got[name]) == here {
				t.Fatalf("%s: harmed is %v", name, here)
			}
			if here {
				named(t, a, c, d, harmed.Ref(), drop)
			}
		}
	})
}

// named checks that exactly one event of a stream and hour differs.
func named(t *rapid.T, a, b events.Log, d projections.Digest, harmed events.Ref, dropped bool) {
	t.Helper()
	of := func(log events.Log) map[events.Ref]string {
		all := map[events.Ref]string{}
		var after events.Ref
		for {
			page, err := projections.DigestEvents(t.Context(), log, d.Stream, d.Hour, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				all[e.Ref], after = string(e.SHA256), e.Ref
			}
			if len(page) < 2 {
				return all
			}
		}
	}
	x, y := of(a), of(b)
	if len(x) != d.Count {
		t.Fatalf("%d events, want %d", len(x), d.Count)
	}
	for id, sum := range x {
		other, there := y[id]
		if id == harmed && (there == dropped || other == sum) || id != harmed && other != sum {
			t.Fatalf("%s is named wrongly", id)
		}
	}
}

// Digests name the events that share an id. An event that is in the log with a digest in its key and
// without one is one event.
func TestDigestsOfSharedIDs(t *testing.T) {
	t.Parallel()
	one, two, other := post(1, "ada", "one"), post(1, "ada", "two"), post(2, "ada", "other")
	bare := one
	bare.Digest = events.Digest{}
	digest := func(set ...events.Event) projections.Digest {
		t.Helper()
		for _, d := range digests(t, logOf(t, set...), 1, time.Time{}, func(int) int { return 1 }) {
			return d
		}
		return projections.Digest{}
	}
	if d := digest(one, other); len(d.Shared) > 0 || !sameDigest(d, digest(bare, one, other)) || !sameDigest(d, digest(bare, other)) {
		t.Errorf("digest %+v", d)
	}
	d := digest(two, one, other)
	want := []projections.SharedID{{one.Ref(), one.Type, one.Region}, {two.Ref(), two.Type, two.Region}}
	slices.SortFunc(want, func(a, b projections.SharedID) int { return a.Ref.Compare(b.Ref) })
	same(t, "shared", d.Shared, want, nil)
	if bareToo := digest(bare, one, two, other); d.Count != 3 || bareToo.Count != 3 || len(bareToo.Shared) != 2 {
		t.Errorf("digests %+v and %+v", d, bareToo)
	}
}

func TestDigestsUntil(t *testing.T) {
	t.Parallel()
	early, late := post(1, "ada", "one"), post(2, "ada", "two")
	got := digests(t, logOf(t, early, late), 1, late.ID.Timestamp(), func(int) int { return 1 })
	for _, d := range got {
		if d.Count != 1 || d.Last.ID != early.ID {
			t.Errorf("digest %+v", d)
		}
	}
	if len(got) != 1 {
		t.Errorf("%d digests", len(got))
	}
}

// later moves an id.
func later(id events.ID, by time.Duration) events.ID {
	if err := id.SetTime(id.Time() + uint64(by.Milliseconds())); err != nil {
		panic(err)
	}
	return id
}

// decoded is an event after it was stored.
func decoded(t failer, e events.Event) events.Event {
	t.Helper()
	again, err := events.Decode(events.Encode(e))
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	return again
}
