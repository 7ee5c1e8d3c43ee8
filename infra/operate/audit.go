package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/events"
	"parley/functions/wire"
	"parley/infra/operate/source"
)

// digestParts is how many parts the logs are compared in. The digests of one part are held in memory.
const digestParts = 8

// difference is an event that not all regions have.
type difference struct {
	Stream  string   `json:"stream"`
	ID      string   `json:"id"` // the text of its [events.Ref]
	Missing []string `json:"missing_in"`
	Healed  bool     `json:"healed"`
}

func (d difference) String() string {
	text := d.Stream + " " + d.ID + "  missing in " + strings.Join(d.Missing, ", ")
	if d.Healed {
		text += "  healed"
	}
	return text
}

// sharedEvent is an event whose id another event of its stream has too: regions accepted both before
// they heard of each other. That is no difference between regions.
type sharedEvent struct {
	Stream string `json:"stream"`
	wire.SharedID
}

func (e sharedEvent) String() string {
	return fmt.Sprintf("%s %s  %s of %s shares its id with another event", e.Stream, e.ID, e.Type, e.Region)
}

// hour is one hour of a stream.
type hour struct {
	stream string
	begins time.Time
}

// Run compares the logs of all regions with each other, then the views of each region with its log.
func (c auditCmd) Run(s *session) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	// First the logs, because views are folded from them.
	var logs, views error
	if c.Only != "views" && len(regions) > 1 && !c.DryRun && c.Projection == "" {
		if logs = c.compareLogs(s, regions); logs != nil && !errors.Is(logs, errDiffers) {
			return logs
		}
	}
	if c.Only != "regions" {
		views = s.runJobs(regions, wire.NewJob{Kind: "audit", Params: wire.Params{Projection: projectionParam(c.Projection), Heal: c.Heal, DryRun: c.DryRun}}, false)
	}
	return cmp.Or(views, logs)
}

// compareLogs compares the logs of regions, hour by hour, then event by event.
func (c auditCmd) compareLogs(s *session, regions []*region) error {
	p := s.progress()
	defer p.clear()
	names := make([]string, len(regions))
	for i, r := range regions {
		if _, err := r.status(); err != nil { // for its name
			return fmt.Errorf("%s: %w", r.title(), err)
		}
		names[i] = r.title()
	}
	hours, shared, total, err := differingHours(regions, time.Now().Add(-c.Settle), p)
	if err != nil {
		return err
	}
	found, err := differingEvents(regions, hours)
	if err != nil {
		return err
	}
	if len(found) > 0 { // give replication time, then keep what still differs
		p.show(fmt.Sprintf("%d events differ; checking them again in %s", len(found), c.Settle))
		if err := events.Sleep(s.ctx, c.Settle); err != nil {
			return err
		}
		still, err := differingEvents(regions, hours)
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(still, func(d difference) bool {
			return !slices.ContainsFunc(found, func(f difference) bool { return f.Stream == d.Stream && f.ID == d.ID })
		})
	}
	healed := 0
	for i := range found {
		if c.Heal {
			if err := heal(regions, &found[i]); err != nil {
				return err
			}
		}
		if found[i].Healed {
			healed++
		}
	}
	p.clear()

	if s.JSON {
		if err := s.printJSON(map[string]any{"regions": names, "events": total, "findings": found, "shared": shared}); err != nil {
			return err
		}
	}
	for _, e := range shared {
		s.printf("%s", e)
	}
	for _, d := range found {
		s.printf("%s", d)
	}
	s.printf("logs of %s: %s events, %d differ, %d healed", strings.Join(names, ", "), thousands(total), len(found), healed)
	if healed < len(found) {
		return errDiffers
	}
	return nil
}

// differingHours compares the digests of all regions, of events before a time. It returns also the events
// of all regions that share their ids, and the number of events in the first region.
func differingHours(regions []*region, until time.Time, p *progress) (differ []hour, shared []sharedEvent, total int64, err error) {
	shared = []sharedEvent{}
	for part := range digestParts {
		p.show(fmt.Sprintf("comparing logs, part %d of %d", part+1, digestParts))
		all, errs := make([]map[hour]wire.Digest, len(regions)), make([]error, len(regions))
		var group sync.WaitGroup
		for i, r := range regions {
			group.Go(func() { all[i], errs[i] = readDigests(r, part, until) })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, nil, 0, err
		}
		hours := map[hour]bool{}
		for _, digests := range all {
			for h, d := range digests {
				hours[h] = true
				for _, e := range d.Shared {
					shared = append(shared, sharedEvent{h.stream, e})
				}
			}
		}
		for h := range hours {
			first := all[0][h]
			total += int64(first.Count)
			if slices.ContainsFunc(all[1:], func(digests map[hour]wire.Digest) bool {
				return digests[h].SHA256 != first.SHA256 || digests[h].Count != first.Count
			}) {
				differ = append(differ, h)
			}
		}
	}
	slices.SortFunc(differ, func(a, b hour) int {
		return cmp.Or(strings.Compare(a.stream, b.stream), a.begins.Compare(b.begins))
	})
	slices.SortFunc(shared, func(a, b sharedEvent) int {
		return cmp.Or(strings.Compare(a.Stream, b.Stream), strings.Compare(a.ID, b.ID))
	})
	same := func(a, b sharedEvent) bool { return a.Stream == b.Stream && a.ID == b.ID }
	return differ, slices.CompactFunc(shared, same), total, nil
}

