package main

import (
	"fmt"
	"slices"
	"strconv"

	"parley/events"
)

// again keeps the findings that still hold.
func again(regions []*region, found []finding) ([]finding, error) {
	var still []finding
	for _, f := range found {
		f.Missing, f.Differs = nil, nil
		var first *events.Event
		for _, r := range regions {
			e, err := r.event(f.Stream, f.ID)
			switch {
			case err != nil:
				return nil, err
			case e == nil:
				f.Missing = append(f.Missing, r.title())
			case first == nil:
				first = e
			case !events.Same(*first, *e):
				f.Differs = append(f.Differs, r.title())
			}
		}
		if len(f.Missing)+len(f.Differs) > 0 {
			still = append(still, f)
		}
	}
	return still, nil
}

// event reads one event; nil if the region does not have it.
func (r *region) event(stream, id string) (*events.Event, error) {
	parsed, err := events.ParseID("id", id)
	if err != nil {
		return nil, err
	}
	var page eventPage
	err = r.get("events", &page, "stream", stream, "after", events.PrecedingID(parsed).String(), "limit", strconv.Itoa(1), "sealed", "true")
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", r.title(), stream, err)
	}
	if len(page.Events) == 0 || page.Events[0].ID != parsed {
		return nil, nil
	}
	return &page.Events[0].Event, nil
}

// heal appends what is missing, from a region that has it. What has another content cannot be
// healed so: an append changes nothing that is there.
func heal(regions []*region, found []finding) error {
	for i, f := range found {
		if len(f.Missing) == 0 {
			continue
		}
		var from *events.Event
		for _, r := range regions {
			if !slices.Contains(f.Missing, r.title()) {
				e, err := r.event(f.Stream, f.ID)
				if err != nil {
					return err
				}
				from = e
				break
			}
		}
		if from == nil {
			continue
		}
		healed := len(f.Differs) == 0
		for _, r := range regions {
			if !slices.Contains(f.Missing, r.title()) {
				continue
			}
			var out appended
			if err := r.send("POST", "events", map[string]any{"events": []events.Event{*from}}, &out); err != nil {
				return fmt.Errorf("%s: append %s: %w", r.title(), f.ID, err)
			}
			healed = healed && len(out.Events) == 1 && out.Events[0].Outcome != "refused"
		}
		found[i].Healed = healed
	}
	return nil
}
