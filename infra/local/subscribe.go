package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The pace of a subscription.
const (
	ssePage      = 200              // entries read at once; a slow subscriber holds no more
	sseKeepAlive = 15 * time.Second // between comments while there is nothing else to say
	ssePatience  = 30 * time.Second // for a subscriber who does not take what is sent
)

// subscription is one subscriber of a bus.
type subscription struct {
	region string
	bus    *bus
	types  []string // only these detail types, "message.*" for all that begin so; none: all but replays
	after  uint64   // the number of the last entry she has
	out    http.ResponseWriter
}

// serve sends entries as server-sent events until the subscriber leaves, cannot be written to,
// or the bus closes. She reads from the archive at her own pace.
func (s *subscription) serve(r *http.Request, closing <-chan struct{}) error {
	h := s.out.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.out.WriteHeader(http.StatusOK)
	if err := s.send([]byte(": the bus of " + s.region + "\n\n")); err != nil {
		return err
	}
	idle := time.NewTicker(sseKeepAlive)
	defer idle.Stop()
	for {
		p, err := s.bus.read(s.after, ssePage)
		if err != nil {
			return err
		}
		text, failed := s.format(r.Context(), p)
		if len(text) > 0 {
			if err := s.send(text); err != nil {
				return err
			}
		}
		if failed != nil { // she comes back and goes on behind what she has
			return failed
		}
		if len(p.entries) > 0 {
			continue
		}
		select {
		case <-p.more:
		case <-idle.C:
			if err := s.send([]byte(": nothing new\n\n")); err != nil {
				return err
			}
		case <-closing:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

// format writes a page, opened, and moves on behind it. A hole is said aloud: an event "reset" tells
// that entries are missing before the next. With an error comes what stands before its entry.
func (s *subscription) format(ctx context.Context, p page) ([]byte, error) {
	var b bytes.Buffer
	if p.reset {
		s.after = p.from
		fmt.Fprintf(&b, "event: reset\nid: %d\ndata: {\"reason\":\"entries after the one you have are no longer in the archive\"}\n\n", s.after)
	}
	for _, e := range p.entries {
		if !s.wants(e.DetailType) {
			s.after = e.number
			continue
		}
		e, err := s.bus.opened(ctx, e)
		if err != nil {
			return b.Bytes(), err
		}
		s.after = e.number
		fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: ", e.number, e.DetailType)
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s.bus.envelope(s.region, e)); err != nil {
			// A detail that is no JSON cannot be wrapped; nobody else puts entries here.
			b.WriteString("null\n")
		}
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// wants says whether the subscriber asked for a detail type. Like a rule for the source parley, one
// that does not ask for a replay by its prefix gets none.
func (s *subscription) wants(detailType string) bool {
	replayed := strings.Contains(detailType, "/")
	if len(s.types) == 0 {
		return !replayed
	}
	for _, t := range s.types {
		if replayed != strings.Contains(t, "/") {
			continue
		}
		prefix, wild := strings.CutSuffix(t, "*")
		if detailType == t || wild && strings.HasPrefix(detailType, prefix) {
			return true
		}
	}
	return false
}

// send writes within the subscriber's patience.
func (s *subscription) send(text []byte) error {
	control := http.NewResponseController(s.out)
	if err := control.SetWriteDeadline(time.Now().Add(ssePatience)); err != nil {
		return err
	}
	if _, err := s.out.Write(text); err != nil {
		return err
	}
	return control.Flush()
}

// subscriptionOf reads what a request asks for. The subscriber's place is given by the header
// Last-Event-ID, which a browser sends by itself when it comes back, or by ?after=; without
// either she gets what comes from now on. The error names the parameter at fault.
func subscriptionOf(r *http.Request) (types []string, after *uint64, err error) {
	query := r.URL.Query()
	for _, list := range query["type"] {
		for t := range strings.SplitSeq(list, ",") {
			if t = strings.TrimSpace(t); t == "" {
				return nil, nil, badField("type", "must be an event type such as message.posted, or a beginning such as message.*")
			}
			types = append(types, t)
		}
	}
	field, text := "Last-Event-ID", r.Header.Get("Last-Event-ID")
	if text == "" {
		field, text = "after", query.Get("after")
	}
	if text == "" {
		return types, nil, nil
	}
	number, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return nil, nil, badField(field, "must be the id of an event of this bus, a number; 0 is before all")
	}
	return types, &number, nil
}
