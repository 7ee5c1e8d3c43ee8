package main

import (
	"slices"
	"strings"
	"testing"

	"parley/events"
	liveclient "parley/functions/live/client"
)

// TestClient talks over sockets and over polls, in different regions.
func TestClient(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	ada := listen(t, s.options("ada", 1))
	polls := s.options("bob", 2)
	polls.NoSocket = true
	bob := listen(t, polls)
	ada.live()
	bob.live()
	if ada.status.Over != liveclient.OverSocket || ada.status.Region != "one" || bob.status.Over != liveclient.OverPoll || bob.status.Region != "two" {
		t.Errorf("ada: %+v, bob: %+v", ada.status, bob.status)
	}
	room := ada.create("Engines")
	bob.join(room)
	question := ada.post(room, "Can it compose music?")
	bob.await("the question", func() bool { return slices.Equal(bob.texts(room), []string{"Can it compose music?"}) })
	answer := bob.post(room, "Of any complexity.")
	if answer.ID.Compare(question.ID) <= 0 {
		t.Error("the answer sorts before the question")
	}
	ada.await("the answer", func() bool { return len(ada.texts(room)) == 2 })
	if err := ada.React(t.Context(), room, answer.ID, "👍"); err != nil {
		t.Error(err)
	}
	if err := bob.Edit(t.Context(), room, answer.ID, "Of any length."); err != nil {
		t.Error(err)
	}
	if err := bob.MarkRead(t.Context(), room, answer.ID); err != nil {
		t.Error(err)
	}
	want := "room.created member.joined message.posted message.posted reaction.added message.edited"
	for _, l := range []*listener{ada, bob} {
		l.await("every kind of event", func() bool {
			var types []string
			for _, e := range l.events[room] {
				types = append(types, e.Type)
			}
			if l == bob { // was not there when the room was created
				types = append([]string{"room.created"}, slices.DeleteFunc(types, func(s string) bool { return s == "room.created" })...)
			}
			slices.Sort(types)
			sorted := strings.Fields(want)
			slices.Sort(sorted)
			return slices.Equal(types, sorted)
		})
	}
	messages, err := bob.Messages(t.Context(), room, liveclient.Page{})
	if err != nil || len(messages) != 2 || messages[1].Text != "Of any length." {
		t.Errorf("messages %+v, %v", messages, err)
	}
	rooms, err := ada.Rooms(t.Context())
	if err != nil || len(rooms) != 1 || rooms[0].Role != events.RoleOwner {
		t.Errorf("rooms %+v, %v", rooms, err)
	}
	if _, err := ada.Send(t.Context(), room, ""); !liveclient.IsProblem(err, "invalid_field") {
		t.Errorf("an empty text: %v", err)
	}
	s.at(1, "eve").join(room)
	eve := listen(t, s.options("eve", 1))
	eve.live()
	ada.Typing(t.Context(), room)
	eve.await("typing", func() bool { return slices.Equal(eve.typing, []string{"ada"}) })
}
