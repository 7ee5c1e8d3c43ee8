package viewtest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
)

// region is a log and the views that an engine folds it into.
type region struct {
	t      *testing.T
	log    events.Log
	views  projections.Views
	gens   *projections.Generations
	engine *projections.Engine
	n      uint32
	rooms  []events.Stream
}

// newRegion returns a region with three rooms and some activity in them.
func newRegion(t *testing.T, v projections.Views) *region {
	r := &region{t: t, log: logtest.NewModel(), views: v, gens: projections.NewGenerations(v)}
	r.gens.Fresh = 0 // read the generations anew for each call, so that a switch is seen at once
	r.engine = projections.NewEngine(r.log, v, projections.All()...).In(r.gens)
	for range 3 {
		id := r.id("ada")
		room := events.RoomStream(id.String())
		r.rooms = append(r.rooms, room)
		r.accept(id, room, "ada", events.RoomCreated{Name: "a room"})
	}
	r.addActivity(20)
	return r
}

// id returns the next id of an actor. Each has a millisecond of its own.
func (r *region) id(actor string) events.ID {
	var id events.ID
	r.n++
	if err := id.SetTime(1_700_000_000_000 + uint64(r.n)); err != nil {
		r.t.Fatal(err)
	}
	mark := events.FormerMark(actor)
	copy(id[6:], mark[:])
	binary.BigEndian.PutUint32(id[12:], r.n)
	return id
}

