package dynamokeys

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/events/dynamolocal/dynamotest"
	"parley/events/goldentest"
	"parley/events/keys"
)

// Items of keys are what they always were, and those that were stored are read as they were.
func TestGoldenItems(t *testing.T) {
	want := keys.Wrapped{ID: keys.ID{1, 2, 0xff}, Bytes: []byte("wrapped \x00")}
	today := []dynamotest.Item{itemOf("ada", want), primary("eve", erased)}
	golden := goldentest.ReadLines[dynamotest.Item](t, goldentest.Open(t, "items").Check("items.jsonl", goldentest.Lines(t, today...)))
	got, err := keyOf(golden[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the golden key is read differently (-want +got):\n%s", diff)
	}
	if textOf(golden[0], attrUser) != "ada" || textOf(golden[1], attrUser) != "eve" || textOf(golden[1], attrKey) != erased {
		t.Errorf("the golden items are read as those of %q and %q", textOf(golden[0], attrUser), textOf(golden[1], attrUser))
	}
}
