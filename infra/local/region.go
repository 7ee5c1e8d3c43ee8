package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/health"
	"parley/functions/live"
	"parley/functions/operate"
	"parley/functions/query"
	"parley/functions/stream"
	"parley/projections"
)

// The states of a region.
const (
	stateUp       = "up"
	stateFailing  = "failing"  // its API and its health answer 503; its stream goes on
	stateIsolated = "isolated" // nothing is replicated from or to it; it answers
)

// region is one deployment: log, views, bus, and the functions that work on them.
type region struct {
	name string
	url  string // where its API is served

	*store
	clock   *events.Clock
	ring    *keys.Ring // seals and opens content, at the edges
	bus     *bus
	trigger *trigger

	arrivals arrivals
	sockets  *sockets
	stream   *stream.Handler

	generations *projections.Generations
	live        projections.Views // the generations that are read
	health      *health.Handler
	runner      *operate.Runner
	metrics     *metrics
	flows       []*flow // to the other regions
	keyFlows    []*keyFlow
	handler     http.Handler
	state       atomic.Value // string
	logger      *slog.Logger
}

// streamMark is the name under which a region remembers how far its log was handled.
const streamMark = "stream"

// beatEvery is how often a region says that it is there.
const beatEvery = time.Minute

// openRegion opens a region.
func openRegion(ctx context.Context, name string, o options) (*region, error) {
	r := &region{name: name, logger: o.logger.With("region", name), clock: events.NewClock(time.Now), metrics: o.metrics}
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
	r.ring = keys.NewRing(&toldKeys{r.keys, r.keyChanged}, o.root, nil)
	r.generations = projections.NewGenerations(r.views)
	r.live = r.generations.Views()
	if r.bus, err = openBus(r.busDB, r.ring, o.archive); err != nil {
		return err
	}
	r.handler = r.newHandler(o)
	r.trigger = r.newTrigger(o.trigger)
	mark, err := r.marks.load(ctx, streamMark)
	if err != nil {
		return err
	}
	return r.check(mark)
}

func (r *region) newTrigger(settings triggerSettings) *trigger {
	log, feed := r.follow(), projections.NewFeed(r.views)
	r.stream = &stream.Handler{
		Region: r.name,
		Engine: projections.NewEngine(r.log, r.views, projections.All()...).In(r.generations),
		Feed:   feed,
		Push: func(ctx context.Context, what []projections.Happened) {
			r.arrivals.tell()
			r.sockets.handler.Push(ctx, what)
		},
		Views:  r.live,
		Events: countedLog{r.log, r.name, r.metrics},
		Bus:    r.bus,
		Log:    r.logger,
		Passed: r.metrics.passed(r.name),
		Keys:   r.ring, BusOpens: true,
	}
	return &trigger{
		source:   log,
		recovery: &recovery{log, feed},
		function: r.stream,
		mark: func(ctx context.Context, sequence string) error {
			return r.marks.save(ctx, streamMark, sequence)
		},
		settings: settings,
		log:      r.logger,
	}
}

// newHandler wires the region's HTTP functions.
func (r *region) newHandler(o options) http.Handler {
	a := api.New(api.Options{Region: r.name, Auth: o.auth, Rate: o.rate, Logger: r.logger})
	log := countedLog{r.log, r.name, r.metrics}
	command.Register(a, command.Config{
		Region: r.name, Log: log, Views: r.live, Clock: r.clock, Logger: r.logger, Keys: r.ring,
		Engine: projections.NewEngine(r.log, r.views,
			projections.Rooms, projections.Members, projections.Users, projections.Inboxes).In(r.generations),
	})
	query.Register(a, query.Config{
		Region: r.name, Log: r.log, Views: r.live, Cursors: o.cursors, Keys: r.ring, Arrived: r.arrivals.next,
	})
	r.registerOperate(a, log)
	live.Describe(a)
	r.sockets = newSockets(live.DefaultLimits, func() bool { return r.state.Load() == stateFailing }, r.logger)
	r.sockets.handler = &live.Handler{
		Region: r.name, Auth: o.auth, API: a.Handler(), Log: r.log, Views: r.live, Cursors: o.cursors, Keys: r.ring,
		Connections: live.NewMemory(), Sockets: r.sockets, Logger: r.logger,
	}
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler())
	mux.Handle("GET /v1/live", r.sockets)
	r.health = r.newHealth()
	mux.Handle("GET /health", r.health)
	return r.unlessFailing(mux)
}

// unlessFailing answers 503 while the region is told to fail.
func (r *region) unlessFailing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header()["Parley-Region"] = []string{r.name}
		if r.state.Load() == stateFailing {
			refuse(w, &api.Problem{
				Status: http.StatusServiceUnavailable, Code: "region_failing", Retryable: true,
				Detail: "this region was told to fail, by PUT /local/regions/" + r.name + "; ask another, or set it up again",
			})
			return
		}
		next.ServeHTTP(w, req)
	})
}

// stages is how far behind the region is: its own stream, and what it sends to each other region.
func (r *region) stages() map[string]time.Duration {
	now := time.Now()
	stages := map[string]time.Duration{"stream": r.trigger.waited(now)}
	for _, f := range r.flows {
		stages["replicate to "+f.to] = f.waited(now)
	}
	return stages
}

// run does the region's work in the background until ctx ends.
func (r *region) run(ctx context.Context, start func(func())) error {
	after, err := r.marks.load(ctx, streamMark)
	if err != nil {
		return err
	}
	start(func() { r.trigger.run(ctx, after) })
	start(func() { r.beat(ctx) })
	start(func() { r.runner.Run(ctx) })
	for _, f := range r.flows {
		if err := f.resume(ctx); err != nil {
			return err
		}
		start(func() { f.run(ctx) })
	}
	for _, f := range r.keyFlows {
		start(func() { f.run(ctx) })
	}
	return nil
}

// keyChanged has a user's keys replicated.
func (r *region) keyChanged(user string) {
	for _, f := range r.keyFlows {
		f.changed(user)
	}
}

// beat says at once and then every minute that the region is there.
func (r *region) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		if err := health.Beat(ctx, countedLog{r.log, r.name, r.metrics}, r.clock, r.name); err != nil && ctx.Err() == nil {
			r.logger.WarnContext(ctx, "a beat failed", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// close closes what is open. Nothing may work on the region any more.
func (r *region) close() error {
	if r.store == nil {
		return nil
	}
	if err := r.store.close(); err != nil {
		return fmt.Errorf("close region %s: %w", r.name, err)
	}
	return nil
}
