// Package health says whether a region can do its work. Route 53, or what plays it, asks before it
// sends traffic to the region.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/functions/wire"
	"parley/projections"
)

// Handler answers GET /health.
type Handler struct {
	Region string
	Log    events.Log
	Views  projections.Views
	Now    func() time.Time
	// Writable returns why the log cannot be appended to; always writable if nil. It must not append:
	// it is called every second.
	Writable func() error
	// Stages returns how far each stage lags behind, if this process knows it; may be nil. A region whose
	// stage "stream" is minutes behind is failing.
	Stages func() map[string]time.Duration
	// Drained says whether an operator wants traffic to leave the region; never drained if nil.
	Drained func(context.Context) (bool, error)
	// Streams is to how many streams the region appends its heartbeats. They must come back through its
	// change stream; that is not checked if it is 0.
	Streams int
	// Timeout bounds the check: a region that does not answer counts as down.
	Timeout time.Duration

	returns returns
	began   atomic.Int64 // when the first check was, in Unix ns
}

// maxStreamLag is the lag of the change stream from which on a region is failing. What waited while the region
// was down does not count against it.
const maxStreamLag = 3 * time.Minute

// ServeHTTP answers with a [wire.Health]: 200 if the region can do its work, 503 if it cannot or is
// drained.
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
	_ = json.NewEncoder(w).Encode(report) // the client may have gone
}

// Check reads the log and the views once or twice, and checks whether the log can be written and whether
// the region's heartbeats come back.
func (h *Handler) Check(ctx context.Context) wire.Health {
	report := wire.Health{Region: h.Region, Version: wire.Version(), Status: "ok", Frontiers: map[string]float64{}}
	now := h.Now()
	_, err := events.Get(ctx, h.Log, events.RegionStream(h.Region), events.ID{1})
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		report.Status, report.Error = "failing", "the log cannot be read"
		return report
	}
	if h.Writable != nil && h.Writable() != nil {
		report.Status, report.Error = "failing", "the log cannot be written"
		return report
	}
	last, err := projections.LoadHeartbeats(ctx, h.Views)
	if err != nil {
		report.Status, report.Error = "failing", "the views cannot be read"
		return report
	}
	for region, beat := range last.Frontiers() {
		report.Frontiers[region] = now.Sub(beat.Timestamp()).Seconds()
	}
	if h.Stages != nil {
		report.Stages = map[string]float64{}
		for stage, lag := range h.Stages() {
			report.Stages[stage] = lag.Seconds()
		}
	}
	h.began.CompareAndSwap(0, now.UnixNano())
	if lag := time.Duration(report.Stages["stream"] * float64(time.Second)); lag > maxStreamLag && now.Sub(time.Unix(0, h.began.Load())) > maxStreamLag {
		report.Status, report.Error = "failing", fmt.Sprintf("stage stream: the oldest event that is not handled has waited for %d minutes", int(lag.Minutes()))
		return report
	}
	stream, since, err := h.returns.missing(ctx, h.Log, h.Region, h.Streams, last, now)
	switch {
	case err != nil:
		report.Status, report.Error = "failing", "the log cannot be read"
		return report
	case stream != "":
		report.Status = "failing"
		report.Error = fmt.Sprintf("stage stream: no heartbeat of %s has come back through the change stream in the last %d minutes", stream, int(now.Sub(since).Minutes()))
		return report
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
