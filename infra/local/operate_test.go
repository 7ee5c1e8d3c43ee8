package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/functions/operate"
	"parley/functions/stream"
	"parley/projections"
)

// operator is an operator's client at an address.
func (r *running) operator(i int) *client {
	r.t.Helper()
	return newOperator(r.t, r.url(0), r.url(i))
}

// newOperator returns an operator's client at an address.
func newOperator(t testing.TB, global, url string) *client {
	t.Helper()
	c := newClient(t, global, global, "olga")
	c.token, _ = c.must("POST", "/local/token", map[string]string{"user": "olga", "scope": "operator"})["token"].(string)
	c.url = url
	return c
}

// start starts a job.
func (c *client) start(params map[string]any) (id string) {
	c.t.Helper()
	id, _ = c.must("POST", "/v1/ops/jobs", params)["id"].(string)
	return id
}

// finished waits until a job is over, and returns it.
func (c *client) finished(id string) map[string]any {
	c.t.Helper()
	var job map[string]any
	if !eventually(60*time.Second, func() bool {
		job = c.must("GET", "/v1/ops/jobs/"+id, nil)
		return job["state"] != "running"
	}) {
		c.t.Fatalf("the job does not end: %v", job)
	}
	return job
}

func (c *client) done(id string) map[string]any {
	c.t.Helper()
	job := c.finished(id)
	if job["state"] != "done" {
		c.t.Fatalf("the job is %v", job)
	}
	result, _ := job["result"].(map[string]any)
	return result
}

// quick makes the rebuilds of all regions wait less. None may be under way.
func (r *running) quick() {
	for _, region := range r.cluster.regions {
		for _, kind := range region.now.Load().functions.Jobs().Kinds {
			if k, ok := kind.(*operate.Rebuild); ok {
				k.Rebuilder.Grace, k.Rebuilder.Confirm = 1500*time.Millisecond, 1500*time.Millisecond
			}
		}
	}
}

// TestOperateRebuild rebuilds all views of a region while people talk in it. Nobody notices, and an
// audit finds nothing; one after a fault was planted finds and mends it.
func TestOperateRebuild(t *testing.T) { onEachStore(t, operateRebuild) }

func operateRebuild(t *testing.T, set settings) {
	s := serve(t, set)
	s.quick()
	ada, bob, op := s.at(1, "ada"), s.at(2, "bob"), s.operator(1)
	room := ada.create("Hello")
	bob.join(room)
	var posts atomic.Int64
	stop := make(chan struct{})
	var talk sync.WaitGroup
	for _, who := range []*client{ada, bob} {
		talk.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				status, _, text := who.try("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": fmt.Sprint(posts.Load())})
				if status != 201 {
					t.Errorf("a post is answered %d %s", status, text)
				}
				posts.Add(1)
				if status, _, text := who.try("GET", "/v1/rooms/"+room+"/messages?limit=200", nil); status != 200 {
					t.Errorf("a page is answered %d %s", status, text)
				}
			}
		})
	}
	for _, projection := range []string{"timeline", "member"} {
		result := op.done(op.start(map[string]any{"kind": "rebuild", "projection": projection}))
		if result["differ"] != 0.0 {
			t.Errorf("%s: %v", projection, result)
		}
	}
	op.must("POST", "/v1/ops/generations/member/back", nil)
	drop := op.must("POST", "/v1/ops/generations/timeline/drop", nil)
	if result := op.done(drop["id"].(string)); result["deleted"] == 0.0 {
		t.Errorf("nothing was deleted: %v", result)
	}
	close(stop)
	talk.Wait()
	s.agree(room, "ada", int(posts.Load()))
	if result := op.done(op.start(map[string]any{"kind": "audit"})); result["differ"] != 0.0 {
		t.Errorf("a clean region: %v", result)
	}
	one := s.cluster.region("one").now.Load()
	got, err := one.views.Query(t.Context(), "g2/timeline/"+room, rangeOf(2))
	if err != nil || len(got) != 2 {
		t.Fatalf("%d views, %v", len(got), err)
	}
	got[0].Body = []byte("torn")
	if err := one.views.Save(t.Context(), got[0]); err != nil {
		t.Fatal(err)
	}
	if result := op.done(op.start(map[string]any{"kind": "audit", "heal": true})); result["differ"] != 1.0 || result["healed"] != 1.0 {
		t.Errorf("a torn view: %v", result)
	}
	s.agree(room, "ada", int(posts.Load()))
}

// TestOperateRestart stops the process in the middle of jobs. They go on after the next start.
func TestOperateRestart(t *testing.T) { onEachStore(t, operateRestart) }

