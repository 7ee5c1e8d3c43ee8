package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/functions"
	"parley/functions/operate"
	"parley/functions/wire"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
	"parley/projections"
)

// fakeRunner answers as its jobs are called: "more", "over", "leased", "fails".
type fakeRunner struct{ err error }

func (fakeRunner) Step(_ context.Context, id string) (more bool, err error) {
	switch {
	case strings.HasPrefix(id, "leased"):
		return false, fmt.Errorf("take a job: %w", operate.ErrLeased)
	case strings.HasPrefix(id, "fails"):
		return true, errors.New("the table is away")
	}
	return strings.HasPrefix(id, "more"), nil
}

func (r fakeRunner) StalledJobs(context.Context, time.Duration) ([]wire.Job, error) {
	return []wire.Job{{ID: "still", Kind: "audit"}, {ID: "unsent", Kind: "audit"}}, r.err
}

// newFake returns a worker with a fake runner, and what it sends; a job called unsent cannot be sent.
func newFake(err error) (*workerFunction, *[]string) {
	var sent []string
	return &workerFunction{
		runner: fakeRunner{err}, kinds: []string{"audit"}, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		send: func(_ context.Context, m jobMessage) error {
			if strings.Contains(m.Job, "unsent") {
				return errors.New("the queue is away")
			}
			sent = append(sent, m.Kind+" "+m.Job)
			return nil
		},
	}, &sent
}

// TestWorkerAnswers: failed messages are reported, and no others, and each step that is followed by
// another sends a message.
func TestWorkerAnswers(t *testing.T) {
	f, sent := newFake(nil)
	var records []awstest.Message
	for i, body := range []string{
		`{"job":"more","kind":"audit"}`, `{"job":"over","kind":"audit"}`, `{"job":"leased","kind":"audit"}`, `{"job":"fails","kind":"audit"}`,
		`{"job":"more unsent","kind":"audit"}`, `{"job":"more","kind":"replay"}`, `{"kind":"audit"}`, `[]`, ``,
	} {
		records = append(records, awstest.Message{ID: fmt.Sprint(i), Body: body})
	}
	payload, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.invoke(t.Context(), payload)
	const want = `{"batchItemFailures":[{"itemIdentifier":"3"},{"itemIdentifier":"4"},{"itemIdentifier":"5"},{"itemIdentifier":"6"},{"itemIdentifier":"7"},{"itemIdentifier":"8"}]}`
	if err != nil || string(answer) != want {
		t.Errorf("it answers %s, %v", answer, err)
	}
	if fmt.Sprint(*sent) != "[audit more]" {
		t.Errorf("it sends %q", *sent)
	}
	answer, err = f.invoke(t.Context(), []byte(`{"Records":[{"messageId":"0","body":"{\"job\":\"over\",\"kind\":\"audit\"}"}]}`))
	if err != nil || string(answer) != `{"batchItemFailures":[]}` {
		t.Errorf("if all is well it answers %s, %v", answer, err)
	}
}

// TestWorkerWakes: the schedule continues stalled jobs, as far as messages can be sent.
func TestWorkerWakes(t *testing.T) {
	f, sent := newFake(nil)
	if _, err := f.invoke(t.Context(), []byte(`{"detail-type":"Scheduled Event"}`)); err == nil || fmt.Sprint(*sent) != "[audit still]" {
		t.Errorf("it sends %q, and fails with %v", *sent, err)
	}
	f, sent = newFake(errors.New("the views are away"))
	if _, err := f.invoke(t.Context(), []byte(`{"detail-type":"Scheduled Event"}`)); err == nil || len(*sent) > 0 {
		t.Errorf("it sends %q, and fails with %v", *sent, err)
	}
	for _, payload := range []string{`{}`, `[]`, `{"Records":[]}`, ``} {
		if _, err := f.invoke(t.Context(), []byte(payload)); !errors.Is(err, errNoMessages) {
			t.Errorf("%q: %v", payload, err)
		}
	}
}

