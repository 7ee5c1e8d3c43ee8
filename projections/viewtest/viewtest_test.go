package viewtest_test

import (
	"errors"
	"testing"

	"parley/projections"
	"parley/projections/viewtest"
)

func TestModel(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, viewtest.Driver{
		Open:     func(testing.TB, string) projections.Views { return viewtest.NewModel() },
		Volatile: true,
	})
}

func TestModelRebuild(t *testing.T) {
	t.Parallel()
	viewtest.RunRebuild(t, viewtest.Driver{Open: func(testing.TB, string) projections.Views { return viewtest.NewModel() }})
}

func TestFaultsPass(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, viewtest.Driver{
		Open:     func(testing.TB, string) projections.Views { return &viewtest.Faults{Views: viewtest.NewModel()} },
		Volatile: true,
	})
}

var keys = []projections.Key{{Partition: "p", Sort: "a"}, {Partition: "p", Sort: "b"}, {Partition: "p", Sort: "c"}}

func TestFaultsSave(t *testing.T) {
	t.Parallel()
	model := viewtest.NewModel()
	script := viewtest.Script(viewtest.NotStored, viewtest.HalfStored, viewtest.Pass, viewtest.Stored)
	faults := &viewtest.Faults{Views: model, OnSave: script}
	for i, step := range []struct {
		err      error
		versions [3]int64
	}{
		{viewtest.ErrFault, [3]int64{0, 0, 0}},
		{viewtest.ErrFault, [3]int64{1, 0, 1}},
		{nil, [3]int64{2, 1, 2}},
		{viewtest.ErrFault, [3]int64{3, 2, 3}},
		{nil, [3]int64{4, 3, 4}},
	} {
		views, err := faults.Get(t.Context(), keys...)
		if err != nil {
			t.Fatal(err)
		}
		if err := faults.Save(t.Context(), views...); !errors.Is(err, step.err) {
			t.Errorf("save %d: error %v, want %v", i+1, err, step.err)
		}
		stored, err := model.Get(t.Context(), keys...)
		if err != nil {
			t.Fatal(err)
		}
		for j, view := range stored {
			if view.Version != step.versions[j] {
				t.Errorf("save %d: view %d has version %d, want %d", i+1, j, view.Version, step.versions[j])
			}
		}
	}
}

// A caller whose Save failed without a word does not learn of the conflicts in it.
func TestFaultsHideConflict(t *testing.T) {
	t.Parallel()
	faults := &viewtest.Faults{Views: viewtest.NewModel(), OnSave: viewtest.Script(viewtest.Pass, viewtest.Stored)}
	view := projections.View{Key: keys[0]}
	if err := faults.Save(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	var conflict *projections.ConflictError
	if err := faults.Save(t.Context(), view); !errors.Is(err, viewtest.ErrFault) || errors.As(err, &conflict) {
		t.Errorf("got error %v, want %v alone", err, viewtest.ErrFault)
	}
}

func TestFaultsDelete(t *testing.T) {
	t.Parallel()
	model := viewtest.NewModel()
	for _, key := range keys {
		if err := model.Save(t.Context(), projections.View{Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	faults := &viewtest.Faults{Views: model, OnDelete: viewtest.Script(viewtest.NotStored, viewtest.HalfStored, viewtest.Stored)}
	for i, left := range []int{3, 1, 0} {
		views, err := faults.Get(t.Context(), keys...)
		if err != nil {
			t.Fatal(err)
		}
		if err := faults.Delete(t.Context(), views...); !errors.Is(err, viewtest.ErrFault) {
			t.Errorf("delete %d: error %v, want %v", i+1, err, viewtest.ErrFault)
		}
		if got, err := model.Query(t.Context(), "p", projections.Range{Limit: 9}); err != nil || len(got) != left {
			t.Errorf("delete %d: %d views are left, want %d; error %v", i+1, len(got), left, err)
		}
	}
	faults.OnScan = func([]string, projections.Key) error { return viewtest.ErrFault }
	if _, _, err := faults.Scan(t.Context(), nil, projections.Key{}, 1); !errors.Is(err, viewtest.ErrFault) {
		t.Errorf("Scan: error %v, want %v", err, viewtest.ErrFault)
	}
}

func TestFaultsRead(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	faults := &viewtest.Faults{
		Views: viewtest.NewModel(),
		OnGet: func(keys []projections.Key) error {
			if len(keys) == 1 {
				return boom
			}
			return nil
		},
		OnQuery: func(partition string, _ projections.Range) error {
			if partition == "p" {
				return boom
			}
			return nil
		},
	}
	for n, want := range []error{nil, boom, nil} {
		if _, err := faults.Get(t.Context(), keys[:n]...); !errors.Is(err, want) {
			t.Errorf("Get of %d: error %v, want %v", n, err, want)
		}
	}
	for partition, want := range map[string]error{"p": boom, "q": nil} {
		if _, err := faults.Query(t.Context(), partition, projections.Range{Limit: 1}); !errors.Is(err, want) {
			t.Errorf("Query of %s: error %v, want %v", partition, err, want)
		}
	}
}
