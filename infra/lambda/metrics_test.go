package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

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

// readMetrics reads a line, or says against which rule of the format it is.
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

// readValues reads the value of a metric: a number, or 1 to 100 of them.
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
	clock := events.NewClock(func() time.Time { return at })
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

// A repeat, a conflict and a failure are no acceptance.
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
	other := e
	other.Actor = "bob"
	if _, _, err := log.Append(ctx, other); err == nil {
		t.Fatal("there is no conflict")
	}
	if _, _, err := log.Append(context.Background(), eventAt(t, time.Now())); err != nil { // no invocation
		t.Fatal(err)
	}
	if tally.counts[config.Accepted] != 1 || len(tally.lags[config.AcceptedLag]) != 1 || len(tally.counts) != 1 {
		t.Errorf("counted %v %v", tally.counts, tally.lags)
	}
}
