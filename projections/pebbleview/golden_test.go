package pebbleview

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"parley/events/goldentest"
	"parley/events/pebbledb"
	"parley/projections"
)

// Keys and values of views are what they always were, and those that were stored are read as they were.
func TestGolden(t *testing.T) {
	t.Parallel()
	open := func() (*pebble.DB, *Views) {
		db, err := Open(t.TempDir(), pebbledb.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db, New(db, 'v')
	}
	db, views := open()
	long := "timeline/" + string(make([]byte, 200)) // its length takes two bytes
	keys := []projections.Key{{Partition: "timeline/01JNWWZHTR19R62WKCCNWGT3G0", Sort: "01JNWWZHVC19R62WKCCNWGT3GM"}, {Partition: "beat", Sort: "eu-central-1"}, {Partition: long, Sort: "\x00\xff"}}
	for version := range int64(300) { // takes two bytes, too
		if err := views.Save(t.Context(), projections.View{Key: keys[0], Version: version, Body: []byte(`{"post":"<ü>"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := views.Save(t.Context(), projections.View{Key: keys[1], Body: []byte{}}, projections.View{Key: keys[2], Body: []byte("\x00\xff")}); err != nil {
		t.Fatal(err)
	}
	rows, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var today []goldentest.Pair
	for valid := rows.First(); valid; valid = rows.Next() {
		today = append(today, goldentest.Pair{Key: append([]byte(nil), rows.Key()...), Value: append([]byte(nil), rows.Value()...)})
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	text := goldentest.Open(t, "rows").Check("rows.jsonl", goldentest.Lines(t, today...))

	db, golden := open()
	for _, row := range goldentest.ReadLines[goldentest.Pair](t, text) {
		if err := db.Set(row.Key, row.Value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	want, err := views.Get(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := golden.Get(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || got[0].Version != 300 {
		t.Errorf("golden views are read differently (-today +golden):\n%s", diff)
	}
}
