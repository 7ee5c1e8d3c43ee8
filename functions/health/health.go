// Package health says whether a region can do its work. Route 53, or whatever plays it, asks
// before it sends anyone there.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"parley/events"
	"parley/projections"
)

// Beat appends a beat to the region's stream: a sign of life that every region sees come by.
// It is due about once a minute.
func Beat(ctx context.Context, log events.Log, clock *events.Clock, region string) error {
	id, err := clock.Mint(region)
	if err != nil {
		return err
	}
	beat, err := events.New(id, events.RegionStream(region), region, region, events.RegionBeat{})
	if err != nil {
		return err
	}
	_, _, err = log.Append(ctx, beat)
	return err
}

// Handler answers GET /health.
type Handler struct {
	Region string
	Log    events.Log
	Views  projections.Views
	Now    func() time.Time
	// Writable returns why the log takes no appends; nil is always writable. It must not append:
	// it is asked every second.
	Writable func() error
	// Stages returns how far each stage is behind, if that is known here; nil if not.
	Stages func() map[string]time.Duration
	// Drained says whether an operator wants traffic to leave the region; nil: nobody ever does.
	Drained func(context.Context) (bool, error)
	// Timeout bounds the check; a region that does not answer is as good as down.
	Timeout time.Duration
}

// Report is the answer.
type Report struct {
	Region string `json:"region"`
	Status string `json:"status"`          // "ok", "failing" or, if it is well and drained, "drained"
	Error  string `json:"error,omitempty"` // which part does not work
	// Stages is how many seconds the oldest event that a stage has not handled has waited.
	Stages map[string]float64 `json:"stages,omitempty"`
	// Frontiers is how many seconds ago the last beat heard of each region was made. Beats come
	// once a minute, so up to about 60 is no lag.
	Frontiers map[string]float64 `json:"frontiers"`
}

// ServeHTTP answers 200 and a [Report] if log and views are as they should be, else 503.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.Timeout)
	defer cancel()
	report, status := h.Check(ctx), http.StatusOK
	if report.Status != "ok" {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(report) // the asker has gone
}

// Check reads the log and the views once or twice, and asks whether the log can be written.
func (h *Handler) Check(ctx context.Context) Report {
	report := Report{Region: h.Region, Status: "ok", Frontiers: map[string]float64{}}
	now := h.Now()
	_, err := h.Log.Get(ctx, events.RegionStream(h.Region), events.ID{1})
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		report.Status, report.Error = "failing", "the log cannot be read"
		return report
	}
	if h.Writable != nil && h.Writable() != nil {
		report.Status, report.Error = "failing", "the log cannot be written"
		return report
	}
	beats, err := projections.LoadFrontiers(ctx, h.Views)
	if err != nil {
		report.Status, report.Error = "failing", "the views cannot be read"
		return report
	}
	for region, beat := range beats {
		report.Frontiers[region] = now.Sub(beat.Timestamp()).Seconds()
	}
	if h.Stages != nil {
		report.Stages = map[string]float64{}
		for stage, lag := range h.Stages() {
			report.Stages[stage] = lag.Seconds()
		}
	}
	if h.Drained == nil {
		return report
	}
	switch drained, err := h.Drained(ctx); {
	case err != nil:
		report.Status, report.Error = "failing", "the views cannot be read"
	case drained:
		report.Status = "drained"
	}
	return report
}
