package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"parley/events"
	"parley/functions/wire"
	"parley/projections"
)

// Kind is a kind of long work. A step that was cut off is done again from where the one before
// ended: doing it twice must do no harm.
type Kind interface {
	// Check says what is wrong with the parameters of a new job, as an [events.InvalidError].
	Check(wire.Params) error
	// Step goes on with a task for about Budget, or does one small piece of it, whichever is more.
	// It may return progress and an error: the progress counts. The work has ended when Finished.
	Step(context.Context, Task) (Progress, error)
}

// An Undoer is a [Kind] that leaves something behind when it is cancelled.
type Undoer interface {
	// Undo removes it, in steps: one step may be done twice.
	Undo(context.Context, Task) (Progress, error)
}

// Task is a job as its kind sees it.
type Task struct {
	ID     string
	Params wire.Params
	Work   json.RawMessage // what the step before returned; nil: it is the first
	Budget time.Duration
}

// Progress is what a step has done.
type Progress struct {
	Work        json.RawMessage // how far it has come, for the next step; nil: no progress
	Phase       string
	Done, Total int64 // Total is 0 while it is not known
	Result      json.RawMessage
	Finished    bool
}

// Permanent marks an error that a retry cannot fix: the job has failed.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ error }

// Unwrap returns the error itself.
func (p *permanent) Unwrap() error { return p.error }

// record is a job as it is stored, in one document.
type record struct {
	wire.Job
	Work   json.RawMessage `json:"work,omitempty"` // how far it is, as its kind encodes it
	Undo   bool            `json:"undo,omitempty"` // it was cancelled, and what it left behind is still there
	Holder string          `json:"holder,omitempty"`
	Until  time.Time       `json:"until,omitzero"` // of the lease
	Tries  int             `json:"tries,omitempty"`
	Next   time.Time       `json:"next,omitzero"` // not retried before

	version int64
}

const jobsPartition = "ops/jobs"

func jobKey(id string) projections.Key {
	return projections.Key{Partition: jobsPartition, Sort: id}
}

// ended reports whether nothing is left to do, unless an operator resumes the job.
func (r *record) ended() bool {
	return r.State == wire.JobDone || r.State == wire.JobFailed || r.State == wire.JobCancelled && !r.Undo
}

// active reports whether there is another step to do, now or later.
func (r *record) active() bool {
	return r.State == wire.JobRunning || r.State == wire.JobCancelled && r.Undo
}

// shown returns the job as an operator reads it.
func (r *record) shown(now time.Time) wire.Job {
	j := r.Job
	j.Started, j.Updated = j.Started.UTC(), j.Updated.UTC()
	if now.Sub(j.Updated) > staleRate || r.State != wire.JobRunning {
		j.Rate = 0
	}
	if j.Rate > 0 && j.Total > j.Done {
		if left := math.Ceil(float64(j.Total-j.Done) / j.Rate); left < math.MaxInt32 {
			seconds := int(left)
			j.SecondsLeft = &seconds
		}
	}
	j.Rate = math.Round(j.Rate*10) / 10
	return j
}

const (
	// rateMemory is the time over which a rate is averaged.
	rateMemory = 20 * time.Second
	// staleRate is after how long without progress a rate means nothing.
	staleRate = time.Minute
)

// progress stores what a step has done, and how long it took.
func (r *record) progress(p Progress, took time.Duration) {
	if p.Work == nil {
		return
	}
	if took > 0 && p.Phase == r.Phase && p.Done >= r.Done {
		now := float64(p.Done-r.Done) / took.Seconds()
		weight := 1 - math.Exp(-took.Seconds()/rateMemory.Seconds())
		if r.Rate == 0 {
			weight = 1
		}
		r.Rate += weight * (now - r.Rate)
	} else if p.Phase != r.Phase {
		r.Rate = 0
	}
	r.Work, r.Phase, r.Done, r.Total = p.Work, p.Phase, p.Done, p.Total
	if p.Result != nil {
		r.Result = wire.JobResult(p.Result)
	}
}

const (
	// maxTries is how often in a row a step may fail before the job has. That takes about two
	// minutes.
	maxTries            = 10
	firstWait, lastWait = 500 * time.Millisecond, 30 * time.Second
)

// fail counts a failure. If the job has failed for good it returns the act that says so.
func (r *record) fail(failed error, now time.Time, stopped bool) (ended string) {
	if stopped {
		return "" // the process is ending: no failure of the job
	}
	r.Tries++
	r.Error = oneLine(failed.Error())
	r.Next = now.Add(min(firstWait<<min(r.Tries-1, 10), lastWait))
	_, forGood := errors.AsType[*permanent](failed)
	if !forGood && events.IsInvalid(failed) == nil && r.Tries < maxTries || r.State != wire.JobRunning {
		return ""
	}
	r.State = wire.JobFailed
	return "job.failed"
}

// load reads a job; nil if there is none.
func (r *Runner) load(ctx context.Context, id string) (*record, error) {
	got, err := r.Views.Get(ctx, jobKey(id))
	if err != nil || got[0].Version == 0 {
		return nil, err
	}
	return decodeJob(got[0])
}

func decodeJob(view projections.View) (*record, error) {
	j := &record{version: view.Version}
	if err := json.Unmarshal(view.Body, j); err != nil {
		return nil, fmt.Errorf("read a job: %w", err)
	}
	return j, nil
}

// save stores a job; a conflict if another writer was faster.
func (r *Runner) save(ctx context.Context, j *record) error {
	body, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode a job: %w", err)
	}
	err = r.Views.Save(ctx, projections.View{Key: jobKey(j.ID), Version: j.version, Body: body})
	if err == nil {
		j.version++
	}
	return err
}

// change loads a job, changes it with do and saves it, and does so again on a conflict with another
// writer. If do returns false, nothing is saved. The job is nil if there is none.
func (r *Runner) change(ctx context.Context, id string, do func(*record) (bool, error)) (j *record, err error) {
	err = retryOnConflict(ctx, func() error {
		var save bool
		if j, err = r.load(ctx, id); err != nil || j == nil {
			return err
		}
		if save, err = do(j); err != nil || !save {
			return err
		}
		j.Updated = r.Now().UTC()
		return r.save(ctx, j)
	})
	return j, err
}

// jobs yields the jobs, the latest first, that are older than an id; "" is no bound.
func (r *Runner) jobs(ctx context.Context, before string) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		const most = 50
		for in := (projections.Range{Before: before, Reverse: true, Limit: most}); ; {
			got, err := r.Views.Query(ctx, jobsPartition, in)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, view := range got {
				in.Before = view.Key.Sort
				if j, err := decodeJob(view); !yield(j, err) || err != nil {
					return
				}
			}
			if len(got) < most {
				return
			}
		}
	}
}
