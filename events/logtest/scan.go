package logtest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
)

// scanParts are the numbers of parts that the suite cuts a log into.
var scanParts = []int{1, 2, 3, 16}

// scanned is what the parts of a log hold, each in the order of its scan.
func scanned(t fatal, log events.Log, of int) [][]events.Event {
	t.Helper()
	parts := make([][]events.Event, of)
	for i := range parts {
		var err error
		if parts[i], err = collect(log.Scan(context.Background(), events.Part{Index: i, Of: of}, events.Key{})); err != nil {
			t.Fatalf("scan part %d of %d: %v", i, of, err)
		}
	}
	return parts
}

// wantParts checks that the parts hold these streams once, each in one piece and one part.
func wantParts(t fatal, parts [][]events.Event, want map[events.Stream][]events.Event) {
	t.Helper()
	seen := map[events.Stream]bool{}
	for _, part := range parts {
		for len(part) > 0 {
			stream := part[0].Stream
			n := slices.IndexFunc(part, func(e events.Event) bool { return e.Stream != stream })
			if n < 0 {
				n = len(part)
			}
			if seen[stream] {
				t.Fatalf("a stream was scanned twice, or in pieces")
			}
			seen[stream] = true
			wantEvents(t, part[:n], want[stream])
			part = part[n:]
		}
	}
	if len(seen) != len(want) {
		t.Fatalf("%d streams of %d were scanned", len(seen), len(want))
	}
}

// fillStreams appends to streams whose names begin alike, events of n ids, out of order.
func fillStreams(t fatal, log events.Log, n int) map[events.Stream][]events.Event {
	t.Helper()
	users := []string{"a", "ada", "ada-", "ada.", "ada0", "adaa", "b", "bob"}
	want := map[events.Stream][]events.Event{}
	var all []events.Event
	for i := range n {
		var e events.Event
		if user := users[i%len(users)]; i%3 > 0 {
			var err error
			if e, err = events.New(newID(t, user), events.UserStream(user), user, "here", events.UserProfileSet{Name: events.Plain(user)}); err != nil {
				t.Fatalf("make an event: %v", err)
			}
		} else {
			e = newMessage(t, newRoom(t), "hello")
		}
		all = append(all, e)
		if i%4 == 0 { // one id, two or three events
			other := from("there", e)
			other.Actor = "bob"
			all = append(all, former(e), other.WithDigest())
		}
	}
	for _, e := range slices.Backward(all) {
		mustAppend(t, log, e)
		want[e.Stream] = append(want[e.Stream], e)
	}
	for _, stream := range want {
		slices.SortFunc(stream, compareRefs)
	}
	return want
}

func testScan(t *testing.T, d Driver) {
	log := d.open(t)
	for _, of := range scanParts {
		wantParts(t, scanned(t, log, of), nil)
	}
	want := fillStreams(t, log, 200)
	for _, of := range scanParts {
		parts := scanned(t, log, of)
		wantParts(t, parts, want)
		for i, again := range scanned(t, log, of) {
			wantEvents(t, again, parts[i]) // the same parts, in the same order
		}
	}
}

// testScanResume goes on behind every key.
func testScanResume(t *testing.T, d Driver) {
	log := d.open(t)
	fillStreams(t, log, 40)
	for _, of := range scanParts[:2] {
		for i, part := range scanned(t, log, of) {
			for n, e := range part {
				rest, err := collect(log.Scan(t.Context(), events.Part{Index: i, Of: of}, e.Key()))
				if err != nil {
					t.Fatalf("scan behind event %d: %v", n, err)
				}
				wantEvents(t, rest, part[n+1:])
			}
		}
	}
}

