package functions_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

// The key of a message comes after the message: a sync waits for it with the rest of the room, in order, and
// not with other rooms. A waiting request is answered when the key is there.
func TestSyncWaitsForKey(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { testSyncWaitsForKey(t, single) })
	}
}

func testSyncWaitsForKey(t *testing.T, single bool) {
	w := newWorld(t)
	w.single = single
	us, eu := w.region(t, "us"), w.region(t, "eu")
	eu.stream.BusOpens = true // it would wait for the key
	room, other := us.as("bob").room(`{"name":"Engine"}`), us.as("bob").room(`{"name":"Other"}`)
	for _, r := range []string{room, other} {
		us.as("eve").put(r+"/members/eve", "").want(200)
	}
	us.as("ada").put(room+"/members/ada", "").want(200)
	us.as("bob").say(room, "which makes a key for bob")
	us.Sync()
	replicate(us, eu)
	w.pass(time.Minute)
	eve := eu.as("eve")
	cursor := eve.cursor()
	held := us.as("ada").say(room, "sealed with a new key")
	behind, elsewhere := us.as("bob").say(room, "behind it"), us.as("bob").say(other, "elsewhere")
	us.Sync()
	replicateEvents(us, eu)

	n := eve.sync(cursor)
	if got := n.messages(); !slices.Equal(got, []string{elsewhere.String()}) || n.More {
		t.Fatalf("without the key a sync returns %v, more %v; want %v", got, n.More, elsewhere)
	}
	if caught := eve.open().catchUp(cursor); !caught.Held || caught.More {
		t.Errorf("without the key a catch-up of a socket ends with %+v", caught)
	}
	for range 3 { // nothing is lost while it waits
		w.pass(5 * time.Second)
		if n = eve.sync(n.Cursor); len(n.Events) > 0 || n.More || !n.Held {
			t.Fatalf("without the key the next sync returns %v, held %v", n.types(), n.Held)
		}
	}
	go func() {
		time.Sleep(7 * time.Second)
		replicateKeys(us, eu)
	}()
	start := time.Now()
	m := eve.sync(n.Cursor, "&wait=20")
	if took := time.Since(start); took < 7*time.Second || took > 9*time.Second {
		t.Errorf("the key comes after 7 s, the answer after %v", took)
	}
	synctest.Wait()
	want := []string{held.String(), behind.String()}
	if got := m.messages(); !slices.Equal(got, want) || len(m.Events) != 2 {
		t.Errorf("with the key a sync returns %v, want %v", got, want)
	}
	for _, e := range m.Events {
		if e.Event.Unreadable {
			t.Errorf("with the key %s is unreadable", e.Event.ID)
		}
	}
	if again := eve.sync(m.Cursor); len(again.Events) > 0 || again.Held {
		t.Errorf("delivered again: %v, held %v", again.types(), again.Held)
	}
	if caught := eve.open().catchUp(cursor); caught.Held {
		t.Errorf("with the key a catch-up of a socket ends with %+v", caught)
	}
	// A catch-up that begins later returns all of it at once, each room in its order.
	if got := eve.syncAll(cursor, 1).messages(); len(got) != 3 || slices.Index(got, want[0]) != slices.Index(got, want[1])-1 {
		t.Errorf("with the key a sync of everything returns %v, want %v and %v", got, want, elsewhere)
	}
}

// On a socket a message whose key comes later arrives without its data: its client catches up by a sync, which
// waits for the key.
func TestSocketWithoutKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu := w.region(t, "us"), w.region(t, "eu")
	eu.stream.BusOpens = true // it would wait for the key
	room := us.as("bob").room(`{"name":"Engine"}`)
	for _, user := range []string{"ada", "eve"} {
		us.as(user).put(room+"/members/"+user, "").want(200)
	}
	us.as("bob").say(room, "which makes a key for bob")
	us.Sync()
	replicate(us, eu)
	eve := eu.as("eve").listen()
	eve.take()
	held, behind := us.as("ada").say(room, "sealed with a new key"), us.as("bob").say(room, "behind it")
	us.Sync()
	replicateEvents(us, eu)
	replicateKeys(us, eu)
	again := us.as("ada").say(room, "the key is there by now")
	us.Sync()
	replicateEvents(us, eu)
	want := []string{held.String() + " true", behind.String() + " false", again.String() + " false"}
	var got []string
	for _, f := range eve.take() {
		got = append(got, fmt.Sprint(f.Event.ID, " ", f.Partial))
		if f.Partial != (f.Event.Data == nil) {
			t.Errorf("%s is partial: %v, and has the data %s", f.Event.ID, f.Partial, f.Event.Data)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("a socket receives %v, want %v", got, want)
	}
}

