package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"parley/events"
)

// tailEvery is how often a room is asked for more.
const tailEvery = 500 * time.Millisecond

// Run follows a room, or, of infra/local, all there is.
func (c tailCmd) Run(s *session) error {
	if err := checkType(c.Type); c.Type != "" && err != nil {
		return err
	}
	if c.Room == "" && c.Past > 0 {
		return usage("-past goes with -room")
	}
	r, err := s.one()
	if err != nil {
		return err
	}
	if c.Room != "" {
		stream, err := streamOf(c.Room)
		if err != nil {
			return err
		}
		err = c.follow(r, stream)
		if s.ctx.Err() != nil {
			return nil // Ctrl-C is how one leaves
		}
		return err
	}
	err = c.bus(r)
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// follow polls a stream. What arrives with an id that is not the latest is seen, too, if it is not
// older than the overlap.
func (c tailCmd) follow(r *region, stream events.Stream) error {
	known, err := c.past(r, stream)
	if err != nil {
		return err
	}
	for {
		floor := events.PrecedingID(events.LastID(time.Now().Add(-overlap))).String()
		fresh := map[events.ID]bool{}
		for e, err := range r.read(stream, floor, "", 0) {
			if err != nil {
				return err
			}
			fresh[e.ID] = true
			if !known[e.ID] && matches(c.Type, e.Type) {
				if err := r.showEvent(e); err != nil {
					return err
				}
			}
		}
		known = fresh
		if err := sleep(r.ctx, tailEvery); err != nil {
			return err
		}
	}
}

// past notes what is there already, and shows the last of it.
func (c tailCmd) past(r *region, stream events.Stream) (map[events.ID]bool, error) {
	known := map[events.ID]bool{}
	after := events.PrecedingID(events.LastID(time.Now().Add(-overlap))).String()
	if c.Past > 0 {
		after = ""
	}
	var last []events.Event
	for e, err := range r.read(stream, after, "", 0) {
		if err != nil {
			return nil, err
		}
		known[e.ID] = true
		if c.Past > 0 && matches(c.Type, e.Type) {
			if last = append(last, e); len(last) > c.Past {
				last = last[1:]
			}
		}
	}
	for _, e := range last {
		if err := r.showEvent(e); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// bus follows what infra/local puts on a region's bus. A deployed region's bus is EventBridge's.
func (c tailCmd) bus(r *region) error {
	for _, base := range r.URL {
		if !isLoopback(base) {
			continue
		}
		to := base + "/local/bus?region=" + url.QueryEscape(r.name)
		if c.Type != "" {
			to += "&type=" + url.QueryEscape(c.Type)
		}
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, to, nil)
		if err != nil {
			return err
		}
		res, err := (&http.Client{}).Do(req) // without an end
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return problemOf(res)
		}
		return c.frames(r, bufio.NewReader(res.Body))
	}
	return usage("a deployed region is followed room by room: give -room. All of it is on its bus, in EventBridge")
}

// frames reads server-sent events: lines of data that end with an empty line.
func (c tailCmd) frames(r *region, in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: the bus ended: %w", r.title(), err)
		}
		data, is := strings.CutPrefix(line, "data:")
		if !is {
			continue
		}
		var entry struct {
			Detail json.RawMessage `json:"detail"`
		}
		var e events.Event
		if json.Unmarshal([]byte(data), &entry) != nil || e.UnmarshalJSON(entry.Detail) != nil {
			continue
		}
		if err := r.showEvent(e); err != nil {
			return err
		}
	}
}
