package projections_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// lanes is how many shards the change stream of each region of the property below has.
const lanes = 4

// syncRegion is a region of the property below: its log, views and feeds, what is on its way to it, and what
// its change stream has not delivered yet.
type syncRegion struct {
	name     string
	world    *syncWorld
	log      *logtest.Model
	views    projections.Views
	has      map[events.Ref]bool
	inserted []events.Record          // all of the change stream
	waiting  [lanes][]events.Record   // of each lane
	stuck    [lanes]bool              // nothing of the lane is handled
	handled  map[events.Ref]time.Time // when an event was handled first
	coming   []transit                // from other regions
	rebuilt  int                      // how often the views were lost
	isolated bool
}

// transit is an event on its way to a region.
type transit struct {
	event events.Event
	at    time.Time
}

func (w *syncWorld) newRegion(name string) *syncRegion {
	return &syncRegion{
		name: name, world: w, log: logtest.NewModel(), views: viewtest.NewModel(), has: map[events.Ref]bool{}, handled: map[events.Ref]time.Time{},
	}
}

func (r *syncRegion) syncer() projections.Syncer {
	return projections.Syncer{Region: r.name, Log: r.log, Views: r.views, Now: r.world.now}
}

// insert puts an event into the log, and so into the change stream.
func (r *syncRegion) insert(e events.Event) {
	if r.has[e.Ref()] {
		return
	}
	if _, _, err := r.log.Append(context.Background(), e); err != nil {
		r.world.t.Fatal(err)
	}
	r.has[e.Ref()] = true
	record := events.Record{Event: e, Number: events.Number(strconv.Itoa(len(r.inserted) + 1))}
	r.inserted = append(r.inserted, record)
	for i := range r.waiting {
		if (events.Part{Index: i, Of: lanes}).Holds(e.Stream) {
			r.waiting[i] = append(r.waiting[i], record)
		}
	}
}

