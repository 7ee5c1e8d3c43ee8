package main

import (
	"context"
	"time"

	"parley/events"
	"parley/functions/api"
	"parley/functions/health"
	"parley/functions/operate"
	"parley/functions/stream"
	"parley/projections"
)

// healthTimeout bounds a look at a region's health.
const healthTimeout = 2 * time.Second

// newHealth makes what says how the region is.
func (r *region) newHealth() *health.Handler {
	return &health.Handler{
		Region: r.name, Log: r.log, Views: r.live, Now: time.Now,
		Writable: r.writable, Stages: r.stages, Timeout: healthTimeout,
		Drained: func(ctx context.Context) (bool, error) {
			d, err := operate.LoadDrain(ctx, r.views)
			return d.Drained, err
		},
	}
}

// registerOperate adds the operators' operations, and makes what does their jobs.
func (r *region) registerOperate(a *api.API, log events.Log) {
	acts := operate.Acts{Region: r.name, Log: log, Clock: r.clock}
	rebuilder := projections.NewRebuilder(r.log, r.views, r.generations)
	r.runner = operate.NewRunner(r.views, acts, r.logger, map[string]operate.Kind{
		"rebuild": &operate.Rebuild{Log: r.log, Rebuilder: rebuilder},
		"audit":   &operate.Rebuild{Log: r.log, Rebuilder: rebuilder, Audit: true},
		"drop":    &operate.Drop{Rebuilder: rebuilder},
		"replay":  &operate.Replay{Region: r.name, Log: r.log, Bus: replayBus{r.bus}}, // which opens what it delivers
	})
	r.runner.Alone = true // the data folder is this process's; tables that others use, too, have regions of their own
	operate.Register(a, operate.Config{
		Region: r.name, Log: log, Views: r.live, Clock: r.clock, Runner: r.runner, Keys: r.ring, Generations: r.generations,
		Health: func(ctx context.Context) operate.Health {
			ctx, cancel := context.WithTimeout(ctx, healthTimeout)
			defer cancel()
			return operate.Health(r.health.Check(ctx))
		},
		Retry: func(ctx context.Context, e events.Event) error { return r.stream.Retry(ctx, e) },
	})
}

// replayBus is the region's bus for a replay: it takes nothing that ordinary subscribers get.
type replayBus struct{ bus *bus }

// Publish implements [operate.Bus].
func (b replayBus) Publish(ctx context.Context, entries []operate.Entry) ([]error, error) {
	put := make([]stream.Entry, len(entries))
	for i, e := range entries {
		if err := e.Replayed(); err != nil {
			return nil, err
		}
		put[i] = stream.Entry(e)
	}
	return b.bus.Publish(ctx, put)
}
