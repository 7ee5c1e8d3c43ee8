package api

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/events"
	"parley/functions/wire"
	"parley/projections"
)

func newTestCursors(t rapid.TB) *Cursors {
	t.Helper()
	cursors, err := NewCursors(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return cursors
}

// anyCursor draws a cursor as a [projections.Syncer] makes them, with at most so many places.
func anyCursor(places int) *rapid.Generator[projections.Cursor] {
	const year = 366 * 24 * time.Hour
	begin := time.UnixMilli(1_800_000_000_000)
	return rapid.Custom(func(t *rapid.T) projections.Cursor {
		after := func(at time.Time, least, most time.Duration, name string) time.Time {
			return at.Add(time.Duration(rapid.Int64Range(least.Milliseconds(), most.Milliseconds()).Draw(t, name)) * time.Millisecond)
		}
		p := projections.Cursor{
			Region: rapid.StringMatching(`[a-z0-9-]{1,32}`).Draw(t, "region"),
			At:     after(begin, 0, 10*year, "at"), Places: map[projections.FeedTag]projections.Place{},
		}
		if rapid.Bool().Draw(t, "low") {
			p.Low = after(p.At, -year, 0, "frontier")
		}
		latest := time.Second // behind the time of the cursor
		if rapid.Bool().Draw(t, "under way") {
			latest = 10 * year
			p.Entered = rapid.Bool().Draw(t, "entered")
			p.Until = after(p.At, 0, latest, "until")
			p.After = events.Stream(rapid.StringMatching(`(membership|room)/[A-Za-z0-9._-]{1,128}`).Draw(t, "after"))
		}
		n := rapid.IntRange(0, places).Draw(t, "places")
		for len(p.Places) < n {
			var tag projections.FeedTag
			copy(tag[:], rapid.SliceOfN(rapid.Byte(), len(tag), len(tag)).Draw(t, "tag"))
			place := projections.Place{
				Position: rapid.Uint64Range(1, 1<<40).Draw(t, "position"),
				At:       after(p.At, -projections.Window, latest, "arrival"),
			}
			if len(p.Places) == 0 { // no other entry is read in part
				place.Part = rapid.Uint64Range(0, 1<<40).Draw(t, "part")
			}
			p.Places[tag] = place
		}
		return p
	})
}

// What is encoded is decoded for its user, within the bound, and for nobody else.
func TestCursorRoundTrip(t *testing.T) {
	cursors := newTestCursors(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyCursor(20).Draw(t, "cursor")
		user := rapid.StringN(0, 20, 128).Draw(t, "user")
		made := cursors.Encode(user, p)
		got, err := cursors.Decode("cursor", user, made)
		if diff := cmp.Diff(p, got); err != nil || diff != "" {
			t.Fatalf("decoded with error %v (-want +got):\n%s", err, diff)
		}
		if len(p.Places) == 0 && p.After == "" && len(made) > MaxPlainCursor {
			t.Fatalf("a cursor without places has %d bytes", len(made))
		}
		refused := func(what, user, text string) {
			t.Helper()
			var problem *wire.Problem
			if _, err := cursors.Decode("cursor", user, text); !errors.As(err, &problem) || problem.Code != "invalid_cursor" {
				t.Fatalf("%s: %v", what, err)
			}
		}
		refused("of another user", user+"x", made)
		refused("cut off", user, made[:rapid.IntRange(0, len(made)-1).Draw(t, "cut")])
		at := rapid.IntRange(0, len(made)-2).Draw(t, "changed") // the last character has bits that mean nothing
		other := byte('A')
		if made[at] == other {
			other = 'B'
		}
		refused("changed", user, made[:at]+string(other)+made[at+1:])
	})
}

// The largest cursor that there is stays below the bound: with all places, of feeds with a million million
// events, ten years behind.
func TestCursorBound(t *testing.T) {
	cursors := newTestCursors(t)
	at := time.UnixMilli(1_800_000_000_000)
	end := at.Add(10 * 366 * 24 * time.Hour)
	p := projections.Cursor{
		Region: "a-region-with-a-very-long-name--", At: at, Low: at, Until: end, Entered: true,
		After: "membership/" + events.Stream(bytes.Repeat([]byte{'u'}, 128)), Places: map[projections.FeedTag]projections.Place{},
	}
	for i := range projections.MaxPlaces {
		p.Places[projections.FeedTag{byte(i), byte(i >> 8)}] = projections.Place{Position: 1 << 40, At: end}
	}
	p.Places[projections.FeedTag{}] = projections.Place{Position: 1 << 40, Part: 1 << 40, At: end}
	made := cursors.Encode("ada", p)
	if len(p.Places) != projections.MaxPlaces || len(made) > MaxCursor {
		t.Errorf("a cursor with %d places has %d bytes, want at most %d", len(p.Places), len(made), MaxCursor)
	}
	got, err := cursors.Decode("cursor", "ada", made)
	if diff := cmp.Diff(p, got); err != nil || diff != "" {
		t.Errorf("decoded with error %v (-want +got):\n%s", err, diff)
	}
	p.Places = nil
	for len(made) <= MaxCursor {
		p.After += p.After
		made = cursors.Encode("ada", p)
	}
	if _, err := cursors.Decode("cursor", "ada", made); err == nil {
		t.Errorf("a cursor of %d bytes is taken", len(made))
	}
}

// FuzzSealedCursor decodes whatever may have been sealed: it is refused, or encoded again to the same.
func FuzzSealedCursor(f *testing.F) {
	cursors := newTestCursors(f)
	f.Add([]byte{})
	f.Add([]byte("\x02eu\x80\x80\x01\x00\x00\x00\x00"))
	f.Add([]byte("\x02eu\x02\x04\x06\x06room/x\x0112345678\x01\x00\x02"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01eu"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := decodeCursor(b)
		if !ok {
			return
		}
		const far = 1 << 52 // ms: nobody seals another time
		for _, at := range []time.Time{p.At, p.Low, p.Until} {
			if ms := at.UnixMilli(); !at.IsZero() && (ms > far || ms < -far) {
				return
			}
		}
		for _, place := range p.Places {
			if ms := place.At.UnixMilli(); ms > far || ms < -far {
				return
			}
		}
		made := cursors.Encode("ada", p)
		if len(made) > MaxCursor {
			return
		}
		if got, err := cursors.Decode("cursor", "ada", made); err != nil || !cmp.Equal(p, got) {
			t.Fatalf("%+v became %+v, %v", p, got, err)
		}
	})
}
