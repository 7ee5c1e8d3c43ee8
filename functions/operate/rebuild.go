package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// Rebuild is the kind of job that builds views anew from the log beside the live ones, compares
// the two and switches over; or, as an audit, reports what differs and drops what was built.
type Rebuild struct {
	Log       events.Log
	Rebuilder *projections.Rebuilder
	Audit     bool
}

// rebuilt is how far a rebuild has come.
type rebuilt struct {
	Count counted              `json:"count"`
	Over  bool                 `json:"counted,omitempty"` // counting has ended
	Build *projections.Rebuild `json:"build"`
}

// Check implements [Kind].
func (k *Rebuild) Check(p wire.Params) error {
	if p.To != "" || p.From != "" || p.Until != "" || p.Type != "" || p.Rate != 0 {
		return events.Invalid("kind", "takes projection, room, heal and dry_run; to, from, until, type and rate belong to a replay")
	}
	if k.Audit && p.Room != "" {
		return events.Invalid("room", "cannot be audited alone: rebuild the room, which repairs it")
	}
	if !k.Audit && p.Heal {
		return events.Invalid("heal", "belongs to an audit; a rebuild always repairs")
	}
	if p.Room != "" {
		if _, err := api.ParseRoom("room", p.Room); err != nil {
			return err
		}
	}
	_, err := k.begin("", p)
	if errors.Is(err, projections.ErrUnknownProjection) {
		return unknownProjection(!k.Audit)
	}
	return err
}

// unknownProjection lists the projections there are, and the feed if it may be named too.
func unknownProjection(feed bool) error {
	var names []string
	for _, p := range projections.All() {
		names = append(names, p.Name())
	}
	if feed {
		names = append(names, projections.FeedName)
	}
	return events.Invalid("projection", fmt.Sprintf("must be one of %v", slices.Sorted(slices.Values(names))))
}

// begin returns the rebuild of a job that has not begun.
func (k *Rebuild) begin(id string, p wire.Params) (*projections.Rebuild, error) {
	var names []string
	if p.Projection != "" {
		names = []string{p.Projection}
	}
	switch {
	case k.Audit:
		return projections.NewAudit(id, p.Heal, names...)
	case p.Room != "":
		room, err := api.ParseRoom("room", p.Room)
		if err != nil {
			return nil, err
		}
		return projections.NewRoomRebuild(id, room, names...)
	default:
		return projections.NewRebuild(id, names...)
	}
}

// Step implements [Kind].
func (k *Rebuild) Step(ctx context.Context, t Task) (Progress, error) {
	w, err := k.work(t)
	if err != nil {
		return Progress{}, Permanent(err)
	}
	if !w.Over {
		w.Over, err = k.counter(w.Build).step(ctx, &w.Count, time.Now().Add(t.Budget))
	} else {
		err = k.Rebuilder.Step(ctx, w.Build)
		for _, final := range []error{projections.ErrRebuilding, projections.ErrPreviousKept, projections.ErrWithdrawn, projections.ErrUnknownProjection} {
			if errors.Is(err, final) {
				err = Permanent(err)
				break
			}
		}
	}
	p, encodeErr := w.progress(t.Params.DryRun)
	return p, errors.Join(err, encodeErr)
}

func (k *Rebuild) work(t Task) (*rebuilt, error) {
	w := &rebuilt{}
	if t.Work != nil {
		if err := json.Unmarshal(t.Work, w); err != nil {
			return nil, fmt.Errorf("read how far the rebuild is: %w", err)
		}
	}
	var err error
	if w.Build == nil {
		w.Build, err = k.begin(t.ID, t.Params)
	}
	return w, err
}

// counter returns what counts the events that are folded.
func (k *Rebuild) counter(b *projections.Rebuild) counter {
	c := counter{log: k.Log}
	if b.Room != "" {
		c.stream = events.RoomStream(b.Room)
	}
	var folding []projections.Projection
	for _, p := range projections.All() {
		if slices.Contains(b.Projections, p.Name()) {
			folding = append(folding, p)
		}
	}
	c.wants = func(e events.Event) (bool, int) {
		views := 0
		for _, p := range folding {
			views += len(p.Keys(e))
		}
		return true, views
	}
	return c
}

func (w *rebuilt) progress(dry bool) (p Progress, err error) {
	sum, c := w.Count.sum(), &w.Build.Compared
	over := w.Build.Phase == projections.Done
	p = Progress{Phase: string(w.Build.Phase), Done: w.Build.Events(), Total: sum.matched, Finished: over}
	switch {
	case !w.Over || dry:
		p.Phase, p.Done, p.Total, p.Finished = phaseCount, sum.scanned, 0, w.Over
	case w.Build.Phase == projections.Compare:
		p.Done, p.Total = c.Views, 0
	case w.Build.Phase == projections.Dropping:
		p.Done, p.Total = w.Build.Drop.Deleted, 0
	}
	if p.Work, err = json.Marshal(w); err != nil {
		return Progress{}, err
	}
	var result any = wire.RebuildCost{
		Events: sum.matched, Scanned: sum.scanned, Views: sum.views, ReadUnits: 2 * sum.readUnits, WriteUnits: sum.views,
		Dollars: float64(2*sum.readUnits)*readUnitPrice + float64(sum.views)*writeUnitPrice,
	}
	if !dry {
		result = w.result(over)
	}
	if over {
		p.Work = json.RawMessage("{}") // a job must not store its findings twice
	}
	p.Result, err = json.Marshal(result)
	return p, err
}