// testScanInSteps cuts a scan into steps at random, while others append: what was there at the
// beginning is scanned once.
func testScanInSteps(t *testing.T, d Driver) {
	log := d.open(t)
	rapid.Check(t, func(t *rapid.T) {
		before := fillStreams(t, log, rapid.IntRange(0, 10).Draw(t, "events"))
		of := rapid.IntRange(1, 4).Draw(t, "of")
		got := map[events.Key]int{}
		for i := range of {
			part, after := events.Part{Index: i, Of: of}, events.Key{}
			step := rapid.IntRange(20, 200).Draw(t, "step")
			for more := true; more; {
				more = false
				n := 0
				for e, err := range log.Scan(context.Background(), part, after) {
					if err != nil {
						t.Fatalf("scan: %v", err)
					}
					after = e.Key()
					got[after]++
					if n++; n == step {
						more = true
						break
					}
				}
				if rapid.IntRange(0, 5).Draw(t, "append") == 0 {
					mustAppend(t, log, newMessage(t, newRoom(t), "meanwhile"))
				}
			}
		}
		for _, stream := range before {
			for _, e := range stream {
				if got[e.Key()] == 0 {
					t.Fatalf("an event was passed over")
				}
			}
		}
		for _, n := range got {
			if n > 1 {
				t.Fatalf("an event was scanned %d times", n)
			}
		}
	})
}

// testScanPages scans more than a page, of one stream and of many.
func testScanPages(t *testing.T, d Driver) {
	log := d.open(t)
	want := fillStreams(t, log, 600)
	all := appendMany(t, log)
	want[all[0].Stream] = all
	for _, of := range []int{1, 3} {
		wantParts(t, scanned(t, log, of), want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range log.Scan(ctx, events.Part{Of: 1}, events.Key{}) {
		cancel()
		n, last = n+1, err
	}
	wantError(t, last, context.Canceled)
	if n > len(all)/2 {
		t.Errorf("%d events were yielded after the context had ended", n)
	}
}

// testScanUnreadable: what this release cannot read hides nothing.
func testScanUnreadable(t *testing.T, d Driver) {
	log := d.open(t)
	room := newRoom(t)
	want := map[events.Stream][]events.Event{}
	for i := range 6 {
		stored := events.Encode(newMessage(t, room, "hello"))
		if i%2 == 1 {
			stored.Type, stored.Data = "message.sung/1", strings.Repeat("la", i)
		}
		e, err := events.Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, log, e)
		want[room] = append(want[room], e)
	}
	wantParts(t, scanned(t, log, 2), want)
}

func testScanRefused(t *testing.T, d Driver) {
	log := d.open(t)
	e := newMessage(t, newRoom(t), "hello")
	mustAppend(t, log, e)
	for _, part := range []events.Part{{}, {Of: -1}, {Index: -1, Of: 1}, {Index: 1, Of: 1}, {Index: 3, Of: 2}, {Of: events.MaxParts + 1}} {
		all, err := collect(log.Scan(t.Context(), part, events.Key{}))
		if events.IsInvalid(err) == nil || len(all) > 0 {
			t.Errorf("part %+v: %d events, error %v", part, len(all), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all, err := collect(log.Scan(ctx, events.Part{Of: 1}, events.Key{}))
	wantError(t, err, context.Canceled)
	wantEvents(t, all, nil)
}

// testScanBreak: a scan can be broken off and begun anew, and the log used from within.
func testScanBreak(t *testing.T, d Driver) {
	log := d.open(t)
	fillStreams(t, log, 40)
	seq := log.Scan(t.Context(), events.Part{Of: 1}, events.Key{})
	all, err := collect(seq)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		wantEvents(t, take(t, seq, n+1), all[:n+1])
	}
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		wantStored(t, log, e)
		mustAppend(t, log, newMessage(t, newRoom(t), fmt.Sprint("meanwhile ", e.ID)))
		break
	}
}

// take reads the first n events.
func take(t fatal, seq iter.Seq2[events.Event, error], n int) (all []events.Event) {
	t.Helper()
	for e, err := range seq {
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		if all = append(all, e); len(all) == n {
			break
		}
	}
	return all
}
