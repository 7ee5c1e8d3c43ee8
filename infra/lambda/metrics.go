package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"parley/events"
	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// function is one of the functions: it gets an event and returns an answer, both JSON. An error fails
// the invocation; its trigger decides whether to retry.
type function func(ctx context.Context, payload []byte) ([]byte, error)

// invoker is the handler that Lambda's runtime calls. It gets the bytes of an event, so nothing is
// decoded twice.
type invoker struct {
	function function
	meter    *meter
}

var _ lambda.Handler = (*invoker)(nil)

// Invoke implements [lambda.Handler]. What the invocation has counted is written even if it fails or
// panics.
func (i *invoker) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	ctx, cancel := early(ctx, time.Now())
	defer cancel()
	t := &tally{}
	defer i.meter.write(t)
	return i.function(withTally(ctx, t), payload)
}

// margin is how long before Lambda kills a function its context ends, so that it can still report how
// far it got.
const margin = 500 * time.Millisecond

// early returns a context that ends by margin before ctx does, but keeps at least three quarters of
// the time.
func early(ctx context.Context, now time.Time) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(margin, max(0, deadline.Sub(now)/4))))
}

// tally counts what one invocation has done. It is in the context, so that concurrent invocations in
// one process do not mix.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	lags   map[string][]float64 // in milliseconds
}

type tallyKey struct{}

func withTally(ctx context.Context, t *tally) context.Context {
	return context.WithValue(ctx, tallyKey{}, t)
}

// oldest is the age from which an event is not measured: a client's id may be that old at most, so the
// event was imported.
const oldest = 24 * time.Hour

// count counts an event under a metric, and its age under the metric lag, if that is not "".
func count(ctx context.Context, metric, lag string, e events.Event, now time.Time) {
	age := now.Sub(e.ID.Timestamp())
	if age >= oldest {
		lag = ""
	}
	add(ctx, metric, lag, age)
}

// increment counts something that is not an event.
func increment(ctx context.Context, metric string) { add(ctx, metric, "", 0) }

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

// countOutcome counts what the stream function did with an event.
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

// countedLog counts the events that it accepts.
type countedLog struct{ events.Log }

// Append implements [events.Log].
func (l countedLog) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	stored, repeat, err := l.Log.Append(ctx, e)
	if err == nil && !repeat {
		count(ctx, config.Accepted, config.AcceptedLag, stored, time.Now())
	}
	return stored, repeat, err
}

// meter writes tallies in CloudWatch's embedded metric format: lines of JSON from which CloudWatch Logs
// extracts metrics.
type meter struct {
	out              io.Writer
	region, function string
	now              func() time.Time
}

// maxValues is how many values of a metric one line may have, a limit of the format.
const maxValues = 100

// write writes one line, or none if nothing was counted. Errors are ignored.
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

// sample returns at most maxValues values with the same distribution, minimum and maximum.
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
