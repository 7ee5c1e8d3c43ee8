package operate

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"parley/events"
	"parley/functions/api"
)

func (h *handlers) registerJobs(a *api.API) {
	command(a, api.Operation{
		ID: "startJob", Method: "POST", Path: "/v1/ops/jobs", Creates: true,
		Summary: "Start long work: rebuild, audit, drop, replay",
		Detail: "It goes on in steps, survives restarts, and can be paused, resumed and cancelled. With dry_run it counts and prices " +
			"the work and changes nothing. Under an Idempotency-Key it is started once.",
	}, h.startJob)
	query(a, api.Operation{
		ID: "listJobs", Method: "GET", Path: "/v1/ops/jobs",
		Summary: "A page of the jobs", Detail: "The latest first.",
	}, h.listJobs)
	query(a, api.Operation{
		ID: "getJob", Method: "GET", Path: "/v1/ops/jobs/{id}", Codes: []int{404},
		Summary: "A job: how far it is, how fast, how long it will take",
	}, h.getJob)
	command(a, api.Operation{
		ID: "pauseJob", Method: "POST", Path: "/v1/ops/jobs/{id}/pause", Codes: []int{404},
		Summary: "Let a job rest after the step it is at",
	}, h.pauseJob)
	command(a, api.Operation{
		ID: "resumeJob", Method: "POST", Path: "/v1/ops/jobs/{id}/resume", Codes: []int{404},
		Summary: "Go on with a job that is paused or has failed",
	}, h.resumeJob)
	command(a, api.Operation{
		ID: "cancelJob", Method: "POST", Path: "/v1/ops/jobs/{id}/cancel", Codes: []int{404},
		Summary: "End a job for good", Detail: "What it leaves behind is removed.",
	}, h.cancelJob)
}

type startInput struct {
	Key  string `header:"Idempotency-Key" doc:"A ULID you minted, carrying your mark: the job's id."`
	Body NewJob
}

// NewJob is a job that an operator wants.
type NewJob struct {
	Kind       string `json:"kind" doc:"rebuild, audit, drop or replay."`
	DryRun     bool   `json:"dry_run,omitempty" doc:"Count and price the work, and change nothing."`
	Projection string `json:"projection,omitempty" doc:"rebuild, audit: of which views; missing: of all. drop: whose previous generation. feed, for a rebuild, fills gaps in feeds."`
	Room       string `json:"room,omitempty" doc:"Of this room only."`
	To         string `json:"to,omitempty" doc:"replay: what stands before the slash in its detail types, 1 to 32 of a-z 0-9 -."`
	From       string `json:"from,omitempty" doc:"replay: not before this time, or event."`
	Until      string `json:"until,omitempty" doc:"replay: before this time, or event."`
	Type       string `json:"type,omitempty" doc:"replay: of this type only; message.* is all that begin so."`
	Rate       int    `json:"rate,omitempty" doc:"replay: events a second, 1 to 10000; missing: 100."`
	Heal       bool   `json:"heal,omitempty" doc:"audit: repair what differs."`
}

func (n NewJob) params() Params {
	return Params{n.DryRun, n.Projection, n.Room, n.To, n.From, n.Until, n.Type, n.Rate, n.Heal}
}

// created answers 201, or 200 to a repeat.
func created[T any](repeat bool, body T) *output[T] {
	if repeat {
		return ok(body)
	}
	return &output[T]{http.StatusCreated, body}
}

func (h *handlers) startJob(ctx context.Context, in *startInput) (*output[Job], error) {
	kind, known := h.Runner.Kinds[in.Body.Kind]
	if !known {
		return nil, events.Invalid("kind", "must be one of "+strings.Join(slices.Sorted(maps.Keys(h.Runner.Kinds)), ", "))
	}
	params := in.Body.params()
	if err := kind.Check(params); err != nil {
		return nil, err
	}
	user, now := api.CallerOf(ctx).User, h.Runner.Now().UTC()
	id, err := h.jobID(user, in.Key)
	if err != nil {
		return nil, err
	}
	j, repeat, err := h.Runner.start(ctx, &record{Job: Job{
		ID: id.String(), Kind: in.Body.Kind, Params: params, State: StateRunning, By: user, Started: now, Updated: now,
	}})
	switch {
	case err != nil:
		return nil, err
	case repeat && (j.Kind != in.Body.Kind || j.Params != params || j.By != user):
		return nil, events.ErrConflict
	case repeat:
		return created(true, j.shown(now)), nil
	}
	defer h.Runner.wake(ctx, j)
	return created(false, j.shown(now)), h.acts.Append(ctx, user, "job.start", j.ID, described(j.Job))
}

