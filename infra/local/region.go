package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// The states of a region, which PUT /local/regions/{region} sets.
const (
	stateUp       = "up"
	stateFailing  = "failing"  // its API and health check return 503; its change stream is still handled
	stateIsolated = "isolated" // nothing is replicated from or to it; its API works
)

// region is one deployment as its clients know it: a name and an address. Everything behind the address is
// its incarnation, which begins when its stores are opened and ends when one of them fails.
type region struct {
	name    string
	url     string // where its API is served
	options options
	clock   *events.Clock
	logger  *slog.Logger
	state   atomic.Value                // string
	now     atomic.Pointer[incarnation] // nil while the region is closed

	filled atomic.Bool // its log has what the other regions had when it was made

	// repairKeys is [cluster.repairKeys].
	repairKeys func(region, user string)

	logIdentity string // of its log, as it was opened last; guarded by cluster.mu

	mu   sync.Mutex
	down error // why it is closed
}

func makeRegion(name string, o options, repairKeys func(region, user string)) *region {
	r := &region{
		name: name, options: o, repairKeys: repairKeys, clock: events.NewClock(time.Now, o.marks),
		logger: o.logger.With("region", name), logIdentity: o.storage.identity(name),
	}
	r.state.Store(stateUp)
	r.filled.Store(r.logIdentity != "") // as far as that is known without opening it
	return r
}

// enter returns the incarnation of the region, nil if it is closed. Its stores stay open until leave is
// called; the caller should leave soon after the incarnation's context has ended.
func (r *region) enter() (in *incarnation, leave func()) {
	in = r.now.Load()
	if in == nil || !in.using.TryRLock() { // it is being closed
		return nil, func() {}
	}
	return in, in.using.RUnlock
}

// why returns why the region is closed, nil if it is open.
func (r *region) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down
}

// setDown sets why the region is closed: for these reasons, nil if it is open.
func (r *region) setDown(why ...error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = errors.Join(why...)
}

// ServeHTTP serves the region's functions.
func (r *region) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header()["Parley-Region"] = []string{r.name}
	if r.state.Load() == stateFailing {
		refuse(w, &wire.Problem{
			Status: http.StatusServiceUnavailable, Code: "region_failing", Retryable: true,
			Detail: "this region simulates a failure, set by PUT /local/regions/" + r.name + "; use another region, or set its state to up",
		})
		return
	}
	in, leave := r.enter()
	defer leave()
	if in == nil || in.filling.Load() {
		r.refuseClosed(w, req)
		return
	}
	ctx, cancel := in.bound(req.Context())
	defer cancel()
	in.handler.ServeHTTP(w, req.WithContext(ctx))
}

// refuseClosed answers while the region is closed.
func (r *region) refuseClosed(w http.ResponseWriter, req *http.Request) {
	reason := "its log or views were lost and are being filled"
	if why := r.why(); why != nil {
		reason = why.Error()
	}
	if req.URL.Path == "/health" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(wire.Health{ // the client may have gone
			Region: r.name, Version: wire.Version(), Status: "failing", Error: reason, Frontiers: map[string]float64{},
		})
		return
	}
	refuse(w, &wire.Problem{
		Status: http.StatusServiceUnavailable, Code: "region_closed", Retryable: true,
		Detail: fmt.Sprintf("this region is closed until its stores work (%s); use another region", reason),
	})
}

// bound returns a context that also ends when the incarnation does.
func (in *incarnation) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(in.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
