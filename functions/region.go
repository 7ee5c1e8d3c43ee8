// Package functions puts the functions of one region together from the parts they run on: the API,
// the sockets, the stream function, the health check, the heartbeat and the operators' jobs.
//
// It is the only place that does. The programs that run a region (infra/local, infra/lambda,
// infra/bench) and the tests differ in their parts, never in how these are connected. A program
// makes only what it runs: every function is built when it is first asked for, and the parts that
// it does not use may be missing.
package functions

import (
	"context"
	"log/slog"
	"sync"
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
	"parley/functions/wire"
	"parley/projections"
)

// Parts are what the functions of a region run on. Every function needs Region, Log and Clock, and
// all but the heartbeat need Views; the comments name the functions that need more.
type Parts struct {
	Region string
	Log    events.Log
	Clock  *events.Clock
	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // nothing is logged if nil

	// Views are the region's views as they are stored, with all their generations.
	Views projections.Views
	// Grace is how long a rebuild waits until every process has seen that a generation is being
	// built; the default of [projections.NewRebuilder] if zero.
	Grace time.Duration
	// Keys encrypts and decrypts what users write: API, sockets, stream, replays.
	Keys *keys.Ring

	// Auth verifies tokens and Cursors signs cursors: API, sockets. Quota limits what each user does
	// there; nil: no limits.
	Auth    *api.Auth
	Cursors *api.Cursors
	Quota   *api.Quota
	// Contacts is [command.Config.Contacts].
	Contacts int

	// Connections and Sockets are those of the clients: sockets, and stream if it notifies them.
	Connections live.Connections
	Sockets     live.Sockets
	Limits      live.Limits // [live.DefaultLimits] if zero

	// Bus is where events are published: stream, replays. BusOpens leaves decrypting to the bus,
	// which keeps entries as they are in the log. OwnOnly publishes only what this region accepted.
	Bus      stream.Bus
	BusOpens bool
	OwnOnly  bool

	// Passed observes what becomes of each event in the stream function; may be nil.
	Passed func(ctx context.Context, e events.Event, outcome stream.Outcome)

	// SingleProcess says that all functions of the region run in this process and in no other. Then
	// a waiting sync wakes when something arrives, and a lease of a job that another process held
	// is void: that process is gone.
	SingleProcess bool
	// Closing is closed when the process is about to stop: requests that wait for events are answered. May
	// be nil.
	Closing <-chan struct{}
	// Wake notifies the process that does the jobs, where that is another one; may be nil.
	Wake func(context.Context, wire.Job) error
	// Retry handles a parked event again; if nil, the stream function of this process does.
	Retry func(context.Context, events.Event) error

	// Beats is to how many streams the region appends its heartbeats; [health.DefaultStreams] if zero. The
	// heartbeat, and the health check of their region, must agree.
	Beats int
	// Writable, Stages and HealthTimeout are those of [health.Handler].
	Writable      func() error
	Stages        func() map[string]time.Duration
	HealthTimeout time.Duration
}

// Region are the functions of a region. Make one with [New].
type Region struct {
	// Generations says which generation of each projection is read and which are written.
	Generations *projections.Generations
	// Rebuilder builds new generations, and compares, switches and drops them.
	Rebuilder *projections.Rebuilder

	parts    Parts
	commands *command.Commands // of the API, once it is built
	queries  *query.Queries
	current  projections.Views // of each projection the generation that is read
	arrivals arrivals

	api    func() *api.API
	live   func() *live.Handler
	stream func() *stream.Handler
	health func() *health.Handler
	jobs   func() *operate.Runner
}

