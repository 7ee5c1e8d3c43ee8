package health_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/health"
	"parley/projections"
	"parley/projections/viewtest"
)

// returning is a region whose heartbeats come back from some streams and not from others.
type returning struct {
	t      *testing.T
	log    *logtest.Faults
	clock  *events.Clock
	engine *projections.Engine
	health *health.Handler
}

func newReturning(t *testing.T, streams int) *returning {
	r := &returning{t: t, log: &logtest.Faults{Log: logtest.NewModel()}, clock: events.NewClock(time.Now, events.NewMarks(nil))}
	views := viewtest.NewModel()
	r.engine = projections.NewEngine(r.log, views, projections.All()...)
	r.health = &health.Handler{Region: "eu", Log: r.log, Views: views, Now: time.Now, Streams: streams, Timeout: time.Second}
	return r
}

// beat appends heartbeats once a minute, for some minutes; those of the named streams come back.
func (r *returning) beat(minutes, streams int, back ...int) {
	r.t.Helper()
	for range minutes {
		if err := health.Beat(r.t.Context(), r.log, r.clock, "eu", streams); err != nil {
			r.t.Fatal(err)
		}
		for _, n := range back {
			r.comeBack(n)
		}
		time.Sleep(time.Minute)
	}
}

// comeBack folds the last heartbeat of a stream.
func (r *returning) comeBack(n int) {
	r.t.Helper()
	for e, err := range r.log.Read(r.t.Context(), events.BeatStream("eu", n), events.Range{Reverse: true, Limit: 1}) {
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.engine.Apply(r.t.Context(), []projections.Arrival{{Event: e}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// is fails unless the check says what is wrong; "" is nothing.
func (r *returning) is(when, wrong string) {
	r.t.Helper()
	code, report := ask(r.t, r.health)
	want, status := 200, "ok"
	if wrong != "" {
		want, status = 503, "failing"
	}
	if code != want || report.Status != status || report.Error != wrong {
		r.t.Errorf("%s: %d %+v, want %q", when, code, report, wrong)
	}
}

// A region is unhealthy if one of its shards does not move, and healthy as soon as it does.
func TestHeartbeatsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturning(t, 3)
		r.is("before any heartbeat", "")
		r.beat(2, 3, 0, 1, 2)
		r.beat(6, 3, 0, 1)
		r.is("after six heartbeats", "")
		r.beat(1, 3, 0, 1)
		r.is("after seven", "stage stream: no heartbeat of region/eu.2 has come back through the change stream in the last 7 minutes")
		r.beat(120, 3, 0, 1)
		r.is("after two hours", "stage stream: no heartbeat of region/eu.2 has come back through the change stream in the last 60 minutes")
		r.health.Streams = 2
		r.is("the region has fewer streams", "")
		r.health.Streams = 3
		r.comeBack(2)
		r.is("it comes back", "")
	})
}

// A stream whose heartbeats never came back has no view.
func TestHeartbeatsOfNewStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturning(t, 2)
		r.beat(5, 2, 0)
		r.is("after five heartbeats", "")
		r.beat(2, 2, 0)
		r.is("after seven", "stage stream: no heartbeat of region/eu.1 has come back through the change stream in the last 7 minutes")
	})
}

// What lies in the log when a region starts does not make it unhealthy.
func TestHeartbeatsAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturning(t, 2)
		r.beat(10, 2, 0, 1)
		r.beat(1, 2)
		r.is("it stops", "")
		time.Sleep(20 * time.Minute)
		r.is("minutes later, with one heartbeat on the way", "")
		time.Sleep(72 * time.Hour)
		r.is("days later", "")
		r.beat(5, 2)
		r.is("it takes five minutes to catch up", "")
		r.beat(1, 2, 0, 1)
		r.is("it has", "")

		r.beat(30, 2)
		time.Sleep(72 * time.Hour)
		r.is("days later, after it was stuck for half an hour", "")
		r.beat(7, 2)
		r.is("it is stuck still", "stage stream: no heartbeat of region/eu has come back through the change stream in the last 7 minutes")
	})
}

// While all is well the check reads no heartbeats from the log; otherwise it reads a stream that is behind
// once in ten seconds.
func TestHeartbeatReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturning(t, 3)
		var mu sync.Mutex
		var reads map[events.Stream]int
		asked := func(n int) map[events.Stream]int {
			reads = map[events.Stream]int{}
			for range n {
				ask(t, r.health)
				time.Sleep(time.Second)
			}
			delete(reads, "region/eu") // each check reads it, to see whether the log can be read
			return reads
		}
		r.beat(3, 3, 0, 1, 2)
		r.log.OnRead = func(stream events.Stream) error {
			mu.Lock()
			defer mu.Unlock()
			reads[stream]++
			return nil
		}
		if got := asked(10); len(got) > 0 {
			t.Errorf("at rest, ten checks read %v", got)
		}
		r.log.OnRead = nil
		r.beat(10, 3, 0, 1)
		r.log.OnRead = func(stream events.Stream) error {
			mu.Lock()
			defer mu.Unlock()
			reads[stream]++
			return nil
		}
		once := asked(1)["region/eu.2"]
		if got := asked(9); len(got) > 0 {
			t.Errorf("with a stream that is behind, the next nine seconds read %v", got)
		}
		if got := asked(1); once == 0 || got["region/eu.2"] != once || len(got) != 1 {
			t.Errorf("ten seconds later a check reads %v, the first %d", got, once)
		}
		time.Sleep(time.Minute)
		r.log.OnRead = func(stream events.Stream) error {
			if stream == "region/eu.2" {
				return events.ErrThrottled
			}
			return nil
		}
		r.is("the log cannot be read", "the log cannot be read")
	})
}

func TestBeat(t *testing.T) {
	log := &logtest.Faults{Log: logtest.NewModel()}
	log.OnAppend = func(e events.Event) logtest.Fault {
		if e.Stream == "region/eu.1" || e.Stream == "region/eu.3" {
			return logtest.NotStored
		}
		return logtest.Pass
	}
	err := health.Beat(t.Context(), log, events.NewClock(time.Now, events.NewMarks(nil)), "eu", 5)
	if !errors.Is(err, events.ErrThrottled) || !strings.Contains(err.Error(), "region/eu.1:") || !strings.Contains(err.Error(), "region/eu.3:") {
		t.Errorf("two heartbeats that were not stored give %v", err)
	}
	var stored []string
	for n := range 6 {
		for e, err := range log.Read(t.Context(), events.BeatStream("eu", n), events.Range{}) {
			if err != nil || e.Type != "region.beat" || e.Actor != "eu" || e.Region != "eu" {
				t.Errorf("the heartbeat is %+v, %v", e, err)
			}
			stored = append(stored, string(e.Stream))
		}
	}
	slices.Sort(stored)
	if diff := cmp.Diff([]string{"region/eu", "region/eu.2", "region/eu.4"}, stored); diff != "" {
		t.Error(diff)
	}
}
