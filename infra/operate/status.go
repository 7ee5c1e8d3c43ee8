package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/functions/wire"
)

// Run prints the version of this program.
func (versionCmd) Run(s *session) error {
	if s.JSON {
		return s.printJSON(map[string]string{"version": wire.Version()})
	}
	s.printf("%s", wire.Version())
	return nil
}

// maxLag is the age of a heartbeat, and the lag of a stage, from which on status fails. Heartbeats are a minute
// apart.
const maxLag = 150 * time.Second

// lags returns what lags behind in a region: heartbeats of these regions, and stages.
func lags(a *wire.Status, regions []string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(a.Health.Frontiers)) {
		if age := a.Health.Frontiers[name]; age > maxLag.Seconds() && slices.Contains(regions, name) {
			list = append(list, fmt.Sprintf("last heartbeat of %s %.0f s ago", name, age))
		}
	}
	for _, stage := range slices.Sorted(maps.Keys(a.Health.Stages)) {
		if lag := a.Health.Stages[stage]; lag > maxLag.Seconds() {
			list = append(list, fmt.Sprintf("%s %.0f s behind", stage, lag))
		}
	}
	return list
}

// Run shows the state of the regions. It fails if one is failing, lags behind, or gives no status.
func (statusCmd) Run(s *session) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	answers, errs := make([]*wire.Status, len(regions)), make([]error, len(regions))
	var group sync.WaitGroup
	for i, r := range regions {
		group.Go(func() { answers[i], errs[i] = r.status() })
	}
	group.Wait()
	var failing, refused, lagging, names []string
	for i, r := range regions {
		if errs[i] == nil {
			names = append(names, answers[i].Region)
		} else if r.name != "" {
			names = append(names, r.name)
		}
	}
	shown := make([]any, len(regions))
	for i, r := range regions {
		if errs[i] == nil {
			shown[i] = answers[i]
			if answers[i].Health.Status == "failing" {
				failing = append(failing, r.title())
			}
			behind := lags(answers[i], names)
			for _, what := range behind {
				lagging = append(lagging, r.title()+": "+what)
			}
			printStatus(s, r, answers[i], behind)
			continue
		}
		reason := "does not answer"
		if p, answered := errors.AsType[*problem](errs[i]); !answered {
			failing = append(failing, r.title())
		} else if p.Status >= http.StatusInternalServerError {
			reason, failing = "answers with an error", append(failing, r.title())
		} else {
			reason, refused = "refuses the request", append(refused, r.title())
		}
		s.printf("%-16s %s: %v", r.title(), reason, errs[i])
		shown[i] = map[string]any{"region": r.name, "url": r.url, "error": errs[i].Error()}
	}
	if s.JSON {
		if err := s.printJSON(map[string]any{"regions": shown}); err != nil {
			return err
		}
	}
	if len(failing) > 0 {
		err = errors.Join(err, errors.New("failing or not reachable: "+strings.Join(failing, ", ")))
	}
	if len(lagging) > 0 {
		err = errors.Join(err, errors.New("lagging: "+strings.Join(lagging, "; ")))
	}
	if len(refused) > 0 {
		err = errors.Join(err, errors.New("status refused by: "+strings.Join(refused, ", ")))
	}
	return err
}

func printStatus(s *session, r *region, a *wire.Status, behind []string) {
	state := a.Health.Status
	if state == "ok" && len(behind) > 0 {
		state = "lagging"
	}
	if a.Drain.Drained {
		state = "drained"
		if a.Drain.By != "" && a.Drain.Since != nil {
			state += fmt.Sprintf(" by %s, %s ago", a.Drain.By, a.Time.Sub(*a.Drain.Since).Round(time.Second))
		}
	}
	if a.Health.Error != "" {
		state += ": " + a.Health.Error
	}
	s.printf("%-16s %s   %s", a.Region, state, r.url)
	row := func(name, value string) { s.printf("  %-14s %s", name, value) }
	row("version", a.Version)
	if len(a.Health.Stages) > 0 {
		row("lag", secondsText(a.Health.Stages, " s"))
	}
	row("heartbeats", secondsText(a.Health.Frontiers, " s ago"))
	parked := strconv.Itoa(a.Parked)
	if a.Parked >= 1000 { // where the region stops counting
		parked += " or more"
	}
	row("parked", parked)
	for _, j := range a.Jobs {
		row("job", jobRow(&j))
	}
	if len(a.Jobs) == 0 {
		row("jobs", "none")
	}
	var generations []string
	for _, name := range slices.Sorted(maps.Keys(a.Generations)) {
		generations = append(generations, name+" "+generationText(a.Generations[name]))
	}
	if len(generations) > 0 {
		row("generations", strings.Join(generations, ", "))
	}
}

