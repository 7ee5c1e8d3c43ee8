package dynamoview

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/events/dynamolocal/dynamotest"
	"parley/events/goldentest"
	"parley/projections"
)

// Items of views are what they always were, and those that were stored are read as they were.
func TestGoldenItems(t *testing.T) {
	t.Parallel()
	all := []projections.View{
		{Key: projections.Key{Partition: "timeline/01JNWWZHTR19R62WKCCNWGT3G0", Sort: "01JNWWZHVC19R62WKCCNWGT3GM"}, Body: []byte(`{"post":"<ü>"}`)},
		{Key: projections.Key{Partition: "beat", Sort: "eu-central-1"}, Version: 299, Body: []byte{}},
	}
	var today []dynamotest.Item
	for _, view := range all {
		today = append(today, itemOf(view))
	}
	golden := goldentest.Open(t, "items").Check("items.jsonl", goldentest.Lines(t, today...))
	for i, item := range goldentest.ReadLines[dynamotest.Item](t, golden) {
		want := all[i]
		want.Version++ // the item is of the view once it is saved
		got, err := viewOf(item)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a golden item is read differently (-want +got):\n%s", diff)
		}
	}
}