// New returns the functions of a region. It builds none of them yet, and calls nothing.
func New(p Parts) *Region {
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Beats == 0 {
		p.Beats = health.DefaultStreams
	}
	if p.Quota == nil {
		p.Quota = api.NewQuota(0)
	}
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Region{parts: p, Generations: projections.NewGenerations(p.Views)}
	r.current = r.Generations.Views()
	r.Rebuilder = projections.NewRebuilder(p.Log, p.Views, r.Generations)
	if p.Grace > 0 {
		r.Rebuilder.Grace = p.Grace
	}
	if r.parts.Retry == nil {
		r.parts.Retry = func(ctx context.Context, e events.Event) error { return r.Stream().Retry(ctx, e) }
	}
	r.api = sync.OnceValue(r.newAPI)
	r.live = sync.OnceValue(r.newLive)
	r.stream = sync.OnceValue(r.NewStream)
	r.health = sync.OnceValue(r.newHealth)
	r.jobs = sync.OnceValue(func() *operate.Runner { return r.Runner() })
	return r
}

// Views are the views as queries read them: of each projection the current generation.
func (r *Region) Views() projections.Views { return r.current }

// engine returns an engine that folds into every generation that is written.
func (r *Region) engine(all ...projections.Projection) *projections.Engine {
	return projections.NewEngine(r.parts.Log, r.parts.Views, all...).In(r.Generations)
}

// API returns the HTTP API with all operations: commands, queries and the operators' ones. So every
// process that serves a part of it serves the same OpenAPI document.
func (r *Region) API() *api.API { return r.api() }

func (r *Region) newAPI() *api.API {
	p := r.parts
	log, views := api.MeterLog(p.Log), api.MeterViews(r.current)
	a := api.New(api.Options{Region: p.Region, Auth: p.Auth, Quota: p.Quota, Logger: p.Logger, Now: p.Now})
	r.commands = command.Register(a, command.Config{
		Region: p.Region, Log: log, Views: views, Clock: p.Clock, Logger: p.Logger, Keys: p.Keys,
		Engine: r.engine(projections.Access()...), Contacts: p.Contacts,
		Act: operate.Acts{Region: p.Region, Log: p.Log, Clock: p.Clock}.Append,
	})
	queries := query.Config{Region: p.Region, Log: log, Views: views, Cursors: p.Cursors, Keys: p.Keys, Now: p.Now, Quota: p.Quota, Marks: p.Clock.Mark, Closing: p.Closing}
	if p.SingleProcess {
		queries.Arrived = r.arrivals.wait
	}
	r.queries = query.Register(a, queries)
	operate.Register(a, operate.Config{
		Region: p.Region, Log: p.Log, Views: r.current, Clock: p.Clock, Keys: p.Keys, Runner: r.Jobs(),
		Generations: r.Generations, Retry: p.Retry,
		Health: func(ctx context.Context) wire.Health {
			h := r.Health()
			ctx, cancel := context.WithTimeout(ctx, h.Timeout)
			defer cancel()
			return h.Check(ctx)
		},
	})
	live.Describe(a)
	return a
}

// Live returns the function behind the clients' sockets. Without Auth it only notifies them, as the
// stream function of another process does, and takes no frames.
func (r *Region) Live() *live.Handler { return r.live() }

func (r *Region) newLive() *live.Handler {
	p := r.parts
	h := &live.Handler{
		Region: p.Region, Auth: p.Auth, Log: api.MeterLog(p.Log), Views: api.MeterViews(r.current), Cursors: p.Cursors, Keys: p.Keys, Quota: p.Quota,
		Connections: p.Connections, Sockets: p.Sockets, Limits: p.Limits, Now: p.Now, Logger: p.Logger,
	}
	if p.Auth != nil {
		r.API()
		h.Commands, h.Queries = r.commands, r.queries
	}
	return h
}

// Stream returns the function that handles the change stream of the log.
func (r *Region) Stream() *stream.Handler { return r.stream() }

// NewStream returns another instance of the stream function, with caches of its own, as if it ran in a
// process of its own. What is process-wide is shared: the keys, and which clients are connected.
func (r *Region) NewStream() *stream.Handler {
	p := r.parts
	feed := projections.NewFeed(p.Region, p.Views)
	feed.Now = p.Now
	h := &stream.Handler{
		Region: p.Region, Engine: r.engine(projections.All()...), Feed: feed, Views: r.current, Log: p.Log,
		Bus: p.Bus, BusOpens: p.BusOpens, OwnOnly: p.OwnOnly, Keys: p.Keys, Passed: p.Passed, Now: p.Now, Logger: p.Logger,
	}
	if p.SingleProcess || p.Sockets != nil {
		h.Notify = r.notify
	}
	return h
}

