package logtest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"parley/events"
)

// testUnreadable: what this release cannot read is stored and comes back byte for byte, and does
// not hide its neighbours.
func testUnreadable(t *testing.T, d Driver) {
	log := d.open(t)
	room := newRoom(t)
	all := []events.Event{newMessage(t, room, "before")}
	for _, damage := range []func(*events.Stored){
		func(s *events.Stored) { s.Type = "message.sung/1" },
		func(s *events.Stored) { s.Type = "message.posted/99"; s.Data = `{"melody":"la"}` },
		func(s *events.Stored) { s.Type = "message.posted" },
		func(s *events.Stored) { s.Data = `{"text":"cut o` },
		func(s *events.Stored) { s.Data = "\xff\x00 not even text" },
		func(s *events.Stored) { s.Actor = "nobody knows, \"me\"" },
	} {
		stored := events.Encode(newMessage(t, room, "damaged"))
		damage(&stored)
		stored.ID = stored.ID[:len(events.ID{}.String())]
		e, err := events.Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := e.Payload.(events.Unreadable); !ok {
			t.Fatalf("the payload of %s is readable", stored.Type)
		}
		all = append(all, e.WithDigest())
	}
	other := newMessage(t, room, "what its key says")
	other.Data = newMessage(t, room, "what it is not").Data
	all = append(all, other, newMessage(t, room, "after"))
	for _, e := range all {
		mustAppend(t, log, e)
		wantStored(t, log, e)
		if _, repeat, err := log.Append(t.Context(), e); err != nil || !repeat {
			t.Fatalf("append again: repeat %v, error %v", repeat, err)
		}
	}
	for i, e := range read(t, log, room, events.Range{}) {
		wantEqual(t, e, all[i])
		_, unreadable := e.Payload.(events.Unreadable)
		if whole := i == 0 || i == len(all)-1; unreadable == whole {
			t.Errorf("event %d of %d is unreadable: %v", i, len(all), unreadable)
		}
	}
}

func testReadRange(t *testing.T, d Driver) {
	log := d.open(t)
	room := newRoom(t)
	wantEvents(t, read(t, log, room, events.Range{}), nil)
	wantEvents(t, read(t, log, room, events.Range{Reverse: true, Limit: 3}), nil)

	var all []events.Event
	for range 10 {
		all = append(all, newMessage(t, room, "hello"))
	}
	for _, i := range []int{3, 9, 0, 7, 1, 8, 2, 6, 5, 4} {
		mustAppend(t, log, all[i])
	}
	id := func(i int) events.ID { return all[i].ID }
	largest := events.ID(slices.Repeat([]byte{0xff}, len(events.ID{})))
	for _, c := range []struct {
		name     string
		r        events.Range
		from, to int // the events that are wanted, before Limit and Reverse are applied
	}{
		{"all", events.Range{}, 0, 10},
		{"after one", events.Range{After: id(3)}, 4, 10},
		{"before one", events.Range{Before: id(3)}, 0, 3},
		{"between", events.Range{After: id(2), Before: id(7)}, 3, 7},
		{"between neighbours", events.Range{After: id(2), Before: id(3)}, 0, 0},
		{"after itself", events.Range{After: id(2), Before: id(2)}, 0, 0},
		{"the wrong way round", events.Range{After: id(7), Before: id(2)}, 0, 0},
		{"after the first", events.Range{After: id(0)}, 1, 10},
		{"after the last", events.Range{After: id(9)}, 0, 0},
		{"before the first", events.Range{Before: id(0)}, 0, 0},
		{"before the end of time", events.Range{Before: largest}, 0, 10},
		{"after the end of time", events.Range{After: largest}, 0, 0},
		{"from the beginning of time", events.Range{After: events.ID{15: 1}}, 0, 10},
	} {
		for _, limit := range []int{0, 1, 3, 9, 10, 11, 1000} {
			for _, reverse := range []bool{false, true} {
				r := c.r
				r.Limit, r.Reverse = limit, reverse
				want := slices.Clone(all[c.from:c.to])
				if reverse {
					slices.Reverse(want)
				}
				if limit > 0 {
					want = want[:min(limit, len(want))]
				}
				t.Run(c.name, func(t *testing.T) { wantEvents(t, read(t, log, room, r), want) })
			}
		}
	}
}

// A stream that no driver reads in one page.
const (
	manyEvents = 2500
	manyBytes  = 1500 // of text in each
)

func appendMany(t *testing.T, log events.Log) []events.Event {
	t.Helper()
	room := newRoom(t)
	text := strings.Repeat("long ", manyBytes/5)
	all := make([]events.Event, manyEvents)
	for i := range all {
		all[i] = newMessage(t, room, text)
	}
	for part := range slices.Chunk(all, 100) {
		_, _, errs := race(t, log, part)
		for _, err := range errs {
			if err != nil {
				t.Fatalf("append: %v", err)
			}
		}
	}
	return all
}

func testReadPages(t *testing.T, d Driver) {
	log := d.open(t)
	all := appendMany(t, log)
	room := all[0].Stream
	back := slices.Clone(all)
	slices.Reverse(back)

	wantEvents(t, read(t, log, room, events.Range{}), all)
	wantEvents(t, read(t, log, room, events.Range{Reverse: true}), back)
	wantEvents(t, read(t, log, room, events.Range{Limit: 1999}), all[:1999])
	wantEvents(t, read(t, log, room, events.Range{Limit: 1999, Reverse: true}), back[:1999])
	between := events.Range{After: all[99].ID, Before: all[2400].ID}
	wantEvents(t, read(t, log, room, between), all[100:2400])
	between.Reverse = true
	wantEvents(t, read(t, log, room, between), back[100:2400])

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range log.Read(ctx, room, events.Range{}) {
		cancel()
		n, last = n+1, err
	}
	wantError(t, last, context.Canceled)
	if n > manyEvents/2 {
		t.Errorf("%d events were yielded after the context had ended", n)
	}
}