// accept appends an event and folds it.
func (r *region) accept(id events.ID, stream events.Stream, actor string, p events.Payload) {
	r.t.Helper()
	e, err := events.New(id, stream, actor, "eu", p)
	if err == nil {
		_, _, err = r.log.Append(r.t.Context(), e)
	}
	if err == nil {
		_, err = r.engine.Apply(r.t.Context(), []projections.Arrival{{Event: e}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// addActivity accepts events of every kind, as many times as given.
func (r *region) addActivity(times int) {
	r.t.Helper()
	for i := range times {
		room, actor := r.rooms[i%len(r.rooms)], []string{"ada", "bob"}[i%2]
		id := r.id(actor)
		r.accept(id, room, actor, events.MessagePosted{Text: events.Plain("hello")})
		r.accept(r.id(actor), room, actor, events.MessagePosted{Text: events.Plain("a reply"), Thread: &id})
		r.accept(r.id(actor), room, actor, events.MessageEdited{Message: id, Text: events.Plain("edited")})
		r.accept(r.id("eve"), room, "eve", events.ReactionAdded{Message: id, Emoji: ":tada:"})
		r.accept(r.id(actor), room, actor, events.MemberJoined{User: fmt.Sprint("guest-", i), Role: events.RoleMember})
		r.accept(r.id(actor), events.UserStream(actor), actor, events.RoomRead{Room: room.Name(), UpTo: id})
		r.accept(r.id(actor), events.UserStream(actor), actor, events.UserProfileSet{Name: events.Plain("who")})
		r.accept(r.id("eu"), events.RegionStream("eu"), "eu", events.RegionBeat{})
	}
}

func (r *region) rebuilder() *projections.Rebuilder {
	gens := projections.NewGenerations(r.views)
	b := projections.NewRebuilder(r.log, r.views, gens)
	b.Grace, b.Confirm, b.Slice, b.Parts = 20*time.Millisecond, 20*time.Millisecond, time.Millisecond, 2
	return b
}

// run takes all steps of a rebuild while more events are accepted. Each step is taken by another
// rebuilder, which knows the stored state only.
func (r *region) run(b *projections.Rebuild, err error) *projections.Rebuild {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	for b.Phase != projections.Done {
		if err := r.rebuilder().Step(r.t.Context(), b); err != nil {
			r.t.Fatalf("step: %v", err)
		}
		text, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		b = new(projections.Rebuild)
		if err := json.Unmarshal(text, b); err != nil {
			r.t.Fatal(err)
		}
		if !b.Audit {
			r.addActivity(1)
		}
	}
	return b
}

// wantReads checks that the live views are what folding the whole log anew makes.
func (r *region) wantReads() {
	r.t.Helper()
	want := NewModel()
	engine := projections.NewEngine(r.log, want, projections.All()...)
	for e, err := range r.log.Scan(r.t.Context(), events.Part{Of: 1}, events.Key{}) {
		if err == nil {
			_, err = engine.Apply(r.t.Context(), []projections.Arrival{{Event: e}})
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	for partition, views := range byPartition(scan(r.t, want, 1000)) {
		got, err := r.gens.Views().Query(r.t.Context(), partition, projections.Range{Limit: 10_000})
		if err != nil {
			r.t.Fatal(err)
		}
		if len(got) != len(views) {
			r.t.Fatalf("%d views, want %d", len(got), len(views))
		}
		for i := range got {
			if got[i].Key != views[i].Key || string(got[i].Body) != string(views[i].Body) {
				r.t.Fatalf("a view is\n     %v %s\nwant %v %s", got[i].Key, got[i].Body, views[i].Key, views[i].Body)
			}
		}
	}
}

func byPartition(views []projections.View) map[string][]projections.View {
	all := map[string][]projections.View{}
	for _, v := range views {
		all[v.Key.Partition] = append(all[v.Key.Partition], v)
	}
	return all
}

// RunRebuild rebuilds, compares, audits, heals and drops views of a driver that passes [Run].
func RunRebuild(t *testing.T, d Driver) {
	for name, test := range map[string]func(*testing.T, projections.Views){
		"Rebuild": testRebuild, "RebuildRoom": testRebuildRoom, "RebuildFeed": testRebuildFeed,
		"RebuildCancelled": testRebuildCancelled, "Audit": testAudit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, d.open(t))
		})
	}
}

func testRebuild(t *testing.T, v projections.Views) {
	r := newRegion(t, v)
	b := r.run(projections.NewRebuild("first"))
	if b.Events() == 0 || b.Compared.Differ > 0 || len(b.Numbers) != len(projections.All()) {
		t.Errorf("rebuilt: %+v", b)
	}
	r.wantReads()

	second, err := projections.NewRebuild("second", "room", "timeline")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.rebuilder().Step(t.Context(), second); !errors.Is(err, projections.ErrPreviousKept) {
		t.Errorf("a rebuild while the previous generation is kept: %v", err)
	}
	for range 2 { // back, and forward again
		for _, p := range projections.All() {
			if err := r.gens.Back(t.Context(), p.Name()); err != nil {
				t.Fatal(err)
			}
		}
		r.addActivity(1)
		r.wantReads()
	}
	r.dropPrevious()
	r.wantReads()
	if left := scan(t, v, 1000, "timeline/", "member/", "beat"); len(left) > 0 {
		t.Errorf("%d views of the first generation are left", len(left))
	}
	if err := r.gens.Back(t.Context(), "timeline"); !errors.Is(err, projections.ErrNoPrevious) {
		t.Errorf("back to a dropped generation: %v", err)
	}
	b = r.run(second, nil)
	if b.Numbers["timeline"] != 3 {
		t.Errorf("the second rebuild built %v", b.Numbers)
	}
	r.wantReads()
}

// dropPrevious drops the previous generations.
func (r *region) dropPrevious() {
	r.t.Helper()
	var names []string
	for _, p := range projections.All() {
		names = append(names, p.Name())
	}
	d, err := projections.NewDrop(names...)
	for err == nil && d.Phase != projections.Done {
		err = r.rebuilder().StepDrop(r.t.Context(), d)
	}
	if err != nil || d.Deleted == 0 {
		r.t.Fatalf("%d views were dropped, %v", d.Deleted, err)
	}
}

func testRebuildCancelled(t *testing.T, v projections.Views) {
	r := newRegion(t, v)
	before := scan(t, v, 1000)
	b, err := projections.NewRebuild("first")
	if err != nil {
		t.Fatal(err)
	}
	for b.Phase != projections.Compare {
		if err := r.rebuilder().Step(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		other, _ := projections.NewRebuild("second", "timeline")
		if err := r.rebuilder().Step(t.Context(), other); !errors.Is(err, projections.ErrRebuilding) {
			t.Fatalf("a rebuild during another: %v", err)
		}
	}
	b.Cancel()
	r.run(b, nil)
	r.wantReads()
	r.run(projections.NewRoomRebuild("room", r.rooms[0].Name()))
	if n := len(scan(t, v, 1000, "g")) - 1; n != 0 { // the generations themselves
		t.Errorf("%d views of a cancelled rebuild are left, %d existed before", n, len(before))
	}
	lost, _ := projections.NewRebuild("lost", "timeline")
	if err := r.rebuilder().Step(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	d, err := projections.NewWithdrawal("lost", "timeline")
	for err == nil && d.Phase != projections.Done {
		err = r.rebuilder().StepDrop(t.Context(), d)
	}
	if err != nil {
		t.Fatal(err)
	}
	lost.Phase = projections.Fold
	if err := r.rebuilder().Step(t.Context(), lost); !errors.Is(err, projections.ErrWithdrawn) {
		t.Errorf("a rebuild that was withdrawn: %v", err)
	}
}

func testRebuildRoom(t *testing.T, v projections.Views) {
	r := newRegion(t, v)
	r.run(projections.NewRebuild("all", "timeline")) // makes two generations of it
	room := r.rooms[1]
	for _, partition := range []string{"timeline/" + room.Name(), "g2/timeline/" + room.Name(), "member/in/" + room.Name()} {
		for i, view := range query(t, v, partition, projections.Range{Limit: 12}) {
			if view.Body = []byte("{}"); i%3 == 0 {
				remove(t, v, view)
			} else {
				save(t, v, view)
			}
		}
	}
	b := r.run(projections.NewRoomRebuild("room", room.Name()))
	if b.Events() == 0 {
		t.Error("no events")
	}
	r.wantReads()
	if err := r.gens.Back(t.Context(), "timeline"); err != nil {
		t.Fatal(err)
	}
	r.wantReads()
}

// testRebuildFeed checks that a rebuild appends to each feed what it lacks, and nothing twice, and deletes
// the journal of the release before, alone.
func testRebuildFeed(t *testing.T, v projections.Views) {
	r := newRegion(t, v)
	feed := projections.NewFeed("eu", v)
	var batch []projections.Arrival
	want := map[events.Stream][]events.Ref{}
	for e, err := range r.log.Scan(t.Context(), events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := e.Stream.Split(); kind != events.KindRegion {
			want[e.Stream] = append(want[e.Stream], e.Ref())
			if len(want[e.Stream])%4 > 0 {
				batch = append(batch, projections.Arrival{Event: e})
			}
		}
	}
	if _, _, err := feed.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	var journal []projections.View
	for i := range 700 { // of several pages
		journal = append(journal, view(key("journal", fmt.Sprintf("%020d", 100*i+1)), 0, `{"rows":[]}`))
	}
	others := []projections.View{view(key("journal2", "1"), 0, "{}"), view(key("journa", "1"), 0, "{}"), view(key("g2/journal", "1"), 0, "{}")}
	save(t, v, append(journal, others...)...)
	for range 2 {
		b, err := projections.NewRebuild("feed", projections.FeedName)
		for err == nil && b.Phase != projections.Done {
			err = r.rebuilder().Step(t.Context(), b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for stream, refs := range want {
		entries, _, err := projections.ListFeed(context.Background(), v, stream, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		var got []events.Ref
		for _, e := range entries {
			got = append(got, e.Ref)
		}
		slices.SortFunc(got, events.Ref.Compare)
		if !slices.Equal(got, refs) {
			t.Fatalf("%s has %d entries in its feed, want %d", stream, len(got), len(refs))
		}
	}
	if left := query(t, v, "journal", projections.Range{Limit: 1000}); len(left) > 0 {
		t.Fatalf("%d rows of the journal are left", len(left))
	}
	for _, other := range others {
		if len(query(t, v, other.Key.Partition, projections.Range{Limit: 1})) == 0 {
			t.Fatalf("%v was deleted with the journal", other.Key)
		}
	}
}

// plantFaults damages views of a room in every way, and returns the fault of each damaged view.
func plantFaults(t *testing.T, v projections.Views, room events.Stream) (faults map[projections.Key]projections.Fault) {
	t.Helper()
	faults = map[projections.Key]projections.Fault{}
	page := query(t, v, "timeline/"+room.Name(), projections.Range{Limit: 6})
	members := query(t, v, "member/in/"+room.Name(), projections.Range{Limit: 6})
	beat := query(t, v, "beat", projections.Range{Limit: 1})
	altered := func(view projections.View, fault projections.Fault, body string) {
		view.Body = []byte(body)
		save(t, v, view)
		faults[view.Key] = fault
	}
	dropped := func(view projections.View) {
		remove(t, v, view)
		faults[view.Key] = projections.Missing
	}
	doubled := func(view projections.View, sort string) {
		view.Version, view.Key.Sort = 0, sort
		save(t, v, view)
		faults[view.Key] = projections.Extra
	}
	dropped(page[0])
	altered(page[1], projections.Differs, string(page[2].Body))
	altered(page[2], projections.Damaged, "{")
	altered(page[3], projections.Missing, "{}")
	doubled(page[4], "0000000000ZZZZZZZZZZZZZZZZ")
	dropped(members[0])
	altered(members[1], projections.Differs, `{"in":{"id":"00000000000000000000000001","v":true}}`)
	doubled(members[2], "nobody")
	doubled(beat[0], "us")
	return faults
}

func testAudit(t *testing.T, v projections.Views) {
	r := newRegion(t, v)
	if b := r.run(projections.NewAudit("clean", false)); b.Compared.Differ > 0 || b.Compared.Views == 0 {
		t.Fatalf("an audit of undamaged views: %+v", b.Compared)
	}
	planted := plantFaults(t, v, r.rooms[1])
	for round, heal := range []bool{false, true, false} {
		b := r.run(projections.NewAudit(fmt.Sprint("audit ", round), heal))
		if round == 2 {
			planted = nil
		}
		found := map[projections.Key]projections.Fault{}
		for _, f := range b.Compared.Findings {
			found[f.Key] = f.Fault
			if f.Healed != heal || f.Projection == "" || f.Stream.Validate() != nil {
				t.Errorf("finding %+v", f)
			}
			if f.Fault == projections.Differs && len(f.Fields) == 0 {
				t.Errorf("a difference without the fields that differ: %+v", f)
			}
		}
		for key, fault := range planted {
			if found[key] != fault {
				t.Errorf("round %d: %v is %q, want %q", round, key, found[key], fault)
			}
		}
		if len(found) != len(planted) || int(b.Compared.Differ) != len(planted) {
			t.Errorf("round %d: %d found, want %d: %+v", round, len(found), len(planted), b.Compared.Findings)
		}
	}
	r.wantReads()
	if left := scan(t, v, 1000, "g2/", "g3/", "g4/", "g5/"); len(left) > 0 {
		t.Errorf("%d views of audits are left", len(left))
	}
}
