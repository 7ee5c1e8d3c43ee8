package viewtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/projections"
)

func testDelete(t *testing.T, v projections.Views) {
	a, b, c := key("p", "a"), key("p", "b"), key("q", "a")
	save(t, v, view(a, 0, "1"), view(b, 0, "1"), view(c, 0, "1"))
	save(t, v, view(a, 1, "2"))
	get(t, v, a, b, c)
	remove(t, v, view(a, 2, ""), view(c, 1, "whatever"), view(key("p", "missing"), 7, ""))
	expect(t, "Get", get(t, v, a, b, c), []projections.View{{Key: a}, view(b, 1, "1"), {Key: c}})
	expect(t, "Query", query(t, v, "p", projections.Range{Limit: 9}), []projections.View{view(b, 1, "1")})
	remove(t, v, view(a, 2, "")) // again

	conflicts(t, v.Save(t.Context(), view(a, 2, "3")))
	save(t, v, view(a, 0, "anew"))
	save(t, v, view(a, 1, "again"))
	expect(t, "Get", get(t, v, a), []projections.View{view(a, 2, "again")})
}

func testDeleteConflicts(t *testing.T, v projections.Views) {
	stale, ahead, unread, fine := key("p", "stale"), key("p", "ahead"), key("q", "unread"), key("p", "fine")
	save(t, v, view(stale, 0, "1"), view(ahead, 0, "1"), view(unread, 0, "1"), view(fine, 0, "1"))
	save(t, v, view(stale, 1, "2"))
	err := v.Delete(t.Context(), view(stale, 1, ""), view(fine, 1, ""), view(ahead, 2, ""), view(unread, 0, ""))
	want := sorted([]projections.Key{stale, ahead, unread})
	if got := conflicts(t, err); !slices.Equal(got, want) {
		t.Fatalf("conflict names %q, want %q", got, want)
	}
	expect(t, "Get", get(t, v, stale, ahead, unread, fine), []projections.View{
		view(stale, 2, "2"), view(ahead, 1, "1"), view(unread, 1, "1"), {Key: fine},
	})
	var conflict *projections.ConflictError
	if err := v.Delete(t.Context(), view(fine, 1, ""), view(fine, 1, "")); err == nil || errors.As(err, &conflict) {
		t.Errorf("Delete of one key twice: got error %v, want one that is no conflict", err)
	}
	remove(t, v)
}

// testDeleteMany deletes what has grown in order, and lets it grow again.
func testDeleteMany(t *testing.T, v projections.Views) {
	var sorts []string
	for i := range 600 {
		sorts = append(sorts, fmt.Sprintf("%04d", i))
	}
	for range 2 {
		all := fill(t, v, "p", "body", sorts...)
		remove(t, v, all[100:]...)
		expect(t, "the rest", query(t, v, "p", projections.Range{Limit: 1000}), all[:100])
		expect(t, "what was deleted", get(t, v, all[599].Key), []projections.View{{Key: all[599].Key}})
		remove(t, v, all[:100]...)
		expect(t, "nothing", query(t, v, "p", projections.Range{Limit: 1000}), nil)
	}
}

func remove(t testing.TB, v projections.Views, views ...projections.View) {
	t.Helper()
	if err := v.Delete(t.Context(), views...); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

// scan goes through all views with the prefixes, in pages of at most limit.
func scan(t testing.TB, v projections.Views, limit int, prefixes ...string) (all []projections.View) {
	t.Helper()
	for after, first := (projections.Key{}), true; first || after != (projections.Key{}); first = false {
		views, next, err := v.Scan(t.Context(), prefixes, after, limit)
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		if len(views) > limit {
			t.Fatalf("Scan returned %d views with limit %d", len(views), limit)
		}
		all = append(all, views...)
		after = next
	}
	return all
}

// inPieces fails the test unless each partition comes in one piece, in order, and sorts all.
func inPieces(t testing.TB, what string, got, want []projections.View) {
	t.Helper()
	seen := map[string]bool{}
	for i, view := range got {
		switch {
		case i == 0 || got[i-1].Key.Partition != view.Key.Partition:
			if seen[view.Key.Partition] {
				t.Fatalf("%s: a partition comes in pieces", what)
			}
			seen[view.Key.Partition] = true
		case got[i-1].Key.Sort >= view.Key.Sort:
			t.Fatalf("%s: a partition is out of order", what)
		}
	}
	got, want = slices.Clone(got), slices.Clone(want)
	for _, all := range [][]projections.View{got, want} {
		slices.SortFunc(all, func(a, b projections.View) int { return compare(a.Key, b.Key) })
	}
	expect(t, what, got, want)
}

func testScan(t *testing.T, v projections.Views) {
	inPieces(t, "nothing", scan(t, v, 5), nil)
	partitions := []string{"a", "a/", "a/b", "ab", "a\x00", "b", "b/" + strings.Repeat("long/", 60), "g2/a/b", "ÿ", "\U0010ffff"}
	var all []projections.View
	of := map[string][]projections.View{}
	for i, p := range partitions {
		of[p] = fill(t, v, p, "of "+p, []string{"\x00", "a", "b", "ÿ"}[:1+i%4]...)
		all = append(all, of[p]...)
	}
	for _, limit := range []int{1, 3, 100} {
		inPieces(t, "all", scan(t, v, limit), all)
		inPieces(t, "a prefix", scan(t, v, limit, "a/"), slices.Concat(of["a/"], of["a/b"]))
		inPieces(t, "two prefixes", scan(t, v, limit, "g2/", "b/"), slices.Concat(of["g2/a/b"], of[partitions[6]]))
		inPieces(t, "one that is not there", scan(t, v, limit, "c"), nil)
	}
	for _, limit := range []int{0, -1} {
		if _, _, err := v.Scan(t.Context(), nil, projections.Key{}, limit); err == nil {
			t.Errorf("Scan with limit %d: got no error", limit)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := v.Scan(ctx, nil, projections.Key{}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan: got error %v, want %v", err, context.Canceled)
	}
	if err := v.Delete(ctx, view(key("a", "a"), 1, "")); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: got error %v, want %v", err, context.Canceled)
	}
}

// testScanPages goes through more than a store hands out at once, and deletes it on the way.
func testScanPages(t *testing.T, v projections.Views) {
	var all []projections.View
	for i := range 100 {
		all = append(all, fill(t, v, fmt.Sprintf("small/%d", i), "body", "a")...)
	}
	var sorts []string
	for i := range 1500 {
		sorts = append(sorts, fmt.Sprintf("%05d", i))
	}
	big := fill(t, v, "big", strings.Repeat("body", 600), sorts...)
	inPieces(t, "all", scan(t, v, 10_000), slices.Concat(all, big))
	inPieces(t, "some", scan(t, v, 300, "small/"), all)

	after, first := projections.Key{}, true
	for first || after != (projections.Key{}) {
		first = false
		views, next, err := v.Scan(t.Context(), []string{"big"}, after, 200)
		if err != nil {
			t.Fatal(err)
		}
		remove(t, v, views...)
		after = next
	}
	inPieces(t, "what is left", scan(t, v, 1000), all)
}
