package main

import (
	"encoding/json"
	"slices"
	"strings"

	"parley/infra/lambda/config"
)

// checkOutput holds every line that any process wrote against its form.
func (c *cloud) checkOutput() {
	for name, f := range c.functions {
		c.checkLines(name, f)
	}
	for _, f := range c.gateway.live {
		c.checkLines(config.Live, f)
	}
}

func (c *cloud) checkLines(name string, f *host) {
	for _, line := range f.metrics.lines() {
		if m, err := readMetrics([]byte(line)); err != nil || m.dimensions["Function"] != name || m.dimensions["Region"] != inRegion {
			c.t.Errorf("%s writes the metrics %s: %v", name, line, err)
		}
	}
	for _, line := range f.logs.lines() {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["level"] == nil || fields["message"] == nil {
			c.t.Errorf("%s logs the line %s", name, line)
		}
		if strings.Contains(line, secret) {
			c.t.Errorf("%s logs what a user wrote: %s", name, line)
		}
		if strings.Contains(line, "eyJ") || slices.ContainsFunc(c.gateway.ids, func(conn string) bool { return strings.Contains(line, conn) }) {
			c.t.Errorf("%s logs a token, or the id of a connection: %s", name, line)
		}
	}
}

// secret stands in texts of users, which no log may quote.
const secret = "sEcReT"

// counted is the sum of a metric over all invocations of a function.
func (c *cloud) counted(function, metric string) (sum int) {
	c.t.Helper()
	for _, line := range c.functions[function].metrics.lines() {
		m, err := readMetrics([]byte(line))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, v := range m.values[metric] {
			sum += int(v)
		}
	}
	return sum
}
