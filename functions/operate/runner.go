package operate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"parley/functions/wire"
	"parley/projections"
)

// Runner does the jobs of a region, step by step. Several may run concurrently, in one process or in
// many: a lease gives a job to one at a time. Make one with [NewRunner].
type Runner struct {
	Views  projections.Views // where the jobs are
	Kinds  map[string]Kind
	Acts   Acts // records how jobs end
	Logger *slog.Logger
	Now    func() time.Time
	// Budget is about how long a step takes. Lease is how long a job stays with the runner that took
	// it and does not report; a step may take half of it.
	Budget, Lease time.Duration
	// Alone says that no other process has a Runner over these views: the lease of a process that was
	// killed is void.
	Alone bool
	// Wake notifies the process that does the jobs, where that is another one, that a job is due. It
	// need not succeed: see [Runner.StalledJobs]. May be nil.
	Wake func(context.Context, wire.Job) error

	process string // distinguishes this Runner's leases from others'
	kick    chan struct{}
}

// NewRunner returns a runner whose steps take 3 seconds, and whose leases 20.
func NewRunner(views projections.Views, acts Acts, logger *slog.Logger, kinds map[string]Kind) *Runner {
	return &Runner{
		Views: views, Kinds: kinds, Acts: acts, Logger: logger, Now: time.Now,
		Budget: 3 * time.Second, Lease: 20 * time.Second, process: rand.Text(), kick: make(chan struct{}, 1),
	}
}

const (
	pollEvery  = 5 * time.Second // for jobs that other processes started
	jobsAtOnce = 4
)

// ErrLeased: another runner does a step of the job.
var ErrLeased = errors.New("the job is leased to another runner")

// errLeaseLost: the step took longer than its lease, and another runner took the job meanwhile.
var errLeaseLost = errors.New("the lease of the job has expired")

// Run does the jobs until ctx ends.
func (r *Runner) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for ctx.Err() == nil {
		more := r.round(ctx)
		if more {
			continue
		}
		timer := time.NewTimer(pollEvery)
		select {
		case <-r.kick:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// round does a step of each job that is due, and reports whether there is more to do at once.
func (r *Runner) round(ctx context.Context) bool {
	var ids []string
	for j, err := range r.jobs(ctx, "") {
		if err != nil {
			r.warn(ctx, "cannot read the jobs", err)
			return false
		}
		if j.active() && !j.Next.After(r.Now()) {
			ids = append(ids, j.ID)
		}
	}
	var work sync.WaitGroup
	var mu sync.Mutex
	any := false
	slots := make(chan struct{}, jobsAtOnce)
	for _, id := range ids {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			more, err := r.Step(ctx, id)
			if err != nil && !errors.Is(err, ErrLeased) {
				r.warn(ctx, "a step of a job failed", err, "job", id)
			}
			mu.Lock()
			any = any || more && err == nil
			mu.Unlock()
		})
	}
	work.Wait()
	return any
}

func (r *Runner) warn(ctx context.Context, what string, err error, args ...any) {
	if ctx.Err() == nil {
		r.Logger.WarnContext(ctx, what, append(args, "error", err)...)
	}
}

// Kick makes a Run of this process check for due jobs now.
func (r *Runner) Kick() {
	select {
	case r.kick <- struct{}{}:
	default: // it is about to
	}
}

// Step does one bounded piece of a job, under its lease, and reports whether there is more to do. It
// does nothing to a job that is not running. The error is that of the piece, which is retried unless
// the job has failed; [ErrLeased] if another runner has the job.
func (r *Runner) Step(ctx context.Context, id string) (more bool, err error) {
	j, err := r.lease(ctx, id)
	if err != nil || j == nil {
		return false, err
	}
	bounded, cancel := context.WithTimeout(ctx, r.Lease/2)
	began := time.Now()
	p, failed := r.callKind(bounded, j)
	cancel()
	took := time.Since(began)
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.Lease/4) // even if ctx has ended
	defer cancel()
	j, err = r.release(keep, j, p, failed, took, ctx.Err() != nil)
	if err != nil {
		return false, errors.Join(failed, err)
	}
	return j.active(), failed
}