// notify wakes requests that wait for events, and sends the events to the clients' sockets.
func (r *Region) notify(ctx context.Context, what []projections.Happened) {
	r.arrivals.announce(what)
	if r.parts.Sockets != nil {
		r.Live().Push(ctx, what)
	}
}

// Health returns the health check, which reads the log and the views.
func (r *Region) Health() *health.Handler { return r.health() }

func (r *Region) newHealth() *health.Handler {
	p := r.parts
	return &health.Handler{
		Region: p.Region, Log: p.Log, Views: r.current, Now: p.Now,
		Writable: p.Writable, Stages: p.Stages, Streams: p.Beats, Timeout: p.HealthTimeout,
		Drained: func(ctx context.Context) (bool, error) {
			d, err := operate.LoadDrain(ctx, r.current)
			return d.Drained, err
		},
	}
}

// Beat appends the region's heartbeats to their streams. It is due about once a minute.
func (r *Region) Beat(ctx context.Context) error {
	return health.Beat(ctx, r.parts.Log, r.parts.Clock, r.parts.Region, r.parts.Beats)
}

// Jobs returns the runner that the API starts jobs with. In a single process it also does them.
func (r *Region) Jobs() *operate.Runner { return r.jobs() }

// Runner returns a new runner of jobs of these kinds, or of all kinds if none is named. It reads and
// writes the stored views: a process that only replays may not read which generations there are.
func (r *Region) Runner(kinds ...string) *operate.Runner {
	p := r.parts
	all := map[string]operate.Kind{
		"rebuild": &operate.Rebuild{Log: p.Log, Rebuilder: r.Rebuilder},
		"audit":   &operate.Rebuild{Log: p.Log, Rebuilder: r.Rebuilder, Audit: true},
		"drop":    &operate.Drop{Rebuilder: r.Rebuilder},
		"replay":  r.replay(),
	}
	does := all
	if len(kinds) > 0 {
		does = map[string]operate.Kind{}
		for _, kind := range kinds {
			does[kind] = all[kind]
		}
	}
	runner := operate.NewRunner(p.Views, operate.Acts{Region: p.Region, Log: p.Log, Clock: p.Clock}, p.Logger, does)
	runner.Now, runner.Alone, runner.Wake = p.Now, p.SingleProcess, p.Wake
	return runner
}

func (r *Region) replay() *operate.Replay {
	p := r.parts
	k := &operate.Replay{Region: p.Region, Log: p.Log, Views: r.current, Bus: stream.NewReplayBus(p.Bus), Keys: p.Keys}
	if p.BusOpens {
		k.Keys = nil
	}
	return k
}

// arrivals wakes those who wait for something to arrive in some streams of a region.
type arrivals struct {
	mu    sync.Mutex
	waits map[events.Stream]map[chan struct{}]bool
}

// wait returns a channel that something is sent to when an event of the streams arrives. The caller must
// call stop when it no longer waits.
func (a *arrivals) wait(streams []events.Stream) (arrived <-chan struct{}, stop func()) {
	wake := make(chan struct{}, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waits == nil {
		a.waits = map[events.Stream]map[chan struct{}]bool{}
	}
	for _, s := range streams {
		if a.waits[s] == nil {
			a.waits[s] = map[chan struct{}]bool{}
		}
		a.waits[s][wake] = true
	}
	return wake, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, s := range streams {
			if delete(a.waits[s], wake); len(a.waits[s]) == 0 {
				delete(a.waits, s)
			}
		}
	}
}

// announce wakes those whom an arrival concerns: they wait for its stream, or it changes their rooms.
func (a *arrivals) announce(what []projections.Happened) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range what {
		concerned := []events.Stream{w.Event.Stream}
		for _, user := range projections.MembersOf(w.Event) {
			concerned = append(concerned, events.UserStream(user))
		}
		for _, s := range concerned {
			for wake := range a.waits[s] {
				select {
				case wake <- struct{}{}:
				default: // it is awake
				}
			}
		}
	}
}
