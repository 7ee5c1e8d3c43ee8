package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions"
	"parley/functions/live"
	"parley/projections"
)

// incarnation is what serves a region from the opening of its stores until one of them fails: log, views,
// bus, and functions. It is to the region what a process would be: it can end at any moment, and the next
// one continues from what is durable.
type incarnation struct {
	*region
	*store
	ctx  context.Context // ends when the incarnation does
	stop context.CancelFunc

	ring      *keys.Ring // encrypts and decrypts content
	bus       *bus
	lanes     []lane
	sockets   *sockets
	functions *functions.Region
	handler   http.Handler
	links     links

	filling atomic.Bool   // it cannot answer yet: log or views are incomplete
	copied  chan struct{} // closed when another region has copied its log to this one
	onCopy  sync.Once

	work  sync.WaitGroup // in the background
	using sync.RWMutex   // held for reading while the stores are used from elsewhere, see [region.enter]
}

// beatEvery is how often a region appends its heartbeats.
const beatEvery = time.Minute

// healthTimeout bounds a check of a region's health.
const healthTimeout = 2 * time.Second

// open opens the stores of the region and makes an incarnation on them.
func (r *region) open(ctx context.Context) (_ *incarnation, err error) {
	in := &incarnation{region: r, copied: make(chan struct{})}
	in.ctx, in.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if in.store, err = r.options.storage.open(ctx, r.name, r.logger); err != nil {
		return nil, err
	}
	in.ring = keys.NewRing(&notifyingKeys{in.store.keys, func(user string) { in.links.keyChanged(user, "") }}, r.options.root, nil)
	in.ring.Repair = func(user string) { r.repairKeys(r.name, user) }
	if in.bus, err = openBus(in.busDB, in.shown, r.options.archive); err != nil {
		return nil, err
	}
	in.functions = in.newFunctions()
	in.handler = in.newHandler()
	starts, err := openLanes(ctx, in.checkpoints, r.options.shards, in.check)
	if err != nil {
		return nil, err
	}
	in.lanes = in.newLanes(starts)
	if reached := in.fill.reached; reached != nil && !slices.ContainsFunc(starts, func(at checkpoint) bool { return at.Sequence != "" }) {
		in.filling.Store(!reached()("")) // the views are made anew
	}
	return in, nil
}

// shown returns events as they may be shown in this region now.
func (in *incarnation) shown(ctx context.Context, es ...events.Event) ([]events.Event, error) {
	return projections.ShowEvents(ctx, in.functions.Views(), in.ring, es...)
}

// newFunctions makes the functions of the region from its parts.
func (in *incarnation) newFunctions() *functions.Region {
	o := in.options
	in.sockets = newSockets(live.DefaultLimits, func() bool { return in.state.Load() == stateFailing }, in.logger)
	f := functions.New(functions.Parts{
		Region: in.name, Log: countedLog{in.log, in.name, o.metrics}, Views: in.views, Keys: in.ring, Clock: in.clock, Logger: in.logger,
		Auth: o.auth, Cursors: o.cursors, Quota: o.quota, Contacts: o.contacts, Beats: o.beats,
		Connections: live.NewMemory(), Sockets: in.sockets,
		Bus: in.bus, BusOpens: true, Passed: o.metrics.passed(in.name),
		SingleProcess: true, // no other process uses this data folder or these regions
		Closing:       o.closing,
		Writable:      in.writable, Stages: in.stages, HealthTimeout: healthTimeout,
	})
	in.sockets.handler = f.Live()
	return f
}

// newLanes makes one lane for each checkpoint to start from.
func (in *incarnation) newLanes(starts []checkpoint) []lane {
	l := laneParts{follow: in.lane, checkpoints: in.checkpoints, settings: in.options.trigger, log: in.logger}
	for range streamInstances {
		h := in.functions.NewStream()
		l.functions, l.feed = append(l.functions, h), h.Feed
	}
	return l.lanes(starts)
}

// newHandler serves the region's functions by HTTP.
func (in *incarnation) newHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", in.functions.API().Handler())
	mux.Handle("GET /v1/live", in.sockets)
	mux.Handle("GET /health", in.functions.Health())
	return mux
}

// stages returns the lag of the region's change stream, which is that of the lane that is furthest
// behind, and of its replication to each other region.
func (in *incarnation) stages() map[string]time.Duration {
	now := time.Now()
	stages := map[string]time.Duration{"stream": 0}
	for _, l := range in.lanes {
		stages["stream"] = max(stages["stream"], l.waited(now))
	}
	for _, l := range in.links.all() {
		stages["replicate to "+l.events.to] = l.events.waited(now)
	}
	return stages
}

