// Lambda is Parley on AWS Lambda: one small binary for all functions. It has the same handlers that run
// locally, on drivers for DynamoDB, EventBridge, SQS, KMS and the WebSocket API of API Gateway. The
// environment variable _HANDLER selects the function; package config has the table of functions and
// of the variables that each reads.
//
//	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -trimpath -ldflags '-s -w' -o bootstrap ./infra/lambda
//
// It does not handle SIGTERM: Lambda ends a process only between two invocations, when there is
// nothing to finish. A batch whose process was killed comes again.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events"
	"parley/events/dynamolog"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/functions"
	"parley/functions/api"
	"parley/functions/live/dynamoconns"
	"parley/infra/lambda/config"
	"parley/projections/dynamoview"
)

// startWithin bounds a cold start; Lambda allows 10 seconds.
const startWithin = 9 * time.Second

func main() {
	f, err := start(os.Getenv, os.Stdout, os.Stderr)
	if err != nil {
		newLogger(os.Stderr, slog.LevelInfo).Error("cannot start", "function", os.Getenv("_HANDLER"), "error", err)
		os.Exit(1)
	}
	lambda.Start(f)
}

// start reads the configuration and makes the function that _HANDLER names. Metrics go to stdout, logs
// to stderr; CloudWatch gets both.
func start(getenv func(string) string, stdout, stderr io.Writer) (*invoker, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	c, err := config.Read(getenv("_HANDLER"), getenv)
	if err != nil {
		return nil, err
	}
	logger := newLogger(stderr, c.LogLevel)
	log.SetFlags(0) // lines of the Lambda runtime itself, which are errors, become JSON too
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelError).Writer())
	cloud, err := cloudConfig(getenv, c.Region, logger)
	if err != nil {
		return nil, err
	}
	f, err := newFunction(ctx, c, cloud, logger)
	if err != nil {
		return nil, err
	}
	return &invoker{f, &meter{out: stdout, region: c.Region, function: c.Function, now: time.Now}}, nil
}

// kinds are the kinds of jobs that each function runs.
var kinds = map[string][]string{
	config.Worker:   {"rebuild", "audit", "drop"},
	config.Replayer: {"replay"},
}

// newFunction makes the function that the configuration names. It connects only the parts of the
// region that this function uses: its role would not allow other calls.
func newFunction(ctx context.Context, c config.Config, cloud aws.Config, logger *slog.Logger) (function, error) {
	p := newParts(c, cloud, logger)
	switch c.Function {
	case config.Command, config.Query, config.Operate:
		// All three register all operations, so that GET /openapi.json is complete whichever function
		// answers it. They are separated by API Gateway's routes (/v1/ops to operate, other GETs to
		// query, all else to command) and by their roles: the query function may only read, so a
		// command would fail there.
		if err := addAPI(&p, c, cloud); err != nil {
			return nil, err
		}
		return serve(functions.New(p).API().Handler()), nil
	case config.Live:
		if err := addAPI(&p, c, cloud); err != nil {
			return nil, err
		}
		addSockets(&p, c, cloud)
		return (&liveFunction{functions.New(p).Live()}).invoke, nil
	case config.Stream:
		if err := addBus(ctx, &p, c, cloud); err != nil {
			return nil, err
		}
		if c.Pushes() {
			if err := addCursors(&p, c); err != nil {
				return nil, err
			}
			addSockets(&p, c, cloud)
		}
		return (&streamFunction{log: logger, handler: functions.New(p).Stream()}).invoke, nil
	case config.Health:
		mux, h := http.NewServeMux(), functions.New(p).Health()
		mux.Handle("GET /health", h)
		mux.Handle("GET /health/{check}", h) // by which Route 53 asks; the template has its name
		return serve(mux), nil
	case config.Worker, config.Replayer:
		if c.Function == config.Replayer {
			if err := addBus(ctx, &p, c, cloud); err != nil {
				return nil, err
			}
		}
		runner := functions.New(p).Runner(kinds[c.Function]...)
		return (&workerFunction{runner, newQueues(cloud, c).send, kinds[c.Function], logger}).invoke, nil
	default: // config.Beat: config.Read accepts no other name
		r := functions.New(p)
		return func(ctx context.Context, _ []byte) ([]byte, error) { // a schedule invokes it
			if err := r.Beat(ctx); err != nil {
				return nil, fmt.Errorf("append heartbeats: %w", err)
			}
			return []byte("{}"), nil
		}, nil
	}
}

// newParts returns the parts that cost nothing until they are used. The health check has no Stages:
// their lag is in the metrics, and the age of the region's own heartbeat, which comes back through
// log, change stream and views, shows it to the minute.
func newParts(c config.Config, cloud aws.Config, logger *slog.Logger) functions.Parts {
	return functions.Parts{
		Region: c.Region, Logger: logger, Clock: events.NewClock(time.Now, c.Marks()),
		Log:   countedLog{dynamolog.New(cloud, c.EventsTable)},
		Views: dynamoview.New(cloud, c.ViewsTable),
		Keys:  newRing(c, cloud),
		Grace: c.Grace, Beats: c.Beats, OwnOnly: c.OwnOnly, Passed: countOutcome, HealthTimeout: time.Second,
	}
}

// newRing returns the users' keys for a function that seals or opens content, nil for others.
func newRing(c config.Config, cloud aws.Config) *keys.Ring {
	if c.KeysTable == "" {
		return nil
	}
	return keys.NewRing(dynamokeys.New(cloud, c.KeysTable), newKMS(cloud, c.KMSKey), nil)
}

// addAPI adds the parts of the HTTP API. Jobs that operators start run in the functions worker and
// replayer, which get a message through their queues.
func addAPI(p *functions.Parts, c config.Config, cloud aws.Config) error {
	p.Auth = api.NewAuth(api.AuthConfig{
		Issuer: c.Issuer, Audience: c.Audience, Keys: api.NewJWKS(c.JWKS, nil, p.Logger), Leeway: c.Leeway,
	})
	p.Quota = api.NewQuota(c.Rate)
	p.Contacts = c.Contacts
	p.Retry = newStreamInvoker(cloud, c.StreamFunction).retry
	if c.Function == config.Operate {
		p.Wake = newQueues(cloud, c).wake
	}
	return addCursors(p, c)
}

func addCursors(p *functions.Parts, c config.Config) (err error) {
	p.Cursors, err = api.NewCursors(c.CursorKey[:])
	return err
}

func addSockets(p *functions.Parts, c config.Config, cloud aws.Config) {
	p.Connections, p.Sockets = dynamoconns.New(cloud, c.Connections), newSockets(cloud, c.Sockets)
}

func addBus(ctx context.Context, p *functions.Parts, c config.Config, cloud aws.Config) error {
	b, err := openBus(ctx, cloud, c.Bus)
	if err != nil {
		return fmt.Errorf("PARLEY_BUS: %w", err)
	}
	p.Bus = b
	return nil
}
