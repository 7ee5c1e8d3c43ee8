package viewtest_test

import (
	"errors"
	"testing"

	"parley/projections"
	"parley/projections/viewtest"
)

func newModel(*testing.T) projections.Views { return viewtest.NewModel() }

func TestModel(t *testing.T) { viewtest.Run(t, viewtest.Driver{New: newModel}) }

// Faults that are not asked for change nothing.
func TestFaultsOff(t *testing.T) {
	viewtest.Run(t, viewtest.Driver{New: func(*testing.T) projections.Views {
		return viewtest.NewFaults(viewtest.NewModel())
	}})
}

func TestFaults(t *testing.T) {
	keys := []projections.Key{{Partition: "p", Sort: "a"}, {Partition: "p", Sort: "b"}, {Partition: "p", Sort: "c"}}
	for _, test := range []struct {
		name  string
		fault viewtest.Fault
		want  [3]int64 // versions
	}{
		{"Failed", viewtest.Failed, [3]int64{0, 0, 0}},
		{"FailedHalf", viewtest.FailedHalf, [3]int64{1, 0, 1}},
		{"FailedStored", viewtest.FailedStored, [3]int64{1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			model := viewtest.NewModel()
			faults := viewtest.NewFaults(model)
			faults.FailSaves(test.fault)
			views, err := faults.Get(t.Context(), keys...)
			if err != nil {
				t.Fatal(err)
			}
			if err := faults.Save(t.Context(), views...); !errors.Is(err, viewtest.ErrFault) {
				t.Fatalf("Save: got error %v, want %v", err, viewtest.ErrFault)
			}
			stored, _ := model.Get(t.Context(), keys...)
			for i, view := range stored {
				if view.Version != test.want[i] {
					t.Errorf("view %d has version %d, want %d", i, view.Version, test.want[i])
				}
			}
			if err := faults.Save(t.Context(), stored...); err != nil {
				t.Errorf("Save after the fault: %v", err)
			}
		})
	}
}

// A caller whose Save failed without a word does not learn of the conflicts in it.
func TestFaultHidesConflict(t *testing.T) {
	faults := viewtest.NewFaults(viewtest.NewModel())
	faults.FailSaves(viewtest.None, viewtest.FailedStored)
	view := projections.View{Key: projections.Key{Partition: "p", Sort: "a"}}
	if err := faults.Save(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	var conflict *projections.ConflictError
	if err := faults.Save(t.Context(), view); !errors.Is(err, viewtest.ErrFault) || errors.As(err, &conflict) {
		t.Errorf("got error %v, want %v alone", err, viewtest.ErrFault)
	}
}

func TestFaultsOfReads(t *testing.T) {
	faults := viewtest.NewFaults(viewtest.NewModel())
	faults.FailGets(2)
	faults.FailQueries(1)
	get := func() error {
		_, err := faults.Get(t.Context(), projections.Key{Partition: "p", Sort: "a"})
		return err
	}
	query := func() error { _, err := faults.Query(t.Context(), "p", projections.Range{Limit: 1}); return err }
	for i, got := range []error{get(), get(), query()} {
		if !errors.Is(got, viewtest.ErrFault) {
			t.Errorf("read %d: got error %v, want %v", i, got, viewtest.ErrFault)
		}
	}
	for i, got := range []error{get(), query()} {
		if got != nil {
			t.Errorf("read %d after the faults: %v", i, got)
		}
	}
}
