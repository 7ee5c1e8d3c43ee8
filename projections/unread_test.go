package projections_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// unreadWorld is one room in several regions, to which events come late and in any order, and what its users have
// read by the rules of [projections.Unread].
type unreadWorld struct {
	t       failer
	now     time.Time
	n       uint32
	regions []*unreadRegion
	all     []events.Event
	covered map[events.ID]map[events.ID]bool // by read marker, the messages that had arrived where it was set
	setIn   map[events.ID]*unreadRegion      // where a read marker was set
}

type unreadRegion struct {
	views   *viewtest.Model
	engine  *projections.Engine
	feed    *projections.Feed
	pending []events.Event
	arrived []events.Event
}

var unreadUsers = []string{"ada", "bob", "eve"}

func newUnreadWorld(t failer, regions int) *unreadWorld {
	w := &unreadWorld{t: t, now: time.UnixMilli(1_900_000_000_000), covered: map[events.ID]map[events.ID]bool{}, setIn: map[events.ID]*unreadRegion{}}
	for i := range regions {
		r := &unreadRegion{views: viewtest.NewModel()}
		r.engine = projections.NewEngine(nil, r.views, projections.All()...)
		r.feed = projections.NewFeed(fmt.Sprint("region", i), r.views)
		r.feed.Now = func() time.Time { return w.now }
		w.regions = append(w.regions, r)
	}
	w.accept(w.regions[0], "ada", 0, func(events.ID) (events.Stream, events.Payload) {
		return "", events.RoomCreated{Name: "Plain"}
	})
	for _, user := range unreadUsers[1:] {
		w.inRoom(w.regions[0], user, events.MemberJoined{User: user, Role: events.RoleMember})
	}
	w.settle()
	return w
}

func (w *unreadWorld) room() events.Stream { return w.all[0].Stream }

// accept makes an event in a region, where it arrives at once; in the others it is under way.
func (w *unreadWorld) accept(in *unreadRegion, actor string, age time.Duration, make func(events.ID) (events.Stream, events.Payload)) events.Event {
	w.n++
	w.now = w.now.Add(time.Millisecond)
	return w.acceptID(in, makeID(uint64(w.now.Add(-age).UnixMilli()), actor, w.n), actor, make)
}

func (w *unreadWorld) acceptID(in *unreadRegion, id events.ID, actor string, make func(events.ID) (events.Stream, events.Payload)) events.Event {
	stream, payload := make(id)
	if stream == "" {
		stream = events.RoomStream(id.String())
	}
	e := newEvent(id, stream, actor, "eu", payload)
	w.all = append(w.all, e)
	for _, r := range w.regions {
		r.pending = append(r.pending, e)
	}
	w.deliver(in, e)
	return e
}

func (w *unreadWorld) inRoom(in *unreadRegion, actor string, p events.Payload) events.Event {
	return w.accept(in, actor, 0, func(events.ID) (events.Stream, events.Payload) { return w.room(), p })
}

func (w *unreadWorld) post(in *unreadRegion, actor string, age time.Duration, imported bool) events.Event {
	hello := func(events.ID) (events.Stream, events.Payload) {
		return w.room(), events.MessagePosted{Text: events.Plain("hello")}
	}
	if imported {
		w.n++
		return w.acceptID(in, events.ImportedID(uint64(w.now.Add(-age).UnixMilli()), 0, w.n), actor, hello)
	}
	return w.accept(in, actor, age, hello)
}

// read sets a user's read marker to a message, as the command does.
func (w *unreadWorld) read(in *unreadRegion, user string, upTo events.ID) {
	room := w.room().Name()
	seen, err := projections.CountSeen(context.Background(), in.views, room, upTo)
	if err != nil {
		w.t.Fatalf("CountSeen: %v", err)
	}
	covered := map[events.ID]bool{}
	for _, m := range in.messages() {
		covered[m.ID] = m.ID.Compare(upTo) <= 0
	}
	e := w.accept(in, user, 0, func(events.ID) (events.Stream, events.Payload) {
		return events.UserStream(user), events.RoomRead{Room: room, UpTo: upTo, Seen: &seen}
	})
	if w.setIn[e.ID] = in; seen != events.SeenUnknown {
		w.covered[e.ID] = covered
	}
}

// deliver brings events to a region, in their order.
func (w *unreadWorld) deliver(r *unreadRegion, es ...events.Event) {
	batch := arrivals(es...)
	for i := range batch {
		batch[i].At = w.now
	}
	apply(w.t, r.engine, batch)
	if _, _, err := r.feed.Append(context.Background(), batch); err != nil {
		w.t.Fatalf("append to a feed: %v", err)
	}
	r.arrived = append(r.arrived, es...)
	r.pending = slices.DeleteFunc(r.pending, func(p events.Event) bool {
		return slices.ContainsFunc(es, func(e events.Event) bool { return e.Ref() == p.Ref() })
	})
}

