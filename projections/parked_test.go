package projections_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"parley/projections"
	"parley/projections/viewtest"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestPark(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	raw := json.RawMessage(`{"id":"<1>"}`)
	for _, key := range []string{"c", "a", "b", "a"} {
		parked := projections.Parked{Stage: "project", Error: "panic", At: noon, Stream: "room/" + key, ID: key, Record: raw}
		if err := projections.Park(t.Context(), views, key, parked); err != nil {
			t.Fatal(err)
		}
	}
	want := func(key string, tries int) projections.Parked {
		return projections.Parked{
			Key: key, Stage: "project", Error: "panic", At: noon, Tries: tries, Stream: "room/" + key, ID: key, Record: raw,
		}
	}
	all := []projections.Parked{want("a", 2), want("b", 1), want("c", 1)}
	for _, page := range []struct {
		after string
		limit int
		want  []projections.Parked
	}{{"", 10, all}, {"", 2, all[:2]}, {"a", 10, all[1:]}, {"aa", 1, all[1:2]}, {"c", 10, nil}} {
		got, err := projections.ListParked(t.Context(), views, page.after, page.limit)
		same(t, "ListParked", got, page.want, err)
	}
}

// Whatever came can be parked, JSON or not.
func TestParkRecords(t *testing.T) {
	t.Parallel()
	for record, want := range map[string]string{
		``: `""`, `null`: `null`, `{"a":1}`: `{"a":1}`, `{"a":`: `"{\"a\":"`, `plain <text>`: `"plain <text>"`,
	} {
		views := viewtest.NewModel()
		if err := projections.Park(t.Context(), views, "key", projections.Parked{Record: json.RawMessage(record)}); err != nil {
			t.Fatal(err)
		}
		got, err := projections.ListParked(t.Context(), views, "", 1)
		if err != nil || len(got) != 1 {
			t.Fatalf("ListParked: %d, %v", len(got), err)
		}
		same(t, "record", string(got[0].Record), want, nil)
	}
}

func TestParkAtOnce(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	const writers = 8
	errs := make([]error, writers)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() { errs[i] = projections.Park(t.Context(), views, "key", projections.Parked{}) })
	}
	wait.Wait()
	got, err := projections.ListParked(t.Context(), views, "", 10)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	same(t, "tries", got[0].Tries, writers, nil)
}

func TestParkFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []viewtest.Fault{viewtest.NotStored, viewtest.Stored} {
		model := viewtest.NewModel()
		views := &viewtest.Faults{Views: model}
		views.OnSave = viewtest.Script(fault)
		untilDone(t, func() error { return projections.Park(t.Context(), views, "key", projections.Parked{Error: "x"}) })
		got, err := projections.ListParked(t.Context(), model, "", 10)
		if err != nil || len(got) != 1 || got[0].Error != "x" {
			t.Fatalf("ListParked: %v, %v", got, err)
		}
	}
}

func TestUnpark(t *testing.T) {
	t.Parallel()
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
