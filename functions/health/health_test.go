package health_test

import (
	"context"
	"encoding/json"
	"iter"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/health"
	"parley/functions/wire"
	"parley/projections"
	"parley/projections/viewtest"
)

func ask(t *testing.T, h *health.Handler) (int, wire.Health) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	var report wire.Health
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if w.Header().Get("Content-Type") != "application/json" || (w.Header().Get("Retry-After") != "") != (w.Code == 503) {
		t.Errorf("%d with headers %v", w.Code, w.Header())
	}
	return w.Code, report
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logtest.Faults{Log: logtest.NewModel()}
		views := &viewtest.Faults{Views: viewtest.NewModel()}
		engine := projections.NewEngine(log, views, projections.All()...)
		clock := events.NewClock(time.Now, events.NewMarks(nil))
		h := &health.Handler{Region: "eu", Log: log, Views: views, Now: time.Now, Timeout: time.Second}
		code, report := ask(t, h)
		if diff := cmp.Diff(wire.Health{Region: "eu", Version: wire.Version(), Status: "ok", Frontiers: map[string]float64{}}, report); code != 200 || diff != "" {
			t.Errorf("%d\n%s", code, diff)
		}

		beat := func(region string) {
			if err := health.Beat(t.Context(), log, clock, region, 1); err != nil {
				t.Fatal(err)
			}
			for e, err := range log.Read(t.Context(), events.RegionStream(region), events.Range{Reverse: true, Limit: 1}) {
				if err != nil || e.Type != "region.beat" || e.Actor != region {
					t.Fatalf("the beat is %+v, %v", e, err)
				}
				if _, err := engine.Apply(t.Context(), []projections.Arrival{{Event: e}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		beat("eu")
		time.Sleep(90 * time.Second)
		beat("us")
		time.Sleep(2 * time.Second)
		h.Stages = func() map[string]time.Duration { return map[string]time.Duration{"stream": 1500 * time.Millisecond} }
		code, report = ask(t, h)
		want := wire.Health{Region: "eu", Version: wire.Version(), Status: "ok", Stages: map[string]float64{"stream": 1.5}, Frontiers: map[string]float64{"eu": 92, "us": 2}}
		if diff := cmp.Diff(want, report); code != 200 || diff != "" {
			t.Errorf("%d\n%s", code, diff)
		}

		log.OnRead = func(events.Stream) error { return events.ErrThrottled }
		if code, report := ask(t, h); code != 503 || report.Status != "failing" || report.Error != "the log cannot be read" {
			t.Errorf("%d %+v", code, report)
		}
		log.OnRead = nil
		views.OnQuery = func(string, projections.Range) error { return viewtest.ErrFault }
		if code, report := ask(t, h); code != 503 || report.Status != "failing" || report.Error != "the views cannot be read" {
			t.Errorf("%d %+v", code, report)
		}
		views.OnQuery = nil
		h.Writable = func() error { return events.ErrUnavailable }
		if code, report := ask(t, h); code != 503 || report.Status != "failing" || report.Error != "the log cannot be written" {
			t.Errorf("%d %+v", code, report)
		}
		h.Writable = func() error { return nil }
		if code, _ := ask(t, h); code != 200 {
			t.Errorf("not well again: %d", code)
		}

		drained, failed := true, error(nil)
		h.Drained = func(context.Context) (bool, error) { return drained, failed }
		if code, report := ask(t, h); code != 503 || report.Status != "drained" || report.Error != "" || report.Frontiers["eu"] != 92 {
			t.Errorf("drained: %d %+v", code, report)
		}
		failed = viewtest.ErrFault
		if code, report := ask(t, h); code != 503 || report.Status != "failing" || report.Error != "the views cannot be read" {
			t.Errorf("%d %+v", code, report)
		}
		drained, failed = false, nil
		if code, report := ask(t, h); code != 200 || report.Status != "ok" {
			t.Errorf("no longer drained: %d %+v", code, report)
		}
	})
}

// A region whose change stream is minutes behind is failing, unless it has just started.
func TestStreamBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lag := 10 * time.Minute
		h := &health.Handler{
			Region: "eu", Log: logtest.NewModel(), Views: viewtest.NewModel(), Now: time.Now, Timeout: time.Second,
			Stages: func() map[string]time.Duration {
				return map[string]time.Duration{"stream": lag, "replicate to us": time.Hour}
			},
		}
		if code, report := ask(t, h); code != 200 {
			t.Errorf("right after the start: %d %+v", code, report)
		}
		time.Sleep(4 * time.Minute)
		if code, report := ask(t, h); code != 503 || report.Error != "stage stream: the oldest event that is not handled has waited for 10 minutes" {
			t.Errorf("%d %+v", code, report)
		}
		lag = 2 * time.Minute
		if code, report := ask(t, h); code != 200 {
			t.Errorf("it has caught up: %d %+v", code, report)
		}
	})
}

// A log that does not answer is as good as down.
func TestHealthTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health.Handler{Region: "eu", Log: silent{logtest.NewModel()}, Views: viewtest.NewModel(), Now: time.Now, Timeout: time.Second}
		start := time.Now()
		if code, _ := ask(t, h); code != 503 || time.Since(start) != time.Second {
			t.Errorf("%d after %v", code, time.Since(start))
		}
	})
}

// silent is a log whose Read takes forever.
type silent struct{ events.Log }

func (silent) Read(ctx context.Context, _ events.Stream, _ events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		<-ctx.Done()
		yield(events.Event{}, ctx.Err())
	}
}
