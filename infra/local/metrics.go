package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"parley/events"
	"parley/functions/operate"
	"parley/functions/stream"
)

// metrics are served to Prometheus at /local/metrics. The names are those of the CloudWatch metrics
// (infra/lambda/config/metrics.go) in Prometheus style: Accepted is parley_accepted_total,
// AcceptedLag is parley_accepted_lag_seconds.
type metrics struct {
	registry *prometheus.Registry
	counts   map[string]*prometheus.CounterVec   // by the outcome of an event
	lags     map[string]*prometheus.HistogramVec // likewise
}

// The outcomes of an event.
const (
	metricAccepted  = "accepted"
	metricProjected = "projected"
	metricPublished = "published"
	metricParked    = "parked"
)

func newMetrics() *metrics {
	m := &metrics{prometheus.NewRegistry(), map[string]*prometheus.CounterVec{}, map[string]*prometheus.HistogramVec{}}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, d := range []struct{ name, meaning, lag string }{
		{metricAccepted, "Events appended to the log, repeats aside.", "was in the log"},
		{metricProjected, "Events projected into the views.", "was in the views"},
		{metricPublished, "Events put on the bus, replays aside.", "was on the bus"},
		{metricParked, "Events set aside because they cannot be handled.", ""},
	} {
		counts := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "parley", Name: d.name + "_total", Help: d.meaning}, []string{"region"})
		m.registry.MustRegister(counts)
		if m.counts[d.name] = counts; d.lag == "" {
			continue
		}
		lags := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "parley", Name: d.name + "_lag_seconds",
			Help:    "From the time in an event's id until it " + d.lag + ".",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 60, 600, 3600},
		}, []string{"region"})
		m.registry.MustRegister(lags)
		m.lags[d.name] = lags
	}
	return m
}

// oldest is the age above which an event does not count as lag: it was imported, or its region was
// isolated.
const oldest = 24 * time.Hour

// count counts an event of a region under a metric and observes its age as lag.
func (m *metrics) count(region, metric string, e events.Event) {
	m.counts[metric].WithLabelValues(region).Inc()
	if lags := m.lags[metric]; lags != nil {
		if age := time.Since(e.ID.Timestamp()); age < oldest {
			lags.WithLabelValues(region).Observe(max(0, age).Seconds())
		}
	}
}

// passed returns a callback that counts the outcomes of a region's stream function.
func (m *metrics) passed(region string) func(context.Context, events.Event, stream.Outcome) {
	return func(_ context.Context, e events.Event, outcome stream.Outcome) {
		switch outcome {
		case stream.Projected:
			m.count(region, metricProjected, e)
		case stream.Published:
			m.count(region, metricPublished, e)
		case stream.Parked:
			m.count(region, metricParked, e)
		}
	}
}

// handler serves the metrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// countedLog counts the events that it accepts.
type countedLog struct {
	events.Log
	region  string
	metrics *metrics
}

// Append implements [events.Log].
func (l countedLog) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	stored, repeat, err := l.Log.Append(ctx, e)
	if err == nil && !repeat {
		l.metrics.count(l.region, metricAccepted, stored)
	}
	return stored, repeat, err
}

// gauges are the metrics of a region that are computed when they are read.
type gauges struct {
	r                             *region
	parked, jobs, drained, waited *prometheus.Desc
}

func gaugesOf(r *region) *gauges {
	desc := func(name, meaning string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("parley_"+name, meaning, labels, prometheus.Labels{"region": r.name})
	}
	return &gauges{
		r:       r,
		parked:  desc("parked", "Events that are set aside; 1000 stands for 1000 or more."),
		jobs:    desc("jobs", "Operators' jobs.", "state"),
		drained: desc("drained", "1 if traffic should leave the region."),
		waited:  desc("waited_seconds", "How long the oldest event that a stage has not handled has waited.", "stage"),
	}
}

// Describe implements [prometheus.Collector].
func (g *gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.parked, g.jobs, g.drained, g.waited} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. Gauges that cannot be read now are left out.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	in, leave := g.r.enter()
	defer leave()
	if in == nil {
		return
	}
	if n, err := operate.CountParked(ctx, in.views); err == nil {
		send(g.parked, float64(n))
	}
	if jobs, err := in.functions.Jobs().Count(ctx); err == nil {
		for state, n := range jobs {
			send(g.jobs, float64(n), state)
		}
	}
	if d, err := operate.LoadDrain(ctx, in.views); err == nil {
		send(g.drained, map[bool]float64{true: 1}[d.Drained])
	}
	for stage, waited := range in.stages() {
		send(g.waited, waited.Seconds(), stage)
	}
}
