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

// What an event of each kind costs: one by one, and in a batch of 100 spread over 4 rooms, where
// each event is about another message or user. Feed and journal are the difference: a segment of
// each for every event, or one of the feed for 25 and one of the journal for 100 of them. What a command folds at once the stream function reads again and
// leaves as it is.
var wantCosts = map[string][2]cost{
	"message.posted":             {{1, 3, 2, 0}, {1, 1.17, 2, 0}}, // timeline, feed, journal
	"message.posted in a thread": {{1, 5, 3, 1}, {1, 3.17, 3, 1}}, // and thread, and the timeline's root
	"message.edited":             {{1, 3, 4, 1}, {1, 1.17, 4, 1}},
	"message.deleted":            {{1, 3, 3, 1}, {1, 1.17, 3, 1}},
	"message.pinned":             {{1, 3, 4, 1}, {1, 1.17, 4, 1}},
	"message.unpinned":           {{1, 3, 3, 1}, {1, 1.17, 3, 1}},
	"reaction.added":             {{1, 3, 5, 1}, {1, 1.17, 5, 1}},
	"reaction.removed":           {{1, 3, 3, 1}, {1, 1.17, 3, 1}},
	"room.read":                  {{1, 3, 4, 2}, {1, 2.07, 4, 2}}, // inbox, and the user's own feed, whose end is looked for
	"room.created":               {{1, 5, 3, 4}, {1, 4.09, 3, 4}}, // room, member twice, and the room's own feed
	"room.created direct":        {{1, 7, 7, 6}, {1, 6.09, 7, 6}}, // and a second member
	"room.updated":               {{1, 3, 3, 1}, {1, 1.13, 3, 0.04}},
	"room.archived":              {{1, 3, 3, 1}, {1, 1.13, 3, 0.04}},
	"room.unarchived":            {{1, 3, 3, 1}, {1, 1.17, 3, 0.04}},
	"member.joined":              {{1, 4, 4, 2}, {1, 2.19, 4, 2}}, // member twice
	"member.left":                {{1, 4, 4, 2}, {1, 2.19, 4, 2}},
	"member.role_changed":        {{1, 4, 5, 2}, {1, 2.19, 5, 2}},
	"member.banned":              {{1, 4, 5, 2}, {1, 2.15, 5, 2}},
	"member.unbanned":            {{1, 4, 5, 2}, {1, 2.19, 5, 2}},
	"user.profile_set":           {{1, 3, 1, 2}, {1, 2.07, 1, 2}},
	"region.beat":                {{1, 2, 0, 1}, {}},              // beat, journal
	"event.late":                 {{1, 2, 1, 0}, {1, 0.13, 1, 0}}, // feed, journal; the read is this test's
	"ops.acted":                  {{1, 0, 0, 0}, {1, 0, 0, 0}},
	"user.erased":                {{1, 3, 0, 2}, {1, 2.07, 0, 2}}, // that it is acknowledged, one more of the log, is not in it
}

// What a message may cost in one region, all told. When it comes alone: log, timeline, feed and
// journal. Without the journal a client who was away would have to look into each of her rooms.
const (
	mostSparse = 4
	mostFull   = 2.2
)

// A change that makes an event cost more, or less, shows here.
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
					t.Errorf("a message costs %.2f write units, at most %.1f are meant", got.writes(), most)
				}
			})
		}
	}
}

// Whoever adds a type of event must say what it costs.
func TestUnitsOfAllTypes(t *testing.T) {
	var names []string
	for _, k := range kinds() {
		name, _, _ := strings.Cut(k.name, " ")
		names = append(names, name)
	}
	for _, name := range events.Types() {
		if !slices.Contains(names, name) {
			t.Errorf("nothing says what %s costs", name)
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
			t.Errorf("in batches of %d a message costs %.2f write units, at most %.1f are meant", batch, got, most)
		}
	}
}
