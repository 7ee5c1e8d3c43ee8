package main

import (
	"context"

	"parley/functions/api"
	"parley/functions/operate"
	"parley/functions/stream"
	"parley/infra/lambda/config"
	"parley/projections"
)

// The kinds of jobs, by the function that does them.
var kinds = map[string][]string{
	config.Worker:   {"rebuild", "audit", "drop"},
	config.Replayer: {"replay"},
}

// runner makes what keeps the jobs of some kinds, and does their steps where this process is to.
// The bus is that of replays: nil where nothing may be published.
func (p parts) runner(bus operate.Bus, names ...string) *operate.Runner {
	rebuilder := projections.NewRebuilder(p.log, p.views, p.generations)
	rebuilder.Grace = p.config.Grace
	all := map[string]operate.Kind{
		"rebuild": &operate.Rebuild{Log: p.log, Rebuilder: rebuilder},
		"audit":   &operate.Rebuild{Log: p.log, Rebuilder: rebuilder, Audit: true},
		"drop":    &operate.Drop{Rebuilder: rebuilder},
		"replay":  &operate.Replay{Region: p.config.Region, Log: p.log, Bus: bus, Keys: p.keys},
	}
	known := map[string]operate.Kind{}
	for _, name := range names {
		known[name] = all[name]
	}
	acts := operate.Acts{Region: p.config.Region, Log: p.log, Clock: p.clock}
	return operate.NewRunner(p.views, acts, p.logger, known)
}

// registerOperate adds the operators' operations. The jobs they start are done by the functions
// worker and replayer, which are woken through their queues.
func (p parts) registerOperate(a *api.API) {
	runner := p.runner(nil, append(kinds[config.Worker], kinds[config.Replayer]...)...)
	if p.config.Function == config.Operate {
		runner.Wake = newQueues(p.cloud, p.config).wake
	}
	health := p.health()
	again := newStreamAgain(p.cloud, p.config.StreamFunction)
	operate.Register(a, operate.Config{
		Region: p.config.Region, Log: p.log, Views: p.live, Clock: p.clock, Runner: runner, Keys: p.keys, Generations: p.generations,
		Health: func(ctx context.Context) operate.Health {
			ctx, cancel := context.WithTimeout(ctx, health.Timeout)
			defer cancel()
			return operate.Health(health.Check(ctx))
		},
		Retry: again.retry,
	})
}

// replayBus is the region's bus for a replay: it takes nothing that ordinary subscribers get.
type replayBus struct{ bus stream.Bus }

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