// TestRetryFails: an event is handled only if the stream function says so.
func TestRetryFails(t *testing.T) {
	id, err := events.ParseID("id", "01J00000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status       int
		failed, body string
		want         string
	}{
		{200, "", `{}`, ""},
		{200, "", `{"error":"parked again"}`, "parked again"},
		{200, "Unhandled", `{"errorMessage":"panic"}`, "the function failed"},
		{200, "", `no JSON`, "answer to a retry"},
		{429, "", `{}`, "status 429"},
	} {
		asked := ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked = string(body)
			if tt.failed != "" {
				w.Header().Set("X-Amz-Function-Error", tt.failed)
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		cloud := awstest.Config(server.URL)
		cloud.HTTPClient = server.Client()
		s := &streamInvoker{cloud: cloud, endpoint: server.URL, function: streamName}
		err := s.retry(t.Context(), events.Event{ID: id, Stream: "room/x"})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
		if asked != `{"retry":{"stream":"room/x","id":"01J00000000000000000000000"}}` {
			t.Errorf("it sends %s", asked)
		}
		server.Close()
	}
	for region, want := range map[string]string{"eu-west-1": "https://lambda.eu-west-1.amazonaws.com", "cn-north-1": "https://lambda.cn-north-1.amazonaws.com.cn"} {
		if got := newStreamInvoker(aws.Config{Region: region}, streamName).endpoint; got != want {
			t.Errorf("%s: %s", region, got)
		}
	}
}

// start starts a job and returns its path.
func (u user) start(body string) string {
	u.c.t.Helper()
	return "/v1/ops/jobs/" + u.must("POST", "/v1/ops/jobs", body).text("id")
}

// TestRebuildSurvivesKill kills the worker within a step of a rebuild. Its message comes again, during the
// lease and after. Meanwhile users post messages and read them.
func TestRebuildSurvivesKill(t *testing.T) {
	t.Parallel()
	var worker atomic.Pointer[awstest.Function]
	var left atomic.Int64 // calls until the kill; 0: none
	c := newCloud(t, func(dynamotest.Call) dynamotest.Fault {
		if left.Load() > 0 && left.Add(-1) == 0 {
			worker.Load().Kill()
		}
		return dynamotest.None
	})
	worker.Store(c.functions[config.Worker])
	room := c.roomWithPosts(20)
	c.settle()
	ada, op := c.user("ada"), c.operator("olga")
	job := op.start(`{"kind":"rebuild","projection":"timeline"}`)
	m, ok := c.queues.Take(jobQueue)
	if !ok || c.queues.Waiting(replayQueue) > 0 {
		t.Fatal("no message, or one in the wrong queue")
	}
	left.Store(4) // the job is leased by then, and nothing of the step is stored
	if !c.deliver(config.Worker, m) || left.Load() > 0 {
		t.Fatal("it was not killed")
	}
	ada.post(room, "meanwhile")
	eventually(t, "the lease of the killed process is over", func() bool {
		if c.deliver(config.Worker, m) {
			t.Fatal("a message that finds the job leased comes again")
		}
		return c.queues.Waiting(jobQueue) > 0
	})
	c.settle()
	steps := 0
	for {
		next, more := c.queues.Take(jobQueue)
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
	if r := op.get(job); r.text("state") != wire.JobDone {
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
	if starts := c.functions[config.Worker].Starts(); starts != 2 || steps < 3 {
		t.Errorf("started %d times, %d steps", starts, steps)
	}
	c.checkActs(op, "job.start", "job.done")
	for _, e := range c.bus.Entries() {
		if e.Source != "parley" {
			t.Errorf("a rebuild publishes %+v", e)
		}
	}
	if got := c.queues.Waiting(replayQueue); got > 0 {
		t.Errorf("%d messages for the replayer", got)
	}
}

// TestLongJob: jobs of more steps than Lambda allows in one chain of invocations, unless a function says so.
func TestLongJob(t *testing.T) {
	t.Parallel()
	c := newCloud(t, nil)
	c.roomWithPosts(20)
	c.settle()
	op := c.operator("olga")
	for _, j := range []struct{ body, function, queue string }{
		{`{"kind":"rebuild","projection":"timeline"}`, config.Worker, jobQueue},
		{`{"kind":"replay","to":"again","rate":1000}`, config.Replayer, replayQueue},
	} {
		job := op.start(j.body)
		m, _ := c.queues.Take(j.queue)
		m.Attributes.TraceHeader = awstest.TraceHeader(awstest.MaxLoop - 1)
		for more := true; more; m, more = c.queues.Take(j.queue) {
			if c.deliver(j.function, m) {
				t.Fatal("a step fails")
			}
		}
		if r := op.get(job); r.text("state") != wire.JobDone {
			t.Errorf("after a long chain the job is %s", r.body)
		}
	}
}

// TestLoop: a chain is counted through the real functions and cut as Lambda does, unless a function allows
// loops.
func TestLoop(t *testing.T) {
	t.Parallel()
	c := newCloud(t, nil)
	c.roomWithPosts(20)
	c.settle()
	worker := c.functions[config.Worker]
	worker.AllowLoops = false
	c.operator("olga").start(`{"kind":"rebuild","projection":"timeline"}`)
	m, _ := c.queues.Take(jobQueue)
	m.Attributes.TraceHeader = awstest.TraceHeader(awstest.MaxLoop - 2)
	for step := range 3 {
		_, err := worker.Invoke(awstest.Payload(t, []awstest.Message{m}))
		if cut := step == 2; cut != errors.Is(err, awstest.ErrLoop) || !cut && err != nil {
			t.Fatalf("step %d of the chain: %v", step, err)
		}
		m, _ = c.queues.Take(jobQueue)
	}
}

// checkActs checks the recorded operations, in order and once each.
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
		c.t.Errorf("recorded are %v, want %v", got, want)
	}
}

// TestLostMessage: a job whose message could not be sent is stalled until the schedule finds it.
func TestLostMessage(t *testing.T) {
	c := newCloud(t, nil)
	c.roomWithPosts(3)
	op := c.operator("olga")
	c.queues.Refuse(true)
	job := op.start(`{"kind":"audit","projection":"room","dry_run":true}`)
	c.queues.Refuse(false)
	scheduled := []byte(`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`)
	if text, err := c.functions[config.Worker].Invoke(scheduled); err != nil || c.queues.Waiting(jobQueue) > 0 {
		t.Errorf("so soon nothing is lost: %s, %v", text, err)
	}
	later := functions.New(functions.Parts{
		Views: c.views, Now: func() time.Time { return time.Now().Add(config.Silent) },
	}).Runner("audit")
	q := newQueues(awstest.Config(c.queues.URL), config.Config{JobQueue: c.queues.URL + jobQueue})
	f := &workerFunction{runner: later, send: q.send, log: later.Logger}
	if _, err := f.invoke(t.Context(), scheduled); err != nil || c.queues.Waiting(jobQueue) != 1 {
		t.Fatalf("%d messages, %v", c.queues.Waiting(jobQueue), err)
	}
	c.work(config.Worker, jobQueue)
	if r := op.get(job); r.text("state") != wire.JobDone {
		t.Errorf("the job is %s", r.body)
	}
	if _, err := c.functions[config.Worker].Invoke([]byte(`{}`)); err == nil {
		t.Error("an event of nobody is taken")
	}
}

// TestRetryParked: an event that the bus refused is parked, and the stream function retries it for an
// operator.
func TestRetryParked(t *testing.T) {
	c := newCloud(t, nil)
	op := c.operator("olga")
	c.roomWithPosts(1)
	c.bus.Set(func(e awstest.Entry) string {
		if e.DetailType == "message.posted" {
			return "MalformedDetail"
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
		if r := op.must("POST", "/v1/ops/parked/retry", body); r.text("outcome") != "parked" || !strings.Contains(r.text("error"), "MalformedDetail") {
			t.Errorf("while the bus refuses it: %s", r.body)
		}
		c.bus.Set(nil, nil)
		id, _, _ := strings.Cut(p.ID, ".") // what is parked has the whole key
		if r := op.must("POST", "/v1/ops/parked/retry", body); r.text("outcome") != "handled" || c.bus.Counts()[id] != 1 {
			t.Errorf("it was not handled: %s, %d times on the bus", r.body, c.bus.Counts()[id])
		}
	}
	if left, err := projections.ListParked(t.Context(), c.views, "", 10); err != nil || len(left) > 0 {
		t.Errorf("still parked are %v, %v", left, err)
	}
}
