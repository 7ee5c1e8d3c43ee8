package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions"
	"parley/functions/api"
	"parley/functions/live"
	"parley/functions/wire"
	"parley/projections"
)

// options are the settings of a cluster.
type options struct {
	storage    storage
	regions    []string // in order of preference
	linkFaults linkFaults
	quota      *api.Quota // of each user, in all regions together
	contacts   int
	beats      int // to how many streams each region appends its heartbeats
	trigger    triggerSettings
	shards     int // of each change stream, see lanes.go
	archive    int // entries that the archive of each bus holds
	auth       *api.Auth
	cursors    *api.Cursors
	marks      events.Marks
	root       keys.Wrapper // of the users' keys
	logger     *slog.Logger
	metrics    *metrics // set by openCluster
}

// cluster is all regions and the replication between them.
type cluster struct {
	regions []*region
	network *network
	metrics *metrics

	storage storage
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// openCluster opens all regions; start begins their background work. It owns the storage: close closes
// it, and so does openCluster when it fails.
func openCluster(ctx context.Context, o options) (*cluster, error) {
	o.metrics = newMetrics()
	c := &cluster{network: newNetwork(), metrics: o.metrics, storage: o.storage, stop: func() {}}
	for _, name := range o.regions {
		r, err := openRegion(ctx, name, o)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.regions = append(c.regions, r)
		o.metrics.registry.MustRegister(gaugesOf(r))
	}
	logs := map[string]string{}
	for _, r := range c.regions {
		logs[r.name] = r.identity
	}
	for _, from := range c.regions {
		for _, to := range c.regions {
			if from != to {
				from.keyReplicators = append(from.keyReplicators, newKeyReplicator(from, to, o.root, c.network, o.linkFaults.Lag))
				from.replicators = append(from.replicators, &replicator{
					from: from.name, to: to.name, source: from.follow(), target: to.follow(),
					network: c.network, linkFaults: o.linkFaults, logs: logs, checkpoints: from.checkpoints, log: from.logger,
				})
			}
		}
	}
	return c, nil
}

// start begins the background work: change streams, replication, heartbeats.
func (c *cluster) start() error {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	for _, r := range c.regions {
		if err := r.run(ctx, c.work.Go); err != nil {
			return err
		}
	}
	return nil
}

// region returns a region by name, nil if there is none.
func (c *cluster) region(name string) *region {
	for _, r := range c.regions {
		if r.name == name {
			return r
		}
	}
	return nil
}

// setState sets the state of a region. A region that fails closes its sockets.
func (c *cluster) setState(r *region, state string) {
	if r.state.Store(state); state == stateFailing {
		r.sockets.closeAll(live.CodeGoingAway)
	}
	c.network.isolate(r.name, state == stateIsolated)
}

// close stops the background work and closes all regions. No request may be in progress.
func (c *cluster) close() error {
	c.stop()
	c.work.Wait()
	var errs []error
	for _, r := range c.regions {
		errs = append(errs, r.close())
	}
	return errors.Join(append(errs, c.storage.close())...)
}

// The states of a region.
const (
	stateUp       = "up"
	stateFailing  = "failing"  // its API and health check return 503; its change stream is still handled
	stateIsolated = "isolated" // nothing is replicated from or to it; its API works
)

// region is one deployment: log, views, bus, and functions.
type region struct {
	name string
	url  string // where its API is served

	*store
	clock *events.Clock
	ring  *keys.Ring // encrypts and decrypts content
	bus   *bus
	lanes []lane

	sockets        *sockets
	functions      *functions.Region
	metrics        *metrics
	replicators    []*replicator // to the other regions
	keyReplicators []*keyReplicator
	handler        http.Handler
	state          atomic.Value // string
	logger         *slog.Logger
}

// beatEvery is how often a region appends its heartbeats.
const beatEvery = time.Minute

// healthTimeout bounds a check of a region's health.
const healthTimeout = 2 * time.Second

// openRegion opens a region.
func openRegion(ctx context.Context, name string, o options) (*region, error) {
	r := &region{name: name, logger: o.logger.With("region", name), clock: events.NewClock(time.Now, o.marks), metrics: o.metrics}
	r.state.Store(stateUp)
	if err := r.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open region %s: %w", name, err), r.close())
	}
	return r, nil
}

func (r *region) open(ctx context.Context, o options) (err error) {
	if r.store, err = o.storage.open(ctx, r.name, r.logger); err != nil {
		return err
	}
	if err := checkRoot(ctx, o.root, r.keys); err != nil {
		return err
	}
	r.ring = keys.NewRing(&notifyingKeys{r.keys, r.keyChanged}, o.root, nil)
	if r.bus, err = openBus(r.busDB, r.shown, o.archive); err != nil {
		return err
	}
	r.functions = r.newFunctions(o)
	r.handler = r.newHandler()
	starts, err := openLanes(ctx, r.checkpoints, o.shards, r.check)
	if err != nil {
		return err
	}
	r.lanes = r.newLanes(starts, o.trigger)
	return nil
}

