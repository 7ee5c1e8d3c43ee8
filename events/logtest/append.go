package logtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"parley/events"
)

func testAppend(t *testing.T, d Driver) {
	log := d.open(t)
	e := newMessage(t, newRoom(t), "hello, <wörld> 👋\n")
	_, err := events.Get(t.Context(), log, e.Stream, e.ID)
	wantError(t, err, events.ErrNotFound)

	mustAppend(t, log, e)
	wantStored(t, log, e)

	_, err = events.Get(t.Context(), log, e.Stream, newID(t, "ada"))
	wantError(t, err, events.ErrNotFound)
	_, err = events.Get(t.Context(), log, newRoom(t), e.ID)
	wantError(t, err, events.ErrNotFound)
}

func testRepeat(t *testing.T, d Driver) {
	log := d.open(t)
	e := newMessage(t, newRoom(t), "hello")
	mustAppend(t, log, e)
	for _, again := range []events.Event{e, from("elsewhere", e)} {
		stored, repeat, err := log.Append(t.Context(), again)
		if err != nil || !repeat {
			t.Fatalf("append again: repeat %v, error %v", repeat, err)
		}
		wantEqual(t, stored, e)
		wantStored(t, log, e)
	}
}

// testEquivocation: events of one id are each stored, whatever else has the id, and are found together
// and apart.
func testEquivocation(t *testing.T, d Driver) {
	log := d.open(t)
	greatest := events.ID(slices.Repeat([]byte{0xff}, len(events.ID{})))
	for _, id := range []events.ID{newID(t, "ada"), events.FollowingID(events.ID{}), greatest} {
		room := newRoom(t)
		all := equivocate(t, room, id, 5)
		for _, i := range rand.Perm(len(all)) {
			mustAppend(t, log, all[i])
		}
		for _, e := range all {
			if stored, repeat, err := log.Append(t.Context(), from("elsewhere", e)); err != nil || !repeat {
				t.Fatalf("append again: repeat %v, error %v", repeat, err)
			} else {
				wantEqual(t, stored, e)
			}
			wantStored(t, log, e)
		}
		first, err := events.Get(t.Context(), log, room, id)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, first, all[0])
		for _, stale := range []bool{false, true} {
			found, err := events.Find(t.Context(), log, room, id, stale)
			if err != nil {
				t.Fatal(err)
			}
			wantEvents(t, found, all)
		}
		wantEvents(t, read(t, log, room, events.Range{}), all)
		wantEvents(t, read(t, log, room, events.Range{Limit: 4}), all[:4])
		for _, r := range []events.Range{{After: id}, {Before: id}} {
			wantEvents(t, read(t, log, room, r), nil)
		}
		slices.Reverse(all)
		wantEvents(t, read(t, log, room, events.Range{Reverse: true}), all)
		wantEvents(t, read(t, log, room, events.Range{Reverse: true, Limit: 4}), all[:4])
	}
}

func testInvalid(t *testing.T, d Driver) {
	log := d.open(t)
	e := newMessage(t, newRoom(t), "hello")
	for _, name := range []events.Stream{"", "room/", "attic/x", e.Stream + "\x00", "user/a\x00b"} {
		bad := e
		bad.Stream = name
		if _, _, err := log.Append(t.Context(), bad); err == nil {
			t.Errorf("appended to the stream %q", name)
		}
	}
	wantEvents(t, read(t, log, e.Stream, events.Range{}), nil)
}

func testSameIDInTwoStreams(t *testing.T, d Driver) {
	log := d.open(t)
	a := newMessage(t, newRoom(t), "in one room")
	b := message(t, newRoom(t), a.ID, "in another")
	mustAppend(t, log, a)
	mustAppend(t, log, b)
	wantStored(t, log, a)
	wantStored(t, log, b)
}

const racers = 16

