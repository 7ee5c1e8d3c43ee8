package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

// Drop is the kind of job that deletes the generation of a projection that was read before the
// last switch.
type Drop struct{ Rebuilder *projections.Rebuilder }

const kindDrop = "drop"

// Check implements [Kind].
func (k *Drop) Check(p Params) error {
	if p != (Params{Projection: p.Projection}) {
		return events.Invalid("kind", "takes projection alone")
	}
	if _, err := projections.NewDrop(p.Projection); err != nil {
		return unknownProjection(false)
	}
	return nil
}

// Step implements [Kind].
func (k *Drop) Step(ctx context.Context, t Task) (Progress, error) {
	d, err := projections.NewDrop(t.Params.Projection)
	if err == nil && t.Work != nil {
		err = json.Unmarshal(t.Work, d)
	}
	if err != nil {
		return Progress{}, Permanent(fmt.Errorf("read how far the drop is: %w", err))
	}
	if err = k.Rebuilder.StepDrop(ctx, d); errors.Is(err, projections.ErrNoPrevious) {
		err = Permanent(err)
	}
	p := Progress{Phase: string(d.Phase), Done: d.Deleted, Finished: d.Phase == projections.Done}
	var encodeErr error
	p.Work, encodeErr = json.Marshal(d)
	p.Result = fmt.Appendf(nil, `{"deleted":%d}`, d.Deleted)
	return p, errors.Join(err, encodeErr)
}

func (h *handlers) registerGenerations(a *api.API) {
	command(a, api.Operation{
		ID: "switchBack", Method: "POST", Path: "/v1/ops/generations/{projection}/back",
		Summary: "Read the generation of a projection again that was read before the last switch",
		Detail:  "At once, as a whole. Both are kept current until one is dropped.",
	}, h.back)
	command(a, api.Operation{
		ID: "dropPrevious", Method: "POST", Path: "/v1/ops/generations/{projection}/drop", Creates: true,
		Summary: "Delete the generation of a projection that is not read",
		Detail:  "Starts a job of the kind drop.",
	}, h.dropPrevious)
}

// Generation says which builds there are of a projection's views.
type Generation struct {
	Projection string `json:"projection"`
	Live       int    `json:"live" doc:"Is read."`
	Previous   int    `json:"previous,omitempty" doc:"Was read before the last switch; kept current."`
	Next       int    `json:"next,omitempty" doc:"Is being built; kept current."`
	By         string `json:"by,omitempty" doc:"The job that builds it."`
	Dropped    []int  `json:"dropped,omitempty" doc:"Being deleted."`
	Since      string `json:"since,omitempty" doc:"When any of this changed last."`
}

func generationOf(g projections.Generation) Generation {
	out := Generation{g.Projection, g.Live, g.Previous, g.Next, g.By, g.Dropped, ""}
	if !g.Since.IsZero() {
		out.Since = g.Since.UTC().Format("2006-01-02T15:04:05.999Z07:00")
	}
	return out
}

// generations are those of all projections, by their names.
func (h *handlers) generations(ctx context.Context) (map[string]Generation, error) {
	list, err := h.Generations.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Generation, len(list))
	for _, g := range list {
		all[g.Projection] = generationOf(g)
	}
	return all, nil
}

type projectionInput struct {
	Projection string `path:"projection"`
}

func (h *handlers) back(ctx context.Context, in *projectionInput) (*output[Generation], error) {
	err := h.Generations.Back(ctx, in.Projection)
	switch {
	case errors.Is(err, projections.ErrUnknownProjection):
		return nil, unknownProjection(false)
	case errors.Is(err, projections.ErrNoPrevious):
		return nil, errNoPrevious
	case err != nil:
		return nil, err
	}
	all, err := h.generations(ctx)
	if err != nil {
		return nil, err
	}
	now := all[in.Projection]
	return ok(now), h.acts.Append(ctx, api.CallerOf(ctx).User, "generation.back", in.Projection, fmt.Sprintf("generation %d is read", now.Live))
}

var errNoPrevious = api.Fail(http.StatusConflict, "no_previous_generation", "the projection has no generation beside the one that is read")

func (h *handlers) dropPrevious(ctx context.Context, in *projectionInput) (*output[Job], error) {
	all, err := h.generations(ctx)
	if err != nil {
		return nil, err
	}
	g, known := all[in.Projection]
	switch {
	case !known:
		return nil, unknownProjection(false)
	case g.Previous == 0 && len(g.Dropped) == 0:
		return nil, errNoPrevious
	}
	return h.startJob(ctx, &startInput{Body: NewJob{Kind: kindDrop, Projection: in.Projection}})
}