// settle brings everything everywhere.
func (w *unreadWorld) settle() {
	for _, r := range w.regions {
		if len(r.pending) > 0 {
			w.now = w.now.Add(time.Second)
			w.deliver(r, slices.Clone(r.pending)...)
		}
	}
}

func (r *unreadRegion) messages() (posted []events.Event) {
	for _, e := range r.arrived {
		if _, is := e.Payload.(events.MessagePosted); is {
			posted = append(posted, e)
		}
	}
	return posted
}

func (r *unreadRegion) last() events.ID {
	ids := []events.ID{{}}
	for _, m := range r.messages() {
		ids = append(ids, m.ID)
	}
	return slices.MaxFunc(ids, events.ID.Compare)
}

// unread is what the region says of a user's unread messages.
func (w *unreadWorld) unread(r *unreadRegion, user string) projections.Unread {
	inbox, _, err := projections.LoadInbox(context.Background(), r.views, user, "", 10)
	if err != nil || len(inbox) != 1 {
		w.t.Fatalf("the inbox of %s has %d rooms, error %v", user, len(inbox), err)
	}
	return inbox[0].Unread
}

// counted is the recount: at least and at most so many are unread by the rules. They differ only in a region that
// cannot know which of the messages before the marker came late, where some of those do not count.
func (w *unreadWorld) counted(r *unreadRegion, user string) (least, most int, in bool) {
	var since, markedUnread events.ID
	var marker events.Event
	var upTo events.ID
	deleted := map[events.ID]bool{}
	known := slices.SortedFunc(slices.Values(r.arrived), func(a, b events.Event) int { return a.Ref().Compare(b.Ref()) })
	for _, e := range known {
		switch p := e.Payload.(type) {
		case events.RoomCreated:
			if e.Actor == user {
				since, in = e.ID, true
			}
		case events.MemberJoined:
			if p.User == user {
				since, in = e.ID, true
			}
		case events.MemberLeft:
			if p.User == user {
				in = false
			}
		case events.MessageDeleted:
			deleted[p.Message] = true
		case events.RoomMarkedUnread:
			if e.Actor == user {
				marker, upTo, markedUnread = e, events.PrecedingID(p.From), e.ID
			}
		case events.RoomRead:
			further := p.UpTo.Compare(upTo)
			if further == 0 && marker.ID != (events.ID{}) {
				if before, is := marker.Payload.(events.RoomRead); is && uint64(*before.Seen) > uint64(*p.Seen) {
					further = -1
				}
			}
			if e.Actor == user && further >= 0 {
				marker, upTo = e, p.UpTo
			}
		}
	}
	covered, hasLate := w.covered[marker.ID], w.covered[marker.ID] != nil
	if since.Compare(upTo) > 0 && since.Compare(markedUnread) > 0 {
		upTo, hasLate = since, false
	}
	late, lateCounts, mayNotCount := 0, 0, false
	for _, m := range r.messages() {
		imported := events.Imported(m.ID)
		counts := m.Actor != user && !deleted[m.ID] && !imported
		switch order := m.ID.Compare(upTo); {
		case order > 0 && counts:
			least++
		case order < 0 && hasLate && !imported:
			mayNotCount = mayNotCount || !counts
			if !covered[m.ID] {
				if late++; counts {
					lateCounts++
				}
			}
		}
	}
	if w.setIn[marker.ID] == r || !mayNotCount {
		return least + lateCounts, least + lateCounts, in
	}
	return least, least + late, in
}

// check compares the counts of a region with the recount, where it has all that the marker covers.
func (w *unreadWorld) check(r *unreadRegion) {
	w.t.Helper()
	for _, user := range unreadUsers {
		for marker, covered := range w.covered {
			i := slices.IndexFunc(r.arrived, func(e events.Event) bool { return e.ID == marker && e.Actor == user })
			for id, is := range covered {
				if i >= 0 && is && !slices.ContainsFunc(r.arrived, func(e events.Event) bool { return e.ID == id }) {
					return // some of it is still under way
				}
			}
		}
		least, most, in := w.counted(r, user)
		if !in {
			continue
		}
		got := w.unread(r, user)
		if got.Count < min(least, projections.MaxUnread) || got.Count > most || got.AtLeast != (got.Count == projections.MaxUnread) {
			w.t.Fatalf("%s has %+v unread in region %d, want %d to %d", user, got, slices.Index(w.regions, r), least, most)
		}
	}
}

