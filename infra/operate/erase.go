package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"parley/events"
)

// erasure is what has become of an erasure, as a region has heard.
type erasure struct {
	User    string `json:"user"`
	Event   string `json:"event"`
	By      string `json:"by"`
	Regions []struct {
		Region       string `json:"region"`
		Acknowledged bool   `json:"acknowledged"`
	} `json:"regions"`
}

// waiting names the regions that have not acknowledged.
func (e *erasure) waiting() (names []string) {
	for _, r := range e.Regions {
		if !r.Acknowledged {
			names = append(names, r.Region)
		}
	}
	return names
}

// askEvery is how often it is asked who has acknowledged.
const askEvery = 300 * time.Millisecond

// Run erases a user, and waits until all regions have acknowledged.
func (c eraseCmd) Run(s *session) error {
	if err := events.ValidateUser("the user's id", c.User); err != nil {
		return usageError{err}
	}
	if c.DryRun == c.Yes {
		return usage("erase cannot be undone: say -yes, or see with -dry-run what would be lost")
	}
	r, err := s.one()
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.count(r)
	}
	e, err := r.erase(c.User)
	if err != nil {
		return fmt.Errorf("%s: erase: %w", r.title(), err)
	}
	return c.follow(r, e)
}

// erase erases a user, under an id minted here, so that asking again does not do it twice.
func (r *region) erase(user string) (*erasure, error) {
	id, err := events.NewClock(time.Now).Mint(user)
	if err != nil {
		return nil, err
	}
	e := &erasure{}
	return e, r.do(request{method: "POST", url: r.url + "/v1/ops/users/" + url.PathEscape(user) + "/erase", key: id.String(), into: e})
}

// follow shows which regions acknowledge, until all have or the time is up.
func (c eraseCmd) follow(r *region, e *erasure) error {
	told := map[string]bool{}
	for end := time.Now().Add(c.Wait); ; {
		for _, region := range e.Regions {
			if region.Acknowledged && !told[region.Region] {
				told[region.Region] = true
				r.say("%s: the keys of %s are destroyed", region.Region, c.User)
			}
		}
		waiting := e.waiting()
		if len(waiting) == 0 || time.Now().After(end) {
			return c.result(r, e, waiting)
		}
		if err := sleep(r.ctx, askEvery); err != nil {
			return errors.Join(err, c.result(r, e, waiting))
		}
		next := &erasure{}
		err := r.get("users/"+url.PathEscape(c.User)+"/erasure", next)
		switch {
		case err == nil:
			e = next
		case !isCode(err, "not_erased"): // which it has not folded yet
			return fmt.Errorf("%s: %w", r.title(), err)
		}
	}
}

func (c eraseCmd) result(r *region, e *erasure, waiting []string) error {
	if r.JSON {
		if err := r.json(e); err != nil {
			return err
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("%s is erased; %s will destroy the keys on hearing of it; run it again to see", c.User, strings.Join(waiting, ", "))
	}
	r.say("Nobody can read any more what %s wrote.", c.User)
	return nil
}

// count says how much would be lost.
func (c eraseCmd) count(r *region) error {
	x := &exporter{from: r, all: true, progress: r.progress(), start: time.Now()}
	defer x.progress.end()
	lost, rooms := 0, map[events.Stream]bool{}
	err := x.log(func(e events.Event) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if e.Actor == c.User && e.Personal() {
			lost++
			if kind, _ := e.Stream.Split(); kind == events.KindRoom {
				rooms[e.Stream] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.progress.end()
	if r.JSON {
		return r.json(map[string]any{"user": c.User, "events": lost, "rooms": len(rooms)})
	}
	r.say("%s has written %s messages, edits and profiles, in %s rooms. Nobody could read them any more.", c.User, thousands(int64(lost)), thousands(int64(len(rooms))))
	return nil
}
