package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"parley/events"
	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// The context ends before Lambda kills the function, and not much before.
func TestEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for given, want := range map[time.Duration]time.Duration{
			30 * time.Second: 29500 * time.Millisecond, 2 * time.Second: 1500 * time.Millisecond,
			time.Second: 750 * time.Millisecond, 0: 0, -time.Second: -time.Second,
		} {
			outer, cancelOuter := context.WithTimeout(t.Context(), given)
			ctx, cancel := early(outer, time.Now())
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != want {
				t.Errorf("of %s are left %s, want %s", given, time.Until(deadline), want)
			}
			cancel()
			cancelOuter()
		}
		ctx, cancel := early(t.Context(), time.Now())
		if _, ok := ctx.Deadline(); ok {
			t.Error("there is a deadline where none was given")
		}
		cancel()
	})
}

// What was counted is written however the invocation ends, and once.
func TestInvokeWritesMetrics(t *testing.T) {
	for name, end := range map[string]func() ([]byte, error){
		"success": func() ([]byte, error) { return []byte("{}"), nil },
		"failure": func() ([]byte, error) { return nil, errors.New("failed") },
		"panic":   func() ([]byte, error) { panic("a fault") },
	} {
		var out bytes.Buffer
		i := &invoker{func(ctx context.Context, _ []byte) ([]byte, error) {
			countOutcome(ctx, events.Event{}, stream.Parked)
			return end()
		}, &meter{out: &out, region: "eu-west-1", function: config.Stream, now: time.Now}}
		for range 2 {
			func() {
				defer func() { _ = recover() }()
				_, _ = i.Invoke(t.Context(), nil)
			}()
		}
		lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
		if len(lines) != 2 {
			t.Fatalf("%s: two invocations write %s", name, &out)
		}
		for _, line := range lines {
			if m, err := readMetrics(line); err != nil || m.values[config.Parked][0] != 1 {
				t.Errorf("%s: %s: %v", name, line, err)
			}
		}
	}
}

// Log lines are JSON, have Lambda's names, and tell the invocation, also through derived loggers.
func TestLogger(t *testing.T) {
	var out bytes.Buffer
	logger := newLogger(&out, slog.LevelWarn)
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "8476a536"})
	logger.InfoContext(ctx, "too quiet")
	logger.With("region", "eu-west-1").WarnContext(ctx, "heard", "error", errors.New("why"))
	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%s: %v", &out, err)
	}
	if line["requestId"] != "8476a536" || line["level"] != "WARN" || line["message"] != "heard" || line["error"] != "why" ||
		line["region"] != "eu-west-1" || line["timestamp"] == "" {
		t.Errorf("%v", line)
	}
}
