package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// statusHandlers show how the region is, and drain it.
type statusHandlers struct{ *handlers }

func (h statusHandlers) register(a *api.API) {
	query(a, api.Operation{
		ID: "opsStatus", Method: "GET", Path: "/v1/ops/status",
		Summary: "How this region is: health and lag, what is parked, jobs that have not ended, generations",
	}, h.status)
	command(a, api.Operation{
		ID: "opsDrain", Method: "PUT", Path: "/v1/ops/drain",
		Summary: "Let traffic leave this region: its health answers 503",
		Detail:  "Requests are still answered, views stay current, jobs go on.",
	}, func(ctx context.Context, _ *struct{}) (*api.Response[wire.Drain], error) {
		return h.setDrain(ctx, true)
	})
	command(a, api.Operation{
		ID: "opsUndrain", Method: "DELETE", Path: "/v1/ops/drain",
		Summary: "Let traffic come back to this region",
	}, func(ctx context.Context, _ *struct{}) (*api.Response[wire.Drain], error) {
		return h.setDrain(ctx, false)
	})
}

// maxParked is where counting parked events stops.
const maxParked = 1000

func (h statusHandlers) status(ctx context.Context, _ *struct{}) (*api.Response[wire.Status], error) {
	s := wire.Status{
		Region: h.Region, Version: wire.Version(), Time: h.Clock.Now().UTC(), Health: h.Health(ctx),
		Jobs: []wire.Job{}, Frontiers: map[string]time.Time{},
	}
	var err error
	if s.Drain, err = LoadDrain(ctx, h.Views); err != nil {
		return nil, err
	}
	if s.Parked, err = CountParked(ctx, h.Views); err != nil {
		return nil, err
	}
	if s.Generations, err = listGenerations(ctx, h.Generations); err != nil {
		return nil, err
	}
	beats, err := projections.LoadFrontiers(ctx, h.Views)
	if err != nil {
		return nil, err
	}
	for region, beat := range beats {
		s.Frontiers[region] = beat.Timestamp().UTC()
	}
	for job, err := range h.Runner.jobs(ctx, "") {
		if err != nil {
			return nil, err
		}
		if !job.ended() {
			s.Jobs = append(s.Jobs, job.shown(h.Clock.Now()))
		}
	}
	return api.OK(s), nil
}

// CountParked counts parked events, up to 1000.
func CountParked(ctx context.Context, views projections.Views) (int, error) {
	parked, err := projections.ListParked(ctx, views, "", maxParked)
	return len(parked), err
}

var drainKey = projections.Key{Partition: "ops/region", Sort: "drain"}

// LoadDrain reads whether a region is drained.
func LoadDrain(ctx context.Context, views projections.Views) (wire.Drain, error) {
	d, _, err := loadDrain(ctx, views)
	return d, err
}

func loadDrain(ctx context.Context, views projections.Views) (d wire.Drain, version int64, err error) {
	got, err := views.Get(ctx, drainKey)
	if err != nil || got[0].Version == 0 {
		return d, 0, err
	}
	if err := json.Unmarshal(got[0].Body, &d); err != nil {
		return d, 0, fmt.Errorf("read whether the region is drained: %w", err)
	}
	return d, got[0].Version, nil
}

// setDrain drains the region, or ends that. A region that is in the requested state stays as it is.
func (h statusHandlers) setDrain(ctx context.Context, drained bool) (*api.Response[wire.Drain], error) {
	now := h.Clock.Now().UTC()
	want := wire.Drain{Drained: drained, By: api.CallerOf(ctx).User, Since: &now}
	body, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	is, changed := wire.Drain{}, false
	err = retryOnConflict(ctx, func() error {
		var version int64
		is, version, err = loadDrain(ctx, h.Views)
		if changed = is.Drained != drained; err != nil || !changed {
			return err
		}
		return h.Views.Save(ctx, projections.View{Key: drainKey, Version: version, Body: body})
	})
	switch {
	case err != nil:
		return nil, err
	case !changed:
		return api.OK(is), nil
	}
	what := map[bool]string{true: "drain", false: "undrain"}[drained]
	return api.OK(want), h.act(ctx, what, h.Region, "")
}
