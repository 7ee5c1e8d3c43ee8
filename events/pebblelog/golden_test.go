package pebblelog

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/goldentest"
)

// goldenEvents are events whose ids are the same in every release.
func goldenEvents(t *testing.T) []events.Event {
	t.Helper()
	event := func(n byte, stream events.Stream, actor string, p events.Payload) events.Event {
		id := events.ID{0x01, 0x95, 0x79, 0xcf, 0xc7, 0x58, 0x0a, 'p', 'a', 'r', 'l', 'e', 'y', 0x0d, 0x0e, n}
		e, err := events.New(id, stream, actor, "eu-central-1", p)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	room := events.RoomStream("01JNWWZHTR19R62WKCCNWGT3G0")
	return []events.Event{
		event(0, room, "ada", events.RoomCreated{Name: "Mission <control>"}),
		event(1, room, "grace", events.MessagePosted{Text: events.Plain("hello 👩‍🚀")}),
		event(2, events.UserStream("ada"), "ada", events.UserProfileSet{Name: events.Sealed([]byte("\x01\xff"))}),
	}
}

// Keys and values of a log are what they always were, and those that were stored are read as they were:
// those of rows.jsonl under ids alone, one of them after another region had replaced its text.
func TestGolden(t *testing.T) {
	now := time.Date(2025, time.March, 9, 7, 30, 15, 123456789, time.UTC)
	dir, goldenDir := t.TempDir(), t.TempDir()
	l := mustOpen(t, dir, Options{Now: func() time.Time { return now }})
	all := goldenEvents(t)
	for _, e := range all {
		if _, _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	other := all[1] // another region accepted the same id, with another text
	other.Payload = events.MessagePosted{Text: events.Plain("goodbye")}
	other, err := events.New(other.ID, other.Stream, other.Actor, "us-east-1", other.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Replicate(t.Context(), []events.Record{{Event: other, At: now.Add(time.Second)}}); err != nil {
		t.Fatal(err)
	}

	rows, err := l.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var today []goldentest.Pair
	for valid := rows.First(); valid; valid = rows.Next() {
		today = append(today, goldentest.Pair{Key: append([]byte(nil), rows.Key()...), Value: append([]byte(nil), rows.Value()...)})
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	golden := goldentest.Open(t, "rows")
	want := readAll(t, dir)
	setRows(t, goldenDir, golden.Check("digests.jsonl", goldentest.Lines(t, today...)))
	if diff := cmp.Diff(want, readAll(t, goldenDir), cmp.Comparer(events.Content.Equal)); diff != "" {
		t.Errorf("a golden log is read differently (-today +golden):\n%s", diff)
	}

	oldDir := t.TempDir()
	setRows(t, oldDir, golden.Read("rows.jsonl", func() []byte { return nil }))
	want[1].Event, want[1].At = want[3].Event, want[3].At // the text that was replaced was lost
	for i := range want {
		want[i].Event.Digest = events.Digest{}
	}
	if diff := cmp.Diff(want, readAll(t, oldDir), cmp.Comparer(events.Content.Equal)); diff != "" {
		t.Errorf("a golden log of events under ids alone is read differently (-today +golden):\n%s", diff)
	}
}

// setRows makes a log of golden rows.
func setRows(t *testing.T, dir string, rows []byte) {
	t.Helper()
	l := mustOpen(t, dir, Options{})
	defer mustClose(t, l)
	for _, row := range goldentest.ReadLines[goldentest.Pair](t, rows) {
		if err := l.db.Set(row.Key, row.Value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll opens a log and reads its tail, and each event by its key.
func readAll(t *testing.T, dir string) (all []events.Record) {
	t.Helper()
	l := mustOpen(t, dir, Options{})
	defer mustClose(t, l)
	all, err := l.Next(t.Context(), "", 100, true)
	if err != nil || len(all) != 4 {
		t.Fatalf("Next: %d records, error %v", len(all), err)
	}
	for _, r := range all {
		found, err := l.GetMany(t.Context(), []events.Key{r.Event.Key()})
		if err != nil || events.Encode(found[r.Event.Key()]) != events.Encode(r.Event) {
			t.Errorf("GetMany: %+v, error %v", found, err)
		}
	}
	return all
}
