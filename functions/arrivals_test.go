package functions

import (
	"testing"

	"parley/events"
	"parley/projections"
)

// An arrival wakes those who wait for its stream and those whose rooms it changes, and nobody else.
func TestArrivalWakesWhomItConcerns(t *testing.T) {
	t.Parallel()
	room, other := events.RoomStream("01J00000000000000000000001"), events.RoomStream("01J00000000000000000000002")
	at := func(s events.Stream, actor string, p events.Payload) projections.Happened {
		return projections.Happened{Event: events.Event{Stream: s, Actor: actor, Payload: p}}
	}
	posted := events.MessagePosted{Text: events.Plain("hello")}
	for what, tt := range map[string]struct {
		arrives projections.Happened
		wakes   bool
	}{
		"in the room":            {at(room, "eve", posted), true},
		"in another room":        {at(other, "eve", posted), false},
		"of the user":            {at(events.UserStream("bob"), "bob", events.RoomRead{}), true},
		"of another user":        {at(events.UserStream("eve"), "eve", events.RoomRead{}), false},
		"the user joins":         {at(other, "bob", events.MemberJoined{User: "bob"}), true},
		"the user is added":      {at(other, "eve", events.MemberJoined{User: "bob"}), true},
		"the user is invited":    {at(other, "eve", events.MemberInvited{User: "bob"}), true},
		"another user is added":  {at(other, "bob", events.MemberJoined{User: "eve"}), false},
		"the user creates":       {at(other, "bob", events.RoomCreated{Name: "Engine"}), true},
		"another user creates":   {at(other, "eve", events.RoomCreated{Name: "Engine"}), false},
		"a room with the user":   {at(other, "eve", events.RoomCreated{Direct: []string{"bob", "eve"}}), true},
		"a room with two others": {at(other, "eve", events.RoomCreated{Direct: []string{"eve", "zoe"}}), false},
	} {
		var a arrivals
		arrived, stop := a.wait([]events.Stream{events.UserStream("bob"), room})
		a.announce([]projections.Happened{tt.arrives, tt.arrives})
		select {
		case <-arrived:
			if !tt.wakes {
				t.Errorf("%s: woken", what)
			}
		default:
			if tt.wakes {
				t.Errorf("%s: not woken", what)
			}
		}
		if stop(); len(a.waits) != 0 {
			t.Errorf("%s: %d streams are still waited for", what, len(a.waits))
		}
	}
}
