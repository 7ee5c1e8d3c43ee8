package client

import (
	"encoding/json"
	"testing"

	"parley/events"
)

// TestMemory knows what was told, however it is spelled, and forgets only the oldest.
func TestMemory(t *testing.T) {
	m := newMemory(3)
	judge := func(e events.Event) verdict {
		v, key, digest := m.judge(happened{event: e})
		m.remember(key, digest)
		return v
	}
	first := posted(t, modelRooms[0])
	if got := judge(first); got != fresh {
		t.Errorf("a new event is %d", got)
	}
	if got := judge(first); got != repeat {
		t.Errorf("one that comes again is %d", got)
	}
	other := first
	other.Stream = events.RoomStream(modelRooms[1])
	if got := judge(other); got != fresh {
		t.Errorf("one with its id in another room is %d", got)
	}
	other = first
	other.Region, other.Data = "two", json.RawMessage(`{"text":"bye"}`)
	if got := judge(other); got != replaced {
		t.Errorf("one with other content is %d", got)
	}
	if got, _, _ := m.judge(happened{event: first, partial: true}); got != repeat {
		t.Errorf("one without its data is %d", got)
	}
	for range 2 {
		judge(posted(t, modelRooms[0]))
	}
	if got := judge(first); got != fresh {
		t.Errorf("one that should be forgotten is %d", got)
	}
	if len(m.digests) != 3 || len(m.order) != 3 {
		t.Errorf("it remembers %d events", len(m.digests))
	}
}

// TestSpelling takes what encoders of JSON may escape as the same.
func TestSpelling(t *testing.T) {
	m := newMemory(10)
	e := posted(t, modelRooms[0])
	e.Data = json.RawMessage(`{"text":"a<b & \u2028"}`)
	_, key, digest := m.judge(happened{event: e})
	m.remember(key, digest)
	e.Data = json.RawMessage(`{"text":"a\u003cb \u0026 ` + "\u2028" + `"}`)
	if got, _, _ := m.judge(happened{event: e}); got != repeat {
		t.Errorf("it is %d", got)
	}
}
