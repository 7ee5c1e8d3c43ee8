package dynamolog

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
)

// content is all that a log holds of a stream, as it is stored.
func content(t fatal, l *Log, room events.Stream) []events.Stored {
	t.Helper()
	all, err := collect(l.Read(context.Background(), room, events.Range{}))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	var stored []events.Stored
	for _, e := range all {
		stored = append(stored, events.Encode(e))
	}
	return stored
}

// drawEvents draws events that often meet under one id: of other content, of another region, of
// another spelling, and such as no release can read.
func drawEvents(t *rapid.T, room events.Stream) []events.Event {
	ids := []events.ID{newID(t), newID(t), newID(t)}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.Event {
		e, err := events.Decode(events.Stored{
			Stream: string(room),
			ID:     rapid.SampledFrom(ids).Draw(t, "id").String(),
			Type:   rapid.SampledFrom([]string{"message.posted/1", "message.posted/1", "message.sung/1"}).Draw(t, "type"),
			Actor:  rapid.SampledFrom([]string{"ada", "ada", "bob", "\xff"}).Draw(t, "actor"),
			Region: rapid.SampledFrom([]string{"asia", "europe"}).Draw(t, "region"),
			Data:   rapid.SampledFrom([]string{`{"text":"a"}`, `{"text": "a"}`, `{"text":"é"}`, "", "\x00", "\xff"}).Draw(t, "data"),
		})
		if err != nil {
			t.Fatalf("make an event: %v", err)
		}
		return e
	}), 0, 6).Draw(t, "events")
}

// TestReplicateConverges: tables that were given the same events, in any order, in any groups, any
// number of times, from one goroutine or two, are equal.
func TestReplicateConverges(t *testing.T) {
	logs := []*Log{logAt(newPlace(t)), logAt(newPlace(t))}
	rapid.Check(t, func(t *rapid.T) {
		room := newRoom(t)
		given := drawEvents(t, room)
		for _, l := range logs {
			order := rapid.Permutation(append(given, given...)).Draw(t, "order")
			half := rapid.IntRange(0, len(order)).Draw(t, "half")
			var group errgroup.Group
			if rapid.Bool().Draw(t, "one after the other") {
				group.SetLimit(1)
			}
			for _, part := range [][]events.Event{order[:half], order[half:]} {
				group.Go(func() error { return l.Replicate(context.Background(), part) })
			}
			if err := group.Wait(); err != nil {
				t.Fatalf("%v", err)
			}
		}
		a, b := content(t, logs[0], room), content(t, logs[1], room)
		if d := cmp.Diff(a, b); d != "" {
			t.Fatalf("tables differ:\n%s", d)
		}
		ids := map[events.ID]bool{}
		for _, e := range given {
			ids[e.ID] = true
			if !slices.ContainsFunc(a, func(s events.Stored) bool { return s.ID == e.ID.String() }) {
				t.Fatalf("an event is missing")
			}
		}
		if len(a) != len(ids) {
			t.Fatalf("%d events under %d ids", len(a), len(ids))
		}
	})
}