// start begins the region's work in the background. Fill says that the log is to be filled from another
// region before this one answers.
func (in *incarnation) start(fill bool) {
	if fill {
		in.filling.Store(true)
	} else {
		in.endFill()
	}
	if in.filling.Load() {
		in.work.Go(func() { in.complete(fill) })
	}
	for _, l := range in.lanes {
		in.work.Go(func() { l.run(in.ctx, l.start) })
	}
	in.work.Go(func() { in.beat(in.ctx) })
	in.work.Go(func() { in.dropJournal(in.ctx) })
	in.work.Go(func() { in.functions.Jobs().Run(in.ctx) })
}

// endFill notes that the log needs nothing of another region any more to answer.
func (in *incarnation) endFill() {
	if in.region.filled.Store(true); in.fill.end == nil {
		return
	}
	if err := in.fill.end(); err != nil {
		in.logger.WarnContext(in.ctx, "noting that the log is filled failed; the next start fills it again", "error", err)
	}
}

// completeEvery is how often an incomplete region looks whether it is complete.
const completeEvery = 20 * time.Millisecond

// complete lets the region answer once its log is filled, if it is to be, and its views have what is in the log.
func (in *incarnation) complete(fill bool) {
	in.logger.WarnContext(in.ctx, "the region is incomplete and answers 503 until it is filled", "log", fill)
	if fill {
		select {
		case <-in.copied:
		case <-in.ctx.Done():
			return
		}
		in.endFill()
	}
	reached := in.fill.reached()
	for _, l := range in.lanes {
		for at := l.handled.Load(); !reached("") && (at == nil || !reached(at.Sequence)); at = l.handled.Load() {
			if events.Sleep(in.ctx, completeEvery) != nil {
				return
			}
		}
	}
	in.filling.Store(false)
	in.logger.WarnContext(in.ctx, "the region is complete")
}

// beat appends the region's heartbeats, at once and then every minute.
func (in *incarnation) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		if err := in.functions.Beat(ctx); err != nil && ctx.Err() == nil {
			in.logger.WarnContext(ctx, "appending heartbeats failed", "error", err)
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
func (in *incarnation) dropJournal(ctx context.Context) {
	deleted, err := projections.DropJournal(ctx, in.views)
	if err != nil && ctx.Err() == nil {
		in.logger.WarnContext(ctx, "deleting the journal of the release before failed; the next start tries again", "error", err)
	}
	if deleted > 0 {
		in.logger.InfoContext(ctx, "deleted the journal of the release before", "rows", deleted)
	}
}

// replicate replicates events and keys to another region until ctx ends, one of the incarnations does, or
// changed is closed. Logs are the identities of the logs of all regions.
func (in *incarnation) replicate(ctx context.Context, to *incarnation, logs map[string]string, network *network, changed <-chan struct{}) {
	ctx, cancel := in.bound(ctx)
	defer cancel()
	ctx, cancelTo := to.bound(ctx)
	defer cancelTo()
	l := link{newKeyReplicator(in, to, in.options.root, network, in.options.linkFaults.Lag), &replicator{
		from: in.name, to: to.name, source: in.follow(), target: to.follow(),
		network: network, linkFaults: in.options.linkFaults, logs: logs, checkpoints: in.checkpoints, log: in.logger,
	}}
	if in.filled.Load() { // otherwise it may lack what another region has
		l.events.copied = func() { to.onCopy.Do(func() { close(to.copied) }) }
	}
	in.links.set(to.name, l)
	defer in.links.remove(to.name)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { l.keys.run(ctx) })
	work.Go(func() { l.events.resumeAndRun(ctx) })
	select {
	case <-changed:
		cancel()
	case <-ctx.Done():
	}
}

// link is the replication to another region.
type link struct {
	keys   *keyReplicator
	events *replicator
}

// links are the links to the other regions that are open, by name. The zero value has none.
type links struct {
	mu sync.Mutex
	to map[string]link
}

func (l *links) set(to string, added link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		l.to = map[string]link{}
	}
	l.to[to] = added
}

func (l *links) remove(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.to, to)
}

func (l *links) all() map[string]link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.to)
}

// keyChanged replicates the keys of a user to a region, or to all if it is "".
func (l *links) keyChanged(user, to string) {
	for name, link := range l.all() {
		if to == "" || to == name {
			link.keys.changed(user)
		}
	}
}

// failed returns a channel that is closed when a store has failed.
func (in *incarnation) failed() <-chan struct{} { return in.disk.Failed() }

// cause returns why a store has failed.
func (in *incarnation) cause() error { return in.disk.Err() }

// close ends the incarnation and closes its stores, once nothing uses them any more.
func (in *incarnation) close() error {
	in.stop()
	if in.store == nil {
		return nil
	}
	if in.sockets != nil {
		in.sockets.close()
	}
	in.work.Wait()
	in.using.Lock() // for good
	if err := in.store.close(); err != nil {
		return fmt.Errorf("close region %s: %w", in.name, err)
	}
	return nil
}
