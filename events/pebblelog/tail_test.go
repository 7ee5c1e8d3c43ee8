package pebblelog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"parley/events"
)

// follow returns the whole tail, asking for a few records at a time.
func follow(t fatal, l *Log, step int) []Record {
	t.Helper()
	var all []Record
	for uint64(len(all)) < l.Head() {
		some, err := l.Tail(context.Background(), uint64(len(all)), step)
		if err != nil {
			t.Fatalf("tail: %v", err)
		}
		if len(some) == 0 || len(some) > step {
			t.Fatalf("tail returned %d records, want 1 to %d", len(some), step)
		}
		for _, r := range some {
			if all = append(all, r); r.Position != uint64(len(all)) {
				t.Fatalf("position %d stands at place %d", r.Position, len(all))
			}
		}
	}
	return all
}

// checkTail checks that the positions are dense, that every event of the database has its last
// arrival in the tail, with the same content, and that nothing arrived twice unmodified.
func checkTail(t fatal, l *Log) {
	t.Helper()
	last := map[string]Record{}
	for _, r := range follow(t, l, 1000) {
		key := string(eventKey(r.Event.Stream, r.Event.ID))
		if _, again := last[key]; again != r.Modified {
			t.Fatalf("position %d: modified is %v, arrived before is %v", r.Position, r.Modified, again)
		}
		last[key] = r
	}
	rows, _, err := l.scan([]byte{eventKind}, []byte{eventKind + 1}, false, 0)
	n := 0
	for ; err == nil && len(rows) > 0; rows, _, err = l.scan(append(rows[len(rows)-1].key, 0), []byte{eventKind + 1}, false, 0) {
		for _, row := range rows {
			e, ent, err := decode(row.key, row.value)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			r := last[string(row.key)]
			if r.Position != ent.position || r.At.After(unixNano(ent.at)) || events.Encode(r.Event) != events.Encode(e) {
				t.Fatalf("the event at position %d is not the one in the tail at %d", ent.position, r.Position)
			}
			n++
		}
	}
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	if n != len(last) {
		t.Fatalf("%d events in the tail, %d in the streams", len(last), n)
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
		if r.Modified || !r.At.Equal(at) {
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
	if _, err := l.Tail(t.Context(), 3002, 1); !errors.Is(err, ErrAhead) {
		t.Errorf("tail beyond its head: %v", err)
	}
	if some, err := l.Tail(t.Context(), 17, 0); err != nil || len(some) != 1 {
		t.Errorf("tail with limit 0: %d records, error %v", len(some), err)
	}
}

// TestTailWaits runs a log in memory under a fake clock, where it is certain that a follower
// waits and is not merely slow.
func TestTailWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, "log", Options{FS: vfs.NewMem()})
		room := newRoom(t)
		ctx, cancel := context.WithCancel(t.Context())
		got, failed := make(chan Record, 10), make(chan error, 1)
		go func() {
			for after := uint64(0); ; {
				records, err := l.Tail(ctx, after, 10)
				if err != nil {
					failed <- err
					return
				}
				for _, r := range records {
					got <- r
					after = r.Position
				}
			}
		}()
		for range 3 {
			synctest.Wait()
			if len(got) > 0 {
				t.Fatal("a record came before its event")
			}
			e := newMessage(t, room)
			mustAppend(t, l, e)
			if r := <-got; r.Event.ID != e.ID {
				t.Fatal("another event arrived")
			}
		}
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("tail: %v", err)
		}
		mustClose(t, l)
	})
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
	some, err := l.Tail(t.Context(), 0, n)
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
		{eventKey(room, all[1].ID), []byte("garbage")},
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
	e, err := l.Get(t.Context(), room, all[1].ID)
	if _, ok := e.Payload.(events.Unreadable); err != nil || !ok || string(e.Data) != "garbage" {
		t.Errorf("damaged event is %+v, error %v", e, err)
	}
	if _, _, err := l.Append(t.Context(), all[1]); !errors.Is(err, events.ErrConflict) {
		t.Errorf("append in place of a damaged event: %v", err)
	}
	if records, err := l.Tail(t.Context(), 0, 10); err != nil || len(records) != 3 {
		t.Errorf("%d records before the damaged one, error %v", len(records), err)
	}
	var damaged *DamagedError
	if _, err := l.Tail(t.Context(), 3, 10); !errors.As(err, &damaged) || damaged.Position != 4 {
		t.Errorf("tail at the damaged position: %v", err)
	}
	if records, err := l.Tail(t.Context(), 4, 10); err != nil || len(records) != 1 || records[0].Event.ID != all[4].ID {
		t.Errorf("%d records behind the damaged one, error %v", len(records), err)
	}

	// Another region still has it.
	if err := l.Replicate(t.Context(), []Record{{Event: all[1], At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if e, err = l.Get(t.Context(), room, all[1].ID); err != nil || !events.Same(e, all[1]) {
		t.Errorf("the event was not mended: %v", err)
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
		var seen []Record
		check := func(t *rapid.T) {
			checkTail(t, l)
			for i, r := range follow(t, l, 3)[:len(seen)] {
				if r.Position != seen[i].Position || r.Event.ID != seen[i].Event.ID || r.Modified != seen[i].Modified {
					t.Fatalf("position %d changed", i+1)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				_, _, err := l.Append(context.Background(), g.event(t))
				if err != nil && !errors.Is(err, events.ErrConflict) {
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
				some, err := l.Tail(context.Background(), uint64(len(seen)), rapid.IntRange(1, 5).Draw(t, "limit"))
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