// race appends all events at once and returns what came of each.
func race(t *testing.T, log events.Log, all []events.Event) (stored []events.Event, repeat []bool, errs []error) {
	n := len(all)
	stored, repeat, errs = make([]events.Event, n), make([]bool, n), make([]error, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i, e := range all {
		group.Go(func() {
			<-start
			stored[i], repeat[i], errs[i] = log.Append(t.Context(), e)
		})
	}
	close(start)
	group.Wait()
	return stored, repeat, errs
}

func testRaceOfOneContent(t *testing.T, d Driver) {
	log := d.open(t)
	for range 20 {
		e := newMessage(t, newRoom(t), "hello")
		all := make([]events.Event, racers)
		for i := range all {
			all[i] = from(fmt.Sprintf("region-%d", i), e)
		}
		stored, repeat, errs := race(t, log, all)
		first := -1
		for i := range all {
			if errs[i] != nil {
				t.Fatalf("append: %v", errs[i])
			}
			if !repeat[i] && first >= 0 {
				t.Fatal("two appends of one event were both the first")
			}
			if !repeat[i] {
				first = i
			}
		}
		if first < 0 {
			t.Fatal("every append of a new event was a repeat")
		}
		for i := range all {
			wantEqual(t, stored[i], all[first])
		}
		wantEvents(t, read(t, log, e.Stream, events.Range{}), all[first:first+1])
	}
}

// testRaceOfContents: of events that race under one id none is lost, and each is new once.
func testRaceOfContents(t *testing.T, d Driver) {
	log := d.open(t)
	for range 20 {
		room := newRoom(t)
		all := equivocate(t, room, newID(t, "ada"), racers-1)
		_, repeat, errs := race(t, log, slices.Concat(all, all))
		for i, err := range errs {
			if err != nil {
				t.Fatalf("append: %v", err)
			}
			if other := (i + len(all)) % len(errs); repeat[i] == repeat[other] {
				t.Fatalf("two appends of one event were both a repeat: %v", repeat[i])
			}
		}
		wantEvents(t, read(t, log, room, events.Range{}), all)
	}
}

func testManyAppenders(t *testing.T, d Driver) {
	const appenders, each = 32, 50
	log := d.open(t)
	rooms := make([]events.Stream, 5)
	for i := range rooms {
		rooms[i] = newRoom(t)
	}
	var group errgroup.Group
	for a := range appenders {
		group.Go(func() error {
			for i := range each {
				e, err := events.New(newID(t, "ada"), rooms[(a+i)%len(rooms)], "ada", "here",
					events.MessagePosted{Text: events.Plain(fmt.Sprintf("%d of %d", i, a))})
				if err != nil {
					return err
				}
				if _, repeat, err := log.Append(t.Context(), e); err != nil || repeat {
					return fmt.Errorf("append: repeat %v, error %w", repeat, err)
				}
				if _, err := events.Get(t.Context(), log, e.Stream, e.ID); err != nil {
					return fmt.Errorf("get what was appended: %w", err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, room := range rooms {
		for _, e := range read(t, log, room, events.Range{}) {
			seen[string(e.Data)] = true
		}
	}
	if len(seen) != appenders*each {
		t.Errorf("%d of %d events are there", len(seen), appenders*each)
	}
}

// testAppendAgain holds a log to what [events.ErrUnknownOutcome] and [events.ErrThrottled]
// promise: an event that is appended until it succeeds is stored exactly once.
func testAppendAgain(t *testing.T, d Driver) {
	inner := d.open(t)
	rapid.Check(t, func(t *rapid.T) {
		script := rapid.SliceOfN(rapid.SampledFrom([]Fault{Pass, NotStored, Stored}), 0, 20).Draw(t, "script")
		log := &Faults{Log: inner, OnAppend: Script(script...)}
		room := newRoom(t)
		var want []events.Event
		for range rapid.IntRange(1, 5).Draw(t, "events") {
			e := newMessage(t, room, "hello")
			appendUntilStored(t, log, e)
			want = append(want, e)
		}
		wantEvents(t, read(t, inner, room, events.Range{}), want)
	})
}

func appendUntilStored(t fatal, log *Faults, e events.Event) {
	t.Helper()
	mayBeStored := false
	for {
		stored, repeat, err := log.Append(context.Background(), e)
		switch {
		case errors.Is(err, events.ErrUnknownOutcome):
			mayBeStored = true
		case errors.Is(err, events.ErrThrottled):
			if _, err := events.Get(context.Background(), log, e.Stream, e.ID); errors.Is(err, events.ErrNotFound) == mayBeStored {
				t.Fatalf("stored %v, but Get says %v", mayBeStored, err)
			}
		case err != nil:
			t.Fatalf("append: %v", err)
		default:
			if repeat != mayBeStored {
				t.Fatalf("repeat is %v, stored before %v", repeat, mayBeStored)
			}
			wantEqual(t, stored, e)
			return
		}
	}
}
