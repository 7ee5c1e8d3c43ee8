package operate

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/goldentest"
	"parley/functions/wire"
	"parley/projections"
	"parley/projections/viewtest"
)

var goldenTime = time.Date(2025, time.March, 9, 7, 30, 15, 123456789, time.UTC)

const (
	goldenRoom  = "room/01JNWWZHTR19R62WKCCNWGT3G0"
	goldenEvent = "01JNWWZHVC19R62WKCCNWGT3GM"
)

func goldenKey(t *testing.T) events.Key {
	t.Helper()
	id, err := events.ParseID("id", goldenEvent)
	if err != nil {
		t.Fatal(err)
	}
	return events.Key{Stream: goldenRoom, ID: id}
}

// goldenWork is what each kind of job keeps between two steps, with every field set.
func goldenWork(t *testing.T) map[string]any {
	t.Helper()
	count := counted{Parts: []countedPart{
		{Part: events.Part{Index: 1, Of: 2}, After: goldenKey(t), Scanned: 7, Matched: 5, Views: 9, Bytes: 4097, Done: true},
		{Part: events.Part{Of: 2}},
	}}
	build, err := projections.NewRebuild("01JNWWZHWQ19R62WKCCNWGT3HZ", "timeline")
	if err != nil {
		t.Fatal(err)
	}
	drop, err := projections.NewDrop("timeline")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"rebuild": &rebuilt{Count: count, Over: true, Build: build},
		"replay":  &replayed{Phase: phasePublish, Count: count, After: goldenKey(t), Published: 3, Refused: 1},
		"drop":    drop,
	}
}

// goldenResults are the results of the kinds of jobs, with every field set.
func goldenResults() map[string]any {
	return map[string]any{
		"rebuild": wire.RebuildResult{Events: 7, Failed: 1, Views: 9, Differ: 2, Healed: 1, TooMany: true, Findings: []wire.Finding{{
			Projection: "timeline", Stream: goldenRoom, Key: wire.ViewKey{Partition: "timeline/x", Sort: "y"}, Fault: string(projections.Missing),
		}}},
		"rebuild dry": wire.RebuildCost{Events: 7, Scanned: 8, Views: 9, ReadUnits: 10, WriteUnits: 11, Dollars: 0.25},
		"replay":      wire.ReplayResult{Events: 7, Scanned: 8, ReadUnits: 9, Dollars: 0.25, Published: 5, Refused: 1, Seconds: 2},
	}
}

func encodeGolden(t *testing.T, value any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// goldenJobs are jobs in every state.
func goldenJobs(t *testing.T) []*record {
	t.Helper()
	work, results := goldenWork(t), goldenResults()
	all := wire.Params{DryRun: true, Projection: "timeline", Room: "r", To: "backfill", From: "f", Until: "u", Type: "message.*", Rate: 100, Heal: true}
	job := func(id, kind, state string, r record) *record {
		r.ID, r.Kind, r.State, r.By, r.Started, r.Updated = id, kind, state, "olga", goldenTime, goldenTime.Add(time.Second)
		return &r
	}
	return []*record{
		job("01JNWWZHWQ19R62WKCCNWGT3HZ", "rebuild", wire.JobRunning, record{
			Job:  wire.Job{Params: all, Phase: "fold", Done: 5, Total: 7, Rate: 2.5, Error: "<throttled> & late", Result: wire.JobResult(encodeGolden(t, results["rebuild"]))},
			Work: encodeGolden(t, work["rebuild"]), Holder: "process/step", Until: goldenTime.Add(20 * time.Second), Tries: 2, Next: goldenTime.Add(time.Minute),
		}),
		job("01JNWWZHWR19R62WKCCNWGT3J0", "replay", wire.JobPaused, record{Job: wire.Job{Params: wire.Params{To: "backfill"}}, Work: encodeGolden(t, work["replay"])}),
		job("01JNWWZHWS19R62WKCCNWGT3J1", "audit", wire.JobCancelled, record{Undo: true, Work: encodeGolden(t, work["rebuild"])}),
		job("01JNWWZHWT19R62WKCCNWGT3J2", "drop", wire.JobDone, record{Work: encodeGolden(t, work["drop"]), Job: wire.Job{Result: wire.JobResult(`{"deleted":3}`)}}),
		job("01JNWWZHWV19R62WKCCNWGT3J3", "replay", wire.JobFailed, record{Job: wire.Job{Result: wire.JobResult(encodeGolden(t, results["replay"]))}}),
		job("01JNWWZHWW19R62WKCCNWGT3J4", "rebuild", wire.JobDone, record{Job: wire.Job{Result: wire.JobResult(encodeGolden(t, results["rebuild dry"]))}}),
	}
}

// Jobs and the drain are stored as they always were, and what was stored is read as what it was.
func TestGolden(t *testing.T) {
	folder, views := goldentest.Open(t, "views"), viewtest.NewModel()
	runner := NewRunner(views, Acts{}, slog.New(slog.DiscardHandler), nil)
	jobs := goldenJobs(t)
	for _, j := range jobs {
		if err := runner.save(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	golden := folder.Check("jobs.jsonl", goldentest.Lines(t, viewtest.Dump(t, views, "")...))
	restored := viewtest.NewModel()
	viewtest.Restore(t, restored, goldentest.ReadLines[viewtest.Line](t, golden))
	runner.Views = restored
	for _, want := range jobs {
		got, err := runner.load(t.Context(), want.ID)
		if err != nil || got == nil {
			t.Fatalf("load the golden job %s: %v, error %v", want.ID, got, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
			t.Errorf("a golden job is read differently (-want +got):\n%s", diff)
		}
	}

	since := goldenTime
	drained := viewtest.NewModel()
	if err := drained.Save(t.Context(), projections.View{Key: drainKey, Body: encodeGolden(t, wire.Drain{Drained: true, By: "olga", Since: &since})}); err != nil {
		t.Fatal(err)
	}
	golden = folder.Check("drain.jsonl", goldentest.Lines(t, viewtest.Dump(t, drained, "")...))
	restored = viewtest.NewModel()
	viewtest.Restore(t, restored, goldentest.ReadLines[viewtest.Line](t, golden))
	got, err := LoadDrain(t.Context(), restored)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire.Drain{Drained: true, By: "olga", Since: &since}, got); diff != "" {
		t.Errorf("a golden drain is read differently (-want +got):\n%s", diff)
	}
}

// What a kind kept of its work is read again by the kind.
func TestGoldenWork(t *testing.T) {
	folder := goldentest.Open(t, "work")
	for name, want := range goldenWork(t) {
		golden := folder.Check(name+".jsonl", goldentest.Lines(t, want))
		got := map[string]any{"rebuild": &rebuilt{}, "replay": &replayed{}, "drop": &projections.Drop{}}[name]
		if err := json.Unmarshal(golden, got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported()); diff != "" {
			t.Errorf("golden work of a %s is read differently (-want +got):\n%s", name, diff)
		}
	}
}
