package logtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"
	"time"

	"parley/events"
)

// Driver opens logs of one kind.
type Driver struct {
	// Open opens the log in a place of its own, named by the path of an empty directory that is
	// removed after the test; a driver that keeps its data elsewhere may use it as a name. The
	// suite closes the log if it is an [io.Closer]. The same place opened again is the same log.
	Open func(t testing.TB, dir string) events.Log

	// Volatile says that a log forgets its events when it is closed. Nothing but the tests of
	// that is left out.
	Volatile bool
}

// Run holds a driver to the contract of [events.Log].
func Run(t *testing.T, d Driver) {
	tests := []struct {
		name string
		test func(*testing.T, Driver)
	}{
		{"Append", testAppend},
		{"AppendRepeat", testRepeat},
		{"Equivocation", testEquivocation},
		{"AppendInvalid", testInvalid},
		{"SameIDInTwoStreams", testSameIDInTwoStreams},
		{"RaceOfOneContent", testRaceOfOneContent},
		{"RaceOfContents", testRaceOfContents},
		{"ManyAppenders", testManyAppenders},
		{"AppendAgain", testAppendAgain},
		{"Unreadable", testUnreadable},
		{"GetMany", testGetMany},
		{"ReadRange", testReadRange},
		{"ReadPages", testReadPages},
		{"ReadStreamsApart", testReadStreamsApart},
		{"ReadBreak", testReadBreak},
		{"ReadYourAppends", testReadYourAppends},
		{"Cancelled", testCancelled},
		{"Scan", testScan},
		{"ScanResume", testScanResume},
		{"ScanInSteps", testScanInSteps},
		{"ScanPages", testScanPages},
		{"ScanUnreadable", testScanUnreadable},
		{"ScanRefused", testScanRefused},
		{"ScanBreak", testScanBreak},
		{"Model", testModel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { t.Parallel(); test.test(t, d) })
	}
	if !d.Volatile {
		t.Run("Reopen", func(t *testing.T) { t.Parallel(); testReopen(t, d) })
	}
}

// open opens a log in a new place and closes it when the test ends.
func (d Driver) open(t *testing.T) events.Log {
	t.Helper()
	log := d.Open(t, t.TempDir())
	t.Cleanup(func() { closeLog(t, log) })
	return log
}

func closeLog(t testing.TB, log events.Log) {
	t.Helper()
	if c, ok := log.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// fatal is the part of a test that helpers need: of [testing.T] and of rapid's.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

var clock = events.NewClock(time.Now, events.NewMarks(nil))

func newID(t fatal, actor string) events.ID {
	t.Helper()
	id, err := clock.Mint(actor)
	if err != nil {
		t.Fatalf("mint an id: %v", err)
	}
	return id
}

func newRoom(t fatal) events.Stream { return events.RoomStream(newID(t, "ada").String()) }

func message(t fatal, room events.Stream, id events.ID, text string) events.Event {
	t.Helper()
	e, err := events.New(id, room, "ada", "here", events.MessagePosted{Text: events.Plain(text)})
	if err != nil {
		t.Fatalf("make a message: %v", err)
	}
	return e
}

func newMessage(t fatal, room events.Stream, text string) events.Event {
	t.Helper()
	return message(t, room, newID(t, "ada"), text)
}

// from returns the event as another region would have accepted it.
func from(region string, e events.Event) events.Event {
	e.Region = region
	return e
}

// former returns the event as a former release stored it, under its id alone.
func former(e events.Event) events.Event {
	e.Digest = events.Digest{}
	return e
}

// equivocate returns events of one id with different contents, in their order, one of them as a
// former release stored it.
func equivocate(t fatal, room events.Stream, id events.ID, contents int) []events.Event {
	t.Helper()
	all := []events.Event{former(message(t, room, id, "former"))}
	for i := range contents {
		all = append(all, message(t, room, id, fmt.Sprint("content ", i)))
	}
	slices.SortFunc(all, compareRefs)
	return all
}

func compareRefs(a, b events.Event) int { return a.Ref().Compare(b.Ref()) }

// mustAppend appends an event that is not there yet.
func mustAppend(t fatal, log events.Log, e events.Event) {
	t.Helper()
	stored, repeat, err := log.Append(context.Background(), e)
	if err != nil || repeat {
		t.Fatalf("append a new event: repeat %v, error %v", repeat, err)
	}
	wantEqual(t, stored, e)
}

// wantStored checks that the log holds exactly this event under its key.
func wantStored(t fatal, log events.Log, want events.Event) {
	t.Helper()
	got, err := log.GetMany(context.Background(), []events.Key{want.Key()})
	if err != nil || len(got) != 1 {
		t.Fatalf("get a stored event: %d of them, %v", len(got), err)
	}
	wantEqual(t, got[want.Key()], want)
	found, err := events.Find(context.Background(), log, want.Stream, want.ID, false)
	if err != nil {
		t.Fatalf("find a stored event: %v", err)
	}
	for _, e := range found {
		if e.Key() == want.Key() {
			wantEqual(t, e, want)
			return
		}
	}
	t.Fatalf("an event that GetMany returns is not in its stream")
}

func wantEqual(t fatal, got, want events.Event) {
	t.Helper()
	if events.Encode(got) != events.Encode(want) {
		t.Fatalf("event differs:\n got %+v\nwant %+v", events.Encode(got), events.Encode(want))
	}
	if !events.Same(got, want) || (got.Payload == nil) != (want.Payload == nil) {
		t.Fatalf("payload differs:\n got %#v\nwant %#v", got.Payload, want.Payload)
	}
}

func wantError(t fatal, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}

// collect reads until the end or the first error.
func collect(seq iter.Seq2[events.Event, error]) (all []events.Event, err error) {
	for e, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

func read(t fatal, log events.Log, stream events.Stream, r events.Range) []events.Event {
	t.Helper()
	all, err := collect(log.Read(context.Background(), stream, r))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return all
}

func wantEvents(t fatal, got, want []events.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range got {
		wantEqual(t, got[i], want[i])
	}
}
