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
	"parley/functions/wire"
)

// jobHandlers start, list and change jobs. They do none: that is the work of a [Runner].
type jobHandlers struct{ *handlers }

func (h jobHandlers) register(a *api.API) {
	command(a, api.Operation{
		ID: "startJob", Method: "POST", Path: "/v1/ops/jobs", Creates: true,
		Summary: "Start long work: rebuild, audit, drop, replay",
		Detail: "It is done in steps, survives restarts, and can be paused, resumed and cancelled. With dry_run it counts and prices " +
			"the work and changes nothing. With an Idempotency-Key it is started once.",
	}, h.start)
	query(a, api.Operation{
		ID: "listJobs", Method: "GET", Path: "/v1/ops/jobs",
		Summary: "A page of the jobs", Detail: "The latest first.",
	}, h.list)
	query(a, api.Operation{
		ID: "getJob", Method: "GET", Path: "/v1/ops/jobs/{id}", Codes: []int{404},
		Summary: "A job: how far it is, how fast, and how long it will take",
	}, h.get)
	command(a, api.Operation{
		ID: "pauseJob", Method: "POST", Path: "/v1/ops/jobs/{id}/pause", Codes: []int{404},
		Summary: "Pause a job after the current step",
	}, func(ctx context.Context, in *jobInput) (*api.Response[wire.Job], error) {
		return h.change(ctx, in, "job.pause", wire.JobPaused, wire.JobRunning)
	})
	command(a, api.Operation{
		ID: "resumeJob", Method: "POST", Path: "/v1/ops/jobs/{id}/resume", Codes: []int{404},
		Summary: "Resume a job that is paused or has failed",
	}, func(ctx context.Context, in *jobInput) (*api.Response[wire.Job], error) {
		return h.change(ctx, in, "job.resume", wire.JobRunning, wire.JobPaused, wire.JobFailed)
	})
	command(a, api.Operation{
		ID: "cancelJob", Method: "POST", Path: "/v1/ops/jobs/{id}/cancel", Codes: []int{404},
		Summary: "End a job for good", Detail: "What it leaves behind is removed.",
	}, func(ctx context.Context, in *jobInput) (*api.Response[wire.Job], error) {
		return h.change(ctx, in, "job.cancel", wire.JobCancelled, wire.JobRunning, wire.JobPaused, wire.JobFailed)
	})
}

type startInput struct {
	Key  string `header:"Idempotency-Key" doc:"A ULID you minted, carrying your mark: the job's id."`
	Body wire.NewJob
}

func (h jobHandlers) start(ctx context.Context, in *startInput) (*api.Response[wire.Job], error) {
	kind, known := h.Runner.Kinds[in.Body.Kind]
	if !known {
		return nil, events.Invalid("kind", "must be one of "+strings.Join(slices.Sorted(maps.Keys(h.Runner.Kinds)), ", "))
	}
	params := in.Body.Params
	if err := kind.Check(params); err != nil {
		return nil, err
	}
	user, now := api.CallerOf(ctx).User, h.Runner.Now().UTC()
	id, err := h.newID(user, in.Key)
	if err != nil {
		return nil, err
	}
	j, repeat, err := h.Runner.start(ctx, &record{Job: wire.Job{
		ID: id.String(), Kind: in.Body.Kind, Params: params, State: wire.JobRunning, By: user, Started: now, Updated: now,
	}})
	switch {
	case err != nil:
		return nil, err
	case repeat && (j.Kind != in.Body.Kind || j.Params != params || j.By != user):
		return nil, events.ErrConflict
	case repeat:
		return api.Created(true, j.shown(now)), nil
	}
	defer h.Runner.notify(ctx, j)
	return api.Created(false, j.shown(now)), h.act(ctx, "job.start", j.ID, described(j.Job))
}

// described returns a job in a few words.
func described(j wire.Job) string {
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

func (h jobHandlers) list(ctx context.Context, in *jobsInput) (*api.Response[wire.JobPage], error) {
	if in.Before != "" {
		id, err := events.ParseID("before", in.Before)
		if err != nil {
			return nil, err
		}
		in.Before = id.String()
	}
	page := wire.JobPage{Jobs: []wire.Job{}}
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
	return api.OK(page), nil
}

type jobInput struct {
	ID string `path:"id"`
}

var errNoJob = api.Fail(http.StatusNotFound, "job_not_found", "this region has no such job; ask the region that the job was started in")

func (h jobHandlers) get(ctx context.Context, in *jobInput) (*api.Response[wire.Job], error) {
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
	return api.OK(j.shown(h.Runner.Now())), nil
}

// change brings a job from one of some states to another. A job in that state stays as it is.
func (h jobHandlers) change(ctx context.Context, in *jobInput, what, to string, from ...string) (*api.Response[wire.Job], error) {
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
		if to == wire.JobRunning {
			j.Error = ""
		}
		j.Undo = to == wire.JobCancelled
		return changed, nil
	})
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, errNoJob
	}
	if changed {
		defer h.Runner.notify(ctx, j)
		err = h.act(ctx, what, j.ID, j.Kind)
	}
	return api.OK(j.shown(h.Runner.Now())), err
}