// shownFindings is how many findings a job shows before it ends.
const shownFindings = 50

func (w *rebuilt) result(over bool) wire.RebuildResult {
	c := &w.Build.Compared
	r := wire.RebuildResult{Events: w.Build.Events(), Views: c.Views, Differ: c.Differ, Healed: c.Healed, TooMany: c.TooMany}
	for _, part := range w.Build.Parts {
		r.Failed += part.Failed
	}
	for i, f := range c.Findings {
		if !over && i == shownFindings {
			break
		}
		r.Findings = append(r.Findings, wire.Finding{
			Projection: f.Projection, Stream: f.Stream, Key: wire.ViewKey(f.Key), Fault: string(f.Fault), Fields: f.Fields, Healed: f.Healed,
		})
	}
	return r
}

// Undo implements [Undoer]: it drops what was built.
func (k *Rebuild) Undo(ctx context.Context, t Task) (Progress, error) {
	w, err := k.work(t)
	if err != nil || t.Params.DryRun {
		return Progress{Finished: true}, err
	}
	w.Over = true
	w.Build.Cancel()
	err = k.Rebuilder.Step(ctx, w.Build)
	p, encodeErr := w.progress(false)
	return p, errors.Join(err, encodeErr)
}

// Drop is the kind of job that deletes the generation of a projection that was read before the
// last switch.
type Drop struct{ Rebuilder *projections.Rebuilder }

const kindDrop = "drop"

// Check implements [Kind].
func (k *Drop) Check(p wire.Params) error {
	if p != (wire.Params{Projection: p.Projection}) {
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
	if encodeErr == nil {
		p.Result, encodeErr = json.Marshal(wire.DropResult{Deleted: d.Deleted})
	}
	return p, errors.Join(err, encodeErr)
}

// generationHandlers switch and drop the generations of views.
type generationHandlers struct{ *handlers }

func (h generationHandlers) register(a *api.API) {
	command(a, api.Operation{
		ID: "switchBack", Method: "POST", Path: "/v1/ops/generations/{projection}/back",
		Summary: "Read the generation of a projection again that was read before the last switch",
		Detail:  "At once, and as a whole. Both generations stay current until one is dropped.",
	}, h.back)
	command(a, api.Operation{
		ID: "dropPrevious", Method: "POST", Path: "/v1/ops/generations/{projection}/drop", Creates: true,
		Summary: "Delete the generation of a projection that is not read",
		Detail:  "Starts a job of the kind drop.",
	}, h.dropPrevious)
}

func generationOf(g projections.Generation) wire.Generation {
	out := wire.Generation{Projection: g.Projection, Live: g.Live, Previous: g.Previous, Next: g.Next, By: g.By, Dropped: g.Dropped}
	if !g.Since.IsZero() {
		out.Since = g.Since.UTC().Format("2006-01-02T15:04:05.999Z07:00")
	}
	return out
}

// listGenerations returns the generations of all projections, by their names.
func listGenerations(ctx context.Context, generations *projections.Generations) (map[string]wire.Generation, error) {
	list, err := generations.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]wire.Generation, len(list))
	for _, g := range list {
		all[g.Projection] = generationOf(g)
	}
	return all, nil
}

type projectionInput struct {
	Projection string `path:"projection"`
}

func (h generationHandlers) back(ctx context.Context, in *projectionInput) (*api.Response[wire.Generation], error) {
	err := h.Generations.Back(ctx, in.Projection)
	switch {
	case errors.Is(err, projections.ErrUnknownProjection):
		return nil, unknownProjection(false)
	case errors.Is(err, projections.ErrNoPrevious):
		return nil, errNoPrevious
	case err != nil:
		return nil, err
	}
	all, err := listGenerations(ctx, h.Generations)
	if err != nil {
		return nil, err
	}
	now := all[in.Projection]
	return api.OK(now), h.act(ctx, "generation.back", in.Projection, fmt.Sprintf("generation %d is read", now.Live))
}

var errNoPrevious = api.Fail(http.StatusConflict, "no_previous_generation", "the projection has no generation beside the one that is read")

func (h generationHandlers) dropPrevious(ctx context.Context, in *projectionInput) (*api.Response[wire.Job], error) {
	all, err := listGenerations(ctx, h.Generations)
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
	return jobHandlers(h).start(ctx, &startInput{Body: wire.NewJob{Kind: kindDrop, Params: wire.Params{Projection: in.Projection}}})
}
