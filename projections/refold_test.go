package projections_test

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// harm drops, empties, breaks and swaps views at random.
func (r *region) harm() {
	r.t.Helper()
	all, _, err := r.views.Scan(context.Background(), names, projections.Key{}, 10_000)
	if err != nil {
		r.t.Fatalf("Scan: %v", err)
	}
	for i, view := range all {
		switch r.dice.IntN(12) {
		case 0:
			err = r.views.Delete(context.Background(), view)
		case 1:
			view.Body = []byte("{")
			err = r.views.Save(context.Background(), view)
		case 2:
			view.Body = []byte("{}")
			err = r.views.Save(context.Background(), view)
		case 3:
			if other := all[r.dice.IntN(len(all))]; other.Key.Partition == view.Key.Partition {
				view.Body = other.Body
				err = r.views.Save(context.Background(), view)
			}
		}
		if err != nil {
			r.t.Fatalf("harm view %d: %v", i, err)
		}
	}
}

// Whatever was done to the views, an audit that heals makes them what the log adds up to, while
// events arrive, calls fail and processes crash; another audit then finds nothing.
func TestHeal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRegion(t, 40)
		r.harm()
		b, err := projections.NewAudit("heal", true)
		if err != nil {
			t.Fatal(err)
		}
		r.run(b)
		r.finish()
		r.wantRight()
		if b, err = projections.NewAudit("again", false); err != nil {
			t.Fatal(err)
		}
		r.still = true
		if b = r.run(b); b.Compared.Differ > 0 {
			t.Fatalf("a second audit finds %+v", b.Compared.Findings)
		}
	})
}

// wantRight checks that the live views, all of the first generation, are what the log adds up to,
// and that no others are left.
func (r *region) wantRight() {
	r.t.Helper()
	sameRows(r.t, "the views", rows(r.t, r.views, "", names...), rows(r.t, r.fresh(), "", names...))
	if left, _, err := r.views.Scan(context.Background(), []string{"g2/", "g3/"}, projections.Key{}, 1); err != nil || len(left) > 0 {
		r.t.Fatalf("views of an audit are left, error %v", err)
	}
}

// The rebuild of a room repairs its views in place, while events arrive.
func TestRebuildRoom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRegion(t, 40)
		r.harm()
		for _, room := range rooms {
			b, err := projections.NewRoomRebuild("room "+room, room)
			if err != nil {
				t.Fatal(err)
			}
			r.run(b)
		}
		r.finish()
		want := rows(t, r.fresh(), "", "member", "room", "thread", "timeline")
		got := rows(t, r.views, "", "member", "room", "thread", "timeline")
		for key := range got { // of views that no event touches nothing is promised
			if _, ok := want[key]; !ok {
				delete(got, key)
			}
		}
		for key := range want { // an event of another room than these two
			if p := projectionOf(key); p.Stream(key).Name() != plain && p.Stream(key).Name() != direct {
				delete(want, key)
				delete(got, key)
			}
		}
		sameRows(t, "the views", got, want)
	})
}

func projectionOf(key projections.Key) projections.Projection {
	for _, p := range projections.All() {
		if n := len(p.Name()); len(key.Partition) >= n && key.Partition[:n] == p.Name() {
			return p
		}
	}
	return nil
}

// A rebuild of feeds leaves out what is parked because this release cannot read it: first, last, or alone in its
// stream.
func TestRebuildFeedLeavesOutUnreadable(t *testing.T) {
	t.Parallel()
	log, views := logtest.NewModel(), viewtest.NewModel()
	want := map[events.Stream][]events.Ref{}
	for i, readable := range [][]bool{{true, false, true}, {false, true}, {true, false}, {false}, {false, false, true, false}} {
		stream := events.RoomStream(makeID(1, "ada", uint32(i)).String())
		for j, ok := range readable {
			e := newEvent(makeID(uint64(10+j), "ada", uint32(i)), stream, "ada", "eu", events.RoomArchived{})
			if want[stream] = append(want[stream], e.Ref()); !ok {
				e, want[stream] = unreadable(e), want[stream][:len(want[stream])-1]
			}
			if _, _, err := log.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := projections.NewRebuild("feed", projections.FeedName)
	for err == nil && b.Phase != projections.Done {
		err = projections.NewRebuilder(log, views, projections.NewGenerations(views)).Step(t.Context(), b)
	}
	if err != nil {
		t.Fatal(err)
	}
	for stream, refs := range want {
		entries, _, err := projections.ListFeed(t.Context(), views, stream, 0, 100)
		var got []events.Ref
		for _, e := range entries {
			got = append(got, e.Ref)
		}
		if err != nil || !slices.Equal(got, refs) {
			t.Errorf("the feed of %s has %v, want %v (%v)", stream, got, refs, err)
		}
	}
}
