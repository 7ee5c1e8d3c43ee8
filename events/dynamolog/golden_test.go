package dynamolog

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/goldentest"
)

// Items of events are what they always were, and those that were stored are read as they were: those of
// items.jsonl under their ids alone.
func TestGoldenItems(t *testing.T) {
	event := func(n byte, stream events.Stream, actor string, p events.Payload) events.Event {
		id := events.ID{0x01, 0x95, 0x79, 0xcf, 0xc7, 0x58, 0x0a, 'p', 'a', 'r', 'l', 'e', 'y', 0x0d, 0x0e, n}
		e, err := events.New(id, stream, actor, "eu-central-1", p)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	all := []events.Event{
		event(1, events.RoomStream("01JNWWZHTR19R62WKCCNWGT3G0"), "grace", events.MessagePosted{Text: events.Plain("<hello> 👩‍🚀")}),
		event(2, events.UserStream("ada"), "ada", events.UserProfileSet{Name: events.Sealed([]byte("\x01\xff"))}),
		event(3, events.RegionStream("eu-central-1"), "eu-central-1", events.RegionBeat{}),
	}
	binary := events.Encode(all[0]) // of a later release, with data that is not UTF-8
	binary.Type, binary.Data = "message.moved/9", "{\"\xff\"}"
	later, err := events.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	later = later.WithDigest()
	all = append(all, later)
	var today []dynamotest.Item
	for _, e := range all {
		today = append(today, itemOf(e))
	}
	golden := goldentest.Open(t, "items")
	check := func(text []byte, all []events.Event) {
		for i, item := range goldentest.ReadLines[dynamotest.Item](t, text) {
			got, err := eventOf(item)
			if err != nil || events.Encode(got) != events.Encode(all[i]) {
				t.Errorf("a golden item is read as %+v, error %v; want %+v", got, err, all[i])
			}
		}
	}
	check(golden.Check("digests.jsonl", goldentest.Lines(t, today...)), all)
	for i := range all {
		all[i].Digest = events.Digest{}
	}
	check(golden.Read("items.jsonl", func() []byte { return nil }), all)
}

// A checkpoint that was stored is still the frontier that it was.
func TestGoldenCheckpoints(t *testing.T) {
	all := []frontier{
		{[]member{{"shardId-00000001795476538855-7a94a7ce", place{upTo, "000000000000000000501"}}}},
		{[]member{
			{"a", place{kind: atOldest}},
			{"b", place{kind: atFirst}},
			{"c", place{kind: finished}},
			{"d", place{kind: skipped}},
			{"e", place{upTo, "7"}},
		}},
	}
	var today []string
	for _, f := range all {
		today = append(today, f.encode(streamIdentity("eu-west-1", "arn:aws:dynamodb:eu-west-1:000000000000:table/events/stream/2025")))
	}
	golden := goldentest.Open(t, "checkpoints").Check("checkpoints.jsonl", goldentest.Lines(t, today...))
	for i, text := range goldentest.ReadLines[string](t, golden) {
		got, err := decodeFrontier(text, text[len("s1/"):len("s1/")+16])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all[i], got, cmp.AllowUnexported(frontier{}, member{}, place{})); diff != "" {
			t.Errorf("a golden checkpoint is read differently (-want +got):\n%s", diff)
		}
	}
}
