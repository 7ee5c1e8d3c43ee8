package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// metricLine is a line in the embedded metric format, read by its specification:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
type metricLine struct {
	dimensions map[string]string
	values     map[string][]float64
}

// readMetrics reads a line. The error says which rule of the format it breaks.
func readMetrics(line []byte) (metricLine, error) {
	m := metricLine{map[string]string{}, map[string][]float64{}}
	var root map[string]json.RawMessage
	var meta struct {
		Timestamp         *int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	}
	strict := json.NewDecoder(bytes.NewReader(line))
	if err := strict.Decode(&root); err != nil || strict.More() || len(line) > 256<<10 {
		return m, fmt.Errorf("not one JSON object of at most 256 KB: %v", err)
	}
	strict = json.NewDecoder(bytes.NewReader(root["_aws"]))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&meta); err != nil || len(meta.CloudWatchMetrics) != 1 {
		return m, fmt.Errorf("_aws is wrong: %v", err)
	}
	if meta.Timestamp == nil || time.Since(time.UnixMilli(*meta.Timestamp)).Abs() > 2*time.Hour {
		return m, errors.New("the timestamp is more than 2 hours away")
	}
	directive := meta.CloudWatchMetrics[0]
	if directive.Namespace != config.Namespace || len(directive.Dimensions) != 1 || len(directive.Dimensions[0]) > 30 || len(directive.Metrics) > 100 {
		return m, errors.New("the directive is wrong")
	}
	for _, name := range directive.Dimensions[0] {
		var text string
		if err := json.Unmarshal(root[name], &text); err != nil || text == "" || len(text) > 1024 {
			return m, fmt.Errorf("the dimension %s is no text", name)
		}
		m.dimensions[name] = text
	}
	for _, metric := range directive.Metrics {
		if !slices.ContainsFunc(config.Metrics, func(known config.Metric) bool {
			return known.Name == metric.Name && known.Unit == metric.Unit
		}) {
			return m, fmt.Errorf("the metric %s in %s is not in the table", metric.Name, metric.Unit)
		}
		values, err := readValues(root[metric.Name])
		if err != nil {
			return m, fmt.Errorf("the metric %s: %w", metric.Name, err)
		}
		m.values[metric.Name] = values
	}
	return m, nil
}

// readValues reads the value of a metric: a number, or 1 to 100 numbers.
func readValues(text json.RawMessage) ([]float64, error) {
	var one float64
	var many []float64
	if err := json.Unmarshal(text, &one); err == nil {
		many = []float64{one}
	} else if err := json.Unmarshal(text, &many); err != nil {
		return nil, err
	}
	if len(many) < 1 || len(many) > 100 {
		return nil, fmt.Errorf("it has %d values", len(many))
	}
	for _, v := range many {
		if v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Errorf("it has the value %f", v)
		}
	}
	return many, nil
}

func eventAt(t *testing.T, at time.Time) events.Event {
	t.Helper()
	clock := events.NewClock(func() time.Time { return at }, events.NewMarks(nil))
	id, err := clock.Mint("ada")
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.New(id, events.RoomStream(id.String()), "ada", "eu-west-1", events.MessagePosted{Text: events.Plain("Hello")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMetrics(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	m := &meter{out: &out, region: "eu-west-1", function: config.Stream, now: time.Now}
	tally := &tally{}
	m.write(tally)
	if out.Len() != 0 {
		t.Fatalf("nothing was counted, and it writes %s", &out)
	}
	ctx := withTally(t.Context(), tally)
	for i := range 1000 {
		e := eventAt(t, now.Add(-time.Duration(i)*time.Second))
		countOutcome(ctx, e, stream.Projected)
		if i < 7 {
			countOutcome(ctx, e, stream.Published)
		}
	}
	countOutcome(ctx, eventAt(t, now.Add(time.Hour)), stream.Published)        // ahead of its time: no lag
	countOutcome(ctx, eventAt(t, now.Add(-30*24*time.Hour)), stream.Published) // imported: not measured
	countOutcome(ctx, events.Event{}, stream.Parked)
	m.write(tally)
	got, err := readMetrics(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	if err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%s: %v", &out, err)
	}
	if got.dimensions["Region"] != "eu-west-1" || got.dimensions["Function"] != "stream" || len(got.dimensions) != 2 {
		t.Errorf("dimensions %v", got.dimensions)
	}
	for name, want := range map[string]float64{config.Projected: 1000, config.Published: 9, config.Parked: 1} {
		if len(got.values[name]) != 1 || got.values[name][0] != want {
			t.Errorf("%s is %v, want %v", name, got.values[name], want)
		}
	}
	if published := got.values[config.PublishedLag]; len(published) != 8 || slices.Min(published) != 0 {
		t.Errorf("the lags of what was published are %v", published)
	}
	lags := got.values[config.ProjectedLag]
	if len(lags) != 100 || lags[0] > 60_000 || lags[99] < 999_000 || lags[50] < 480_000 || lags[50] > 560_000 {
		t.Errorf("the sample of 0 to 999 s is %v", lags)
	}
	if len(got.values) != 5 {
		t.Errorf("there are %v", got.values)
	}
}

// TestCountedLog: a repeat is not counted.
func TestCountedLog(t *testing.T) {
	tally := &tally{}
	ctx := withTally(t.Context(), tally)
	log := countedLog{logtest.NewModel()}
	e := eventAt(t, time.Now())
	for range 3 {
		if _, _, err := log.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := log.Append(context.Background(), eventAt(t, time.Now())); err != nil { // no invocation
		t.Fatal(err)
	}
	if tally.counts[config.Accepted] != 1 || len(tally.lags[config.AcceptedLag]) != 1 || len(tally.counts) != 1 {
		t.Errorf("counted %v %v", tally.counts, tally.lags)
	}
}

// TestEarly: the context ends shortly before Lambda kills the function.
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

// TestInvokeWritesMetrics: metrics are written once, however the invocation ends.
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

// TestLogger: log lines are JSON with Lambda's field names and the invocation, also from derived loggers.
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
