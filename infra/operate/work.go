package main

import (
	"encoding/json"
	"fmt"
	"net/url"
)

// work starts a job in each of the regions and follows it. A rebuild is not begun in a region before
// it is done in the one before: what goes wrong goes wrong in one.
func (s *session) work(regions []*region, n newJob, detach bool) error {
	if n.Kind != "rebuild" || n.DryRun || detach {
		return s.sideBySide(regions, n, detach)
	}
	for _, r := range regions {
		if err := s.sideBySide([]*region{r}, n, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) sideBySide(regions []*region, n newJob, detach bool) error {
	jobs := make([]*job, len(regions))
	for i, r := range regions {
		var err error
		if jobs[i], err = r.start(n); err != nil {
			return err
		}
	}
	differs := false
	for i, r := range regions {
		if detach {
			if err := r.detached(jobs[i]); err != nil {
				return err
			}
			continue
		}
		j, err := r.watch(jobs[i])
		if err != nil {
			return err
		}
		switch err := r.outcome(j); {
		case err == errDiffers:
			differs = true
		case err != nil:
			return err
		}
	}
	if differs {
		return errDiffers
	}
	return nil
}

func (r *region) detached(j *job) error {
	if r.JSON {
		return r.json(map[string]any{"region": r.name, "job": j.raw})
	}
	r.say("%s: %s is job %s. To follow it: operate jobs watch %s", r.title(), j.title(), j.ID, j.ID)
	return nil
}

// Run rebuilds a projection in each region.
func (c rebuildCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	return s.work(regions, newJob{Kind: "rebuild", Projection: allIsNone(c.Projection), Room: c.Room, DryRun: c.DryRun}, c.Detach)
}

// Run publishes history again, in one region: each region has its own subscribers.
func (c replayCmd) Run(s *session) error {
	r, err := s.one()
	if err != nil {
		return err
	}
	return s.work([]*region{r}, newJob{
		Kind: "replay", To: c.To, From: c.From, Until: c.Until, Room: c.Room, Type: c.Type, Rate: c.Rate, DryRun: c.DryRun,
	}, c.Detach)
}

// allIsNone is a projection's name as jobs take it: none is all.
func allIsNone(name string) string {
	if name == "all" {
		return ""
	}
	return name
}

// Run switches each region back.
func (c backCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	for _, r := range regions {
		var raw json.RawMessage
		if err := r.send("POST", "generations/"+url.PathEscape(c.Projection)+"/back", nil, &raw); err != nil {
			return fmt.Errorf("%s: %w", r.title(), err)
		}
		if s.JSON {
			if err := s.json(map[string]any{"region": r.name, "generation": raw}); err != nil {
				return err
			}
			continue
		}
		s.say("%-16s %s %s", r.title(), c.Projection, generation(raw))
	}
	return nil
}

// Run deletes generations in each region.
func (c dropCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	return s.work(regions, newJob{Kind: "drop", Projection: c.Projection}, false)
}

// Run audits the views of each region, and the logs of all against each other.
func (c auditCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	differs := false
	note := func(err error) error {
		if err == errDiffers {
			differs = true
			return nil
		}
		return err
	}
	// First the logs: views are folded from them.
	if c.Only != "views" && len(regions) > 1 && !c.DryRun && c.Projection == "" {
		if err := note(s.compare(regions, c)); err != nil {
			return err
		}
	}
	if c.Only != "regions" {
		n := newJob{Kind: "audit", Projection: allIsNone(c.Projection), Heal: c.Heal, DryRun: c.DryRun}
		if err := note(s.work(regions, n, false)); err != nil {
			return err
		}
	}
	if differs {
		return errDiffers
	}
	return nil
}