// jobID mints a job's id or judges the client's.
func (h *handlers) jobID(user, key string) (events.ID, error) {
	if key == "" {
		return h.Clock.Mint(user)
	}
	const field = "Idempotency-Key"
	id, err := events.ParseID(field, key)
	if err != nil {
		return id, err
	}
	return id, h.Clock.Check(user, id)
}

// described is a job in a few words.
func described(j Job) string {
	words := []string{j.Kind}
	for _, p := range []struct{ name, value string }{
		{"projection", j.Params.Projection},
		{"room", j.Params.Room},
		{"to", j.Params.To},
		{"from", j.Params.From},
		{"until", j.Params.Until},
		{"type", j.Params.Type},
	} {
		if p.value != "" {
			words = append(words, p.name+" "+p.value)
		}
	}
	if j.Params.Heal {
		words = append(words, "heal")
	}
	if j.Params.DryRun {
		words = append(words, "dry run")
	}
	return strings.Join(words, " ")
}

type jobsInput struct {
	Before string `query:"before" doc:"Jobs started before this one."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// JobPage is a part of the jobs.
type JobPage struct {
	Jobs   []Job   `json:"jobs"`
	Before *string `json:"before" doc:"Give it as before= to get the next page; null if there is none."`
}

func (h *handlers) listJobs(ctx context.Context, in *jobsInput) (*output[JobPage], error) {
	if in.Before != "" {
		id, err := events.ParseID("before", in.Before)
		if err != nil {
			return nil, err
		}
		in.Before = id.String()
	}
	page := JobPage{Jobs: []Job{}}
	for j, err := range h.Runner.jobs(ctx, in.Before) {
		if err != nil {
			return nil, err
		}
		if len(page.Jobs) == in.Limit {
			page.Before = &page.Jobs[in.Limit-1].ID
			break
		}
		page.Jobs = append(page.Jobs, j.shown(h.Runner.Now()))
	}
	return ok(page), nil
}

type jobInput struct {
	ID string `path:"id"`
}

var errNoJob = api.Fail(http.StatusNotFound, "job_not_found", "this region has no such job; a job belongs to the region that it was started in")

func (h *handlers) getJob(ctx context.Context, in *jobInput) (*output[Job], error) {
	id, err := events.ParseID("id", in.ID)
	if err != nil {
		return nil, err
	}
	j, err := h.Runner.load(ctx, id.String())
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, errNoJob
	}
	return ok(j.shown(h.Runner.Now())), nil
}

func (h *handlers) pauseJob(ctx context.Context, in *jobInput) (*output[Job], error) {
	return h.changeJob(ctx, in, "job.pause", StatePaused, StateRunning)
}

func (h *handlers) resumeJob(ctx context.Context, in *jobInput) (*output[Job], error) {
	return h.changeJob(ctx, in, "job.resume", StateRunning, StatePaused, StateFailed)
}

func (h *handlers) cancelJob(ctx context.Context, in *jobInput) (*output[Job], error) {
	return h.changeJob(ctx, in, "job.cancel", StateCancelled, StateRunning, StatePaused, StateFailed)
}

// changeJob brings a job from one of some states to another. Where it is there already nothing
// changes.
func (h *handlers) changeJob(ctx context.Context, in *jobInput, what, to string, from ...string) (*output[Job], error) {
	id, err := events.ParseID("id", in.ID)
	if err != nil {
		return nil, err
	}
	changed := false
	j, err := h.Runner.change(ctx, id.String(), func(j *record) (bool, error) {
		changed = j.State != to
		if changed && !slices.Contains(from, j.State) {
			return false, api.Fail(http.StatusConflict, "job_is_over", "the job is "+j.State+"; start another")
		}
		j.State, j.Tries, j.Next = to, 0, time.Time{}
		if to == StateRunning {
			j.Error = ""
		}
		j.Undo = to == StateCancelled
		return changed, nil
	})
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, errNoJob
	}
	if changed {
		defer h.Runner.wake(ctx, j)
		err = h.acts.Append(ctx, api.CallerOf(ctx).User, what, j.ID, j.Kind)
	}
	return ok(j.shown(h.Runner.Now())), err
}
