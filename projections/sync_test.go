package projections_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// syncRegion is a region of the property below: log, views, feed, and what is on its way to it.
type syncRegion struct {
	name     string
	now      func() time.Time
	log      *logtest.Model
	views    projections.Views
	engine   *projections.Engine
	feed     *projections.Feed
	has      map[events.ID]bool
	coming   []coming
	isolated bool
}

// coming is an event on its way to a region.
type coming struct {
	event events.Event
	at    time.Time
}

func newSyncRegion(name string, now func() time.Time) *syncRegion {
	r := &syncRegion{name: name, now: now, log: logtest.NewModel(), has: map[events.ID]bool{}}
	r.rebuild()
	return r
}

// rebuild begins views and feeds anew, with nothing in them.
func (r *syncRegion) rebuild() {
	r.views = viewtest.NewModel()
	r.engine = projections.NewEngine(r.log, r.views, projections.All()...)
	r.restart()
}

// restart forgets what was remembered of the feeds.
func (r *syncRegion) restart() {
	r.feed = projections.NewFeed(r.views)
	r.feed.Now = r.now
}

func (r *syncRegion) syncer() projections.Syncer {
	return projections.Syncer{Region: r.name, Log: r.log, Views: r.views}
}

// arrive appends a batch to the log and handles it.
func (r *syncRegion) arrive(t *rapid.T, batch []events.Event) {
	for _, e := range batch {
		if _, _, err := r.log.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
		r.has[e.ID] = true
	}
	r.handle(t, batch)
}

func (r *syncRegion) handle(t *rapid.T, batch []events.Event) {
	if _, err := r.engine.Apply(context.Background(), arrivals(batch...)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.feed.Append(context.Background(), arrivals(batch...)); err != nil {
		t.Fatal(err)
	}
}

// syncWorld is three regions, and the truth about them.
type syncWorld struct {
	t       *rapid.T
	at      time.Time
	clock   *events.Clock
	regions []*syncRegion
	all     []events.Event
	late    []events.Event // in which regions say that others were late
}

// accept accepts an event in a region. It travels to the others, each time for as long as it
// likes: mostly within the margin behind the beats, but some take much longer.
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
	r.arrive(w.t, []events.Event{e})
	w.send(r, e, p != events.RegionBeat{})
	return e
}

// send has an event travel from a region to the others.
func (w *syncWorld) send(r *syncRegion, e events.Event, straggles bool) {
	for _, other := range w.regions {
		if other != r {
			lag := time.Duration(rapid.IntRange(0, 40).Draw(w.t, "lag")) * time.Second
			if straggles && rapid.IntRange(0, 9).Draw(w.t, "straggles") == 0 {
				lag = time.Duration(rapid.IntRange(40, 1500).Draw(w.t, "long lag")) * time.Second
			}
			other.coming = append(other.coming, coming{e, w.at.Add(lag)})
		}
	}
}

// sayLate has a region say what of a batch was late, as the stream function does.
func (w *syncWorld) sayLate(r *syncRegion, batch []events.Event) {
	late, err := projections.Stragglers(context.Background(), r.views, r.name, w.at, arrivals(batch...))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range late {
		if r.has[e.ID] {
			continue // it has said so before
		}
		w.late = append(w.late, e)
		r.arrive(w.t, []events.Event{e})
		w.send(r, e, false)
	}
}

// deliver hands every region what has reached it by now.
func (w *syncWorld) deliver(everything bool) {
	for _, r := range w.regions {
		var here []events.Event
		var later []coming
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
		if len(here) > 0 {
			r.arrive(w.t, shuffled(w.t, here))
			w.sayLate(r, here)
		}
	}
}

// follower is a client that follows what happens, in one region after the other.
type follower struct {
	user   string
	rooms  map[events.Stream]bool // that she is in
	place  projections.Place
	told   map[events.ID]bool
	once   map[string]bool // by journal and event: what she was told in it
	resets int
}

func newFollower(user string) *follower {
	return &follower{user: user, rooms: map[events.Stream]bool{}, told: map[events.ID]bool{}, once: map[string]bool{}}
}

