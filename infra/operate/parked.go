package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// each yields what is parked in a region, at most limit, 0 is all.
func (r *region) parked(limit int, take func(parked) error) error {
	const most = 200
	after := ""
	for n := 0; ; {
		var page struct {
			Parked []parked `json:"parked"`
			After  *string  `json:"after"`
		}
		size := most
		if limit > 0 {
			size = min(most, limit-n)
		}
		if err := r.get("parked", &page, "after", after, "limit", strconv.Itoa(size)); err != nil {
			return fmt.Errorf("%s: %w", r.title(), err)
		}
		for _, p := range page.Parked {
			n++
			if err := take(p); err != nil {
				return err
			}
		}
		if page.After == nil || limit > 0 && n >= limit {
			return nil
		}
		after = *page.After
	}
}

// Run lists what is parked.
func (c parkedListCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	n := 0
	for _, r := range regions {
		err := r.parked(c.Limit, func(p parked) error {
			n++
			if s.JSON {
				return s.json(map[string]any{"region": r.name, "parked": p.raw})
			}
			s.say("%s  %s\n    %s: %s, tried %s, last %s", r.title(), p.Key, p.Stage, p.Error, times(p.Tries), p.At.Format(time.RFC3339))
			return nil
		})
		if err != nil {
			return err
		}
	}
	if n == 0 {
		s.say("Nothing is parked.")
	}
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Run shows what is parked under a key, in whichever region.
func (c parkedShowCmd) Run(s *session) error {
	found, err := s.eachWith(c.Key, func(r *region, p parked) error {
		if s.JSON {
			return s.json(map[string]any{"region": r.name, "parked": p.raw})
		}
		s.say("%s  %s", r.title(), p.Key)
		s.say("  failed in      %s, tried %s, last %s", p.Stage, times(p.Tries), p.At.Format(time.RFC3339))
		s.say("  error          %s", p.Error)
		if p.Stream != "" {
			s.say("  stream, id     %s %s", p.Stream, p.ID)
		}
		if len(p.Event) > 0 {
			s.say("  event          %s", p.Event)
		}
		if p.Record != "" {
			s.say("  record         %s", p.Record)
		}
		return nil
	})
	if err == nil && found == 0 {
		err = notParked(c.Key)
	}
	return err
}

func notParked(key string) error {
	return fmt.Errorf("nothing is parked under %s; operate parked lists what is", strconv.Quote(key))
}

// eachWith looks a key up in every region.
func (s *session) eachWith(key string, take func(*region, parked) error) (found int, err error) {
	regions, err := s.all()
	if err != nil {
		return 0, err
	}
	for _, r := range regions {
		var p parked
		err := r.get("parked/one?key="+url.QueryEscape(key), &p)
		if isCode(err, "parked_not_found") {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("%s: %w", r.title(), err)
		}
		found++
		if err := take(r, p); err != nil {
			return found, err
		}
	}
	return found, nil
}

// Run handles parked events again.
func (c parkedRetryCmd) Run(s *session) error { return c.change(s, "retry") }

// Run forgets parked events.
func (c parkedDropCmd) Run(s *session) error { return c.change(s, "drop") }

func (c parkedKeys) change(s *session, what string) error {
	if c.All == (len(c.Keys) > 0) {
		return usage("parked %s takes keys, or -all", what)
	}
	failed := 0
	one := func(r *region, p parked) error {
		var out struct {
			Key     string `json:"key"`
			Outcome string `json:"outcome"`
			Error   string `json:"error,omitempty"`
			Tries   int    `json:"tries,omitempty"`
		}
		if err := r.send("POST", "parked/"+what, map[string]string{"key": p.Key}, &out); err != nil {
			if unreachable(err) {
				return fmt.Errorf("%s: %w", r.title(), err)
			}
			out.Key, out.Outcome, out.Error = p.Key, "refused", err.Error()
		}
		if out.Error != "" {
			failed++
		}
		if s.JSON {
			return s.json(map[string]any{"region": r.name, "result": out})
		}
		s.say("%s", strings.TrimSuffix(fmt.Sprintf("%s  %s  %s: %s", r.title(), p.Key, out.Outcome, out.Error), ": "))
		return nil
	}
	if err := c.each(s, one); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d could not be handled", failed)
	}
	return nil
}

// each goes through what the command line names.
func (c parkedKeys) each(s *session, one func(*region, parked) error) error {
	for _, key := range c.Keys {
		found, err := s.eachWith(key, one)
		if err == nil && found == 0 {
			err = notParked(key)
		}
		if err != nil {
			return err
		}
	}
	if !c.All {
		return nil
	}
	regions, err := s.all()
	if err != nil {
		return err
	}
	for _, r := range regions {
		if err := r.parked(0, func(p parked) error { return one(r, p) }); err != nil {
			return err
		}
	}
	return nil
}
