package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/events/dynamolocal/dynamotest"
	"parley/functions/operate"
	"parley/infra/lambda/config"
	"parley/projections"
)

// start starts a job and returns its path.
func (u user) start(body string) string {
	u.c.t.Helper()
	return "/v1/ops/jobs/" + u.must("POST", "/v1/ops/jobs", body).text("id")
}

// A rebuild runs over several invocations. The worker is killed in the middle of one, and its
// message comes again, while the lease holds and after. Meanwhile users write, and see it.
func TestRebuildSurvivesKill(t *testing.T) {
	var worker atomic.Pointer[host]
	var left atomic.Int64 // calls until the kill; 0: none
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if left.Load() > 0 && left.Add(-1) == 0 {
			worker.Load().kill()
		}
		return dynamotest.None
	})
	worker.Store(c.functions[config.Worker])
	room := c.talk(20)
	c.settle()
	ada, op := c.user("ada"), c.operator("olga")
	job := op.start(`{"kind":"rebuild","projection":"timeline"}`)
	m, ok := c.queues.take(jobQueue)
	if !ok || c.queues.wait(replayQueue) > 0 {
		t.Fatal("no message, or one in the wrong queue")
	}
	left.Store(4) // the job is leased by then, and nothing of the step is stored
	if !c.deliver(config.Worker, m) || left.Load() > 0 {
		t.Fatal("it was not killed")
	}
	ada.post(room, "meanwhile")
	for deadline := time.Now().Add(time.Minute); c.queues.wait(jobQueue) == 0 && time.Now().Before(deadline); {
		if c.deliver(config.Worker, m) {
			t.Fatal("a message that finds the job leased comes again")
		}
		time.Sleep(time.Second) // until the lease of the dead is over
	}
	c.settle()
	steps := 0
	for {
		next, more := c.queues.take(jobQueue)
		if !more {
			break
		}
		if steps++; steps%2 == 0 {
			c.deliver(config.Worker, m) // the first once more
		}
		c.deliver(config.Worker, next)
	}
	ada.post(room, "after")
	c.settle()
	if r := op.get(job); r.text("state") != operate.StateDone {
		t.Errorf("after %d steps the job is %s", steps, r.body)
	}
	var status struct {
		Generations map[string]struct{ Live, Previous int }
	}
	op.get("/v1/ops/status").into(&status)
	if g := status.Generations["timeline"]; g.Live != 2 || g.Previous != 1 {
		t.Errorf("the generations are %+v", status.Generations)
	}
	if got := texts(ada.messages(room + "/messages?limit=50")); strings.Count(got, secret) != 20 || !strings.HasSuffix(got, "meanwhile | after") {
		t.Errorf("the room is %s", got)
	}
	if starts := c.functions[config.Worker].starts; starts != 2 || steps < 3 {
		t.Errorf("started %d times, %d steps", starts, steps)
	}
	c.checkActs(op, "job.start", "job.done")
	for _, e := range c.bus.entries() {
		if e.Source != "parley" {
			t.Errorf("a rebuild publishes %+v", e)
		}
	}
	if got := c.queues.wait(replayQueue); got > 0 {
		t.Errorf("%d messages for the replayer", got)
	}
}

// checkActs checks what was noted of operators, in its order and once each.
func (c *cloud) checkActs(op user, want ...string) {
	c.t.Helper()
	var page struct {
		Events []struct{ Data struct{ What string } }
	}
	op.get("/v1/ops/events?stream=ops/" + inRegion).into(&page)
	var got []string
	for _, e := range page.Events {
		got = append(got, e.Data.What)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("noted are %v, want %v", got, want)
	}
}

// A replay publishes under its prefix, each event of the room, and nothing that ordinary
// subscribers get.
func TestReplayJob(t *testing.T) {
	c := newCloud(t, nil)
	room := c.talk(12)
	c.settle()
	before := len(c.bus.entries())
	op := c.operator("olga")
	job := op.start(`{"kind":"replay","to":"again","rate":1000}`)
	if c.queues.wait(jobQueue) > 0 {
		t.Error("a replay is in the queue of the worker, which may not publish")
	}
	m, _ := c.queues.take(replayQueue)
	if !c.deliver(config.Worker, m) || op.get(job).text("state") != operate.StateRunning {
		t.Error("the worker takes a replay")
	}
	c.deliver(config.Replayer, m)
	c.work(config.Replayer, replayQueue)
	if r := op.get(job); r.text("state") != operate.StateDone {
		t.Errorf("the job is %s", r.body)
	}
	seen := map[string]bool{}
	for _, e := range c.bus.entries()[before:] {
		if e.Source != operate.Source || !strings.HasPrefix(e.DetailType, "again/") || e.EventBusName != "parley" {
			t.Errorf("on the bus is %+v", e)
		}
		seen[e.id()] = true
	}
	for _, posted := range c.user("ada").messages(room + "/messages") {
		if !seen[posted.ID] {
			t.Errorf("%s was not replayed", posted.ID)
		}
	}
	if len(seen) != before {
		t.Errorf("%d of %d events were replayed", len(seen), before)
	}
}

