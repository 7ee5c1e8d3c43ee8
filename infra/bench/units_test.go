package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// wantCosts is what an event of each kind costs: one by one, and in a batch of 100 spread over 4 rooms,
// where each event is about another message or user. The feed makes the difference: a segment for each
// event, or one of 3 KB for the 25 events of a room. Its head is read once for each room and batch, half
// a unit. What a command has folded already, the stream function reads again and leaves unchanged. Of
// events of which the latest wins, two read units of the command find the one that the new one must sort
// after.
var wantCosts = map[string][2]cost{
	"message.posted":               {{1, 2, 2, 0.5}, {1, 1.12, 2, 0.02}},     // timeline, feed
	"message.posted, id by client": {{1, 2, 2.5, 0.5}, {1, 1.12, 2.5, 0.02}}, // and a look for the id, that may be stale
	"message.posted in a thread":   {{1, 4, 3, 1.5}, {1, 3.12, 3, 1.04}},     // and thread, and the timeline's root
	"message.edited":               {{1, 2, 6, 1.5}, {1, 1.12, 6, 1.04}},
	"message.deleted":              {{1, 2, 3, 1.5}, {1, 1.12, 3, 1.04}},
	"message.pinned":               {{1, 2, 6, 1.5}, {1, 1.12, 6, 1.04}},
	"message.unpinned":             {{1, 2, 5, 1.5}, {1, 1.12, 5, 1.04}},
	"reaction.added":               {{1, 2, 7, 1.5}, {1, 1.12, 7, 1.04}},
	"reaction.removed":             {{1, 2, 5, 1.5}, {1, 1.12, 5, 1.04}},
	"room.read":                    {{1, 2, 6, 1.5}, {1, 2, 7, 1.5}}, // inbox, and the user's own feed; the room's feed is read for what was seen
	"room.marked_unread":           {{1, 2, 5, 1.5}, {1, 2, 5, 1.5}},
	"room.created":                 {{1, 5, 3, 4}, {1, 5, 3, 4}},     // room, member twice, and the feeds of the room and of memberships
	"room.created direct":          {{1, 8, 7, 6.5}, {1, 8, 7, 6.5}}, // and a second member
	"room.updated":                 {{1, 2, 5, 1.5}, {1, 1.12, 5, 0.06}},
	"room.archived":                {{1, 2, 5, 1.5}, {1, 1.12, 5, 0.06}},
	"room.unarchived":              {{1, 2, 5, 1.5}, {1, 1.12, 5, 0.06}},
	"member.invited":               {{1, 4, 7, 3}, {1, 3.12, 7, 2.52}}, // member, the invitation, and both feeds; without the count of contacts
	"member.joined":                {{1, 4, 6, 3}, {1, 3.12, 6, 2.52}}, // member twice
	"member.left":                  {{1, 4, 6, 3}, {1, 3.12, 6, 2.52}},
	"member.role_changed":          {{1, 4, 7, 3}, {1, 3.12, 7, 2.52}},
	"member.banned":                {{1, 4, 7, 3}, {1, 3.12, 7, 2.52}},
	"member.unbanned":              {{1, 4, 7, 3}, {1, 3.12, 7, 2.54}},
	"user.profile_set":             {{1, 2, 3, 1.5}, {1, 2, 3, 1.5}},
	"region.beat":                  {{1, 1, 0, 1}, {}},                   // it has no feed
	"event.late":                   {{1, 1, 1, 0.5}, {1, 0.12, 1, 0.04}}, // feed; the read is this test's
	"ops.acted":                    {{1, 0, 0, 0}, {1, 0, 0, 0}},
	"user.erased":                  {{1, 2, 0, 1.5}, {1, 2, 0, 1.5}}, // that it is acknowledged, one more of the log, is not in it
}

// The most that a message may cost in one region, in write units. Alone: log, timeline and feed.
const (
	mostSparse = 3
	mostFull   = 2.12
)

// TestUnits fails if an event costs more or less than wantCosts.
func TestUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it counts, for a minute")
	}
	place := dynamotest.Open(t)
	place.Client = dynamolocal.NewClient()
	defer place.Client.CloseIdleConnections()
	for _, k := range kinds() {
		for i, batch := range batches[:2] {
			if batch > 1 && k.alone {
				continue
			}
			t.Run(fmt.Sprint(k.name, "/", batch), func(t *testing.T) {
				got, err := k.measure(t.Context(), place, batch)
				if err != nil {
					t.Fatal(err)
				}
				if want := wantCosts[k.name][i]; got != want {
					t.Errorf("it costs\n     %s\ngot  %s\nwant %s", heading, got, want)
				}
				if most := []float64{mostSparse, mostFull}[i]; k.name == "message.posted" && got.writes() > most {
					t.Errorf("a message costs %.2f write units, want at most %.1f", got.writes(), most)
				}
			})
		}
	}
}

// TestUnitsOfAllTypes fails for a type of event without a cost.
func TestUnitsOfAllTypes(t *testing.T) {
	var names []string
	for _, k := range kinds() {
		name, _, _ := strings.Cut(strings.ReplaceAll(k.name, ",", ""), " ")
		names = append(names, name)
	}
	for _, name := range events.Types() {
		if !slices.Contains(names, name) {
			t.Errorf("no kind measures the cost of %s", name)
		}
	}
}

func TestUnitsOfAConversation(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it counts, for a minute")
	}
	lines := generate(1000, 3, 10)
	costs, err := measureConversation(t.Context(), dynamotest.Open(t), lines)
	if err != nil {
		t.Fatal(err)
	}
	for batch, most := range map[int]float64{1: mostSparse, 100: mostFull, 1000: mostFull} {
		if got := costs[batch].writes(); got > most || got < 2 {
			t.Errorf("in batches of %d a message costs %.2f write units, want at most %.1f", batch, got, most)
		}
	}
}

// TestSyncUnits fails if a client that catches up reads more or less than COSTS.md counts with, or if that
// depends on what happened in other rooms.
func TestSyncUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it counts, for some seconds")
	}
	place := dynamotest.Open(t)
	place.Client = dynamolocal.NewClient()
	defer place.Client.CloseIdleConnections()
	for _, tt := range []struct {
		rooms, others int
		want          syncCost
	}{
		{syncFew, 0, syncCost{News: 53.5, Nothing: 13.5, Subscribe: 16.5, Ping: 13.5, Rooms: 87.5, RoomsUnread: 106.5}},
		{syncFew, 2000, syncCost{News: 53.5, Nothing: 13.5, Subscribe: 16.5, Ping: 13.5, Rooms: 87.5, RoomsUnread: 106.5}},
		{10 * syncFew, 0, syncCost{Nothing: 116, Subscribe: 119, Ping: 106, Rooms: 831}},
	} {
		got, err := measureSync(t.Context(), place, tt.rooms, tt.others)
		if err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("%d rooms, %d events in others: got %+v, want %+v", tt.rooms, tt.others, got, tt.want)
		}
	}
}
