package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/pebblelog"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/health"
	"parley/functions/query"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/pebbleview"
)

// The states of a region.
const (
	stateUp       = "up"
	stateFailing  = "failing"  // its API and its health answer 503; its stream goes on
	stateIsolated = "isolated" // nothing is replicated from or to it; it answers
)

// region is one deployment: log, views, bus, and the functions that work on them.
type region struct {
	name     string
	identity string // of its folder: another folder has nothing of what this one has
	url      string // where its API is served

	log     *pebblelog.Log
	db      *pebble.DB // views, bus and marks
	views   *pebbleview.Views
	marks   marks
	clock   *events.Clock
	bus     *bus
	trigger *trigger
	flows   []*flow // to the other regions
	handler http.Handler
	state   atomic.Value // string
	logger  *slog.Logger
}

// streamMark is the name under which a region remembers how far its log was handled.
const streamMark = "stream"

// beatEvery is how often a region says that it is there.
const beatEvery = time.Minute

// openRegion opens a region in its folder below the data folder.
func openRegion(name string, o options, cache *pebble.Cache) (r *region, err error) {
	r = &region{name: name, logger: o.logger.With("region", name), clock: events.NewClock(time.Now)}
	r.state.Store(stateUp)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open region %s: %w", name, err), r.close())
		}
	}()
	dir := filepath.Join(o.data, name)
	if r.identity, err = identity(dir); err != nil {
		return r, err
	}
	r.log, err = pebblelog.Open(filepath.Join(dir, "log"), pebblelog.Options{Cache: cache, Logger: r.logger})
	if err != nil {
		return r, err
	}
	r.db, err = pebbleview.Open(filepath.Join(dir, "views"), pebbleview.Options{Cache: cache, Logger: r.logger})
	if err != nil {
		return r, err
	}
	r.views, r.marks = pebbleview.New(r.db, viewsPrefix), marks{r.db}
	if r.bus, err = openBus(r.db, o.archive); err != nil {
		return r, err
	}
	r.trigger = r.newTrigger(o.trigger)
	r.handler = r.newHandler(o)
	return r, r.checkMark()
}

func (r *region) newTrigger(settings triggerSettings) *trigger {
	return &trigger{
		source: tail{r.log},
		function: &stream.Handler{
			Region: r.name,
			Engine: projections.NewEngine(r.log, r.views, projections.All()...),
			Feed:   projections.NewFeed(r.views),
			Views:  r.views,
			Bus:    r.bus,
			Log:    r.logger,
		},
		mark:     func(sequence string) error { return r.marks.save(streamMark, sequence) },
		settings: settings,
		log:      r.logger,
	}
}

// newHandler wires the region's HTTP functions.
func (r *region) newHandler(o options) http.Handler {
	a := api.New(api.Options{Region: r.name, Auth: o.auth, Rate: o.rate, Logger: r.logger})
	command.Register(a, command.Config{
		Region: r.name, Log: r.log, Views: r.views, Clock: r.clock, Logger: r.logger,
		Engine: projections.NewEngine(r.log, r.views,
			projections.Rooms, projections.Members, projections.Users, projections.Inboxes),
	})
	query.Register(a, query.Config{Log: r.log, Views: r.views})
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler())
	mux.Handle("GET /health", &health.Handler{
		Region: r.name, Log: r.log, Views: r.views, Now: time.Now,
		Writable: r.log.Err, Stages: r.stages, Timeout: 2 * time.Second,
	})
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

// checkMark refuses a log that is behind what was made of it: it was deleted or set back.
func (r *region) checkMark() error {
	text, err := r.marks.load(streamMark)
	if err != nil {
		return err
	}
	position, err := parsePosition(text)
	if err != nil {
		return err
	}
	if head := r.log.Head(); position > head {
		return fmt.Errorf("its views have seen %d events, its log has only %d: delete the region's folder, the other regions will fill it again", position, head)
	}
	return nil
}

// run does the region's work in the background until ctx ends.
func (r *region) run(ctx context.Context, start func(func())) error {
	after, err := r.marks.load(streamMark)
	if err != nil {
		return err
	}
	start(func() { r.trigger.run(ctx, after) })
	start(func() { r.beat(ctx) })
	for _, f := range r.flows {
		if err := f.resume(); err != nil {
			return err
		}
		start(func() { f.run(ctx) })
	}
	return nil
}

// beat says at once and then every minute that the region is there.
func (r *region) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		if err := health.Beat(ctx, r.log, r.clock, r.name); err != nil && ctx.Err() == nil {
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
	var errs []error
	if r.db != nil {
		errs = append(errs, r.db.Close())
	}
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close region %s: %w", r.name, err)
	}
	return nil
}
