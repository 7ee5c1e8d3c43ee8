package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Run shows how the regions are. It fails if one does not answer or is failing.
func (statusCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	answers, errs := make([]*status, len(regions)), make([]error, len(regions))
	var group sync.WaitGroup
	for i, r := range regions {
		group.Go(func() { answers[i], errs[i] = r.status() })
	}
	group.Wait()
	var bad []string
	for i, r := range regions {
		if errs[i] != nil || answers[i].Health.Status == "failing" {
			bad = append(bad, r.title())
		}
		if s.JSON {
			continue
		}
		if errs[i] != nil {
			s.say("%-16s does not answer: %v", r.title(), errs[i])
			continue
		}
		answers[i].show(s, r)
	}
	if s.JSON {
		if err := s.json(map[string]any{"regions": jsonStatus(regions, answers, errs)}); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return errors.New("not well: " + strings.Join(bad, ", "))
	}
	return nil
}

func jsonStatus(regions []*region, answers []*status, errs []error) []any {
	out := make([]any, len(regions))
	for i, r := range regions {
		if errs[i] != nil {
			out[i] = map[string]any{"region": r.name, "url": r.url, "error": errs[i].Error()}
		} else {
			out[i] = answers[i].raw
		}
	}
	return out
}

func (a *status) show(s *session, r *region) {
	health := a.Health.Status
	if a.Drain.Drained {
		health = "drained"
		if a.Drain.By != "" && a.Drain.Since != nil {
			health += fmt.Sprintf(" by %s, %s ago", a.Drain.By, ago(a.Time, *a.Drain.Since))
		}
	}
	if a.Health.Error != "" {
		health += ": " + a.Health.Error
	}
	s.say("%-16s %s   %s", a.Region, health, r.url)
	if stages := lags(a.Health.Stages, ""); stages != "" {
		s.say("  behind         %s", stages)
	}
	s.say("  last beat of   %s", orNone(lags(a.Health.Frontiers, " ago")))
	s.say("  parked         %s", counted(a.Parked))
	if len(a.Jobs) == 0 {
		s.say("  jobs           none")
	}
	for _, j := range a.Jobs {
		s.say("  job            %s", j.line())
	}
	var gens []string
	for _, name := range slices.Sorted(maps.Keys(a.Generations)) {
		gens = append(gens, name+" "+generation(a.Generations[name]))
	}
	if len(gens) > 0 {
		s.say("  generations    %s", strings.Join(gens, ", "))
	}
}

// generation shows which generation of a projection is read, and which others there are.
func generation(raw json.RawMessage) string {
	var g struct {
		Live     int `json:"live"`
		Next     int `json:"next"`
		Previous int `json:"previous"`
	}
	if json.Unmarshal(raw, &g) != nil || g.Live == 0 {
		return string(raw)
	}
	text := fmt.Sprint(g.Live)
	if g.Next != 0 {
		text += fmt.Sprintf(" (%d is being built)", g.Next)
	}
	if g.Previous != 0 {
		text += fmt.Sprintf(" (back to %d is possible)", g.Previous)
	}
	return text
}

func lags(seconds map[string]float64, behind string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(seconds)) {
		parts = append(parts, fmt.Sprintf("%s %.1f s%s", name, seconds[name], behind))
	}
	return strings.Join(parts, ", ")
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func counted(parked int) string {
	if parked >= 1000 {
		return "1000 or more"
	}
	return fmt.Sprint(parked)
}

func ago(now, then time.Time) string { return now.Sub(then).Round(time.Second).String() }

// Run drains a region.
func (c drainCmd) Run(s *session) error { return s.drain("PUT", c.Name, "is drained") }

// Run undoes a drain.
func (c undrainCmd) Run(s *session) error { return s.drain("DELETE", c.Name, "takes traffic again") }

func (s *session) drain(method, name, outcome string) error {
	r, err := s.named(name)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := r.send(method, "drain", nil, &raw); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if s.JSON {
		return s.json(raw)
	}
	s.say("%s %s.", name, outcome)
	return nil
}
