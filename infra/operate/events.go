package main

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parley/events"
)

// streamOf is the stream that a command line means: a room by its id, or any stream by its name.
func streamOf(text string) (events.Stream, error) {
	stream := events.Stream(text)
	if !strings.Contains(text, "/") {
		room := text
		if !strings.HasPrefix(text, "direct-") {
			room = strings.ToUpper(text)
		}
		stream = events.RoomStream(room)
	}
	if stream.Validate() != nil {
		return "", usage("%s is no room's id (26 letters and digits) and no stream (room/…, user/…, region/…, ops/…)", strconv.Quote(text))
	}
	return stream, nil
}

// maxPage is how many events a page may have.
const maxPage = 1000

// read yields the events of a stream behind an id, all there are.
func (r *region) read(stream events.Stream, after, asOf string, limit int) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for n := 0; ; {
			size := maxPage
			if limit > 0 {
				size = min(size, limit-n)
			}
			var page eventPage
			if err := r.get("events", &page, "stream", string(stream), "after", after, "as_of", asOf, "limit", strconv.Itoa(size)); err != nil {
				yield(events.Event{}, fmt.Errorf("%s: read %s: %w", r.title(), stream, err))
				return
			}
			for _, e := range page.Events {
				if n++; !yield(e.Event, nil) {
					return
				}
			}
			if page.After == nil || limit > 0 && n >= limit {
				return
			}
			after = *page.After
		}
	}
}

// Run shows the events of a room.
func (c eventsCmd) Run(s *session) error {
	stream, err := streamOf(c.Room)
	if err != nil {
		return err
	}
	r, err := s.one()
	if err != nil {
		return err
	}
	n := 0
	var last events.ID
	for e, err := range r.read(stream, c.After, c.AsOf, c.Limit) {
		if err != nil {
			return err
		}
		if err := s.showEvent(e); err != nil {
			return err
		}
		n, last = n+1, e.ID
	}
	switch {
	case s.JSON:
	case n == 0:
		s.say("There are none.")
	case n == c.Limit:
		s.say("There may be more: -after %s, or -limit 0.", last)
	}
	return nil
}

// showEvent prints an event: on a line for people, or as it is.
func (s *session) showEvent(e events.Event) error {
	if s.JSON {
		return s.json(e)
	}
	data := string(e.Data)
	if utf8.RuneCountInString(data) > 120 {
		data = string([]rune(data)[:119]) + "…"
	}
	s.say("%s  %s  %-15s %-12s %s", e.ID, e.ID.Timestamp().UTC().Format("2006-01-02 15:04:05.000"), e.Type, e.Actor, data)
	return nil
}

// matches reports whether an event is of a type; message.* is all that begin so, "" is all.
func matches(pattern, name string) bool {
	if begin, star := strings.CutSuffix(pattern, "*"); star {
		return strings.HasPrefix(name, begin)
	}
	return pattern == "" || pattern == name
}

// checkType refuses a pattern that no type matches.
func checkType(pattern string) error {
	for _, name := range events.Types() {
		if matches(pattern, name) {
			return nil
		}
	}
	return usage("-type: there is no type %s; there are %s", strconv.Quote(pattern), strings.Join(events.Types(), ", "))
}

// overlap is how far back a tail looks again each time: events of other regions arrive late.
const overlap = 2 * time.Minute