// Events of several rooms wait for a key. However short the pages, they end, and have what need not wait.
func TestSyncWaitsInSeveralRooms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		us, eu := w.region(t, "us"), w.region(t, "eu")
		eu.stream.BusOpens = true // it would wait for the key
		ada, bob := us.as("ada"), us.as("bob")
		var rooms []string
		for range 5 {
			room := bob.room(`{"name":"Engine"}`)
			us.as("eve").put(room+"/members/eve", "").want(200)
			ada.put(room+"/members/ada", "").want(200)
			rooms = append(rooms, room)
		}
		bob.say(rooms[0], "which makes a key for bob")
		us.Sync()
		replicate(us, eu)
		w.pass(time.Minute)
		cursor := eu.as("eve").cursor()
		var want []string
		for i, room := range rooms {
			if i%2 == 0 {
				ada.say(room, "sealed with a new key")
				bob.say(room, "behind it")
			} else {
				want = append(want, bob.say(room, "one").String(), bob.say(room, "two").String())
			}
		}
		us.Sync()
		replicateEvents(us, eu)
		for limit := 1; limit <= 8; limit++ {
			got, n := []string{}, news{Cursor: cursor, More: true}
			for pages := 0; n.More; pages++ {
				n = eu.as("eve").sync(n.Cursor, fmt.Sprint("&limit=", limit))
				got = append(got, n.messages()...)
				if pages > 20 {
					t.Fatalf("with pages of %d there is always more", limit)
				}
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("with pages of %d a sync returns %v, want %v", limit, got, want)
			}
		}
	})
}

// follower follows the rooms of a user by sync, and knows what it has to receive.
type follower struct {
	*client
	cursor    string
	delivered map[string]int    // by stream and id
	last      map[string]uint64 // the last position, by stream
	since     map[string]uint64 // the position in each room behind which the user is a member
}

// wantAll fails unless everything was delivered that has arrived in the rooms of the user since the
// user joined, and of the user's own.
func (f *follower) wantAll() {
	t := f.r.t
	t.Helper()
	streams := []string{"user/" + f.user}
	for room := range f.since {
		streams = append(streams, "room/"+room)
	}
	for _, stream := range streams {
		_, room := events.Stream(stream).Split() // a user is not among the rooms
		list, _, err := projections.ListFeed(t.Context(), f.r.views, events.Stream(stream), f.since[room], 100_000)
		must(t, err)
		for _, e := range list {
			if f.delivered[stream+" "+e.Ref.ID.String()] == 0 {
				t.Errorf("%s at %d of %s is never delivered", e.Type, e.Position, stream)
			}
		}
	}
}

// follow takes what the next pages bring, at most so many, and reports whether there is more.
func (f *follower) follow(limit, pages int) (more bool) {
	t := f.r.t
	t.Helper()
	for more = true; more && pages > 0; pages-- {
		n := f.sync(f.cursor, fmt.Sprint("&limit=", limit))
		if len(n.Events) > limit || n.Reset || len(n.Cursor) > api.MaxCursor {
			t.Fatalf("a page of at most %d has %d events, reset %v, a cursor of %d bytes", limit, len(n.Events), n.Reset, len(n.Cursor))
		}
		for _, e := range n.Events {
			f.delivered[e.Stream+" "+e.Event.ID]++
			_, member := f.since[e.Room]
			switch {
			case e.Position == 0: // no member: only what concerns the user
				if member && f.delivered[e.Stream+" "+e.Event.ID] > 1 {
					t.Errorf("%s of %s is delivered again", e.Event.Type, e.Stream)
				}
				if !slices.Contains([]string{"member.joined", "member.left", "member.banned", "member.unbanned", "member.invited"}, e.Event.Type) {
					t.Errorf("%s of %s is delivered to no member", e.Event.Type, e.Stream)
				}
				continue
			case e.Room != "" && !member:
				t.Errorf("%s of %s is delivered to no member, at %d", e.Event.Type, e.Stream, e.Position)
			case e.Position <= f.last[e.Stream]:
				t.Errorf("%s: position %d is delivered behind %d", e.Stream, e.Position, f.last[e.Stream])
			}
			f.last[e.Stream] = e.Position
		}
		f.cursor, more = n.Cursor, n.More
	}
	return more
}

