package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events"
	"parley/events/dynamolog"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/health"
	"parley/functions/live"
	"parley/functions/live/dynamoconns"
	"parley/functions/operate"
	"parley/functions/query"
	"parley/functions/stream"
	"parley/infra/lambda/config"
	"parley/projections"
	"parley/projections/dynamoview"
)

// parts are what functions are made of, made once at the cold start.
type parts struct {
	config config.Config
	cloud  aws.Config
	log    events.Log
	views  projections.Views
	clock  *events.Clock
	logger *slog.Logger
	keys   *keys.Ring // nil where nothing is sealed or opened

	generations *projections.Generations
	live        projections.Views // the generations that are read
}

func newParts(c config.Config, cloud aws.Config, logger *slog.Logger) parts {
	views := dynamoview.New(cloud, c.ViewsTable)
	generations := projections.NewGenerations(views)
	return parts{
		config: c, cloud: cloud, logger: logger,
		log:   countedLog{dynamolog.New(cloud, c.EventsTable)},
		views: views,
		clock: events.NewClock(time.Now),
		keys:  newRing(c, cloud),

		generations: generations, live: generations.Views(),
	}
}

// newRing makes the ring of users' keys for a function that seals or opens.
func newRing(c config.Config, cloud aws.Config) *keys.Ring {
	if c.KeysTable == "" {
		return nil
	}
	return keys.NewRing(dynamokeys.New(cloud, c.KeysTable), newKMS(cloud, c.KMSKey), nil)
}

func newFunction(ctx context.Context, p parts) (function, error) {
	switch p.config.Function {
	case config.Command, config.Query, config.Operate:
		a, err := p.api(ctx)
		return serve(a.handler), err
	case config.Health:
		mux := http.NewServeMux()
		mux.Handle("GET /health", p.health())
		return serve(mux), nil
	case config.Stream:
		return p.stream(ctx)
	case config.Live:
		return p.sockets(ctx)
	case config.Worker, config.Replayer:
		return p.worker(ctx)
	default: // there is no other, see [config.Read]
		return p.beat, nil
	}
}

// burstSeconds is how many seconds' commands a user may send at once after a pause.
const burstSeconds = 4

// httpAPI is the HTTP API of the region, and what of it live needs, too.
type httpAPI struct {
	handler http.Handler
	auth    *api.Auth
	cursors *api.Cursors
}

// api is what the functions for commands, for queries and for operators serve, and live to itself.
// All register all operations, so that GET /openapi.json describes all of them, whichever function
// answers it. What keeps them apart are the gateway's routes, /v1/ops to operate, else GET to query
// and all other methods to command, and their roles: that of the query function may only read, so
// a command would fail there.
func (p parts) api(ctx context.Context) (httpAPI, error) {
	// The keys are fetched again in the background, for as long as the process lives.
	jwks, err := api.JWKS(context.WithoutCancel(ctx), p.config.JWKS, p.logger)
	if err != nil {
		return httpAPI{}, fmt.Errorf("PARLEY_JWKS: %w", err)
	}
	auth := api.NewAuth(api.AuthConfig{Issuer: p.config.Issuer, Audience: p.config.Audience, Keys: jwks})
	a := api.New(api.Options{
		Region: p.config.Region,
		Auth:   auth,
		Rate:   api.Rate{PerSecond: p.config.Rate, Burst: burstSeconds * p.config.Rate},
		Logger: p.logger,
	})
	command.Register(a, command.Config{
		Region: p.config.Region, Log: p.log, Views: p.live, Clock: p.clock, Logger: p.logger, Keys: p.keys,
		Engine: projections.NewEngine(p.log, p.views,
			projections.Rooms, projections.Members, projections.Users, projections.Inboxes).In(p.generations),
	})
	cursors, err := api.NewCursors(p.config.CursorKey[:])
	if err != nil {
		return httpAPI{}, err
	}
	query.Register(a, query.Config{Region: p.config.Region, Log: p.log, Views: p.live, Cursors: cursors, Keys: p.keys})
	p.registerOperate(a)
	live.Describe(a)
	return httpAPI{a.Handler(), auth, cursors}, nil
}

func (p parts) sockets(ctx context.Context) (function, error) {
	a, err := p.api(ctx)
	if err != nil {
		return nil, err
	}
	h := p.liveHandler(a.cursors)
	h.Auth, h.API = a.auth, a.handler
	return (&liveFunction{h}).invoke, nil
}

// liveHandler makes the handler behind the sockets as far as the stream function needs it, which
// pushes and takes nothing from clients.
func (p parts) liveHandler(cursors *api.Cursors) *live.Handler {
	return &live.Handler{
		Region: p.config.Region, Log: p.log, Views: p.live, Cursors: cursors, Keys: p.keys, Logger: p.logger,
		Connections: dynamoconns.New(p.cloud, p.config.Connections),
		Sockets:     newSockets(p.cloud, p.config.Sockets),
	}
}

// health reads log and views. It cannot say how far the stages are behind: that is in the
// metrics. The frontier of its own region, which comes round through log, stream and views, shows
// it to the minute.
func (p parts) health() *health.Handler {
	return &health.Handler{
		Region: p.config.Region, Log: p.log, Views: p.live, Now: time.Now, Timeout: time.Second,
		Drained: func(ctx context.Context) (bool, error) {
			d, err := operate.LoadDrain(ctx, p.views)
			return d.Drained, err
		},
	}
}

func (p parts) stream(ctx context.Context) (function, error) {
	b, err := openBus(ctx, p.cloud, p.config.Bus)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_BUS: %w", err)
	}
	h := &stream.Handler{
		Region:  p.config.Region,
		Engine:  projections.NewEngine(p.log, p.views, projections.All()...).In(p.generations),
		Feed:    projections.NewFeed(p.views),
		Views:   p.views,
		Events:  p.log,
		Bus:     b,
		Keys:    p.keys,
		Log:     p.logger,
		Passed:  countOutcome,
		OwnOnly: p.config.OwnOnly,
	}
	if p.config.Pushes() {
		cursors, err := api.NewCursors(p.config.CursorKey[:])
		if err != nil {
			return nil, err
		}
		h.Push = p.liveHandler(cursors).Push
	}
	return (&streamFunction{log: p.logger, handler: h}).invoke, nil
}

// beat is invoked by a schedule, of which it reads nothing.
func (p parts) beat(ctx context.Context, _ []byte) ([]byte, error) {
	if err := health.Beat(ctx, p.log, p.clock, p.config.Region); err != nil {
		return nil, fmt.Errorf("append a beat: %w", err)
	}
	return []byte("{}"), nil
}