// load is what a client does at first, and again where she cannot be told what happened: she
// takes a place and then all that is there.
func (f *follower) load(t *rapid.T, r *syncRegion) {
	place, err := r.syncer().Here(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f.place = place
	for id := range r.has {
		f.told[id] = true
	}
}

// follow goes on in a region until there is no more.
func (f *follower) follow(t *rapid.T, r *syncRegion) {
	limit := rapid.IntRange(1, 20).Draw(t, "limit")
	if f.place.Region != r.name {
		clear(f.once) // she is taken back some way
	}
	for more := true; more; {
		exact := f.place.Region == r.name
		what, to, again, err := r.syncer().Since(context.Background(), f.user, f.place, limit)
		if errors.Is(err, projections.ErrTooFarBehind) {
			f.resets++
			f.load(t, r)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(what) > limit {
			t.Fatalf("told of %d events, asked for %d", len(what), limit)
		}
		for _, h := range what {
			if kind, name := h.Event.Stream.Split(); kind == events.KindRoom && !f.rooms[h.Event.Stream] || kind != events.KindRoom && name != f.user {
				t.Fatalf("%s is told of %s, which is not for her", f.user, h.Event.Stream)
			}
			if again := fmt.Sprint(to.Epoch, h.Number); f.once[again] && exact {
				t.Fatalf("told of an event again in the region of the place")
			} else {
				f.once[again] = true
			}
			f.told[h.ID] = true
		}
		f.place, more = to, again
	}
}

// Whoever follows what happens, in whichever region, is told all of it in her rooms and nothing of
// other rooms: with events accepted everywhere, late, in any order, regions isolated and healed,
// feeds begun anew.
func TestSyncOmitsNothing(t *testing.T) {
	total, resets, late := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := &syncWorld{t: t, at: time.Unix(1_800_000_000, 0)}
		now := func() time.Time { return w.at }
		w.clock = events.NewClock(now)
		for _, name := range []string{"a", "b", "c"} {
			w.regions = append(w.regions, newSyncRegion(name, now))
		}
		beat := func() {
			for _, r := range w.regions {
				w.accept(r, events.RegionStream(r.name), r.name, events.RegionBeat{})
			}
		}
		beat()
		var rooms []events.Stream
		followers := []*follower{newFollower("bob"), newFollower("eve")}
		for i := range 3 { // the first and the last have one follower, between them both
			id, err := w.clock.Mint("ada")
			if err != nil {
				t.Fatal(err)
			}
			room := events.RoomStream(id.String())
			rooms = append(rooms, room)
			w.accept(w.regions[0], room, "ada", events.RoomCreated{Name: fmt.Sprint("room ", i), Private: true})
			for at, f := range followers {
				if f.rooms[room] = i == 1 || i == 2*at; f.rooms[room] {
					w.accept(w.regions[0], room, "ada", events.MemberJoined{User: f.user, Role: events.RoleMember})
				}
			}
		}
		w.deliver(true)
		for _, f := range followers {
			f.load(t, w.regions[0])
		}
		region := func(t *rapid.T) *syncRegion { return w.regions[rapid.IntRange(0, 2).Draw(t, "region")] }
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(t *rapid.T) {
				for range rapid.IntRange(1, 10).Draw(t, "events") {
					w.accept(region(t), rapid.SampledFrom(rooms).Draw(t, "room"), "ada", events.MessagePosted{Text: events.Plain("hello")})
				}
			},
			"wait": func(t *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(t, "half minutes") {
					w.at = w.at.Add(30 * time.Second)
					beat()
					w.deliver(false)
				}
			},
			"deliver": func(*rapid.T) { w.deliver(false) },
			"isolate": func(t *rapid.T) { region(t).isolated = rapid.Bool().Draw(t, "cut") },
			"restart": func(t *rapid.T) {
				region(t).restart()
			},
			"rebuild": func(t *rapid.T) {
				r := region(t)
				r.rebuild()
				var all []events.Event
				for _, e := range append(slices.Clone(w.all), w.late...) {
					if r.has[e.ID] {
						all = append(all, e)
					}
				}
				for batch := range slices.Chunk(shuffled(t, all), 100) {
					r.handle(t, batch)
				}
			},
			"follow": func(t *rapid.T) { rapid.SampledFrom(followers).Draw(t, "who").follow(t, region(t)) },
		})
		for _, r := range w.regions {
			r.isolated = false
		}
		w.deliver(true)
		w.deliver(true) // what was said of late ones
		for _, f := range followers {
			f.follow(t, region(t))
			for _, e := range w.all {
				if f.rooms[e.Stream] && !f.told[e.ID] {
					t.Fatalf("%s is never told of an event that %s accepted", f.user, e.Region)
				}
			}
			resets += f.resets
		}
		total++
		late += len(w.late)
	})
	t.Logf("%d resets and %d late events in %d runs", resets, late, total)
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