// lease leases a job; nil if there is nothing to do.
func (r *Runner) lease(ctx context.Context, id string) (*record, error) {
	holder := r.process + "/" + rand.Text()
	j, err := r.change(ctx, id, func(j *record) (bool, error) {
		now := r.Now()
		switch {
		case !j.active(), j.Next.After(now):
			return false, nil
		case j.Holder != "" && now.Before(j.Until) && !r.abandoned(j.Holder):
			return false, ErrLeased
		}
		j.Holder, j.Until = holder, now.Add(r.Lease)
		return true, nil
	})
	if err != nil || j == nil || j.Holder != holder {
		return nil, err
	}
	return j, nil
}

// abandoned reports whether the process that holds a lease has ended.
func (r *Runner) abandoned(holder string) bool {
	return r.Alone && (len(holder) < len(r.process) || holder[:len(r.process)] != r.process)
}

// callKind does the piece. A panic is an error.
func (r *Runner) callKind(ctx context.Context, j *record) (p Progress, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.Logger.ErrorContext(ctx, "panic in a job", "job", j.ID, "stack", string(debug.Stack()))
			err = errors.New("panic in a job")
		}
	}()
	kind, known := r.Kinds[j.Kind]
	if !known {
		return p, Permanent(errors.New("this release does not know this kind of job"))
	}
	task := Task{j.ID, j.Params, j.Work, r.Budget}
	if j.State != wire.JobCancelled {
		return kind.Step(ctx, task)
	}
	if undoer, is := kind.(Undoer); is {
		return undoer.Undo(ctx, task)
	}
	return Progress{Finished: true}, nil
}

// release stores the outcome of a piece and ends the lease. What an operator changed meanwhile stays.
func (r *Runner) release(ctx context.Context, was *record, p Progress, failed error, took time.Duration, stopped bool) (*record, error) {
	undoing, ended := was.State == wire.JobCancelled, ""
	j, err := r.change(ctx, was.ID, func(j *record) (bool, error) {
		if ended = ""; j.Holder != was.Holder {
			return false, errLeaseLost
		}
		j.Holder, j.Until = "", time.Time{}
		j.progress(p, took)
		switch {
		case failed != nil:
			ended = j.fail(failed, r.Now(), stopped)
		case undoing:
			j.Undo, j.Tries, j.Next, j.Error = !p.Finished, 0, time.Time{}, ""
		default:
			j.Tries, j.Next, j.Error = 0, time.Time{}, ""
			if p.Finished && (j.State == wire.JobRunning || j.State == wire.JobPaused) {
				j.State, ended = wire.JobDone, "job.done"
			}
		}
		return true, nil
	})
	if err == nil && j == nil {
		err = errLeaseLost
	}
	if err == nil && ended != "" {
		err = r.Acts.Append(ctx, j.By, ended, j.ID, strings.TrimSpace(j.Kind+" "+j.Error))
	}
	return j, err
}

// start stores a new job. If there is one with its id, start returns that one and repeat is true.
func (r *Runner) start(ctx context.Context, j *record) (stored *record, repeat bool, err error) {
	err = r.save(ctx, j)
	if _, exists := errors.AsType[*projections.ConflictError](err); exists {
		stored, err = r.load(ctx, j.ID)
		if err == nil && stored == nil {
			err = fmt.Errorf("start a job: %w", errBusy)
		}
		return stored, true, err
	}
	return j, false, err
}

// Count counts the jobs by state.
func (r *Runner) Count(ctx context.Context) (map[string]int, error) {
	counts := map[string]int{}
	for j, err := range r.jobs(ctx, "") {
		if err != nil {
			return nil, err
		}
		counts[j.State]++
	}
	return counts, nil
}

// notify wakes the runner that does the job, in this process or another.
func (r *Runner) notify(ctx context.Context, j *record) {
	r.Kick()
	if r.Wake == nil || !j.active() {
		return
	}
	if err := r.Wake(ctx, j.Job); err != nil {
		r.warn(ctx, "cannot wake the process that does a job", err, "job", j.ID)
	}
}

// StalledJobs returns the jobs of this runner's kinds that are due, not leased, and were not updated
// for at least silent: the message that should have continued them was lost. It reads all jobs.
func (r *Runner) StalledJobs(ctx context.Context, silent time.Duration) (stalled []wire.Job, err error) {
	for j, err := range r.jobs(ctx, "") {
		if err != nil {
			return nil, err
		}
		now := r.Now()
		_, known := r.Kinds[j.Kind]
		if known && j.active() && !j.Next.After(now) && !now.Before(j.Until) && now.Sub(j.Updated) >= silent {
			stalled = append(stalled, j.Job)
		}
	}
	return stalled, nil
}