// A job whose message could not be sent lies still, until the schedule finds it.
func TestLostMessage(t *testing.T) {
	c := newCloud(t, nil)
	c.talk(3)
	op := c.operator("olga")
	c.queues.set(true)
	job := op.start(`{"kind":"audit","projection":"room","dry_run":true}`)
	c.queues.set(false)
	scheduled := []byte(`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`)
	if text, err := c.functions[config.Worker].invoke(scheduled); err != nil || c.queues.wait(jobQueue) > 0 {
		t.Errorf("so soon nothing is lost: %s, %v", text, err)
	}
	later := operate.NewRunner(c.views, operate.Acts{}, slog.New(slog.NewTextHandler(io.Discard, nil)), map[string]operate.Kind{"audit": nil})
	later.Now = func() time.Time { return time.Now().Add(config.Silent) }
	q := newQueues(at(c.queues.url), config.Config{JobQueue: c.queues.url + jobQueue})
	f := &workerFunction{runner: later, send: q.send, log: later.Logger}
	if _, err := f.invoke(t.Context(), scheduled); err != nil || c.queues.wait(jobQueue) != 1 {
		t.Fatalf("%d messages, %v", c.queues.wait(jobQueue), err)
	}
	c.work(config.Worker, jobQueue)
	if r := op.get(job); r.text("state") != operate.StateDone {
		t.Errorf("the job is %s", r.body)
	}
	if _, err := c.functions[config.Worker].invoke([]byte(`{}`)); err == nil {
		t.Error("an event of nobody is taken")
	}
}

// A drained region's health answers 503, and its requests are answered.
func TestDrain(t *testing.T) {
	c := newCloud(t, nil)
	op := c.operator("olga")
	for _, tt := range []struct {
		method, says string
		status       int
	}{{"PUT", "drained", http.StatusServiceUnavailable}, {"DELETE", "ok", http.StatusOK}} {
		op.must(tt.method, "/v1/ops/drain", "")
		if r := op.get("/health"); r.status != tt.status || r.text("status") != tt.says {
			t.Errorf("after %s health answers %d %s", tt.method, r.status, r.body)
		}
		if r := op.get("/v1/rooms"); r.status != http.StatusOK {
			t.Errorf("after %s a request is answered %d", tt.method, r.status)
		}
	}
}

// Who is no operator is answered 403, whatever she asks.
func TestOperatorsOnly(t *testing.T) {
	c := newCloud(t, nil)
	ada := c.user("ada")
	for _, tt := range []struct{ method, path, body string }{
		{"GET", "/v1/ops/status", ""},
		{"PUT", "/v1/ops/drain", ""},
		{"POST", "/v1/ops/jobs", `{"kind":"rebuild"}`},
		{"GET", "/v1/ops/log", ""},
		{"POST", "/v1/ops/events", `{"events":[]}`},
	} {
		if r := ada.do(tt.method, tt.path, tt.body); r.status != http.StatusForbidden || r.text("code") != "operator_only" {
			t.Errorf("%s: %d %s", r.asked, r.status, r.body)
		}
	}
	if c.queues.wait(jobQueue) > 0 {
		t.Error("a job was started")
	}
}

// What the bus refused is parked, and handled again by the stream function when an operator says so.
func TestRetryParked(t *testing.T) {
	c := newCloud(t, nil)
	op := c.operator("olga")
	c.talk(1)
	c.bus.set(func(e busEntry) string {
		if e.DetailType == "message.posted" {
			return "InternalFailure"
		}
		return ""
	}, nil)
	c.settle()
	parked := c.parked()
	if len(parked) != 1 {
		t.Fatalf("parked are %v", parked)
	}
	for key, p := range parked {
		body := fmt.Sprintf(`{"key":%q}`, key)
		if r := op.must("POST", "/v1/ops/parked/retry", body); r.text("outcome") != "parked" || !strings.Contains(r.text("error"), "InternalFailure") {
			t.Errorf("while the bus refuses it: %s", r.body)
		}
		c.bus.set(nil, nil)
		if r := op.must("POST", "/v1/ops/parked/retry", body); r.text("outcome") != "handled" || c.bus.counts()[p.ID] != 1 {
			t.Errorf("it was not handled: %s, %d times on the bus", r.body, c.bus.counts()[p.ID])
		}
	}
	if left, err := projections.ListParked(t.Context(), c.views, "", 10); err != nil || len(left) > 0 {
		t.Errorf("still parked are %v, %v", left, err)
	}
}
