package projections_test

import (
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

func drawRegion(t *rapid.T, most int) *region {
	return newRegion(t, rapid.Uint64().Draw(t, "seed"), eventsOf(events.Types(), most).Draw(t, "set"))
}

// Whatever happens during a rebuild, and whenever it is interrupted: afterwards both generations
// are what the log adds up to. So they are after switching back, and after the drop.
func TestRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRegion(t, 50)
		chosen := rapid.SampledFrom([][]string{names, {"timeline"}, {"member", "room"}}).Draw(t, "projections")
		b, err := projections.NewRebuild("one", chosen...)
		if err != nil {
			t.Fatal(err)
		}
		b = r.run(b)
		r.settle()
		fresh := r.fresh()
		for _, name := range chosen {
			want := rows(t, fresh, "", name)
			sameRows(t, "the old generation of "+name, rows(t, r.views, "", name), want)
			sameRows(t, "the new generation of "+name, rows(t, r.views, prefixOf(b.Numbers[name]), name), want)
		}
		gens := r.generations()
		sameReads(t, r, gens, fresh)

		r.back(gens, chosen)
		r.dropAll(chosen)
		for name, n := range b.Numbers {
			if left := rows(t, r.views, prefixOf(n), name); len(left) > 0 {
				t.Fatalf("%d views are left of a generation that was dropped", len(left))
			}
		}
		sameReads(t, r, gens, r.fresh())
	})
}

// sameReads compares what readers see with a fresh fold.
func sameReads(t *rapid.T, r *region, gens *projections.Generations, fresh projections.Views) {
	t.Helper()
	r.clock.sleep(gens.Fresh)
	var keys []projections.Key
	for key := range rows(t, fresh, "", names...) {
		keys = append(keys, key)
	}
	got, want := bodies(t, gens.Views(), keys), bodies(t, fresh, keys)
	for i := range got {
		if string(got[i]) != string(want[i]) {
			t.Fatalf("view %v reads differently:\n got %s\nwant %s", keys[i], got[i], want[i])
		}
		page, err := gens.Views().Query(context.Background(), keys[i].Partition, projections.Range{From: keys[i].Sort, Limit: 1})
		if err != nil || len(page) != 1 || page[0].Key != keys[i] || string(page[0].Body) != string(want[i]) {
			t.Fatalf("view %v is queried as %v, error %v", keys[i], page, err)
		}
	}
}

// back switches back, while events arrive.
func (r *region) back(gens *projections.Generations, names []string) {
	r.t.Helper()
	for _, name := range names {
		if err := gens.Back(context.Background(), name); err != nil {
			r.t.Fatalf("Back: %v", err)
		}
	}
}

// dropAll drops the previous generations, while events arrive and after crashes.
func (r *region) dropAll(names []string) {
	r.t.Helper()
	d, err := projections.NewDrop(names...)
	if err != nil {
		r.t.Fatalf("NewDrop: %v", err)
	}
	rebuilder := r.rebuilder()
	r.faults, r.meddling = 4, true
	for d.Phase != projections.Done {
		before := roundTrip(r.t, d)
		if err := rebuilder.StepDrop(context.Background(), d); err != nil && !errors.Is(err, viewtest.ErrFault) {
			r.t.Fatalf("StepDrop: %v", err)
		}
		if r.dice.IntN(5) == 0 {
			d, rebuilder = before, r.rebuilder()
		}
	}
	r.settle()
}
