package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// digestParts is in how many parts the logs are compared: what one part holds is held in memory.
const digestParts = 8

// hour is one hour of a stream, as /v1/ops/digests tells it apart from others.
type hour struct {
	stream string
	begins time.Time
}

// digest is what a region says of an hour, or of an event.
type digest struct {
	ID     string    `json:"id"`
	Stream string    `json:"stream"`
	Hour   time.Time `json:"hour"`
	Count  int64     `json:"count"`
	SHA256 string    `json:"sha256"`
}

// finding is an event that is not the same in all regions.
type finding struct {
	Stream  string   `json:"stream"`
	ID      string   `json:"id"`
	Missing []string `json:"missing_in,omitempty"` // regions
	Differs []string `json:"differs_in,omitempty"` // regions, from the first that has it
	Healed  bool     `json:"healed"`
}

func (f finding) String() string {
	text := f.Stream + " " + f.ID
	if len(f.Missing) > 0 {
		text += "  missing in " + strings.Join(f.Missing, ", ")
	}
	if len(f.Differs) > 0 {
		text += "  another content in " + strings.Join(f.Differs, ", ")
	}
	if f.Healed {
		text += "  healed"
	}
	return text
}

// compare holds the logs of regions against each other, hour by hour, then event by event.
func (s *session) compare(regions []*region, c auditCmd) error {
	p := s.progress()
	defer p.end()
	for _, r := range regions {
		if _, err := r.status(); err != nil { // it gives the name
			return fmt.Errorf("%s: %w", r.title(), err)
		}
	}
	hours, total, err := s.differingHours(regions, time.Now().Add(-c.Settle), p)
	if err != nil {
		return err
	}
	var found []finding
	for _, h := range hours {
		more, err := differingEvents(regions, h)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	if len(found) > 0 { // what was on its way is given time to arrive
		p.line(fmt.Sprintf("%d events are not everywhere yet; looking again in %s", len(found), c.Settle))
		if err := sleep(s.ctx, c.Settle); err != nil {
			return err
		}
		if found, err = again(regions, found); err != nil {
			return err
		}
	}
	if c.Heal {
		if err := heal(regions, found); err != nil {
			return err
		}
	}
	p.end()
	return s.report(regions, found, total)
}

func (s *session) report(regions []*region, found []finding, total int64) error {
	open := 0
	for _, f := range found {
		if !f.Healed {
			open++
		}
	}
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = r.title()
	}
	if s.JSON {
		if found == nil {
			found = []finding{}
		}
		if err := s.json(map[string]any{"regions": names, "events": total, "findings": found}); err != nil {
			return err
		}
	}
	for _, f := range found {
		s.say("%s", f)
	}
	s.say("logs of %s: %s events, %s differ, %s healed", strings.Join(names, ", "), thousands(total),
		thousands(int64(len(found))), thousands(int64(len(found)-open)))
	if open > 0 {
		return errDiffers
	}
	return nil
}

// differingHours goes through the digests of all regions, of events before a time, and counts those
// of the first.
func (s *session) differingHours(regions []*region, until time.Time, p *progress) (differ []hour, total int64, err error) {
	for part := range digestParts {
		p.line(fmt.Sprintf("comparing logs, part %d of %d", part+1, digestParts))
		all, errs := make([]map[hour]digest, len(regions)), make([]error, len(regions))
		var group sync.WaitGroup
		for i, r := range regions {
			group.Go(func() { all[i], errs[i] = r.digests(part, until) })
		}
		group.Wait()
		seen := map[hour]bool{}
		for i, r := range regions {
			if errs[i] != nil {
				return nil, 0, fmt.Errorf("%s: read digests: %w", r.title(), errs[i])
			}
			for h := range all[i] {
				seen[h] = true
			}
		}
		for h := range seen {
			total += all[0][h].Count
			for _, digests := range all[1:] {
				if a, b := all[0][h], digests[h]; a.SHA256 != b.SHA256 || a.Count != b.Count {
					differ = append(differ, h)
					break
				}
			}
		}
	}
	slices.SortFunc(differ, func(a, b hour) int {
		return cmp.Or(strings.Compare(a.stream, b.stream), a.begins.Compare(b.begins))
	})
	return differ, total, nil
}

func (r *region) digests(part int, until time.Time) (map[hour]digest, error) {
	found := map[hour]digest{}
	for after := ""; ; {
		var page struct {
			Digests []digest `json:"digests"`
			After   *string  `json:"after"`
		}
		err := r.get("digests", &page, "part", fmt.Sprintf("%d/%d", part, digestParts), "after", after,
			"until", until.UTC().Format(time.RFC3339Nano), "limit", strconv.Itoa(maxPage))
		if err != nil {
			return nil, err
		}
		for _, d := range page.Digests {
			found[hour{d.Stream, d.Hour.UTC()}] = d
		}
		if page.After == nil {
			return found, nil
		}
		after = *page.After
	}
}

// differingEvents names the events of an hour that are not the same in all regions.
func differingEvents(regions []*region, h hour) ([]finding, error) {
	all, seen := make([]map[string]string, len(regions)), map[string]bool{}
	for i, r := range regions {
		all[i] = map[string]string{}
		for after, more := "", true; more; {
			var page struct {
				Events []digest `json:"events"`
				After  *string  `json:"after"`
			}
			begins := h.begins.Format(time.RFC3339)
			if err := r.get("digests/events", &page, "stream", h.stream, "hour", begins, "after", after, "limit", strconv.Itoa(maxPage)); err != nil {
				return nil, fmt.Errorf("%s: read digests of %s: %w", r.title(), h.stream, err)
			}
			for _, e := range page.Events {
				all[i][e.ID], seen[e.ID] = e.SHA256, true
			}
			if more = page.After != nil; more {
				after = *page.After
			}
		}
	}
	var found []finding
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		f, first := finding{Stream: h.stream, ID: id}, ""
		for i, r := range regions {
			switch got, has := all[i][id]; {
			case !has:
				f.Missing = append(f.Missing, r.title())
			case first == "":
				first = got
			case got != first:
				f.Differs = append(f.Differs, r.title())
			}
		}
		if len(f.Missing)+len(f.Differs) > 0 {
			found = append(found, f)
		}
	}
	return found, nil
}
