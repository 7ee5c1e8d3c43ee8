package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// outcome prints what came of a job.
func (r *region) outcome(j *job) error {
	if r.JSON {
		if err := r.json(map[string]any{"region": r.name, "job": j.raw}); err != nil {
			return err
		}
	} else {
		took := j.Updated.Sub(j.Started).Round(100 * time.Millisecond)
		r.say("%s: %s %s after %s, %s", r.title(), j.title(), j.State, took, j.amount())
		showResult(r.session, j.Result)
	}
	switch {
	case j.State == "failed":
		return fmt.Errorf("%s: %s failed: %s", r.title(), j.title(), j.Error)
	case j.State == "cancelled":
		return fmt.Errorf("%s: %s was cancelled", r.title(), j.title())
	case j.State == "paused":
		r.say("It is paused. To go on: operate jobs resume %s", j.ID)
	case j.differences() > 0:
		return errDiffers
	}
	return nil
}

// differences counts what an audit found wrong and did not repair.
func (j *job) differences() int {
	var r struct {
		Differ int `json:"differ"`
		Healed int `json:"healed"`
	}
	if j.Kind != "audit" || len(j.Result) == 0 || json.Unmarshal(j.Result, &r) != nil {
		return 0
	}
	return r.Differ - r.Healed
}

// viewFinding is a view that is not what the log adds up to.
type viewFinding struct {
	Projection string   `json:"projection"`
	Stream     string   `json:"stream"`
	Key        viewKey  `json:"key"`
	Fault      string   `json:"fault"`
	Fields     []string `json:"fields"`
	Healed     bool     `json:"healed"`
}

type viewKey struct{ Partition, Sort string }

func (f viewFinding) String() string {
	text := fmt.Sprintf("%s %s %s  %s", f.Projection, f.Key.Partition, f.Key.Sort, f.Fault)
	if len(f.Fields) > 0 {
		text += " in " + strings.Join(f.Fields, ", ")
	}
	if f.Healed {
		text += "  healed"
	}
	return text
}

// showResult prints the result of a job: findings line by line, all else on one.
func showResult(s *session, result json.RawMessage) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(result, &fields) != nil {
		return
	}
	var findings []viewFinding
	if json.Unmarshal(fields["findings"], &findings) == nil {
		for _, f := range findings {
			s.say("  %s", f)
		}
		delete(fields, "findings")
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, strings.ReplaceAll(name, "_", " ")+" "+plainText(fields[name]))
	}
	if len(parts) > 0 {
		s.say("  %s", strings.Join(parts, ", "))
	}
}

// plainText shows a JSON value without its punctuation, where that can be read.
func plainText(raw json.RawMessage) string {
	var fields map[string]json.RawMessage
	var text string
	var number float64
	switch {
	case json.Unmarshal(raw, &text) == nil:
		return text
	case json.Unmarshal(raw, &number) == nil && number == math.Trunc(number) && math.Abs(number) < 1e15:
		return thousands(int64(number))
	case json.Unmarshal(raw, &number) == nil:
		return strconv.FormatFloat(math.Round(number*1e4)/1e4, 'f', -1, 64)
	case json.Unmarshal(raw, &fields) == nil:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			parts = append(parts, name+" "+plainText(fields[name]))
		}
		return strings.Join(parts, ", ")
	default:
		return string(raw)
	}
}
