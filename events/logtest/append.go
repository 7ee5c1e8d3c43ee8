package logtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"parley/events"
)

func testAppend(t *testing.T, d Driver) {
	log := d.open(t)
	e := newMessage(t, newRoom(t), "hello, <wörld> 👋\n")
	_, err := log.Get(t.Context(), e.Stream, e.ID)
	wantError(t, err, events.ErrNotFound)

	mustAppend(t, log, e)
	wantStored(t, log, e)

	_, err = log.Get(t.Context(), e.Stream, newID(t, "ada"))
	wantError(t, err, events.ErrNotFound)
	_, err = log.Get(t.Context(), newRoom(t), e.ID)
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

func testConflict(t *testing.T, d Driver) {
	log := d.open(t)
	e := newMessage(t, newRoom(t), "hello")
	mustAppend(t, log, e)

	text := message(t, e.Stream, e.ID, "hullo")
	actor := e
	actor.Actor = "bob"
	kind, err := events.New(e.ID, e.Stream, "ada", "here", events.RoomArchived{})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []events.Event{text, actor, kind} {
		_, _, err := log.Append(t.Context(), other)
		wantError(t, err, events.ErrConflict)
		wantStored(t, log, e)
	}
	wantEvents(t, read(t, log, e.Stream, events.Range{}), []events.Event{e})
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

func testRaceOfContents(t *testing.T, d Driver) {
	log := d.open(t)
	for range 20 {
		room, id := newRoom(t), newID(t, "ada")
		all := make([]events.Event, racers)
		for i := range all {
			all[i] = message(t, room, id, fmt.Sprintf("content %d", i))
		}
		_, _, errs := race(t, log, all)
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatal("two contents of one id were both stored")
			case err == nil:
				winner = i
			default:
				wantError(t, err, events.ErrConflict)
			}
		}
		if winner < 0 {
			t.Fatal("no content of a new id was stored")
		}
		wantStored(t, log, all[winner])
		wantEvents(t, read(t, log, room, events.Range{}), all[winner:winner+1])
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
				if _, err := log.Get(t.Context(), e.Stream, e.ID); err != nil {
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
// promise: whoever appends the same event until it succeeds has it stored exactly once.
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
			if _, err := log.Get(context.Background(), e.Stream, e.ID); errors.Is(err, events.ErrNotFound) == mayBeStored {
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
