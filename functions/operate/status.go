package operate

import (
	"context"
	"time"

	"parley/functions/api"
	"parley/projections"
)

func (h *handlers) registerStatus(a *api.API) {
	query(a, api.Operation{
		ID: "opsStatus", Method: "GET", Path: "/v1/ops/status",
		Summary: "How this region is: health and lag, what is parked, the jobs that are not over, generations",
	}, h.status)
	command(a, api.Operation{
		ID: "opsDrain", Method: "PUT", Path: "/v1/ops/drain",
		Summary: "Let traffic leave this region: its health answers 503",
		Detail:  "Requests are still answered, views stay current, jobs go on.",
	}, h.drain)
	command(a, api.Operation{
		ID: "opsUndrain", Method: "DELETE", Path: "/v1/ops/drain",
		Summary: "Let traffic come back to this region",
	}, h.undrain)
}

// Status is how a region is.
type Status struct {
	Region    string               `json:"region"`
	Time      time.Time            `json:"time" doc:"The region's clock."`
	Health    Health               `json:"health"`
	Drain     Drain                `json:"drain"`
	Parked    int                  `json:"parked" doc:"Events set aside; 1000 stands for 1000 or more."`
	Jobs      []Job                `json:"jobs" doc:"Those that are not over, the latest first."`
	Frontiers map[string]time.Time `json:"frontiers" doc:"When the last beat heard of each region was made."`

	Generations map[string]Generation `json:"generations" doc:"By projection."`
}

// maxParked is where counting parked events stops.
const maxParked = 1000

func (h *handlers) status(ctx context.Context, _ *noInput) (*output[Status], error) {
	s := Status{Region: h.Region, Time: h.Clock.Now().UTC(), Health: h.Health(ctx), Jobs: []Job{}, Frontiers: map[string]time.Time{}}
	var err error
	if s.Drain, err = LoadDrain(ctx, h.Views); err != nil {
		return nil, err
	}
	if s.Parked, err = CountParked(ctx, h.Views); err != nil {
		return nil, err
	}
	if s.Generations, err = h.generations(ctx); err != nil {
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
		if !job.over() {
			s.Jobs = append(s.Jobs, job.shown(h.Clock.Now()))
		}
	}
	return ok(s), nil
}

// CountParked counts parked events, up to 1000.
func CountParked(ctx context.Context, views projections.Views) (int, error) {
	parked, err := projections.ListParked(ctx, views, "", maxParked)
	return len(parked), err
}
