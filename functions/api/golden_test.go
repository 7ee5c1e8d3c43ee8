package api

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events/goldentest"
	"parley/projections"
)

// goldenCursor is a line of a golden file.
type goldenCursor struct {
	User   string `json:"user"`
	Cursor string `json:"cursor"`
}

// A cursor that a client was given by any release before this one is decoded to what it was made of. Those
// of version 1 named a place in a journal, which there is no more: they have no region, and are answered with
// a reset.
func TestGoldenCursors(t *testing.T) {
	cursors, err := NewCursors(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1741512615678)
	tag := func(b byte) projections.FeedTag { return projections.FeedTag(bytes.Repeat([]byte{b}, 8)) }
	users := []string{"ada", "grace", "ada", "bob"}
	version2 := []projections.Cursor{
		{Region: "eu-central-1", At: at, Low: time.UnixMilli(1741512555060), Places: map[projections.FeedTag]projections.Place{
			tag(1): {Position: 1, At: at.Add(-29 * time.Second)}, tag(2): {Position: 1 << 40, At: at}, tag(0xff): {Position: 300, Part: 1<<33 + 5, At: at.Add(time.Second)},
		}},
		{Region: "us-east-1", At: at, Places: map[projections.FeedTag]projections.Place{}},
		{
			Region: "us-east-1", At: at, Until: at.Add(36 * time.Hour), After: "room/01BX5ZZKBKACTAV9WEVGEMMVRZ",
			Places: map[projections.FeedTag]projections.Place{tag(3): {Position: 77, Part: 3, At: at.Add(36 * time.Hour)}},
		},
		{Region: "local", At: at, Until: at.Add(time.Minute), After: "membership/bob", Entered: true, Places: map[projections.FeedTag]projections.Place{}},
	}
	encode := func() []byte {
		var lines []goldenCursor
		for i, user := range users {
			lines = append(lines, goldenCursor{user, cursors.Encode(user, version2[i])})
		}
		return goldentest.Lines(t, lines...)
	}
	folder := goldentest.Open(t, "cursors")
	for file, places := range map[string][]projections.Cursor{
		"cursors.jsonl":    make([]projections.Cursor, 2), // of version 1
		"cursors-v2.jsonl": version2,
	} {
		golden := goldentest.ReadLines[goldenCursor](t, folder.Read(file, encode))
		if len(golden) != len(places) {
			t.Fatalf("%s has %d cursors, want %d", file, len(golden), len(places))
		}
		for i, line := range golden {
			got, err := cursors.Decode("cursor", line.User, line.Cursor)
			if err != nil {
				t.Fatalf("%s: decode the cursor of %s: %v", file, line.User, err)
			}
			if diff := cmp.Diff(places[i], got); diff != "" {
				t.Errorf("%s: the cursor of %s is decoded differently (-want +got):\n%s", file, line.User, diff)
			}
			if _, err := cursors.Decode("cursor", "eve", line.Cursor); err == nil {
				t.Errorf("%s: the cursor of %s is valid for another user", file, line.User)
			}
			if _, err := cursors.Decode("cursor", line.User, line.Cursor[:len(line.Cursor)-4]); err == nil {
				t.Errorf("%s: a truncated cursor of %s is valid", file, line.User)
			}
			if file == "cursors.jsonl" {
				continue
			}
			if today := cursors.Encode(line.User, places[i]); len(today) != len(line.Cursor) || today[0] != line.Cursor[0] {
				t.Errorf("today's cursor of %s is of another form: %s, was %s", line.User, today, line.Cursor)
			}
		}
	}
}