// secondsText writes seconds by name: "project 0.1 s, publish 0.0 s".
func secondsText(seconds map[string]float64, unit string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(seconds)) {
		parts = append(parts, fmt.Sprintf("%s %.1f%s", name, seconds[name], unit))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// generationText says which generation of a projection serves reads, and which others exist.
func generationText(g wire.Generation) string {
	text := strconv.Itoa(g.Live)
	if g.Next != 0 {
		text += fmt.Sprintf(" (building %d)", g.Next)
	}
	if g.Previous != 0 {
		text += fmt.Sprintf(" (previous %d)", g.Previous)
	}
	return text
}

// Run drains a region.
func (c drainCmd) Run(s *session) error {
	return changeDrain(s, "PUT", c.Name, "is drained: its health check answers 503")
}

// Run undoes a drain.
func (c undrainCmd) Run(s *session) error {
	return changeDrain(s, "DELETE", c.Name, "is back in traffic")
}

func changeDrain(s *session, method, name, outcome string) error {
	s.Region = []string{name}
	regions, err := s.regions()
	if err != nil {
		return err
	}
	var drain wire.Drain
	if err := regions[0].send(method, "drain", nil, &drain); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if s.JSON {
		return s.printJSON(drain)
	}
	s.printf("%s %s.", name, outcome)
	return nil
}

// listParked calls take with the parked events of a region, at most limit; 0 is all.
func listParked(r *region, limit int, take func(*region, wire.Parked) error) error {
	const maxParkedPage = 200
	split := func(p wire.ParkedPage) ([]wire.Parked, *string) { return p.Parked, p.After }
	for p, err := range pages(r, "parked", "", maxParkedPage, limit, split) {
		if err == nil {
			err = take(r, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// findParked calls take with the events that are parked under a key, in whichever region.
func findParked(s *session, key string, take func(*region, wire.Parked) error) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	found := false
	for _, r := range regions {
		var p wire.Parked
		err := r.get("parked/one?key="+url.QueryEscape(key), &p)
		if hasCode(err, "parked_not_found") {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.title(), err)
		}
		found = true
		if err := take(r, p); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no event is parked under %s; list them with operate parked", strconv.Quote(key))
	}
	return nil
}

// Run lists parked events.
func (c parkedListCmd) Run(s *session) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	n := 0
	for _, r := range regions {
		err := listParked(r, c.Limit, func(r *region, p wire.Parked) error {
			n++
			if s.JSON {
				return r.printItem("parked", p)
			}
			s.printf("%s  %s\n    %s: %s, attempts: %d, last %s", r.title(), p.Key, p.Stage, p.Error, p.Tries, p.At.Format(time.RFC3339))
			return nil
		})
		if err != nil {
			return err
		}
	}
	if n == 0 {
		s.printf("No events are parked.")
	}
	return nil
}

// Run shows a parked event.
func (c parkedShowCmd) Run(s *session) error {
	return findParked(s, c.Key, func(r *region, p wire.Parked) error {
		if s.JSON {
			return r.printItem("parked", p)
		}
		s.printf("%s  %s", r.title(), p.Key)
		s.printf("  %-14s %s, attempts: %d, last %s", "failed in", p.Stage, p.Tries, p.At.Format(time.RFC3339))
		s.printf("  %-14s %s", "error", p.Error)
		if p.Stream != "" {
			s.printf("  %-14s %s %s", "stream, id", p.Stream, p.ID)
		}
		if len(p.Event) > 0 {
			s.printf("  %-14s %s", "event", p.Event)
		}
		if p.Record != "" {
			s.printf("  %-14s %s", "record", p.Record)
		}
		return nil
	})
}

// Run handles parked events again.
func (c parkedRetryCmd) Run(s *session) error { return c.change(s, "retry") }

// Run removes parked events from the list.
func (c parkedDropCmd) Run(s *session) error { return c.change(s, "drop") }

func (c parkedKeys) change(s *session, action string) error {
	if c.All == (len(c.Keys) > 0) {
		return usage("parked %s needs keys, or -all", action)
	}
	failed := 0
	changeOne := func(r *region, p wire.Parked) error {
		var out wire.ParkedOutcome
		if err := r.send("POST", "parked/"+action, wire.ParkedChange{Key: p.Key}, &out); isUnreachable(err) {
			return fmt.Errorf("%s: %w", r.title(), err)
		} else if err != nil {
			out = wire.ParkedOutcome{Key: p.Key, Outcome: "refused", Error: err.Error()}
		}
		if out.Error != "" {
			failed++
		}
		if s.JSON {
			return r.printItem("result", out)
		}
		s.printf("%s", strings.TrimSuffix(fmt.Sprintf("%s  %s  %s: %s", r.title(), p.Key, out.Outcome, out.Error), ": "))
		return nil
	}
	for _, key := range c.Keys {
		if err := findParked(s, key, changeOne); err != nil {
			return err
		}
	}
	if c.All {
		regions, err := s.regions()
		if err != nil {
			return err
		}
		for _, r := range regions {
			if err := listParked(r, 0, changeOne); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d events could not be handled", failed)
	}
	return nil
}