// Unread counts agree with a recount in all regions, whatever order events arrive in: late and imported messages,
// deletions, reactions, memberships that end and begin, markers that go on and back. What is read is read everywhere.
func TestUnreadIsCounted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newUnreadWorld(t, rapid.IntRange(1, 3).Draw(t, "regions"))
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			r := rapid.SampledFrom(w.regions).Draw(t, "region")
			user := rapid.SampledFrom(unreadUsers).Draw(t, "user")
			messages := r.messages()
			step := rapid.SampledFrom([]string{
				"post", "post", "post", "late", "import", "delete", "react", "leave", "join", "read", "read", "read some", "unread", "deliver", "deliver", "wait",
			}).Draw(t, "step")
			_, _, in := w.counted(r, user)
			about := events.ID{}
			if len(messages) > 0 {
				about = rapid.SampledFrom(messages).Draw(t, "message").ID
			}
			switch {
			case step == "post" && in:
				w.post(r, user, 0, false)
			case step == "late" && in:
				w.post(r, user, time.Duration(rapid.Int64Range(0, int64(23*time.Hour)).Draw(t, "age")), false)
			case step == "import":
				for range rapid.IntRange(1, 4).Draw(t, "imported") {
					w.post(r, user, time.Duration(rapid.Int64Range(0, 9000).Draw(t, "hours"))*time.Hour, true)
				}
			case step == "leave" && in && user != "ada":
				w.inRoom(r, user, events.MemberLeft{User: user})
			case step == "join" && !in:
				w.inRoom(r, user, events.MemberJoined{User: user, Role: events.RoleMember})
			case step == "deliver" && len(r.pending) > 0:
				some := rapid.Permutation(slices.Clone(r.pending)).Draw(t, "order")
				w.deliver(r, some[:rapid.IntRange(1, len(some)).Draw(t, "delivered")]...)
			case step == "wait":
				w.now = w.now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "wait")))
			case about == events.ID{}:
			case step == "delete":
				w.inRoom(r, "ada", events.MessageDeleted{Message: about, Moderated: true})
			case step == "react":
				for range rapid.SampledFrom([]int{1, 3, 150}).Draw(t, "reactions") {
					w.inRoom(r, user, events.ReactionAdded{Message: about, Emoji: "👍"})
				}
			case step == "read" && in:
				w.read(r, user, r.last())
				if _, most, _ := w.counted(r, user); most == 0 && w.unread(r, user).Count != 0 {
					t.Fatalf("%s has read all, and has %+v unread", user, w.unread(r, user))
				}
			case step == "read some" && in:
				w.read(r, user, about)
			case step == "unread" && in:
				w.accept(r, user, 0, func(events.ID) (events.Stream, events.Payload) {
					return events.UserStream(user), events.RoomMarkedUnread{Room: w.room().Name(), From: about}
				})
			}
			w.check(r)
		}
		w.settle()
		for _, r := range w.regions {
			w.check(r)
		}
		// Who reads all in one region has read all in every region.
		r := rapid.SampledFrom(w.regions).Draw(t, "region")
		for _, user := range unreadUsers {
			if _, _, in := w.counted(r, user); in && len(r.messages()) > 0 {
				w.read(r, user, r.last())
			}
		}
		w.settle()
		for i, r := range w.regions {
			for _, user := range unreadUsers {
				if _, _, in := w.counted(r, user); in && w.unread(r, user) != (projections.Unread{}) {
					t.Fatalf("%s has read all, and has %+v unread in region %d", user, w.unread(r, user), i)
				}
			}
		}
	})
}

// addMany posts or reacts many times, in one batch.
func (w *unreadWorld) addMany(r *unreadRegion, n int, actor string, payload func(i int) events.Payload) {
	w.addWith(r, n, actor, payload, func() events.ID { return makeID(uint64(w.now.UnixMilli()), actor, w.n) })
}

// importMany imports many messages, by ada.
func (w *unreadWorld) importMany(r *unreadRegion, n int) {
	hello := func(int) events.Payload { return events.MessagePosted{Text: events.Plain("hello")} }
	w.addWith(r, n, "ada", hello, func() events.ID { return events.ImportedID(uint64(w.now.UnixMilli()), uint16(w.n), w.n) })
}

func (w *unreadWorld) addWith(r *unreadRegion, n int, actor string, payload func(i int) events.Payload, id func() events.ID) {
	var batch []events.Event
	for i := range n {
		w.n++
		if i%100 == 0 {
			w.now = w.now.Add(time.Second)
		}
		batch = append(batch, newEvent(id(), w.room(), actor, "eu", payload(i)))
	}
	w.all = append(w.all, batch...)
	w.deliver(r, batch...)
}

