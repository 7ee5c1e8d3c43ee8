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
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/health"
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
}

func newParts(c config.Config, cloud aws.Config, logger *slog.Logger) parts {
	return parts{
		config: c, cloud: cloud, logger: logger,
		log:   countedLog{dynamolog.New(cloud, c.EventsTable)},
		views: dynamoview.New(cloud, c.ViewsTable),
		clock: events.NewClock(time.Now),
	}
}

func newFunction(ctx context.Context, p parts) (function, error) {
	switch p.config.Function {
	case config.Command, config.Query:
		return p.api(ctx)
	case config.Health:
		return p.health(), nil
	case config.Stream:
		return p.stream(ctx)
	default: // there is no other, see [config.Read]
		return p.beat, nil
	}
}

// burstSeconds is how many seconds' commands a user may send at once after a pause.
const burstSeconds = 4

// api is the function for commands, and for queries. Both register all operations, so that GET
// /openapi.json describes all of them, whichever function answers it. What keeps them apart are
// the gateway's routes, GET to the one and all else to the other, and their roles: the role of
// the query function may only read, so a command would fail there.
func (p parts) api(ctx context.Context) (function, error) {
	// The keys are fetched again in the background, for as long as the process lives.
	keys, err := api.JWKS(context.WithoutCancel(ctx), p.config.JWKS, p.logger)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_JWKS: %w", err)
	}
	a := api.New(api.Options{
		Region: p.config.Region,
		Auth:   api.NewAuth(api.AuthConfig{Issuer: p.config.Issuer, Audience: p.config.Audience, Keys: keys}),
		Rate:   api.Rate{PerSecond: p.config.Rate, Burst: burstSeconds * p.config.Rate},
		Logger: p.logger,
	})
	command.Register(a, command.Config{
		Region: p.config.Region, Log: p.log, Views: p.views, Clock: p.clock, Logger: p.logger,
		Engine: projections.NewEngine(p.log, p.views,
			projections.Rooms, projections.Members, projections.Users, projections.Inboxes),
	})
	cursors, err := api.NewCursors(p.config.CursorKey[:])
	if err != nil {
		return nil, err
	}
	query.Register(a, query.Config{Region: p.config.Region, Log: p.log, Views: p.views, Cursors: cursors})
	return serve(a.Handler()), nil
}

// health reads log and views. It cannot say how far the stages are behind: that is in the
// metrics. The frontier of its own region, which comes round through log, stream and views, shows
// it to the minute.
func (p parts) health() function {
	mux := http.NewServeMux()
	mux.Handle("GET /health", &health.Handler{
		Region: p.config.Region, Log: p.log, Views: p.views, Now: time.Now, Timeout: time.Second,
	})
	return serve(mux)
}

func (p parts) stream(ctx context.Context) (function, error) {
	b, err := openBus(ctx, p.cloud, p.config.Bus)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_BUS: %w", err)
	}
	f := &streamFunction{log: p.logger, handler: &stream.Handler{
		Region:  p.config.Region,
		Engine:  projections.NewEngine(p.log, p.views, projections.All()...),
		Feed:    projections.NewFeed(p.views),
		Views:   p.views,
		Bus:     b,
		Log:     p.logger,
		Passed:  countOutcome,
		OwnOnly: p.config.OwnOnly,
	}}
	return f.invoke, nil
}

// beat is invoked by a schedule, of which it reads nothing.
func (p parts) beat(ctx context.Context, _ []byte) ([]byte, error) {
	if err := health.Beat(ctx, p.log, p.clock, p.config.Region); err != nil {
		return nil, fmt.Errorf("append a beat: %w", err)
	}
	return []byte("{}"), nil
}
