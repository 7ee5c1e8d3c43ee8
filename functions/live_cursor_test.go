package functions_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// heard is what a socket got, by stream and id.
func (s *socket) heard() (all []string) {
	s.r.t.Helper()
	for _, f := range s.take() {
		if f.Type == "event" {
			all = append(all, f.Event.Stream+" "+f.Event.ID)
		}
	}
	slices.Sort(all)
	return all
}

// toldSince is what a sync returns from a cursor on, in pages of a size.
func (c *client) toldSince(cursor string, limit int) (all []string) {
	c.r.t.Helper()
	for _, e := range c.syncAll(cursor, limit).Events {
		all = append(all, e.Stream+" "+e.Event.ID)
	}
	slices.Sort(all)
	return all
}

// less returns what one list has and the other has not.
func less(one, other []string) []string {
	return slices.DeleteFunc(slices.Clone(one), func(s string) bool { return slices.Contains(other, s) })
}

// Behind the cursors of subscribed, of pongs and of caught_up there is just what the socket gets after them:
// nothing is lost, and within the region nothing comes twice. That of an event frame lies further back.
func TestLiveCursors(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			testLiveCursors(t, rand.New(rand.NewPCG(seed, 2)))
		})
	}
}

func testLiveCursors(t *testing.T, random *rand.Rand) {
	r := newRegion(t)
	ada, bob := r.as("ada"), r.as("bob")
	var rooms []string
	for n := range 8 {
		rooms = append(rooms, bob.room(fmt.Sprintf(`{"name":"Room %d"}`, n)))
	}
	joined := 3
	for _, room := range rooms[:joined] {
		ada.put(room+"/members/ada", "").want(200)
	}
	r.Sync()
	r.pass(time.Minute) // otherwise a new member also receives the events just before the join
	// happen lets some events happen, and not all of them arrive.
	happen := func() {
		for range random.IntN(8) {
			switch random.IntN(8) {
			case 0:
				if joined < len(rooms) {
					r.Sync()
					r.pass(time.Minute)
					ada.put(rooms[joined]+"/members/ada", "").want(200)
					joined++
				}
			case 1:
				ada.put("/v1/users/ada", fmt.Sprintf(`{"name":"Ada %d"}`, random.IntN(1000))).want(200)
			default:
				bob.say(rooms[random.IntN(joined)], "hello")
			}
			if random.IntN(3) == 0 {
				r.Sync()
			}
		}
		r.pass(time.Duration(random.IntN(20)) * time.Second)
	}
	type mark struct {
		what, cursor string
		heard        int // by the socket before it
	}
	var marks []mark
	var heard []string
	happen()
	before := ada.cursor()
	missed := ada.toldSince(before, 100)
	happen()
	k := ada.open()
	marks = append(marks, mark{"subscribed", k.ask(`{"action":"subscribe"}`).is(t, "subscribed").Cursor, 0})
	missed = append(missed, ada.toldSince(before, 7)...) // until subscribed
	for range 12 {
		happen()
		if random.IntN(2) == 0 {
			r.Sync()
		}
		heard = append(heard, k.heard()...)
		if random.IntN(3) == 0 {
			f := k.ask(`{"action":"ping"}`).is(t, "pong")
			marks = append(marks, mark{"pong", f.Cursor, len(heard)})
			continue
		}
		frames := k.send(fmt.Sprintf(`{"action":"catchup","cursor":%q}`, marks[len(marks)-1].cursor))
		last := frames[len(frames)-1].is(t, "caught_up")
		if last.More {
			t.Fatal("there is more than a page")
		}
		marks = append(marks, mark{"caught_up", last.Cursor, len(heard)})
	}
	happen()
	r.Sync()
	frames := k.take()
	for _, f := range frames {
		heard = append(heard, f.Event.Stream+" "+f.Event.ID)
		for _, id := range ada.toldSince(f.Cursor, 200) { // goes back some seconds
			if !slices.Contains(heard, id) && !slices.ContainsFunc(frames, func(f frame) bool { return f.Event.Stream+" "+f.Event.ID == id }) && !slices.Contains(missed, id) {
				t.Errorf("behind the cursor of a frame there is %s, which the socket never got", id)
			}
		}
	}
	if once := slices.Compact(slices.Sorted(slices.Values(heard))); len(once) != len(heard) || len(once) < 20 {
		t.Errorf("the socket gets %d events, %d different", len(heard), len(once))
	}
	for _, m := range marks {
		want := slices.Sorted(slices.Values(heard[m.heard:]))
		for _, limit := range []int{1 + random.IntN(5), 200} {
			if got := ada.toldSince(m.cursor, limit); !slices.Equal(got, want) {
				t.Errorf("behind the cursor of a %s, in pages of %d, are not delivered %v, and delivered %v", m.what, limit, less(want, got), less(got, want))
			}
		}
	}
	// What a subscribe with a cursor brings, and then its own cursor, is all there is.
	all := ada.toldSince(before, 200)
	again := ada.open()
	frames = again.send(fmt.Sprintf(`{"action":"subscribe","cursor":%q}`, before))
	answer := frames[len(frames)-1].is(t, "subscribed")
	var got []string
	for _, f := range frames[:len(frames)-1] {
		got = append(got, f.is(t, "event").Event.Stream+" "+f.Event.ID)
	}
	if slices.Sort(got); !slices.Equal(got, all) || answer.More || answer.Reset {
		t.Errorf("a subscribe with a cursor brings\n%v, want\n%v", got, all)
	}
	if rest := ada.toldSince(answer.Cursor, 100); len(rest) > 0 {
		t.Errorf("behind the cursor of its answer there are %v", rest)
	}
}

// The cursor of an event frame repeats what came just before, and omits nothing that came after it.
func TestLiveCursorOfFrame(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	k := s.as("bob").listen()
	var ids []string
	for n := range 10 {
		ids = append(ids, s.as("ada").say(s.room, fmt.Sprint(n)).String())
		s.Sync()
		s.pass(7 * time.Second)
	}
	frames := k.take()
	if got := messagesOf(frames); !slices.Equal(got, ids) {
		t.Fatalf("the socket gets %v, want %v", got, ids)
	}
	for i, f := range frames {
		delivered := s.as("bob").syncAll(f.Cursor, 100).messages()
		if first := slices.Index(ids, delivered[0]); len(delivered) != len(ids)-first || first > i {
			t.Errorf("behind the cursor of frame %d there are %v of %v", i, delivered, ids)
		}
	}
}
