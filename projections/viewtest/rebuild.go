package viewtest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"parley/events"
	"parley/projections"
)

// RunRebuild rebuilds, compares, audits, heals and drops views of a driver that has passed [Run].
func RunRebuild(t *testing.T, d Driver) {
	t.Run("Rebuild", func(t *testing.T) { testRebuild(t, d.open(t)) })
	t.Run("RebuildRoom", func(t *testing.T) { testRebuildRoom(t, d.open(t)) })
	t.Run("RebuildFeed", func(t *testing.T) { testRebuildFeed(t, d.open(t)) })
	t.Run("RebuildCancelled", func(t *testing.T) { testRebuildCancelled(t, d.open(t)) })
	t.Run("Audit", func(t *testing.T) { testAudit(t, d.open(t)) })
}

func testRebuild(t *testing.T, v projections.Views) {
	r := tell(t, v)
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
	for range 2 { // there and back
		for _, p := range projections.All() {
			if err := r.gens.Back(t.Context(), p.Name()); err != nil {
				t.Fatal(err)
			}
		}
		r.talk(1)
		r.wantReads()
	}
	r.drop()
	r.wantReads()
	if left := scan(t, v, 1000, "timeline/", "member/", "beat"); len(left) > 0 {
		t.Errorf("%d views of the first generation are left", len(left))
	}
	if err := r.gens.Back(t.Context(), "timeline"); !errors.Is(err, projections.ErrNoPrevious) {
		t.Errorf("back to what was dropped: %v", err)
	}
	b = r.run(second, nil)
	if b.Numbers["timeline"] != 3 {
		t.Errorf("the second rebuild built %v", b.Numbers)
	}
	r.wantReads()
}

// drop drops the previous generations.
func (r *told) drop() {
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
	r := tell(t, v)
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
		t.Errorf("%d views are left of a rebuild that was cancelled, %d were there before", n, len(before))
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
	r := tell(t, v)
	r.run(projections.NewRebuild("all", "timeline")) // two generations of it
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

// testRebuildFeed: feeds get what they lack, at their ends, and nothing twice.
func testRebuildFeed(t *testing.T, v projections.Views) {
	r := tell(t, v)
	feed := projections.NewFeed(v)
	var batch []projections.Arrival
	want := map[events.Stream][]events.ID{}
	for e, err := range r.log.Scan(t.Context(), events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := e.Stream.Split(); kind != events.KindRegion {
			want[e.Stream] = append(want[e.Stream], e.ID)
			if len(want[e.Stream])%4 > 0 {
				batch = append(batch, projections.Arrival{Event: e})
			}
		}
	}
	if _, err := feed.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b, err := projections.NewRebuild("feed", projections.FeedName)
		for err == nil && b.Phase != projections.Done {
			err = r.rebuilder().Step(t.Context(), b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for stream, ids := range want {
		entries, _, err := projections.ListFeed(context.Background(), v, stream, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		var got []events.ID
		for _, e := range entries {
			got = append(got, e.ID)
		}
		slices.SortFunc(got, events.ID.Compare)
		if !slices.Equal(got, ids) {
			t.Fatalf("%s has %d entries in its feed, want %d", stream, len(got), len(ids))
		}
	}
}
