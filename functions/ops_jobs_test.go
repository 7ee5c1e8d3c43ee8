package functions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/functions/operate"
	"parley/projections/viewtest"
)

// The life of a job: it goes on step by step, shows how far it is, and is noted at both ends.
func TestOpsJob(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.start(`{"kind":"work","dry_run":true}`)
	o.acted("olga job.start work dry run")
	if a := o.job(id); a.text("state") != "running" || a.text("by") != "olga" || a.value("done") != 0.0 || a.value("params", "dry_run") != true {
		t.Errorf("%s", a.body)
	}
	for n := 1; n < 5; n++ {
		if !o.step(id) {
			t.Fatalf("step %d was the last", n)
		}
		if a := o.inState(id, "running"); a.value("done") != float64(n) || a.value("total") != 5.0 || a.text("phase") != "counting" {
			t.Errorf("%s", a.body)
		}
	}
	if again := o.step(id); again || o.step(id) {
		t.Error("there is more")
	}
	if a := o.inState(id, "done"); a.value("result", "n") != 5.0 || a.value("rate") != 0.0 {
		t.Errorf("%s", a.body)
	}
	o.acted("olga job.done work")
	if got := o.work.did(); got != "01234" {
		t.Errorf("the steps were %s", got)
	}
	for _, do := range []string{"pause", "resume", "cancel"} {
		o.op.post("/v1/ops/jobs/"+id+"/"+do, "").refused(409, "job_is_over")
	}
}

// Under a key a job is started once.
func TestOpsJobKey(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.mint("olga")
	first := o.op.key(id).post("/v1/ops/jobs", `{"kind":"work"}`).want(201)
	if first.id() != id {
		t.Errorf("%s", first.body)
	}
	o.finish(id.String())
	if again := o.op.key(id).post("/v1/ops/jobs", `{"kind":"work"}`).want(200); again.text("state") != "done" {
		t.Errorf("%s", again.body)
	}
	o.op.key(id).post("/v1/ops/jobs", `{"kind":"work","dry_run":true}`).refused(409, "id_taken")
	o.operator("otto").key(id).post("/v1/ops/jobs", `{"kind":"work"}`).refused(403, "id_not_yours")
	o.op.with("Idempotency-Key", "x").post("/v1/ops/jobs", `{"kind":"work"}`).refused(422, "invalid_field").names("Idempotency-Key")
	if got := o.acts(); !slices.Equal(got, []string{"olga job.start work", "olga job.done work"}) {
		t.Errorf("the acts are %q", got)
	}
}

func TestOpsPauseResumeCancel(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.start(`{"kind":"work"}`)
	do := func(what string) *answer { return o.op.post("/v1/ops/jobs/"+id+"/"+what, "").want(200) }
	o.step(id)
	for range 2 { // again changes nothing
		if a := do("pause"); a.text("state") != "paused" {
			t.Errorf("%s", a.body)
		}
	}
	o.acted("olga job.pause work")
	if o.step(id) || o.work.did() != "0" {
		t.Errorf("it goes on: %s", o.work.did())
	}
	do("resume")
	do("resume")
	o.acted("olga job.resume work")
	o.step(id)
	// In the middle of a step: what it has done counts, and no other follows.
	o.work.during = func() error { do("pause"); return nil }
	if o.step(id) {
		t.Error("there is more")
	}
	o.work.during = nil
	if a := o.inState(id, "paused"); a.value("done") != 3.0 {
		t.Errorf("%s", a.body)
	}
	do("resume")
	o.work.during = func() error { do("cancel"); return nil }
	if !o.step(id) {
		t.Error("nothing is undone")
	}
	o.work.during = nil
	for range 2 {
		if o.step(id) {
			t.Error("there is more")
		}
	}
	o.inState(id, "cancelled")
	o.acted("olga job.cancel work")
	if o.work.did() != "0123" || !slices.Equal(o.work.undone, []string{id}) {
		t.Errorf("the steps were %s, undone was %v", o.work.did(), o.work.undone)
	}
	do("cancel")
	o.op.post("/v1/ops/jobs/"+id+"/resume", "").refused(409, "job_is_over")
	if len(o.work.undone) != 1 {
		t.Error("undone again")
	}
}

// A runner that dies in a step leaves the job to the next, from where the last step ended.
func TestOpsJobSurvives(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.start(`{"kind":"work"}`)
	o.step(id)
	o.views.OnSave = viewtest.Script(viewtest.Pass, viewtest.NotStored) // the lease is saved, what came of the step is not
	if _, err := o.runner.Step(t.Context(), id); err == nil {
		t.Fatal("the step was saved")
	}
	next := o.newRunner()
	if _, err := next.Step(t.Context(), id); !errors.Is(err, operate.ErrLeased) {
		t.Errorf("another runner's lease is not respected: %v", err)
	}
	alone := o.newRunner()
	alone.Alone = true
	if more, err := alone.Step(t.Context(), id); err != nil || !more {
		t.Errorf("who is alone waits for the dead: %v", err)
	}
	o.pass(next.Lease)
	for more := true; more; {
		var err error
		more, err = next.Step(t.Context(), id)
		must(t, err)
	}
	o.inState(id, "done")
	if got := o.work.did(); got != "011234" {
		t.Errorf("the steps were %s", got)
	}
}