func readDigests(r *region, part int, until time.Time) (map[hour]wire.Digest, error) {
	digests := map[hour]wire.Digest{}
	split := func(p wire.DigestPage) ([]wire.Digest, *string) { return p.Digests, p.After }
	for d, err := range pages(r, "digests", "", maxPage, 0, split,
		"part", fmt.Sprintf("%d/%d", part, digestParts), "until", until.UTC().Format(time.RFC3339Nano)) {
		if err != nil {
			return nil, err
		}
		digests[hour{d.Stream, d.Hour.UTC()}] = d
	}
	return digests, nil
}

// differingEvents returns the events of some hours that not all regions have. What a former release stored
// under its id alone is the same event under its id and digest: so content is compared, not keys.
func differingEvents(regions []*region, hours []hour) ([]difference, error) {
	found := []difference{}
	split := func(p wire.EventDigestPage) ([]wire.EventDigest, *string) { return p.Events, p.After }
	for _, h := range hours {
		all, contents := make([]map[string]string, len(regions)), map[string]bool{} // ids, by id and content
		for i, r := range regions {
			all[i] = map[string]string{}
			for e, err := range pages(r, "digests/events", "", maxPage, 0, split, "stream", h.stream, "hour", h.begins.Format(time.RFC3339)) {
				if err != nil {
					return nil, err
				}
				id, _, _ := strings.Cut(e.ID, ".")
				all[i][id+e.SHA256], contents[id+e.SHA256] = e.ID, true
			}
		}
		for _, content := range slices.Sorted(maps.Keys(contents)) {
			d := difference{Stream: h.stream}
			for i, r := range regions {
				if id, has := all[i][content]; has {
					d.ID = cmp.Or(d.ID, id)
				} else {
					d.Missing = append(d.Missing, r.title())
				}
			}
			if len(d.Missing) > 0 {
				found = append(found, d)
			}
		}
	}
	return found, nil
}

// heal appends an event where it is missing.
func heal(regions []*region, d *difference) error {
	source := slices.IndexFunc(regions, func(r *region) bool { return !slices.Contains(d.Missing, r.title()) })
	if source < 0 {
		return nil
	}
	e, err := readSealed(regions[source], d.Stream, d.ID)
	if err != nil || e == nil {
		return err
	}
	healed := true
	for _, r := range regions {
		if !slices.Contains(d.Missing, r.title()) {
			continue
		}
		var out wire.AppendResult
		if err := r.send("POST", "events", map[string]any{"events": []events.Event{*e}, "shared": true}, &out); err != nil {
			return fmt.Errorf("%s: append %s: %w", r.title(), d.ID, err)
		}
		healed = healed && len(out.Events) == 1 && out.Events[0].Outcome != wire.AppendRefused
	}
	d.Healed = healed
	return nil
}

// readSealed reads an event byte for byte as a region has it, personal content still encrypted. The id is
// the text of its [events.Ref]. It returns nil if the region does not have the event.
func readSealed(r *region, stream, id string) (*events.Event, error) {
	ref, err := events.ParseRef("id", id)
	if err != nil {
		return nil, err
	}
	split := func(p wire.EventPage) ([]wire.RawEvent, *string) { return p.Events, p.After }
	for raw, err := range pages(r, "events", events.PrecedingID(ref.ID).String(), maxPage, 0, split,
		"stream", stream, "sealed", "true") {
		if err != nil {
			return nil, fmt.Errorf("%s: read %s: %w", r.title(), stream, err)
		}
		e, err := decodeEvent(raw)
		bare := ref.Digest == (events.Digest{}) && e.ID == ref.ID // it is the first that has the id
		if err != nil || e.Ref() == ref || bare {
			return &e, err
		}
		if e.ID.Compare(ref.ID) > 0 {
			break
		}
	}
	return nil, nil
}

// decodeEvent decodes an event of the API. In transit its data may have got other spaces and escapes.
func decodeEvent(raw wire.RawEvent) (e events.Event, err error) {
	err = e.UnmarshalJSON(raw)
	return source.Canonical(e), err
}
