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
	"parley/projections"
)

// Job is long work that an operator asked for: it is done in steps, survives restarts, and can be
// paused, resumed and cancelled.
type Job struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Params      Params    `json:"params"`
	State       string    `json:"state" enum:"running,paused,cancelled,done,failed"`
	Phase       string    `json:"phase,omitempty" doc:"What it is at, in a word."`
	Done        int64     `json:"done" doc:"Events, or whatever the kind counts."`
	Total       int64     `json:"total,omitempty" doc:"Missing while it is not known."`
	Rate        float64   `json:"rate" doc:"Done a second, of late."`
	SecondsLeft *int      `json:"seconds_left,omitempty" doc:"At that rate."`
	Error       string    `json:"error,omitempty" doc:"Of the last step that failed; it is tried again unless the state is failed."`
	Result      Object    `json:"result,omitempty"`
	By          string    `json:"by" doc:"The operator who started it."`
	Started     time.Time `json:"started"`
	Updated     time.Time `json:"updated"`
}

// Params are what a job is asked to do. Which of them a kind takes is up to it.
type Params struct {
	DryRun     bool   `json:"dry_run,omitempty"`
	Projection string `json:"projection,omitempty"`
	Room       string `json:"room,omitempty"`
	To         string `json:"to,omitempty"`
	From       string `json:"from,omitempty"`
	Until      string `json:"until,omitempty"`
	Type       string `json:"type,omitempty"`
	Rate       int    `json:"rate,omitempty"`
	Heal       bool   `json:"heal,omitempty"`
}

// The states of a job.
const (
	StateRunning   = "running"
	StatePaused    = "paused"
	StateCancelled = "cancelled"
	StateDone      = "done"
	StateFailed    = "failed"
)

// record is a job as it is stored.
type record struct {
	Job
	Work   json.RawMessage `json:"work,omitempty"` // how far it has come, in the kind's own words
	Undo   bool            `json:"undo,omitempty"` // it was cancelled, and what it left is yet to be undone
	Holder string          `json:"holder,omitempty"`
	Until  time.Time       `json:"until,omitzero"` // of the lease
	Tries  int             `json:"tries,omitempty"`
	Next   time.Time       `json:"next,omitzero"` // not to be tried again before

	version int64
}

const jobsPartition = "ops/jobs"

func jobKey(id string) projections.Key {
	return projections.Key{Partition: jobsPartition, Sort: id}
}

// over reports whether nothing is left to do, unless an operator wants it.
func (r *record) over() bool {
	return r.State == StateDone || r.State == StateFailed || r.State == StateCancelled && !r.Undo
}

// active reports whether a step is due, at whatever time.
func (r *record) active() bool {
	return r.State == StateRunning || r.State == StateCancelled && r.Undo
}

// shown is the job for an operator.
func (r *record) shown(now time.Time) Job {
	j := r.Job
	j.Started, j.Updated = j.Started.UTC(), j.Updated.UTC()
	if now.Sub(j.Updated) > staleRate || r.State != StateRunning {
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
	// rateMemory is over how long a rate is averaged.
	rateMemory = 20 * time.Second
	// staleRate is from when on a rate says nothing any more.
	staleRate = time.Minute
)

// progress takes over what a step has done, in how much time.
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
		r.Result = Object(p.Result)
	}
}

const (
	// maxTries is how often in a row a step may fail before the job has. That takes about two
	// minutes.
	maxTries            = 10
	firstWait, lastWait = 500 * time.Millisecond, 30 * time.Second
)

// fail counts a failure, and says if it was the last.
func (j *record) fail(failed error, now time.Time, stopped bool) (ended string) {
	if stopped {
		return "" // it was not its fault
	}
	j.Tries++
	j.Error = oneLine(failed.Error())
	j.Next = now.Add(min(firstWait<<min(j.Tries-1, 10), lastWait))
	_, forGood := errors.AsType[*permanent](failed)
	if !forGood && events.IsInvalid(failed) == nil && j.Tries < maxTries || j.State != StateRunning {
		return ""
	}
	j.State = StateFailed
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

// save stores a job unless another writer was ahead.
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

// change loads a job, lets do change it and saves it, again if another writer was ahead. Where do
// returns false nothing is saved. A job that is not there is nil.
func (r *Runner) change(ctx context.Context, id string, do func(*record) (bool, error)) (*record, error) {
	for range saveTries {
		j, err := r.load(ctx, id)
		if err != nil || j == nil {
			return nil, err
		}
		save, err := do(j)
		if err != nil || !save {
			return j, err
		}
		j.Updated = r.Now().UTC()
		if err = r.save(ctx, j); !conflicted(err) {
			return j, err
		}
	}
	return nil, errBusy
}

// jobs yields the jobs, the latest first, beginning below an id; "" is no bound.
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
