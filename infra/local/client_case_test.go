package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/events"
)

// TestClientCursor: a client continues at the cursor of an earlier one, also in another region. With an
// invalid cursor it starts again with a reset.
func TestClientCursor(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	bob := s.at(1, "bob")
	room := bob.create("Hello")
	for i := 1; i <= 3; i++ {
		s.at(i, "ada").join(room)
	}
	first := listen(t, s.options("ada", 1))
	first.live()
	first.post(room, "first")
	first.await("ada's own message", func() bool { return len(first.texts(room)) == 1 })
	first.stop()
	var want []string
	for i := range 30 {
		text := fmt.Sprint("message ", i)
		bob.post(room, text)
		want = append(want, text)
	}
	for at := 1; at <= 2; at++ {
		o := s.options("ada", at)
		o.Cursor = first.Cursor()
		next := listen(t, o)
		next.await("what came meanwhile", func() bool {
			got := slices.DeleteFunc(next.texts(room), func(text string) bool { return text == "first" }) // may be delivered again in another region
			slices.Sort(got)
			all := slices.Sorted(slices.Values(want))
			return slices.Equal(got, all)
		})
		if next.resets > 0 {
			t.Errorf("region %d: %d resets", at, next.resets)
		}
	}
	o := s.options("ada", 1)
	o.Cursor = "none"
	again := listen(t, o)
	again.live()
	if again.resets != 1 || len(again.has(room)) != 31 {
		t.Errorf("%d resets, %d messages", again.resets, len(again.has(room)))
	}
}

// TestClientLargeEvent: a message that does not fit into a frame is delivered with its text.
func TestClientLargeEvent(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	ada := listen(t, s.options("ada", 1))
	ada.live()
	room := ada.create("Hello")
	ada.await("the room", func() bool { return len(ada.events[room]) == 1 })
	large := "<" + strings.Repeat("\x01", 8000) // 48,000 bytes of JSON
	s.at(1, "ada").post(room, "before")
	s.at(1, "ada").post(room, large)
	s.at(1, "ada").post(room, "after")
	ada.await("all three", func() bool { return slices.Equal(ada.texts(room), []string{"before", large, "after"}) })
}

// TestClientLeaves: a client that left a room gets no events of it until it joins again.
func TestClientLeaves(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(1, "ada")
	room := ada.create("Hello")
	bob := listen(t, s.options("bob", 1))
	bob.live()
	bob.join(room)
	ada.post(room, "hello bob")
	bob.await("hello", func() bool { return slices.Equal(bob.texts(room), []string{"hello bob"}) })
	if err := bob.Leave(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	left := func() bool {
		return slices.ContainsFunc(bob.events[room], func(e events.Event) bool { return e.Type == "member.left" })
	}
	bob.await("the leaving", left)
	ada.post(room, "he is gone")
	other := bob.create("Alone") // in the same region, so its events come later
	bob.await("the other room", func() bool { return len(bob.events[other]) > 0 })
	bob.mu.Lock()
	if texts := bob.texts(room); len(texts) != 1 {
		t.Errorf("after leaving bob got %q", texts)
	}
	bob.mu.Unlock()
	bob.join(room)
	ada.post(room, "welcome back")
	bob.await("the welcome", func() bool { return slices.Contains(bob.texts(room), "welcome back") })
	bob.live()
}

// TestClientOneIDTwoContents: clients get both events that two regions accepted under one id, and load the
// same message everywhere.
func TestClientOneIDTwoContents(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	here, there := s.at(1, "ada"), s.at(2, "ada")
	room := here.create("Hello")
	there.soon("GET", "/v1/rooms/"+room, nil)
	listeners := []*listener{listen(t, s.options("ada", 1)), listen(t, s.options("ada", 2)), listen(t, s.options("ada", 3))}
	for _, l := range listeners {
		l.live()
	}
	has := func(l *listener, want ...string) func() bool {
		return func() bool {
			texts := l.texts(room)
			return !slices.ContainsFunc(want, func(text string) bool { return !slices.Contains(texts, text) })
		}
	}
	s.state("one", stateIsolated)
	id, err := events.ParseID("id", here.mint())
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/rooms/" + room + "/messages/" + id.String()
	here.must("PUT", path, map[string]string{"text": "first"})
	listeners[0].await("the first", has(listeners[0], "first"))
	there.must("PUT", path, map[string]string{"text": "second"})
	s.state("one", stateUp)
	shows := map[string]bool{}
	for _, l := range listeners {
		l.await("both", has(l, "first", "second"))
		m, err := l.Message(t.Context(), room, id)
		if err != nil {
			t.Fatal(err)
		}
		shows[m.Text] = true
	}
	if len(shows) != 1 {
		t.Errorf("clients load %v", shows)
	}
}
