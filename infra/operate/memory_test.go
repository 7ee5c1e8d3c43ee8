package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/events"
	"parley/infra/operate/source"
)

// memoryRegion is a fake region that keeps a log, as far as imports and exports ask.
type memoryRegion struct {
	*fakeRegion
	mu  sync.Mutex
	log map[events.Stream]map[events.ID]events.Event
}

func newMemory(t *testing.T) *memoryRegion {
	m := &memoryRegion{fakeRegion: newFake(t, "eu")}
	m.reset()
	m.answer("GET events", func(r *http.Request) (int, any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return 200, map[string]any{"events": m.events(events.Stream(r.URL.Query().Get("stream"))), "after": nil}
	})
	m.answer("GET log", func(r *http.Request) (int, any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		all := []events.Event{}
		for stream := range m.log {
			if strings.HasPrefix(r.URL.Query().Get("part"), "0/") {
				all = append(all, m.events(stream)...)
			}
		}
		return 200, map[string]any{"events": all, "after": nil}
	})
	m.answer("POST events", func(r *http.Request) (int, any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		var body struct{ Events []events.Event }
		_ = json.NewDecoder(r.Body).Decode(&body) // a test compares what is there
		answer := []any{}
		for _, e := range body.Events {
			answer = append(answer, map[string]any{"id": e.ID.String(), "outcome": m.append(source.Canonical(e))})
		}
		return 201, map[string]any{"events": answer}
	})
	return m
}

func (m *memoryRegion) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = map[events.Stream]map[events.ID]events.Event{}
}

// append adds an event and returns the outcome.
func (m *memoryRegion) append(e events.Event) string {
	there, has := m.log[e.Stream][e.ID]
	switch {
	case has && events.Same(there, e):
		return "repeat"
	case has:
		return "refused"
	}
	if m.log[e.Stream] == nil {
		m.log[e.Stream] = map[events.ID]events.Event{}
	}
	m.log[e.Stream][e.ID] = e
	return "stored"
}

// events returns the events of a stream in order.
func (m *memoryRegion) events(stream events.Stream) []events.Event {
	all := []events.Event{}
	for _, e := range m.log[stream] {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b events.Event) int { return a.ID.Compare(b.ID) })
	return all
}

// size returns the number of events.
func (m *memoryRegion) size() (n int) {
	for _, stream := range m.log {
		n += len(stream)
	}
	return n
}