// testReadStreamsApart: streams whose names begin alike do not run into one another.
func testReadStreamsApart(t *testing.T, d Driver) {
	log := d.open(t)
	users := []string{"a", "ada", "ada-", "ada.", "ada0", "adaa", "b"}
	want := map[string][]events.Event{}
	for i := range 3 * len(users) {
		user := users[i%len(users)]
		e, err := events.New(newID(t, user), events.UserStream(user), user, "here", events.UserProfileSet{Name: events.Plain(user)})
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, log, e)
		want[user] = append(want[user], e)
	}
	for _, user := range users {
		wantEvents(t, read(t, log, events.UserStream(user), events.Range{}), want[user])
		wantEvents(t, read(t, log, events.UserStream(user), events.Range{After: want[user][0].ID}), want[user][1:])
		wantEvents(t, read(t, log, events.UserStream(user), events.Range{Before: want[user][2].ID}), want[user][:2])
		wantEvents(t, read(t, log, events.UserStream(user), events.Range{Reverse: true, Limit: 1}), want[user][2:])
	}
	wantEvents(t, read(t, log, events.UserStream("ad"), events.Range{}), nil)
}

func testReadBreak(t *testing.T, d Driver) {
	log := d.open(t)
	all := appendMany(t, log)
	seq := log.Read(t.Context(), all[0].Stream, events.Range{})
	for range 2 { // a broken iteration can begin anew
		n := 0
		for e, err := range seq {
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			wantEqual(t, e, all[n])
			if n++; n == 3 {
				break
			}
		}
	}
	for e, err := range seq { // the log can be used from within
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		mustAppend(t, log, newMessage(t, newRoom(t), "meanwhile"))
		wantStored(t, log, e)
		break
	}
}

func testReadYourAppends(t *testing.T, d Driver) {
	log := d.open(t)
	room := newRoom(t)
	var all []events.Event
	for range 50 {
		e := newMessage(t, room, "hello")
		mustAppend(t, log, e)
		all = append(all, e)
		wantEvents(t, read(t, log, room, events.Range{Reverse: true, Limit: 1}), []events.Event{e})
		wantEvents(t, read(t, log, room, events.Range{}), all)
	}
}

func testCancelled(t *testing.T, d Driver) {
	log := d.open(t)
	e, late := newMessage(t, newRoom(t), "hello"), newMessage(t, newRoom(t), "late")
	mustAppend(t, log, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, _, err := log.Append(ctx, late)
	wantError(t, err, context.Canceled)
	_, err = events.Get(ctx, log, e.Stream, e.ID)
	wantError(t, err, context.Canceled)
	for _, stream := range []events.Stream{e.Stream, newRoom(t)} {
		all, err := collect(log.Read(ctx, stream, events.Range{}))
		wantError(t, err, context.Canceled)
		wantEvents(t, all, nil)
	}
	if _, _, err := log.Append(t.Context(), late); err != nil {
		t.Errorf("append after a cancelled attempt: %v", err)
	}
	wantStored(t, log, e)
	wantStored(t, log, late)
}

func testReopen(t *testing.T, d Driver) {
	dir := t.TempDir()
	room := newRoom(t)
	var all []events.Event
	for range 3 {
		log := d.Open(t, dir)
		wantEvents(t, read(t, log, room, events.Range{}), all)
		for range 20 {
			e := newMessage(t, room, "hello")
			mustAppend(t, log, e)
			all = append(all, e)
		}
		for _, e := range all {
			if _, repeat, err := log.Append(t.Context(), from("elsewhere", e)); err != nil || !repeat {
				t.Fatalf("append again: repeat %v, error %v", repeat, err)
			}
		}
		closeLog(t, log)
	}
}

// GetMany returns what is there of what it is asked for, of any streams, however often.
func testGetMany(t *testing.T, d Driver) {
	log := d.open(t)
	var keys []events.Key
	want := map[events.Key]events.Event{}
	for range 3 {
		room := newRoom(t)
		for range 40 {
			e := newMessage(t, room, "hello")
			mustAppend(t, log, e)
			twin := former(message(t, room, newID(t, "ada"), "former"))
			mustAppend(t, log, twin)
			mustAppend(t, log, twin.WithDigest())
			want[twin.Key()], want[twin.WithDigest().Key()] = twin, twin.WithDigest()
			keys = append(keys, twin.Key(), twin.WithDigest().Key())
			key, otherDigest := e.Key(), message(t, room, e.ID, "other").Key()
			want[key] = e
			keys = append(keys, key, key, events.Key{Stream: room, ID: newID(t, "ada")}, former(e).Key(), otherDigest)
		}
	}
	keys = append(keys, events.Key{Stream: newRoom(t), ID: keys[0].ID}, events.Key{})
	got, err := log.GetMany(t.Context(), keys)
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %d events of %d, %v", len(got), len(want), err)
	}
	for key, e := range want {
		wantEqual(t, got[key], e)
	}
	if got, err := log.GetMany(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no keys: %d events, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = log.GetMany(ctx, keys)
	wantError(t, err, context.Canceled)
}
