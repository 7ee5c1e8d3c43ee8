package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
)

func TestStream(t *testing.T) {
	logtest.RunStream(t, logtest.StreamDriver{
		Open:   func(t testing.TB, dir string) events.Log { return mustOpen(t, dir, Options{}) },
		Follow: func(_ testing.TB, log events.Log) events.Replica { return log.(*Log) },
		EmitUndecodable: func(t testing.TB, log events.Log) {
			// An event is inserted, and the record of it is damaged once it has left memory.
			l := log.(*Log)
			mustAppend(t, l, newMessage(t, newRoom(t)))
			position := l.Head()
			if err := l.db.Set(positionKey(position), []byte("garbage"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
			l.tail.mu.Lock()
			defer l.tail.mu.Unlock()
			for l.tail.first <= position {
				l.tail.dropOldest()
			}
		},
	})
}

// follow returns the whole tail, asking for a few records at a time.
func follow(t fatal, l *Log, step int) []events.Record {
	t.Helper()
	var all []events.Record
	for uint64(len(all)) < l.Head() {
		some, err := l.Next(context.Background(), formatPosition(uint64(len(all))), step, true)
		if err != nil {
			t.Fatalf("tail: %v", err)
		}
		if len(some) == 0 || len(some) > step {
			t.Fatalf("tail returned %d records, want 1 to %d", len(some), step)
		}
		for _, r := range some {
			if all = append(all, r); r.Sequence != formatPosition(uint64(len(all))) {
				t.Fatalf("position %s stands at place %d", r.Sequence, len(all))
			}
		}
	}
	return all
}

// checkTail checks that the positions are dense, and that every event of the database has one arrival
// in the tail, with the same content.
func checkTail(t fatal, l *Log) {
	t.Helper()
	arrived := map[string]events.Record{}
	for _, r := range follow(t, l, 1000) {
		key := string(eventKey(r.Event.Key()))
		if before, again := arrived[key]; again {
			t.Fatalf("the event at position %s arrived at %s", r.Sequence, before.Sequence)
		}
		arrived[key] = r
	}
	rows, _, err := l.scan([]byte{eventKind}, []byte{eventKind + 1}, false, 0)
	n := 0
	for ; err == nil && len(rows) > 0; rows, _, err = l.scan(append(rows[len(rows)-1].key, 0), []byte{eventKind + 1}, false, 0) {
		for _, row := range rows {
			e, ent, err := decode(row.key, row.value)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			r := arrived[string(row.key)]
			if r.Sequence != formatPosition(ent.position) || !r.At.Equal(unixNano(ent.at)) || events.Encode(r.Event) != events.Encode(e) {
				t.Fatalf("the event at position %d is not the one in the tail at %s", ent.position, r.Sequence)
			}
			n++
		}
	}
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	if n != len(arrived) {
		t.Fatalf("%d events in the tail, %d in the streams", len(arrived), n)
	}
}

func TestTail(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	l := mustOpen(t, dir, Options{Now: func() time.Time { return at }})
	var want []events.Event
	rooms := []events.Stream{newRoom(t), newRoom(t)}
	for i := range 3000 { // more than fit in memory
		want = append(want, newMessage(t, rooms[i%2]))
	}
	for part := want; len(part) > 0; part = part[100:] {
		var group errgroup.Group
		for i, e := range part[:100] {
			if i%10 == 0 { // some one after the other, most at once
				mustAppend(t, l, e)
				continue
			}
			group.Go(func() error {
				_, _, err := l.Append(t.Context(), e)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, want[5]) // a repeat does not arrive again

	live := follow(t, l, 37)
	if len(live) != len(want) {
		t.Fatalf("%d records, want %d", len(live), len(want))
	}
	for _, r := range live {
		if r.Replica || !r.At.Equal(at) {
			t.Fatalf("record %+v", r)
		}
	}
	checkTail(t, l)
	mustClose(t, l)

	l = mustOpen(t, dir, Options{})
	defer mustClose(t, l)
	for i, r := range follow(t, l, 1000) {
		if r.Event.ID != live[i].Event.ID || r.At != live[i].At {
			t.Fatalf("position %d changed by reopening", i+1)
		}
	}
	mustAppend(t, l, newMessage(t, rooms[0]))
	if l.Head() != 3001 {
		t.Errorf("head is %d, want 3001", l.Head())
	}
	if _, err := l.Next(t.Context(), "3002", 1, true); !errors.Is(err, ErrAhead) {
		t.Errorf("tail beyond its head: %v", err)
	}
	if some, err := l.Next(t.Context(), "17", 0, true); err != nil || len(some) != 1 {
		t.Errorf("tail with limit 0: %d records, error %v", len(some), err)
	}
}

func TestTailMemoryIsBounded(t *testing.T) {
	l := openTemp(t, Options{FS: vfs.NewMem()})
	room := newRoom(t)
	big := strings.Repeat("x", events.MaxTextBytes)
	const n = 200
	for range n {
		mustAppend(t, l, message(t, room, newID(t), "here", big))
	}
	if l.tail.bytes > recentBytes || l.tail.bytes < recentBytes/2 {
		t.Errorf("%d bytes are kept, want up to %d", l.tail.bytes, recentBytes)
	}
	if kept := l.Head() + 1 - l.tail.first; kept*events.MaxTextBytes > recentBytes {
		t.Errorf("%d records are kept", kept)
	}
	if got := follow(t, l, n); len(got) != n {
		t.Errorf("%d records, want %d", len(got), n)
	}
	some, err := l.Next(t.Context(), "0", n, true)
	if err != nil || len(some) > 2*pageBytes/events.MaxTextBytes {
		t.Errorf("one call read %d big records, error %v", len(some), err)
	}
}

// TestDamage writes into the database what no log writes. Neighbours stay readable.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	room := newRoom(t)
	var all []events.Event
	for range 5 {
		all = append(all, newMessage(t, room))
		mustAppend(t, l, all[len(all)-1])
	}
	for _, set := range []struct{ key, value []byte }{
		{eventKey(all[1].Key()), []byte("garbage")},
		{positionKey(4), []byte("garbage")},
	} {
		if err := l.db.Set(set.key, set.value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	defer mustClose(t, l)

	if ids := readIDs(t, l, room); len(ids) != 5 {
		t.Errorf("%d events, want 5", len(ids))
	}
	e, err := events.Get(t.Context(), l, room, all[1].ID)
	if _, ok := e.Payload.(events.Unreadable); err != nil || !ok || string(e.Data) != "garbage" {
		t.Errorf("damaged event is %+v, error %v", e, err)
	}
	if err := l.db.Delete(positionKey(3), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	records, err := l.Next(t.Context(), "", 10, true)
	if err != nil || len(records) != 5 {
		t.Fatalf("%d records, error %v", len(records), err)
	}
	for i, r := range records {
		damaged := i == 2 || i == 3
		if (r.Err != nil) != damaged || r.Sequence != formatPosition(uint64(i+1)) || !damaged && r.Event.ID != all[i].ID {
			t.Errorf("record %d is %+v", i+1, r)
		}
	}
	if raw := string(records[3].Raw); raw != `"Z2FyYmFnZQ=="` || string(records[2].Raw) != "null" {
		t.Errorf("the damaged record holds %s, the missing one %s", raw, records[2].Raw)
	}
	if records, err = l.Next(t.Context(), "2", 1, true); err != nil || len(records) != 1 || records[0].Err == nil {
		t.Errorf("the missing record is %+v, error %v", records, err)
	}

	// Another region still has it, or its client.
	for _, insert := range []func() error{
		func() error { return l.Replicate(t.Context(), []events.Record{{Event: all[1], At: time.Now()}}) },
		func() error { _, _, err := l.Append(t.Context(), all[1]); return err },
	} {
		if err := l.db.Set(eventKey(all[1].Key()), []byte("garbage"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := insert(); err != nil {
			t.Fatal(err)
		}
		if e, err = events.Get(t.Context(), l, room, all[1].ID); err != nil || !events.Same(e, all[1]) {
			t.Errorf("the event was not repaired: %v", err)
		}
	}
}

// TestTailProperty follows a log through any calls and reopenings, at random speed.
func TestTailProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := vfs.NewMem()
		open := func() *Log {
			l, err := Open("log", Options{FS: files})
			if err != nil {
				t.Fatalf("%v", err)
			}
			return l
		}
		l := open()
		defer func() { _ = l.Close() }()
		g := newGenerator(t)
		var seen []events.Record
		check := func(t *rapid.T) {
			checkTail(t, l)
			for i, r := range follow(t, l, 3)[:len(seen)] {
				if r.Sequence != seen[i].Sequence || r.Event.Key() != seen[i].Event.Key() || r.Replica != seen[i].Replica {
					t.Fatalf("position %d changed", i+1)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				if _, _, err := l.Append(context.Background(), g.event(t)); err != nil {
					t.Fatalf("append: %v", err)
				}
			},
			"replicate": func(t *rapid.T) {
				if err := l.Replicate(context.Background(), g.records(t)); err != nil {
					t.Fatalf("%v", err)
				}
			},
			"follow": func(t *rapid.T) {
				if uint64(len(seen)) == l.Head() {
					return
				}
				some, err := l.Next(context.Background(), formatPosition(uint64(len(seen))), rapid.IntRange(1, 5).Draw(t, "limit"), true)
				if err != nil {
					t.Fatalf("%v", err)
				}
				seen = append(seen, some...)
			},
			"reopen": func(t *rapid.T) {
				if err := l.Close(); err != nil {
					t.Fatalf("%v", err)
				}
				l = open()
			},
			"check": func(t *rapid.T) { check(t) },
		})
		check(t)
	})
}

// generator draws events that often meet under one id.
type generator struct {
	room events.Stream
	ids  []events.ID
}

func newGenerator(t *rapid.T) generator {
	g := generator{room: newRoom(t)}
	for range 5 {
		g.ids = append(g.ids, newID(t))
	}
	return g
}

func (g generator) event(t *rapid.T) events.Event {
	return message(t, g.room,
		rapid.SampledFrom(g.ids).Draw(t, "id"),
		rapid.SampledFrom([]string{"asia", "europe"}).Draw(t, "region"),
		fmt.Sprintf("text %d", rapid.IntRange(0, 2).Draw(t, "text")))
}

func (g generator) records(t *rapid.T) []events.Record {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.Record {
		return events.Record{Event: g.event(t), At: unixNano(int64(rapid.IntRange(-2, 2).Draw(t, "at")))}
	}), 0, 8).Draw(t, "records")
}

func TestReplicateMany(t *testing.T) {
	l := openTemp(t, Options{})
	room := newRoom(t)
	records := make([]events.Record, 10*maxRequest+1)
	for i := range records {
		records[i] = events.Record{Event: newMessage(t, room), At: time.Now()}
	}
	if err := l.Replicate(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	for i, r := range follow(t, l, 100) {
		if r.Event.ID != records[i].Event.ID || !r.At.Equal(records[i].At) {
			t.Fatalf("position %s holds another record", r.Sequence)
		}
	}
	if l.Head() != uint64(len(records)) {
		t.Errorf("head is %d, want %d", l.Head(), len(records))
	}
}

// TestLane: readers of the parts of the streams find every record at its place and all events in the part
// of their stream, in memory and behind it; a damaged one too.
func TestLane(t *testing.T) {
	const n, parts, damaged = 600, 3, "17"
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	var rooms []events.Stream
	for range 12 {
		rooms = append(rooms, newRoom(t))
	}
	for i := range n {
		mustAppend(t, l, newMessage(t, rooms[i%len(rooms)]))
	}
	check := func(decoded bool, wantErr string) {
		t.Helper()
		found := map[string]bool{}
		for index := range parts {
			part := events.Part{Index: index, Of: parts}
			reader := l.Lane(part)
			for at := 0; at < n; {
				records, err := reader.Next(t.Context(), formatPosition(uint64(at)), 100, false)
				if err != nil || len(records) == 0 {
					t.Fatalf("%d records after %d: %v", len(records), at, err)
				}
				for _, r := range records {
					if at++; r.Sequence != formatPosition(uint64(at)) || string(r.Number) != r.Sequence || r.Event.Stream != rooms[(at-1)%len(rooms)] {
						t.Fatalf("at %d is the record %s of %s", at, r.Sequence, r.Event.Stream)
					}
					own := part.Holds(r.Event.Stream)
					switch {
					case !own && (r.Err != nil || !decoded && r.Event.Payload != nil):
						t.Errorf("record %d is read by another part: %v", at, r.Err)
					case own && (r.Err != nil) != (r.Sequence == wantErr):
						t.Errorf("record %d: %v", at, r.Err)
					case own && r.Err == nil && r.Event.Payload == nil:
						t.Errorf("record %d is not decoded", at)
					}
					if own {
						found[r.Sequence] = true
					}
				}
			}
		}
		if len(found) != n {
			t.Errorf("%d of %d records are in a part", len(found), n)
		}
	}
	check(true, "")
	records, err := l.Next(t.Context(), "", n, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.db.Delete(eventKey(records[16].Event.Key()), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	l = mustOpen(t, dir, Options{})
	defer mustClose(t, l)
	check(false, damaged)
}