func operateRestart(t *testing.T, set settings) {
	s := serve(t, set)
	ada, op := s.at(1, "ada"), s.operator(1)
	room := ada.create("Hello")
	for i := range 60 {
		ada.post(room, fmt.Sprint(i))
	}
	replay := op.start(map[string]any{"kind": "replay", "to": "again", "rate": 20, "type": "message.*"})
	rebuild := op.start(map[string]any{"kind": "rebuild"})
	if !eventually(30*time.Second, func() bool {
		job := op.must("GET", "/v1/ops/jobs/"+replay, nil)
		return job["phase"] == "publish" && job["done"].(float64) > 0
	}) {
		t.Fatal("the replay does not begin")
	}
	s.halt()
	s = serve(t, set)
	op = s.operator(1)
	if result := op.done(replay); result["published"] != 60.0 {
		t.Errorf("%v", result)
	}
	if result := op.done(rebuild); result["differ"] != 0.0 {
		t.Errorf("%v", result)
	}
	replayed := map[string]bool{}
	p, err := s.cluster.region("one").now.Load().bus.read(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ordinary := map[string]int{}
	for _, e := range p.entries {
		var detail struct{ ID string }
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		if e.Source == "parley" {
			ordinary[detail.ID]++
		} else if replayed[detail.ID] = true; e.Source != stream.ReplaySource || e.DetailType != "again/message.posted" {
			t.Errorf("an entry of a replay is %s %s", e.Source, e.DetailType)
		}
	}
	if len(replayed) != 60 {
		t.Errorf("%d were replayed", len(replayed))
	}
}

// TestOperateDrain takes a region out of what the global endpoint chooses from, and nothing else.
func TestOperateDrain(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	ada, op := s.at(0, "ada"), s.operator(1)
	answers := func() string {
		_, header, _ := ada.try("GET", "/v1/rooms", nil)
		return header.Get("Parley-Region")
	}
	if got := answers(); got != "one" {
		t.Fatalf("%s answers", got)
	}
	op.must("PUT", "/v1/ops/drain", nil)
	if !eventually(10*time.Second, func() bool { return answers() == "two" }) {
		t.Error("traffic does not leave")
	}
	room := s.at(1, "ada").create("still answered")
	s.agree(room, "ada", 0)
	if status := op.must("GET", "/v1/ops/status", nil); status["health"].(map[string]any)["status"] != "drained" {
		t.Errorf("%v", status)
	}
	op.must("DELETE", "/v1/ops/drain", nil)
	if !eventually(10*time.Second, func() bool { return answers() == "one" }) {
		t.Error("traffic does not come back")
	}
	if status, _, _ := s.at(1, "ada").try("GET", "/v1/ops/status", nil); status != 403 {
		t.Errorf("anybody is answered %d", status)
	}
}

// TestReplayIsNotOrdinary: who subscribes to a bus as ever gets nothing that is replayed.
func TestReplayIsNotOrdinary(t *testing.T) {
	for types, want := range map[string]bool{
		"": false, "message.posted": false, "message.*": false, "*": false, "x/message.posted": true, "x/*": true, "y/*": false, "x/room.*": false, "y/*,x/*": true,
	} {
		var asked []string
		if types != "" {
			asked = strings.Split(types, ",")
		}
		if got := wants(asked, "x/message.posted"); got != want {
			t.Errorf("%q: %t", types, got)
		}
		if ordinary := types == "" || types == "message.posted" || types == "message.*" || types == "*"; wants(asked, "message.posted") != ordinary {
			t.Errorf("%q: an ordinary event is not as it was", types)
		}
	}
}

// TestMetrics reads what Prometheus would.
func TestMetrics(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(1, "ada")
	room := ada.create("Hello")
	for range 5 {
		ada.post(room, "x")
	}
	s.agree(room, "ada", 5)
	op := s.operator(1)
	op.done(op.start(map[string]any{"kind": "replay", "to": "x", "dry_run": true}))
	op.must("PUT", "/v1/ops/drain", nil)
	want := []string{
		`parley_projected_lag_seconds_count{region="two"}`, `parley_published_lag_seconds_bucket{region="three",le="+Inf"}`,
		`parley_accepted_lag_seconds_count{region="one"}`, `parley_published_total{region="one"}`,
		`parley_parked{region="one"} 0`, `parley_jobs{region="one",state="done"} 1`, `parley_drained{region="one"} 1`, `parley_drained{region="two"} 0`,
		`parley_waited_seconds{region="one",stage="stream"}`, "go_goroutines",
	}
	var text string
	if !eventually(10*time.Second, func() bool {
		response, err := plainHTTP.Get(s.url(0) + "/local/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%d %v", response.StatusCode, err)
		}
		text = string(body)
		for _, line := range want {
			if !strings.Contains(text, line) {
				return false
			}
		}
		// A room, five messages, eight beats, the start and the end of a job, the drain.
		return strings.Contains(text, `parley_accepted_total{region="one"} 17`)
	}) {
		for _, line := range want {
			if !strings.Contains(text, line) {
				t.Errorf("%s is missing", line)
			}
		}
		t.Errorf("the metrics are %.6000s", text)
	}
}

func rangeOf(limit int) projections.Range { return projections.Range{Limit: limit} }