// handle handles records as a stream function does that has just been started: it folds them, adds them to
// the feeds and appends the late notices.
func (r *syncRegion) handle(records []events.Record) {
	t, batch := r.world.t, make([]projections.Arrival, len(records))
	for i, record := range records {
		batch[i] = projections.Arrival{Event: record.Event, Number: record.Number}
	}
	if _, err := projections.NewEngine(r.log, r.views, projections.All()...).Apply(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	feed := projections.NewFeed(r.name, r.views)
	feed.Now = r.world.now
	_, late, err := feed.Append(context.Background(), batch)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range batch {
		if _, again := r.handled[a.Event.Ref()]; !again {
			r.handled[a.Event.Ref()] = r.world.at
		}
	}
	for _, of := range late {
		notice, err := of.Notice(r.name)
		if err != nil {
			t.Fatal(err)
		}
		if !r.has[notice.Ref()] {
			r.world.notices++
			r.insert(notice)
			r.world.replicate(r, notice)
		}
	}
}

// run handles what waits in the lanes that are not stuck, in batches; some come again, whole or in part.
func (r *syncRegion) run() {
	t := r.world.t
	for i := range r.waiting {
		for !r.stuck[i] && len(r.waiting[i]) > 0 {
			n := rapid.IntRange(1, min(len(r.waiting[i]), 30)).Draw(t, "batch")
			batch := r.waiting[i][:n]
			r.handle(batch)
			if rapid.IntRange(0, 3).Draw(t, "again") == 0 {
				r.handle(batch[rapid.IntRange(0, n-1).Draw(t, "again from"):])
			}
			r.waiting[i] = r.waiting[i][n:]
		}
	}
}

// rebuild loses the views, and makes them again from the log.
func (r *syncRegion) rebuild() {
	r.views = viewtest.NewModel()
	r.rebuilt++
	var all []projections.Arrival
	for _, record := range r.inserted {
		if _, handled := r.handled[record.Event.Ref()]; handled {
			all = append(all, projections.Arrival{Event: record.Event})
		}
	}
	feed := projections.NewFeed(r.name, r.views)
	feed.Now, feed.Rebuild = r.world.now, true
	for batch := range slices.Chunk(all, 100) {
		if _, err := projections.NewEngine(r.log, r.views, projections.All()...).Apply(context.Background(), batch); err != nil {
			r.world.t.Fatal(err)
		}
		if _, _, err := feed.Append(context.Background(), batch); err != nil {
			r.world.t.Fatal(err)
		}
	}
}

// syncWorld is three regions and all that they accepted.
type syncWorld struct {
	t       *rapid.T
	at      time.Time
	clock   *events.Clock
	regions []*syncRegion
	all     []events.Event
	notices int
}

func (w *syncWorld) now() time.Time { return w.at }

// accept accepts an event in a region and replicates it to the others.
func (w *syncWorld) accept(r *syncRegion, stream events.Stream, actor string, p events.Payload) events.Event {
	id, err := w.clock.Mint(actor)
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := events.New(id, stream, actor, r.name, p)
	if err != nil {
		w.t.Fatal(err)
	}
	w.all = append(w.all, e)
	r.insert(e)
	w.replicate(r, e)
	return e
}

// replicate sends an event from a region to the others: mostly within seconds, sometimes much later.
func (w *syncWorld) replicate(r *syncRegion, e events.Event) {
	for _, other := range w.regions {
		if other == r {
			continue
		}
		lag := time.Duration(rapid.IntRange(0, 40).Draw(w.t, "lag")) * time.Second
		if rapid.IntRange(0, 9).Draw(w.t, "long lag") == 0 {
			lag = time.Duration(rapid.IntRange(1, 40).Draw(w.t, "minutes")) * time.Minute
		}
		other.coming = append(other.coming, transit{e, w.at.Add(lag)})
	}
}

// deliver brings every region what has reached it by now, or everything, and lets it handle that.
func (w *syncWorld) deliver(everything bool) {
	for _, r := range w.regions {
		var here []events.Event
		var later []transit
		for _, c := range r.coming {
			from := slices.IndexFunc(w.regions, func(o *syncRegion) bool { return o.name == c.event.Region })
			switch cut := r.isolated || w.regions[from].isolated; {
			case everything, !cut && !c.at.After(w.at):
				here = append(here, c.event)
			default:
				later = append(later, c)
			}
		}
		r.coming = later
		for _, e := range shuffled(w.t, here) {
			r.insert(e)
		}
		r.run()
	}
}

// settle heals everything and delivers until nothing is left.
func (w *syncWorld) settle() {
	for _, r := range w.regions {
		r.isolated, r.stuck = false, [lanes]bool{}
	}
	left := func() bool {
		return slices.ContainsFunc(w.regions, func(r *syncRegion) bool {
			return len(r.coming) > 0 || slices.ContainsFunc(r.waiting[:], func(lane []events.Record) bool { return len(lane) > 0 })
		})
	}
	for range 20 {
		if w.deliver(true); !left() {
			return
		}
	}
	w.t.Fatal("late notices cause further late notices without end")
}

// follower is a client that catches up, in one region after the other.
type follower struct {
	user   string
	cursor projections.Cursor
	got    map[events.Ref]bool
	// What may be delivered again: what was known before the cursor was taken, and all after a change of region.
	once     map[events.Ref]int
	mayLeave map[events.Stream]bool
	rebuilt  int // of the region of the cursor
}

// load takes a cursor and then reads everything there is, as a client does first.
func (f *follower) load(t *rapid.T, r *syncRegion) {
	cursor, err := r.syncer().Current(context.Background(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	f.cursor = cursor
	for ref := range r.handled {
		f.got[ref] = true
	}
}

// follow catches up in a region until there is no more, and checks that nothing is delivered that the user
// may not see.
func (f *follower) follow(t *rapid.T, r *syncRegion) {
	limit := rapid.IntRange(1, 20).Draw(t, "limit")
	for range 10_000 {
		exact := f.cursor.Region == r.name
		if !exact || f.rebuilt != r.rebuilt {
			clear(f.once)
			f.rebuilt = r.rebuilt
		}
		page, err := r.syncer().Since(context.Background(), f.user, f.cursor, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) > limit {
			t.Fatalf("%d events, want at most %d", len(page.Events), limit)
		}
		last := map[events.Stream]uint64{}
		for _, h := range page.Events {
			kind, name := h.Event.Stream.Split()
			switch {
			case kind == events.KindUser && name == f.user:
			case kind == events.KindRoom:
				m, err := projections.LoadMember(context.Background(), r.views, name, f.user)
				if err != nil {
					t.Fatal(err)
				}
				if !m.In && !slices.Contains(projections.MembersOf(h.Event), f.user) {
					t.Fatalf("%s, who is not in the room, receives a %s", f.user, h.Event.Type)
				}
				if !m.In && h.Position != 0 {
					t.Fatalf("%s, who is not in the room, receives position %d", f.user, h.Position)
				}
			default:
				t.Fatalf("%s receives an event of %s", f.user, h.Event.Stream)
			}
			if h.Position > 0 && h.Position < last[h.Event.Stream] {
				t.Fatalf("position %d behind %d", h.Position, last[h.Event.Stream])
			}
			last[h.Event.Stream] = h.Position
			if f.once[h.Event.Ref()]++; f.once[h.Event.Ref()] > 1 && exact && !f.mayRepeat(r, h.Event) {
				t.Fatalf("a %s is delivered twice in the region of the cursor", h.Event.Type)
			}
			f.got[h.Event.Ref()] = true
		}
		if f.cursor = page.Cursor; !page.More {
			return
		}
	}
	t.Fatal("there is always more")
}

// mayRepeat reports whether an event may be delivered again in a region: a late notice of another region
// names it, or it is of a room that the user joined once more, or was thought to.
func (f *follower) mayRepeat(r *syncRegion, e events.Event) bool {
	if f.mayLeave[e.Stream] && !slices.Contains(projections.MembersOf(e), f.user) {
		return true
	}
	return slices.ContainsFunc(r.inserted, func(record events.Record) bool {
		notice, is := record.Event.Payload.(events.EventLate)
		return is && record.Event.Region != r.name && slices.Contains(notice.Events(), e.Ref())
	})
}

// A client that catches up in any region, whichever it was in before, misses nothing that happened in its
// rooms and receives nothing of others: with events accepted everywhere, late, in any order; regions isolated,
// shards that are stuck while heartbeats of others pass, batches that come again on another process, views
// that are lost and made again, rooms that are joined and left in another region than the one that is read.
func TestSyncOmitsNothing(t *testing.T) {
	t.Parallel()
	total, notices := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := &syncWorld{t: t, at: time.Unix(1_800_000_000, 0)}
		w.clock = events.NewClock(w.now, events.NewMarks(nil))
		for _, name := range []string{"a", "b", "c"} {
			w.regions = append(w.regions, w.newRegion(name))
		}
		region := func(t *rapid.T) *syncRegion { return w.regions[rapid.IntRange(0, 2).Draw(t, "region")] }
		beat := func() {
			for _, r := range w.regions {
				for n := range 2 {
					w.accept(r, events.BeatStream(r.name, n), r.name, events.RegionBeat{})
				}
			}
		}
		beat()
		var rooms []events.Stream
		followers := []*follower{}
		for _, user := range []string{"bob", "eve"} {
			followers = append(followers, &follower{user: user, got: map[events.Ref]bool{}, once: map[events.Ref]int{}, mayLeave: map[events.Stream]bool{}})
		}
		joins := func(r *syncRegion, room events.Stream, user string) {
			w.accept(r, room, user, events.MemberJoined{User: user, Role: events.RoleMember})
		}
		for i := range 4 { // all are in the first two, and may come and go in the others
			id, err := w.clock.Mint("ada")
			if err != nil {
				t.Fatal(err)
			}
			room := events.RoomStream(id.String())
			rooms = append(rooms, room)
			w.accept(w.regions[0], room, "ada", events.RoomCreated{Name: fmt.Sprint("room ", i)})
			for _, f := range followers {
				if f.mayLeave[room] = i >= 2; i < 2 {
					joins(w.regions[0], room, f.user)
				}
			}
		}
		w.settle()
		for _, f := range followers {
			f.load(t, w.regions[0])
		}
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(t *rapid.T) {
				for range rapid.IntRange(1, 10).Draw(t, "events") {
					w.accept(region(t), rapid.SampledFrom(rooms).Draw(t, "room"), "ada", events.MessagePosted{Text: events.Plain(fmt.Sprint("hello ", len(w.all)))})
				}
			},
			"join": func(t *rapid.T) {
				joins(region(t), rapid.SampledFrom(rooms[2:]).Draw(t, "room"), rapid.SampledFrom(followers).Draw(t, "who").user)
			},
			"leave": func(t *rapid.T) {
				user, room := rapid.SampledFrom(followers).Draw(t, "who").user, rapid.SampledFrom(rooms[2:]).Draw(t, "room")
				w.accept(region(t), room, user, events.MemberLeft{User: user})
			},
			"read": func(t *rapid.T) {
				user := rapid.SampledFrom(followers).Draw(t, "who").user
				w.accept(region(t), events.UserStream(user), user, events.RoomRead{Room: rooms[0].Name(), UpTo: w.all[len(w.all)-1].ID})
			},
			"wait": func(t *rapid.T) {
				step := rapid.SampledFrom([]time.Duration{10 * time.Second, 30 * time.Second, 4 * time.Minute}).Draw(t, "step")
				for range rapid.IntRange(1, 4).Draw(t, "steps") {
					w.at = w.at.Add(step)
					beat()
					w.deliver(false)
				}
			},
			"deliver": func(*rapid.T) { w.deliver(false) },
			"isolate": func(t *rapid.T) { region(t).isolated = rapid.Bool().Draw(t, "cut") },
			"stick": func(t *rapid.T) {
				region(t).stuck[rapid.IntRange(0, lanes-1).Draw(t, "lane")] = rapid.Bool().Draw(t, "stuck")
			},
			"rebuild": func(t *rapid.T) { region(t).rebuild() },
			"follow":  func(t *rapid.T) { rapid.SampledFrom(followers).Draw(t, "who").follow(t, region(t)) },
		})
		w.settle()
		for _, f := range followers {
			r := region(t)
			f.follow(t, r)
			for _, e := range w.all {
				if kind, name := e.Stream.Split(); kind == events.KindUser && name == f.user && !f.got[e.Ref()] {
					t.Fatalf("%s never receives a %s of its own stream", f.user, e.Type)
				} else if kind != events.KindRoom || f.got[e.Ref()] {
					continue
				}
				if slices.Contains(rooms[:2], e.Stream) || slices.Contains(projections.MembersOf(e), f.user) {
					t.Fatalf("%s never receives a %s that %s accepted", f.user, e.Type, e.Region)
				}
				m, err := projections.LoadMember(context.Background(), r.views, e.Stream.Name(), f.user)
				if err != nil {
					t.Fatal(err)
				}
				if m.In && e.ID.Compare(m.Since) > 0 {
					t.Fatalf("%s never receives a %s that sorts after the join", f.user, e.Type)
				}
			}
		}
		total++
		notices += w.notices
	})
	t.Logf("%d late notices in %d runs", notices, total)
}

// shuffled returns events in another order.
func shuffled(t *rapid.T, list []events.Event) []events.Event {
	indexes := make([]int, len(list))
	for i := range indexes {
		indexes[i] = i
	}
	out := make([]events.Event, 0, len(list))
	for _, i := range rapid.Permutation(indexes).Draw(t, "order") {
		out = append(out, list[i])
	}
	return out
}