// Counting stops at its bounds, says so, and is never 0 because of one.
func TestUnreadBounds(t *testing.T) {
	t.Parallel()
	hello := func(int) events.Payload { return events.MessagePosted{Text: events.Plain("hello")} }
	want := func(t *testing.T, w *unreadWorld, count int, atLeast bool) {
		t.Helper()
		if got := w.unread(w.regions[0], "bob"); got != (projections.Unread{Count: count, AtLeast: atLeast}) {
			t.Errorf("bob has %+v unread, want %d, at least: %v", got, count, atLeast)
		}
	}
	react := func(w *unreadWorld, n int) {
		about := w.regions[0].messages()[0].ID
		w.addMany(w.regions[0], n, "eve", func(i int) events.Payload {
			return events.ReactionAdded{Message: about, Emoji: fmt.Sprintf(":%d:", i%20)}
		})
	}
	t.Run("many", func(t *testing.T) {
		w := newUnreadWorld(t, 1)
		w.addMany(w.regions[0], 99, "ada", hello)
		want(t, w, 99, false)
		w.addMany(w.regions[0], 1, "ada", hello)
		want(t, w, 100, true)
		w.addMany(w.regions[0], 150, "ada", hello)
		react(w, 3000)
		want(t, w, 100, true)
		w.read(w.regions[0], "bob", w.regions[0].last())
		want(t, w, 0, false)
	})
	t.Run("reactions", func(t *testing.T) {
		w := newUnreadWorld(t, 1)
		w.addMany(w.regions[0], 3, "ada", hello)
		w.read(w.regions[0], "bob", w.regions[0].messages()[0].ID)
		want(t, w, 2, false)
		for range 3 {
			react(w, 900)
			want(t, w, 2, false)
		}
		w.post(w.regions[0], "ada", time.Hour, false) // late
		want(t, w, 3, false)
		react(w, 900)
		want(t, w, 3, false)
		react(w, 2100)
		want(t, w, 2, true) // which came late is not known any more
		w.read(w.regions[0], "bob", w.regions[0].last())
		want(t, w, 0, false)
	})
	t.Run("own messages", func(t *testing.T) {
		w := newUnreadWorld(t, 1)
		w.addMany(w.regions[0], 2, "ada", hello)
		w.addMany(w.regions[0], 900, "bob", hello)
		want(t, w, 2, false)
		w.addMany(w.regions[0], 200, "bob", hello)
		want(t, w, 1, true)
	})
	t.Run("imported", func(t *testing.T) {
		w := newUnreadWorld(t, 1)
		w.importMany(w.regions[0], 3000)
		want(t, w, 0, false)
		w.now = w.now.Add(time.Hour)
		w.addMany(w.regions[0], 2, "ada", hello)
		want(t, w, 2, false)
		w.importMany(w.regions[0], 900)
		want(t, w, 2, false)
		w.read(w.regions[0], "bob", w.regions[0].last())
		for range 20 {
			w.post(w.regions[0], "ada", 365*24*time.Hour, true)
		}
		want(t, w, 0, false)
		w.post(w.regions[0], "ada", time.Hour, false)
		want(t, w, 1, false)
	})
}

// A message that arrives after the marker was set and sorts before it is unread in every region, and reading again
// clears it. A mark as unread goes back, and reading goes on from there.
func TestLateMessagesAndMarksAsUnread(t *testing.T) {
	t.Parallel()
	w := newUnreadWorld(t, 3)
	us, eu := w.regions[0], w.regions[1]
	want := func(count int) {
		t.Helper()
		for i, r := range w.regions {
			if got := w.unread(r, "bob"); got != (projections.Unread{Count: count}) {
				t.Errorf("bob has %+v unread in region %d, want %d", got, i, count)
			}
		}
	}
	late := w.post(us, "ada", 0, false) // under way to eu
	second := w.post(eu, "eve", 0, false)
	w.read(eu, "bob", second.ID)
	w.settle()
	want(1)
	w.read(eu, "bob", second.ID)
	w.settle()
	want(0)
	offline := w.post(us, "eve", 2*time.Hour, false)
	w.settle()
	want(1)
	w.inRoom(eu, "eve", events.MessageDeleted{Message: offline.ID})
	w.settle()
	want(0)
	third := w.post(us, "ada", 0, false)
	w.post(us, "bob", 0, false)
	w.settle()
	want(1)
	w.read(us, "bob", us.last())
	w.accept(eu, "bob", 0, func(events.ID) (events.Stream, events.Payload) {
		return events.UserStream("bob"), events.RoomMarkedUnread{Room: w.room().Name(), From: late.ID}
	})
	w.settle()
	want(3)
	w.read(us, "bob", second.ID)
	w.settle()
	want(1)
	w.read(eu, "bob", third.ID)
	w.settle()
	want(0)
}