// TestReplicate tells which of two events stays, and that nothing is written where nothing
// changes: a write is a record of the stream, and would be replicated in turn.
func TestReplicate(t *testing.T) {
	place := newPlace(t)
	good := logAt(place)
	room, id := newRoom(t), newID(t)
	for _, step := range []struct {
		name   string
		region string
		text   string
		stays  bool
		puts   int
	}{
		{"new", "europe", "hello", true, 1},
		{"the same", "europe", "hello", true, 1},
		{"of a lesser region", "asia", "zzz", false, 1},
		{"the same of a lesser region", "asia", "hello", false, 1},
		{"lesser content", "europe", "hell", false, 1},
		{"greater content", "europe", "other", true, 2},
		{"the same of a greater region", "north", "other", true, 2},
		{"other content of a greater region", "south", "a", true, 2},
	} {
		before := content(t, good, room)
		var c calls
		e := message(t, room, id, step.region, step.text)
		if err := logAt(dynamotest.Spoil(t, place, c.fault)).Replicate(t.Context(), []events.Event{e}); err != nil {
			t.Fatal(err)
		}
		want := before
		if step.stays {
			want = []events.Stored{events.Encode(e)}
		}
		if d := cmp.Diff(want, content(t, good, room)); d != "" {
			t.Errorf("%s:\n%s", step.name, d)
		}
		if n := len(c.of("PutItem")); n != step.puts {
			t.Errorf("%s: %d calls, want %d", step.name, n, step.puts)
		}
	}
	bad := newMessage(t, room)
	bad.Stream = "attic"
	if err := good.Replicate(t.Context(), []events.Event{bad}); events.IsInvalid(err) == nil {
		t.Errorf("replicated an invalid stream: %v", err)
	}
	if err := good.Replicate(t.Context(), nil); err != nil {
		t.Errorf("replicate nothing: %v", err)
	}
}

// TestReplicateOverDamage: any event is better than an item that is none.
func TestReplicateOverDamage(t *testing.T) {
	l := logAt(newPlace(t))
	for _, name := range []string{attrType, attrActor, attrRegion, attrData} {
		for _, value := range []types.AttributeValue{nil, number("1")} {
			e := newMessage(t, newRoom(t))
			item := itemOf(e)
			if item[name] = value; value == nil {
				delete(item, name)
			}
			putItem(t, l, item)
			if err := l.Replicate(t.Context(), []events.Event{e}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]events.Stored{events.Encode(e)}, content(t, l, e.Stream)); d != "" {
				t.Errorf("%s was %v:\n%s", name, value, d)
			}
		}
	}
}

// TestReplicateRace: writers that overtake one another between look and write cannot undo the
// greater event.
func TestReplicateRace(t *testing.T) {
	l := logAt(newPlace(t))
	const writers = 16
	for range 10 {
		room, id := newRoom(t), newID(t)
		var group errgroup.Group
		for i := range writers {
			e := message(t, room, id, "here", fmt.Sprintf("content %02d", i))
			group.Go(func() error { return l.Replicate(t.Context(), []events.Event{e}) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		want := events.Encode(message(t, room, id, "here", fmt.Sprintf("content %02d", writers-1)))
		if d := cmp.Diff([]events.Stored{want}, content(t, l, room)); d != "" {
			t.Fatalf("not the greatest is there:\n%s", d)
		}
	}
}

// TestReplicateFaults: a call that failed, whether it happened or not, and was sent again changes
// nothing of what stays.
func TestReplicateFaults(t *testing.T) {
	run, wait := sideBySide(t)
	defer wait()
	place := newPlace(t)
	good := logAt(place)
	for name, script := range map[string]faults{
		"lost once":          {lose, none},
		"lost twice":         {lose, none, lose, none},
		"the second is lost": {none, lose, none},
		"dropped, then lost": {drop, lose, none},
		"throttled":          {throttle, none, throttle, none},
	} {
		for kind, before := range map[string]string{"new": "", "greater": "hell", "lesser": "other"} {
			run(name+", "+kind, func(t *testing.T) {
				e := message(t, newRoom(t), newID(t), "here", "hello")
				if before != "" {
					mustAppend(t, good, message(t, e.Stream, e.ID, "here", before))
				}
				c := calls{faults: map[string][]dynamotest.Fault{"PutItem": script}}
				if err := logAt(dynamotest.Spoil(t, place, c.fault)).Replicate(t.Context(), []events.Event{e}); err != nil {
					t.Fatal(err)
				}
				want := e
				if before == "other" {
					want = message(t, e.Stream, e.ID, "here", before)
				}
				if d := cmp.Diff([]events.Stored{events.Encode(want)}, content(t, good, e.Stream)); d != "" {
					t.Error(d)
				}
			})
		}
	}
}
