package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"parley/events"
	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// tally is what one invocation has done. It travels in the context, so that invocations that run
// side by side in one process do not mix.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	lags   map[string][]float64 // in milliseconds
}

type tallyKey struct{}

func withTally(ctx context.Context, t *tally) context.Context {
	return context.WithValue(ctx, tallyKey{}, t)
}

// oldest is the age from which on an event says nothing about lag: a client's id may be that old
// at most, so it is one of an import.
const oldest = 24 * time.Hour

// count counts an event under a metric, and how old it is under another if that has a name.
func count(ctx context.Context, metric, lag string, e events.Event, now time.Time) {
	age := now.Sub(e.ID.Timestamp())
	if age >= oldest {
		lag = ""
	}
	add(ctx, metric, lag, age)
}

// tell counts something that is no event, or not of one.
func tell(ctx context.Context, metric string) { add(ctx, metric, "", 0) }

func add(ctx context.Context, metric, lag string, age time.Duration) {
	t, ok := ctx.Value(tallyKey{}).(*tally)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts, t.lags = map[string]int{}, map[string][]float64{}
	}
	t.counts[metric]++
	if lag != "" {
		t.lags[lag] = append(t.lags[lag], float64(max(0, age).Milliseconds()))
	}
}

// countOutcome counts what the stream function does.
func countOutcome(ctx context.Context, e events.Event, outcome stream.Outcome) {
	switch outcome {
	case stream.Projected:
		count(ctx, config.Projected, config.ProjectedLag, e, time.Now())
	case stream.Published:
		count(ctx, config.Published, config.PublishedLag, e, time.Now())
	case stream.Parked:
		count(ctx, config.Parked, "", e, time.Now())
	}
}

// countedLog counts what it accepts.
type countedLog struct{ events.Log }

// Append implements [events.Log].
func (l countedLog) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	stored, repeat, err := l.Log.Append(ctx, e)
	if err == nil && !repeat {
		count(ctx, config.Accepted, config.AcceptedLag, stored, time.Now())
	}
	return stored, repeat, err
}

// meter writes tallies in CloudWatch's embedded metric format: a line of JSON that CloudWatch
// Logs reads metrics from.
type meter struct {
	out              io.Writer
	region, function string
	now              func() time.Time
}

// maxValues is how many values a metric may have in one line.
const maxValues = 100

// write writes one line, or none if nothing was counted. That it cannot be written is no
// reason to fail.
func (m *meter) write(t *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.counts) == 0 {
		return
	}
	line := map[string]any{config.Dimensions[0]: m.region, config.Dimensions[1]: m.function}
	type metric struct{ Name, Unit string }
	var metrics []metric
	for _, known := range config.Metrics {
		if n, ok := t.counts[known.Name]; ok {
			line[known.Name] = n
		} else if lags, ok := t.lags[known.Name]; ok {
			line[known.Name] = sample(lags)
		} else {
			continue
		}
		metrics = append(metrics, metric{known.Name, known.Unit})
	}
	line["_aws"] = map[string]any{
		"Timestamp": m.now().UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{
			"Namespace": config.Namespace, "Dimensions": [][]string{config.Dimensions}, "Metrics": metrics,
		}},
	}
	text, err := json.Marshal(line)
	if err != nil {
		return // numbers and names always encode
	}
	_, _ = m.out.Write(append(text, '\n'))
}

// sample returns values that are distributed like all of them, with the least and the greatest,
// but no more than fit one line.
func sample(values []float64) []float64 {
	if len(values) <= maxValues {
		return values
	}
	slices.Sort(values)
	picked := make([]float64, maxValues)
	for i := range picked {
		picked[i] = values[i*(len(values)-1)/(maxValues-1)]
	}
	return picked
}