// Many runners side by side do no step twice.
func TestOpsJobLease(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	o.racing = true
	id := o.start(`{"kind":"work"}`)
	var runners sync.WaitGroup
	for range 8 {
		runner := o.newRunner()
		runners.Go(func() {
			for {
				more, err := runner.Step(context.Background(), id)
				if err == nil && !more {
					if j := o.job(id); j.text("state") == "done" {
						return
					}
				} else if err != nil && !errors.Is(err, operate.ErrLeased) && !strings.Contains(err.Error(), "the same time") {
					t.Error(err)
					return
				}
			}
		})
	}
	runners.Wait()
	if got := o.work.did(); got != "01234" {
		t.Errorf("the steps were %s", got)
	}
}

// Who takes longer than the lease has lost it, and what came of the step.
func TestOpsJobLeaseLost(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.start(`{"kind":"work"}`)
	other := o.newRunner()
	once := sync.OnceFunc(func() {
		o.work.during = nil
		o.pass(other.Lease)
		_, err := other.Step(t.Context(), id)
		must(t, err)
		_, err = other.Step(t.Context(), id)
		must(t, err)
	})
	o.work.during = func() error { once(); return nil }
	if _, err := o.runner.Step(t.Context(), id); err == nil {
		t.Error("it does not notice")
	}
	if a := o.inState(id, "running"); a.value("done") != 2.0 {
		t.Errorf("%s", a.body)
	}
}

// A step that fails is tried again, later and later, and in the end the job has failed. An operator
// can let it go on.
func TestOpsJobFails(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.start(`{"kind":"work"}`)
	o.step(id)
	o.work.during = func() error { return errWork }
	tries := 0
	for ; o.job(id).text("state") == "running"; tries++ {
		if _, err := o.runner.Step(t.Context(), id); !errors.Is(err, errWork) {
			t.Fatalf("the error is %v", err)
		}
		if more, err := o.runner.Step(t.Context(), id); more || err != nil {
			t.Fatal("it is tried again at once")
		}
		o.pass(time.Minute)
	}
	if a := o.inState(id, "failed"); tries != 10 || a.text("error") != errWork.Error() || a.value("done") != 1.0 {
		t.Errorf("after %d tries: %s", tries, a.body)
	}
	o.acted("olga job.failed work " + errWork.Error())
	o.work.during = nil
	if a := o.op.post("/v1/ops/jobs/"+id+"/resume", "").want(200); a.text("state") != "running" || a.text("error") != "" {
		t.Errorf("%s", a.body)
	}
	o.finish(id)
	o.inState(id, "done")

	for name, failed := range map[string]func() error{
		"for good": func() error { return operate.Permanent(errWork) },
		"panic":    func() error { panic(secret) },
	} {
		o.work.during = failed
		id := o.start(`{"kind":"work"}`)
		if _, err := o.runner.Step(t.Context(), id); err == nil {
			t.Errorf("%s: no error", name)
		}
		want := map[string]string{"for good": "failed", "panic": "running"}[name]
		if a := o.inState(id, want); strings.Contains(string(a.body), secret) {
			t.Errorf("%s", a.body)
		}
	}
}

// A runner that is stopped in a step has not failed.
func TestOpsJobStopped(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	id := o.start(`{"kind":"work"}`)
	ctx, stop := context.WithCancel(t.Context())
	o.work.during = func() error { stop(); return ctx.Err() }
	if _, err := o.runner.Step(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	o.work.during = nil
	next := o.newRunner() // need not wait
	if more, err := next.Step(t.Context(), id); err != nil || !more {
		t.Errorf("%v", err)
	}
}

// Run does what there is, side by side, and what comes.
func TestOpsRunner(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	o.racing = true
	var ids []string
	for range 6 {
		ids = append(ids, o.start(`{"kind":"work"}`))
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { o.runner.Run(ctx) })
	defer running.Wait()
	defer stop()
	ids = append(ids, o.start(`{"kind":"work"}`))
	for _, id := range ids {
		for o.job(id).text("state") != "done" {
			if t.Context().Err() != nil {
				t.Fatal(t.Context().Err())
			}
		}
	}
	if got := len(o.work.did()); got != 5*len(ids) {
		t.Errorf("%d steps", got)
	}
	counts, err := o.runner.Count(t.Context())
	if must(t, err); fmt.Sprint(counts) != "map[done:7]" {
		t.Errorf("%v", counts)
	}
}

// The jobs, the latest first, in pages.
func TestOpsListJobs(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	var want []string
	for range 7 {
		want = append(want, o.start(`{"kind":"work"}`))
	}
	slices.Reverse(want)
	var got []string
	for before := ""; ; {
		var page struct {
			Jobs   []struct{ ID string }
			Before *string
		}
		o.op.get("/v1/ops/jobs?limit=3&before=" + strings.ToLower(before)).want(200).into(&page)
		for _, j := range page.Jobs {
			got = append(got, j.ID)
		}
		if page.Before == nil {
			break
		}
		before = *page.Before
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
