package projections_test

import (
	"testing"

	"parley/projections"
	"parley/projections/viewtest"
)

func TestUnpark(t *testing.T) {
	model := viewtest.NewModel()
	views := &viewtest.Faults{Views: model}
	for _, key := range []string{"a", "b"} {
		if err := projections.Park(t.Context(), views, key, projections.Parked{Stage: "project", At: noon}); err != nil {
			t.Fatal(err)
		}
	}
	p, there, err := projections.LoadParked(t.Context(), views, "a")
	same(t, "LoadParked", []any{p.Key, p.Stage, p.Tries, there}, []any{"a", "project", 1, true}, err)
	for range 2 { // there is nothing the second time
		if err := projections.Unpark(t.Context(), views, "a"); err != nil {
			t.Fatal(err)
		}
		_, there, err := projections.LoadParked(t.Context(), views, "a")
		same(t, "parked", there, false, err)
	}
	got, err := projections.ListParked(t.Context(), views, "", 10)
	same(t, "others", len(got), 1, err)
	views.OnGet = func([]projections.Key) error { return viewtest.ErrFault }
	if err := projections.Unpark(t.Context(), views, "b"); err == nil {
		t.Error("no error")
	}
	if _, _, err := projections.LoadParked(t.Context(), views, "b"); err == nil {
		t.Error("no error")
	}
}