// shown returns events as they may be shown in this region now.
func (r *region) shown(ctx context.Context, es ...events.Event) ([]events.Event, error) {
	return projections.ShowEvents(ctx, r.functions.Views(), r.ring, es...)
}

// newFunctions makes the functions of the region from its parts.
func (r *region) newFunctions(o options) *functions.Region {
	r.sockets = newSockets(live.DefaultLimits, func() bool { return r.state.Load() == stateFailing }, r.logger)
	f := functions.New(functions.Parts{
		Region: r.name, Log: countedLog{r.log, r.name, r.metrics}, Views: r.views, Keys: r.ring, Clock: r.clock, Logger: r.logger,
		Auth: o.auth, Cursors: o.cursors, Quota: o.quota, Contacts: o.contacts, Beats: o.beats,
		Connections: live.NewMemory(), Sockets: r.sockets,
		Bus: r.bus, BusOpens: true, Passed: r.metrics.passed(r.name),
		SingleProcess: true, // no other process uses this data folder or these regions
		Writable:      r.writable, Stages: r.stages, HealthTimeout: healthTimeout,
	})
	r.sockets.handler = f.Live()
	return f
}

// newLanes makes one lane for each checkpoint to start from.
func (r *region) newLanes(starts []checkpoint, settings triggerSettings) []lane {
	l := laneParts{follow: r.lane, checkpoints: r.checkpoints, settings: settings, log: r.logger}
	for range streamInstances {
		h := r.functions.NewStream()
		l.functions, l.feed = append(l.functions, h), h.Feed
	}
	return l.lanes(starts)
}

// newHandler serves the region's functions by HTTP.
func (r *region) newHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", r.functions.API().Handler())
	mux.Handle("GET /v1/live", r.sockets)
	mux.Handle("GET /health", r.functions.Health())
	return r.unlessFailing(mux)
}

// unlessFailing returns 503 while the region simulates a failure.
func (r *region) unlessFailing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header()["Parley-Region"] = []string{r.name}
		if r.state.Load() == stateFailing {
			refuse(w, &wire.Problem{
				Status: http.StatusServiceUnavailable, Code: "region_failing", Retryable: true,
				Detail: "this region simulates a failure, set by PUT /local/regions/" + r.name + "; use another region, or set its state to up",
			})
			return
		}
		next.ServeHTTP(w, req)
	})
}

// stages returns the lag of the region's change stream, which is that of the lane that is furthest
// behind, and of its replication to each other region.
func (r *region) stages() map[string]time.Duration {
	now := time.Now()
	stages := map[string]time.Duration{"stream": 0}
	for _, l := range r.lanes {
		stages["stream"] = max(stages["stream"], l.waited(now))
	}
	for _, f := range r.replicators {
		stages["replicate to "+f.to] = f.waited(now)
	}
	return stages
}

// run does the region's work in the background until ctx ends.
func (r *region) run(ctx context.Context, start func(func())) error {
	for _, l := range r.lanes {
		start(func() { l.run(ctx, l.start) })
	}
	start(func() { r.beat(ctx) })
	start(func() { r.dropJournal(ctx) })
	start(func() { r.functions.Jobs().Run(ctx) })
	for _, f := range r.replicators {
		if err := f.resume(ctx); err != nil {
			return err
		}
		start(func() { f.run(ctx) })
	}
	for _, f := range r.keyReplicators {
		start(func() { f.run(ctx) })
	}
	return nil
}

// keyChanged replicates a user's keys.
func (r *region) keyChanged(user string) {
	for _, f := range r.keyReplicators {
		f.changed(user)
	}
}

// beat appends the region's heartbeats, at once and then every minute.
func (r *region) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		if err := r.functions.Beat(ctx); err != nil && ctx.Err() == nil {
			r.logger.WarnContext(ctx, "appending heartbeats failed", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// dropJournal deletes what the release before kept in the views and nothing uses any more. If it fails, the
// next start continues.
func (r *region) dropJournal(ctx context.Context) {
	deleted, err := projections.DropJournal(ctx, r.views)
	if err != nil && ctx.Err() == nil {
		r.logger.WarnContext(ctx, "deleting the journal of the release before failed; the next start tries again", "error", err)
	}
	if deleted > 0 {
		r.logger.InfoContext(ctx, "deleted the journal of the release before", "rows", deleted)
	}
}

// close closes what is open. The region must not be in use.
func (r *region) close() error {
	if r.store == nil {
		return nil
	}
	if err := r.store.close(); err != nil {
		return fmt.Errorf("close region %s: %w", r.name, err)
	}
	return nil
}
