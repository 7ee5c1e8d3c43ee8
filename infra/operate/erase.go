package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// Run gives a room an owner.
func (c ownerCmd) Run(s *session) error {
	if err := events.ValidateUser("the user's id", c.User); err != nil {
		return usageError{err}
	}
	stream, err := parseStream(c.Room)
	if err != nil {
		return err
	}
	kind, room := stream.Split()
	if kind != events.KindRoom {
		return usage("%s is not a room", c.Room)
	}
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	var out wire.Accepted
	path := "/v1/ops/rooms/" + url.PathEscape(room) + "/owners/" + url.PathEscape(c.User)
	if err := r.do(r.ctx, request{method: "PUT", url: r.url + path, into: &out}); err != nil {
		return fmt.Errorf("%s: owner: %w", r.title(), err)
	}
	if s.JSON {
		return s.printJSON(out)
	}
	s.printf("%s is an owner of %s.", c.User, room)
	return nil
}

// erasureInterval is how often the acknowledgements of the regions are read.
const erasureInterval = 300 * time.Millisecond

// Run erases a user and waits until all regions have acknowledged.
func (c eraseCmd) Run(s *session) error {
	if err := events.ValidateUser("the user's id", c.User); err != nil {
		return usageError{err}
	}
	if c.DryRun == c.Yes {
		return usage("erase cannot be undone: confirm it with -yes, or see with -dry-run what would become unreadable")
	}
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	path := "/v1/ops/users/" + url.PathEscape(c.User)
	query := "?force=" + strconv.FormatBool(c.Force)
	if c.DryRun {
		e := &wire.Erasure{}
		if err := r.do(r.ctx, request{method: "POST", url: r.url + path + "/erase" + query + "&dry_run=true", into: e}); err != nil {
			return c.refused(r, err)
		}
		return c.count(r, e)
	}
	id, err := r.mint(c.User) // so that a retry does not append a second event
	if err != nil {
		return err
	}
	e := &wire.Erasure{}
	if err := r.do(r.ctx, request{method: "POST", url: r.url + path + "/erase" + query, key: id.String(), into: e}); err != nil {
		return c.refused(r, err)
	}
	shown := map[string]bool{}
	for end := time.Now().Add(c.Wait); ; {
		for _, region := range e.Regions {
			if region.Acknowledged && !shown[region.Region] {
				shown[region.Region] = true
				r.printf("%s: the keys of %s are destroyed", region.Region, c.User)
			}
		}
		waiting := unacknowledged(e)
		if len(waiting) == 0 || time.Now().After(end) {
			return c.printResult(r, e, waiting)
		}
		if err := events.Sleep(r.ctx, erasureInterval); err != nil {
			return errors.Join(err, c.printResult(r, e, waiting))
		}
		next := &wire.Erasure{}
		err := r.get("users/"+url.PathEscape(c.User)+"/erasure", next)
		switch {
		case err == nil:
			e = next
		case !hasCode(err, "not_erased"): // until the region has folded its own event
			return fmt.Errorf("%s: %w", r.title(), err)
		}
	}
}

// refused says why nothing was erased.
func (c eraseCmd) refused(r *region, err error) error {
	if hasCode(err, "user_not_found") {
		return fmt.Errorf("%s: erase: no event of the user %q is known, and no room: check the user id; -force erases it all the same, so that nobody can ever use it", r.title(), c.User)
	}
	return fmt.Errorf("%s: erase: %w", r.title(), err)
}

// unacknowledged returns the regions that have not yet destroyed the keys.
func unacknowledged(e *wire.Erasure) (names []string) {
	for _, r := range e.Regions {
		if !r.Acknowledged {
			names = append(names, r.Region)
		}
	}
	return names
}

func (c eraseCmd) printResult(r *region, e *wire.Erasure, waiting []string) error {
	if r.JSON {
		if err := r.printJSON(e); err != nil {
			return err
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("%s is erased, but not yet acknowledged by %s: the keys are destroyed there when the event arrives; "+
			"run the command again to check", c.User, strings.Join(waiting, ", "))
	}
	r.printf("The messages and the profile of %s can no longer be read. Names and topics that %s gave rooms, and reactions, stay readable: -dry-run lists the former.", c.User, c.User)
	return nil
}

// count prints how much an erasure would make unreadable, or when it has, and what it leaves: the names and topics
// that the user ever gave rooms, which are not encrypted.
func (c eraseCmd) count(r *region, e *wire.Erasure) error {
	var mu sync.Mutex
	contents, rooms, left := 0, map[events.Stream]bool{}, []wire.Unsealed{}
	err := readLog(r, func(e events.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if e.Actor != c.User {
			return nil
		}
		var name, topic *string
		switch p := e.Payload.(type) {
		case events.RoomCreated:
			name, topic = &p.Name, &p.Topic
		case events.RoomUpdated:
			name, topic = p.Name, p.Topic
		}
		for _, text := range []struct {
			field string
			value *string
		}{{"name", name}, {"topic", topic}} {
			if text.value != nil && *text.value != "" {
				left = append(left, wire.Unsealed{Room: e.Stream.Name(), Field: text.field, Text: *text.value})
			}
		}
		if e.Personal() {
			contents++
			if kind, _ := e.Stream.Split(); kind == events.KindRoom {
				rooms[e.Stream] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(left, func(a, b wire.Unsealed) int { return strings.Compare(a.Room, b.Room) })
	if r.JSON {
		out := map[string]any{"user": c.User, "events": contents, "rooms": len(rooms), "unsealed": left}
		if e.Event != "" {
			out["event"], out["by"] = e.Event, e.By
		}
		return r.printJSON(out)
	}
	what := fmt.Sprintf("%s messages, edits and profiles, in %d rooms", thousands(int64(contents)), len(rooms))
	if id, err := events.ParseID("event", e.Event); err == nil {
		r.printf("%s was erased on %s by %s: %s cannot be read any more.", c.User, id.Timestamp().UTC().Format("2006-01-02 at 15:04:05 UTC"), e.By, what)
	} else {
		r.printf("%s wrote %s. All would become unreadable.", c.User, what)
	}
	if len(left) > 0 {
		r.printf("%s names and topics that %s gave rooms are not encrypted, and stay readable in the log; an admin of a room can change what it shows:", thousands(int64(len(left))), c.User)
	}
	for _, text := range left {
		r.printf("%s  %s  %s", text.Room, text.Field, text.Text)
	}
	return nil
}
