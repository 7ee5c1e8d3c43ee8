package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/live"
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
	root       keys.Wrapper    // of the users' keys
	closing    <-chan struct{} // closed when long answers must end
	logger     *slog.Logger
	metrics    *metrics // set by openCluster
}

// cluster is all regions and the replication between them. A region whose stores fail is closed, without
// harm to the others, and opened again once its stores work.
type cluster struct {
	regions []*region
	network *network
	metrics *metrics

	options options
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a region was opened or closed
}

// openCluster opens all regions; start begins their background work. Regions that cannot be opened are
// tried again later, but if none can, openCluster fails. It owns the storage: close closes it, and so does
// openCluster when it fails.
func openCluster(ctx context.Context, o options) (*cluster, error) {
	o.metrics = newMetrics()
	c := &cluster{network: newNetwork(), metrics: o.metrics, options: o, stop: func() {}, changed: make(chan struct{})}
	for _, name := range o.regions {
		r := makeRegion(name, o, c.repairKeys)
		c.regions = append(c.regions, r)
		o.metrics.registry.MustRegister(gaugesOf(r))
	}
	var errs []error
	for _, r := range c.regions {
		_ = c.openRegion(ctx, r)
	}
	for _, r := range c.regions {
		if r.now.Load() == nil { // damage can be repaired now that another region is open
			errs = append(errs, c.openRegion(ctx, r))
		}
	}
	err := c.checkRoot(ctx)
	if len(errs) == len(c.regions) {
		err = errors.Join(append(errs, err)...)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// openRegion opens a region. Damage that was found before is repaired first, if another region is open.
func (c *cluster) openRegion(ctx context.Context, r *region) error {
	err := c.repair(ctx, r)
	var in *incarnation
	if err == nil {
		in, err = r.open(ctx)
	}
	if err != nil {
		err = fmt.Errorf("open region %s: %w", r.name, err)
		r.setDown(err)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.logIdentity = in.store.identity
	r.filled.Store(!in.fill.log)
	r.setDown(nil)
	r.now.Store(in)
	c.announce()
	return nil
}

// repair repairs the stores of a region if they were found to be damaged. What its log loses comes from
// another region, so one must be open.
func (c *cluster) repair(ctx context.Context, r *region) error {
	d, damaged := errors.AsType[*damage](r.why())
	if !damaged || d.part != damagedViews && c.alone(r) {
		return nil
	}
	r.logger.ErrorContext(ctx, "the stores of a region are damaged; they are repaired", "part", d.part, "error", d.err)
	return c.options.storage.repair(ctx, r.name, d.part, r.logger)
}

// alone reports whether no other region is open.
func (c *cluster) alone(r *region) bool {
	for _, other := range c.regions {
		if other != r && other.now.Load() != nil {
			return false
		}
	}
	return true
}

// mustFill reports whether the log of a region has to be filled from another one before the region answers. It
// need not be if no region has anything, as at the first start.
func (c *cluster) mustFill(r *region, in *incarnation) bool {
	return in.fill.log && slices.ContainsFunc(c.regions, func(other *region) bool {
		return other != r && other.filled.Load()
	})
}

// announce wakes the links: regions were opened or closed. c.mu must be held.
func (c *cluster) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// start begins the background work: that of the regions, and the replication between them.
func (c *cluster) start() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	var starts []func() // all are decided before any is done: the first fill ends what the others decide by
	for _, r := range c.regions {
		if in := r.now.Load(); in != nil {
			fill := c.mustFill(r, in)
			starts = append(starts, func() { in.start(fill) })
		}
	}
	for _, start := range starts {
		start()
	}
	for _, r := range c.regions {
		c.work.Go(func() { c.supervise(ctx, r) })
		for _, to := range c.regions {
			if r != to {
				c.work.Go(func() { c.link(ctx, r, to) })
			}
		}
	}
}

// reopenBackoff is how long a region stays closed between two tries to open it.
var reopenBackoff = events.Backoff{First: 200 * time.Millisecond, Max: 5 * time.Second}

// supervise closes a region when its stores fail, and opens it again, until ctx ends.
func (c *cluster) supervise(ctx context.Context, r *region) {
	logged := "" // why it could not be opened, once
	for tries := 1; ctx.Err() == nil; tries++ {
		if in := r.now.Load(); in != nil {
			began := time.Now()
			select {
			case <-ctx.Done():
				return
			case <-in.failed():
			}
			if c.closeRegion(ctx, r, in); time.Since(began) > time.Minute {
				tries = 1
			}
		}
		if reopenBackoff.Wait(ctx, tries) != nil {
			return
		}
		if err := errors.Join(c.options.storage.probe(r.name), ctx.Err()); err != nil {
			r.setDown(fmt.Errorf("write to the disk of region %s: %w", r.name, err), r.why())
			continue
		}
		if err := c.openRegion(ctx, r); err != nil {
			if text := err.Error(); text != logged && ctx.Err() == nil {
				r.logger.ErrorContext(ctx, "a region cannot be opened; it will be retried", "error", err)
				logged = text
			}
			continue
		}
		logged = ""
		in := r.now.Load()
		in.start(c.mustFill(r, in))
		r.logger.WarnContext(ctx, "the region is open again")
	}
}

// closeRegion closes a region whose stores have failed.
func (c *cluster) closeRegion(ctx context.Context, r *region, in *incarnation) {
	err := fmt.Errorf("region %s was closed: %w", r.name, in.cause())
	r.logger.ErrorContext(ctx, "a store has failed; the region is closed until it works again", "error", in.cause())
	c.mu.Lock()
	r.setDown(err)
	r.now.Store(nil)
	c.announce()
	c.mu.Unlock()
	if err := in.close(); err != nil {
		r.logger.WarnContext(ctx, "closing a region failed", "error", err)
	}
}

// link replicates from one region to another while both are open, until ctx ends.
func (c *cluster) link(ctx context.Context, from, to *region) {
	for ctx.Err() == nil {
		c.mu.Lock()
		changed, logs := c.changed, map[string]string{}
		for _, r := range c.regions {
			if r.logIdentity != "" {
				logs[r.name] = r.logIdentity
			}
		}
		source, leaveSource := from.enter()
		target, leaveTarget := to.enter()
		c.mu.Unlock()
		if source != nil && target != nil {
			source.replicate(ctx, target, logs, c.network, changed)
		}
		leaveSource()
		leaveTarget()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// repairKeys makes the other regions copy the keys of a user to a region that misses or has damaged one.
func (c *cluster) repairKeys(name, user string) {
	for _, r := range c.regions {
		if in, leave := r.enter(); in != nil {
			in.links.keyChanged(user, name)
			leave()
		}
	}
}

// checkRoot fails if the data keys of the open regions were wrapped with another root key.
func (c *cluster) checkRoot(ctx context.Context) error {
	failed := 0
	for _, r := range c.regions {
		in := r.now.Load()
		if in == nil {
			continue
		}
		good, bad, err := tryRoot(ctx, c.options.root, in.store.keys)
		if good || err != nil {
			return err
		}
		failed += bad
	}
	if failed > 0 { // one of many may be damaged
		return fmt.Errorf("the users' keys were wrapped with another %s: restore that file; without it no message can be decrypted", rootFile)
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
	r.state.Store(state)
	if in, leave := r.enter(); in != nil {
		if state == stateFailing {
			in.sockets.closeAll(live.CodeGoingAway)
		}
		leave()
	}
	c.network.isolate(r.name, state == stateIsolated)
}

// close stops the background work and closes all regions. No request may be in progress.
func (c *cluster) close() error {
	c.stop()
	for _, r := range c.regions {
		if in := r.now.Load(); in != nil {
			in.stop()
		}
	}
	c.work.Wait()
	var errs []error
	for _, r := range c.regions {
		if in := r.now.Swap(nil); in != nil {
			errs = append(errs, in.close())
		}
	}
	return errors.Join(append(errs, c.options.storage.close())...)
}
