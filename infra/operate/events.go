package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parley/events"
	"parley/functions/wire"
)

const (
	// tailInterval is how often tail reads a room.
	tailInterval = 500 * time.Millisecond
	// tailOverlap is how far back it reads each time, because events of other regions arrive late.
	tailOverlap = 2 * time.Minute
)

// parseStream returns the stream for an argument: a room's id, or the name of any stream.
func parseStream(text string) (events.Stream, error) {
	stream := events.Stream(text)
	if !strings.Contains(text, "/") {
		room := text
		if !strings.HasPrefix(text, "direct-") {
			room = strings.ToUpper(text)
		}
		stream = events.RoomStream(room)
	}
	if stream.Validate() != nil {
		return "", usage("%s is neither the id of a room (26 letters and digits) nor a stream (room/…, user/…, region/…, ops/…)", strconv.Quote(text))
	}
	return stream, nil
}

// readEvents yields the events of a stream after an id, as of a time, at most limit; 0 is all. More are
// further parameters, pairs of name and value.
func readEvents(r *region, stream events.Stream, after, asOf string, limit int, more ...string) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		split := func(p wire.EventPage) ([]wire.RawEvent, *string) { return p.Events, p.After }
		for raw, err := range pages(r, "events", after, maxPage, limit, split, append(more, "stream", string(stream), "as_of", asOf)...) {
			var e events.Event
			if err == nil {
				e, err = decodeEvent(raw)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Run shows the events of a room.
func (c eventsCmd) Run(s *session) error {
	stream, err := parseStream(c.Room)
	if err != nil {
		return err
	}
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	n := 0
	var last events.ID
	for e, err := range readEvents(r, stream, c.After, c.AsOf, c.Limit) {
		if err != nil {
			return err
		}
		if err := printEvent(s, e); err != nil {
			return err
		}
		n, last = n+1, e.ID
	}
	switch {
	case n == 0:
		s.printf("No events.")
	case n == c.Limit:
		s.printf("There may be more: use -after %s, or -limit 0.", last)
	}
	return nil
}

// printEvent prints an event: on one line for people, or as JSON.
func printEvent(s *session, e events.Event) error {
	if s.JSON {
		return s.printJSON(e)
	}
	data := string(e.Data)
	if utf8.RuneCountInString(data) > 120 {
		data = string([]rune(data)[:119]) + "…"
	}
	s.printf("%s  %s  %-15s %-12s %s", e.ID, e.ID.Timestamp().UTC().Format("2006-01-02 15:04:05.000"), e.Type, e.Actor, data)
	return nil
}

// matchesType reports whether an event type matches a pattern. message.* matches all types that begin
// with "message.", "" matches all.
func matchesType(pattern, name string) bool {
	if prefix, is := strings.CutSuffix(pattern, "*"); is {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == "" || pattern == name
}

// checkType refuses a pattern that matches no type.
func checkType(pattern string) error {
	for _, name := range events.Types() {
		if matchesType(pattern, name) {
			return nil
		}
	}
	return usage("-type: there is no type %s; the types are %s", strconv.Quote(pattern), strings.Join(events.Types(), ", "))
}

// Run follows a room, or the whole bus of a region of infra/local. Ctrl-C ends it without an error.
func (c tailCmd) Run(s *session) error {
	if err := checkType(c.Type); err != nil {
		return err
	}
	if c.Room == "" && c.Past > 0 {
		return usage("-past needs -room")
	}
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	follow := c.followBus
	if c.Room != "" {
		stream, err := parseStream(c.Room)
		if err != nil {
			return err
		}
		follow = func(r *region) error { return c.followStream(r, stream) }
	}
	if err = follow(r); s.ctx.Err() != nil {
		return nil
	}
	return err
}

// followStream polls a stream. Each poll goes back by tailOverlap, so that events are also shown which
// arrive with an id that is not the latest.
func (c tailCmd) followStream(r *region, stream events.Stream) error {
	known, err := c.showPast(r, stream)
	if err != nil {
		return err
	}
	for {
		recent := map[events.Ref]bool{}
		for e, err := range readEvents(r, stream, tailFloor(), "", 0) {
			if err != nil {
				return err
			}
			recent[e.Ref()] = true
			if !known[e.Ref()] && matchesType(c.Type, e.Type) {
				if err := printEvent(r.session, e); err != nil {
					return err
				}
			}
		}
		known = recent
		if err := events.Sleep(r.ctx, tailInterval); err != nil {
			return err
		}
	}
}

// tailFloor returns the id after which a poll reads.
func tailFloor() string {
	return events.PrecedingID(events.LastID(time.Now().Add(-tailOverlap))).String()
}

// showPast shows the last events of a stream and returns those that exist already.
func (c tailCmd) showPast(r *region, stream events.Stream) (map[events.Ref]bool, error) {
	after := tailFloor()
	if c.Past > 0 {
		after = ""
	}
	known := map[events.Ref]bool{}
	var last []events.Event
	for e, err := range readEvents(r, stream, after, "", 0) {
		if err != nil {
			return nil, err
		}
		known[e.Ref()] = true
		if c.Past > 0 && matchesType(c.Type, e.Type) {
			if last = append(last, e); len(last) > c.Past {
				last = last[1:]
			}
		}
	}
	for _, e := range last {
		if err := printEvent(r.session, e); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// followBus follows the bus of a region of infra/local, as server-sent events.
func (c tailCmd) followBus(r *region) error {
	base := ""
	for _, url := range r.URL {
		if isLoopback(url) {
			base = url
			break
		}
	}
	if base == "" {
		return usage("a deployed region can only be followed room by room: add -room. All its events are on its EventBridge bus")
	}
	params := url.Values{"region": {r.name}}
	if c.Type != "" {
		params.Set("type", c.Type)
	}
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, base+"/local/bus?"+params.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req) // without a time limit
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return problemOf(res)
	}
	for in := bufio.NewReader(res.Body); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: the bus closed the connection: %w", r.title(), err)
		}
		data, is := strings.CutPrefix(line, "data:")
		var entry struct{ Detail json.RawMessage }
		var e events.Event
		if !is || json.Unmarshal([]byte(data), &entry) != nil || e.UnmarshalJSON(entry.Detail) != nil {
			continue
		}
		if err := printEvent(r.session, e); err != nil {
			return err
		}
	}
}
