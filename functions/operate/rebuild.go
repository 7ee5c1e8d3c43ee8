package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

// Rebuild is the kind of job that builds views anew from the log beside the live ones, compares
// the two and switches over; or, as an audit, tells what differs and drops what was built.
type Rebuild struct {
	Log       events.Log
	Rebuilder *projections.Rebuilder
	Audit     bool
}

// rebuilt is how far a rebuild has come.
type rebuilt struct {
	Count counted              `json:"count"`
	Over  bool                 `json:"counted,omitempty"` // counting is
	Build *projections.Rebuild `json:"build"`
}

// rebuildResult is what came of a rebuild, or an audit.
type rebuildResult struct {
	Events   int64                 `json:"events"`           // of the log, folded
	Failed   int64                 `json:"failed,omitempty"` // of those, which a fold cannot take
	Views    int64                 `json:"views"`            // compared
	Differ   int64                 `json:"differ"`           // live views that are not what the log adds up to
	Healed   int64                 `json:"healed,omitempty"`
	TooMany  bool                  `json:"too_many,omitempty"` // to look at one by one: rebuild instead
	Findings []projections.Finding `json:"findings,omitempty"` // the first of them
}

// rebuildCost is the result of a dry run: what it takes, at most. Prices are in dollars.
type rebuildCost struct {
	Events     int64   `json:"events"`
	Scanned    int64   `json:"scanned"`
	Views      int64   `json:"views"` // that would be saved, at most: each once for every event
	ReadUnits  int64   `json:"read_units"`
	WriteUnits int64   `json:"write_units"`
	Dollars    float64 `json:"dollars"`
}

// Check implements [Kind].
func (k *Rebuild) Check(p Params) error {
	if p.To != "" || p.From != "" || p.Until != "" || p.Type != "" || p.Rate != 0 {
		return events.Invalid("kind", "takes projection, room or heal, and dry_run, but nothing of a replay's")
	}
	if k.Audit && p.Room != "" {
		return events.Invalid("room", "does not go with an audit: rebuild the room, which repairs it")
	}
	if !k.Audit && p.Heal {
		return events.Invalid("heal", "goes with an audit; a rebuild repairs in any case")
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

// begin makes the rebuild of a job that is yet to begin.
func (k *Rebuild) begin(id string, p Params) (*projections.Rebuild, error) {
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

// counter counts what is folded.
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
	var result any = rebuildCost{
		Events: sum.matched, Scanned: sum.scanned, Views: sum.views, ReadUnits: 2 * sum.readUnits, WriteUnits: sum.views,
		Dollars: float64(2*sum.readUnits)*readUnitPrice + float64(sum.views)*writeUnitPrice,
	}
	if !dry {
		result = w.result(over)
	}
	if over {
		p.Work = json.RawMessage("{}") // a job must not hold its findings twice
	}
	p.Result, err = json.Marshal(result)
	return p, err
}

// shownFindings is how many findings are told before the end.
const shownFindings = 50

func (w *rebuilt) result(over bool) rebuildResult {
	c := &w.Build.Compared
	r := rebuildResult{
		Events: w.Build.Events(), Views: c.Views, Differ: c.Differ, Healed: c.Healed, TooMany: c.TooMany, Findings: c.Findings,
	}
	for _, part := range w.Build.Parts {
		r.Failed += part.Failed
	}
	if !over {
		r.Findings = r.Findings[:min(len(r.Findings), shownFindings)]
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
