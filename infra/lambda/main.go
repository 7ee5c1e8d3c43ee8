// Lambda is Parley on AWS Lambda: one small binary for all functions, with the handlers that run
// on one machine too and the drivers of DynamoDB, EventBridge and API Gateway's sockets underneath.
// The environment variable _HANDLER picks the function; package config has the table of functions
// and of what each reads.
//
//	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -trimpath -ldflags '-s -w' -o bootstrap ./infra/lambda
//
// It asks for no SIGTERM: Lambda ends a process between two invocations only, when there is
// nothing to finish, and one that is killed in the middle of a batch gets the batch again.
package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"parley/infra/lambda/config"
)

// startWithin bounds a cold start; Lambda gives it 10 seconds.
const startWithin = 9 * time.Second

func main() {
	f, err := start(os.Getenv, os.Stdout, os.Stderr)
	if err != nil {
		newLogger(os.Stderr, slog.LevelInfo).Error("cannot start", "function", os.Getenv("_HANDLER"), "error", err)
		os.Exit(1)
	}
	lambda.Start(f)
}

// start reads the configuration and makes the function that _HANDLER names, with all it needs.
// Metrics go to stdout, logs to stderr; CloudWatch gets both.
func start(getenv func(string) string, stdout, stderr io.Writer) (*invoker, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	c, err := config.Read(getenv("_HANDLER"), getenv)
	if err != nil {
		return nil, err
	}
	logger := newLogger(stderr, c.LogLevel)
	log.SetFlags(0) // the runtime's own lines, which are errors, become JSON as all others
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelError).Writer())
	cloud, err := cloudConfig(getenv, c.Region, logger)
	if err != nil {
		return nil, err
	}
	f, err := newFunction(ctx, newParts(c, cloud, logger))
	if err != nil {
		return nil, err
	}
	return &invoker{f, &meter{out: stdout, region: c.Region, function: c.Function, now: time.Now}}, nil
}
