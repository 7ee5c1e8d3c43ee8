package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/live"
)

// options are the settings of a cluster.
type options struct {
	storage storage
	regions []string // in order of preference
	weather weather
	rate    api.Rate
	trigger triggerSettings
	archive int // entries that each bus keeps
	auth    *api.Auth
	cursors *api.Cursors
	root    keys.Wrapper // of the users' keys
	logger  *slog.Logger
	metrics *metrics // openCluster makes them
}

const defaultArchive = 100_000

// cluster is all regions and what lies between them.
type cluster struct {
	regions []*region
	network *network
	metrics *metrics

	storage storage
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// openCluster opens all regions. Their work begins with start. The storage is closed with the
// cluster, or when it cannot be opened.
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
	for _, from := range c.regions {
		for _, to := range c.regions {
			if from != to {
				from.keyFlows = append(from.keyFlows, newKeyFlow(from, to, c.network, o.weather.Lag))
				from.flows = append(from.flows, &flow{
					from: from.name, to: to.name, source: from.follow(), target: to.follow(), identity: to.identity,
					network: c.network, weather: o.weather, regions: o.regions, marks: from.marks, log: from.logger,
				})
			}
		}
	}
	return c, nil
}

// start begins the work in the background: streams, replication, beats.
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

// region finds a region by name; nil if there is none.
func (c *cluster) region(name string) *region {
	for _, r := range c.regions {
		if r.name == name {
			return r
		}
	}
	return nil
}

// setState breaks or mends a region. One that fails closes its sockets.
func (c *cluster) setState(r *region, state string) {
	if r.state.Store(state); state == stateFailing {
		r.sockets.closeAll(live.CodeGoingAway)
	}
	c.network.isolate(r.name, state == stateIsolated)
}

// close ends the work in the background and closes all regions. No request may be under way.
func (c *cluster) close() error {
	c.stop()
	c.work.Wait()
	var errs []error
	for _, r := range c.regions {
		errs = append(errs, r.close())
	}
	return errors.Join(append(errs, c.storage.close())...)
}