// In its own region a cursor brings each event once, in order within a stream: over many rooms, joined and
// left in between, in pages of every size, with pauses of every length, interrupted anywhere.
func TestSyncOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			testSyncOnce(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func testSyncOnce(t *testing.T, random *rand.Rand) {
	r := newRegion(t)
	var rooms []string
	for n := range 15 {
		rooms = append(rooms, r.as("bob").room(fmt.Sprintf(`{"name":"Room %d"}`, n)))
	}
	r.Sync()
	f := &follower{client: r.as("ada"), delivered: map[string]int{}, last: map[string]uint64{}, since: map[string]uint64{}}
	f.cursor = f.client.cursor()
	more := false
	for range 40 {
		for range random.IntN(12) {
			room := rooms[random.IntN(len(rooms))]
			_, member := f.since[roomOf(room)]
			switch choice := random.IntN(10); {
			case choice == 0 && member && !more: // else what a page has begun to list is taken away
				f.delete(room + "/members/ada").want(200)
				delete(f.since, roomOf(room))
			case choice <= 2 && !member:
				r.Sync()
				heads, err := projections.LoadHeads(t.Context(), r.views, events.RoomStream(roomOf(room)))
				must(t, err)
				f.put(room+"/members/ada", "").want(200)
				f.since[roomOf(room)] = heads[0].Position
			case choice == 3:
				f.put("/v1/users/ada", fmt.Sprintf(`{"name":"Ada %d"}`, random.IntN(1000))).want(200)
			case choice == 4: // a burst
				for range 1 + random.IntN(30) {
					r.as("bob").say(room, "again")
				}
			default:
				r.as("bob").say(room, "hello")
			}
			if random.IntN(3) == 0 {
				r.Sync()
			}
		}
		r.Sync()
		r.pass(time.Duration(random.IntN(40)) * time.Second)
		if random.IntN(10) == 0 {
			r.pass(time.Hour)
		}
		if more = f.follow(1+random.IntN(40), 1+random.IntN(4)); random.IntN(2) == 0 {
			for more {
				more = f.follow(1+random.IntN(200), 1)
			}
			// A catch-up that began before may not have what arrived since.
			for more = true; more; {
				more = f.follow(1+random.IntN(200), 1)
			}
			f.wantAll()
		}
		if t.Failed() {
			return
		}
	}
	f.follow(50, 10_000)
	f.follow(3, 10_000)
	f.wantAll()
	for what, n := range f.delivered {
		if n > 1 {
			t.Errorf("%s is delivered %d times", what, n)
		}
	}
	if len(f.delivered) < 200 {
		t.Errorf("only %d events were delivered", len(f.delivered))
	}
}

// Of a user with more active rooms than a cursor has places, a sync may repeat what arrived in the last half
// minute, and omits nothing; the cursor stays within its bound.
func TestSyncOfManyActiveRooms(t *testing.T) {
	t.Parallel()
	const more = 40 // than a cursor has places
	r := newRegion(t)
	var rooms []string
	for n := range projections.MaxPlaces + more {
		rooms = append(rooms, r.as("ada").room(fmt.Sprintf(`{"name":"Room %d"}`, n)))
	}
	r.Sync()
	r.pass(time.Minute)
	r.step.Store(int64(time.Millisecond) / 10) // all within half a minute
	cursor := r.as("ada").cursor()
	delivered := map[string]int{}
	for _, limit := range []int{100, 200, 64} {
		r.pass(time.Minute)
		want := map[string]bool{}
		for _, room := range rooms {
			want[r.as("ada").say(room, "hello").String()] = true
		}
		r.Sync()
		repeats := 0
		for left := true; left; {
			n := r.as("ada").sync(cursor, fmt.Sprint("&limit=", limit))
			if len(n.Cursor) > api.MaxCursor || n.Reset {
				t.Fatalf("the cursor has %d bytes, reset %v", len(n.Cursor), n.Reset)
			}
			for _, id := range n.messages() {
				delete(want, id)
				if delivered[id]++; delivered[id] > 1 {
					repeats++
				}
			}
			if cursor, left = n.Cursor, n.More; repeats > len(rooms) {
				t.Fatal("a sync does not end")
			}
		}
		if len(want) > 0 {
			t.Errorf("in pages of %d, %d of %d messages are not delivered", limit, len(want), len(rooms))
		}
		t.Logf("in pages of %d: %d messages again, a cursor of %d bytes", limit, repeats, len(cursor))
	}
	r.pass(time.Minute)
	cursor = r.as("ada").syncAll(cursor, 200).Cursor
	if n := r.as("ada").sync(cursor); len(n.Events) > 0 || len(n.Cursor) > api.MaxPlainCursor {
		t.Errorf("when all is quiet a sync returns %v, and a cursor of %d bytes", n.types(), len(n.Cursor))
	}
}
