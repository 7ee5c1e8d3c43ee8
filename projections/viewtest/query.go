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

// fill saves a view for each sort key, in the order given, and returns the views.
func fill(t testing.TB, v projections.Views, partition, body string, sorts ...string) []projections.View {
	t.Helper()
	var views []projections.View
	for chunk := range slices.Chunk(sorts, 500) {
		var fresh []projections.View
		for _, sort := range chunk {
			fresh = append(fresh, view(key(partition, sort), 0, body))
			views = append(views, view(key(partition, sort), 1, body))
		}
		save(t, v, fresh...)
	}
	return views
}

// list is what a Query found, as text.
func list(views []projections.View) string {
	var sorts []string
	for _, v := range views {
		sorts = append(sorts, v.Key.Sort)
	}
	return strings.Join(sorts, " ")
}

func testQueryBounds(t *testing.T, v projections.Views) {
	fill(t, v, "p", "body", "d", "b", "e", "a", "c", "cc")
	for _, test := range []struct{ from, before, want string }{
		{"", "", "a b c cc d e"},
		{"c", "", "c cc d e"},
		{"c\x00", "", "cc d e"},
		{"", "c", "a b"},
		{"", "c\x00", "a b c"},
		{"b", "d", "b c cc"},
		{"bb", "cb", "c"},
		{"c", "c", ""},
		{"d", "b", ""},
		{"f", "", ""},
		{"", "a", ""},
		{"0", "~", "a b c cc d e"},
	} {
		r := projections.Range{From: test.from, Before: test.before, Limit: 10}
		if got := list(query(t, v, "p", r)); got != test.want {
			t.Errorf("%+v: got %q, want %q", r, got, test.want)
		}
		r.Reverse = true
		want := strings.Fields(test.want)
		slices.Reverse(want)
		if got := list(query(t, v, "p", r)); got != strings.Join(want, " ") {
			t.Errorf("%+v: got %q, want %q", r, got, want)
		}
	}
}

func testQueryLimit(t *testing.T, v projections.Views) {
	fill(t, v, "p", "body", "a", "b", "c", "d")
	for _, test := range []struct {
		r    projections.Range
		want string
	}{
		{projections.Range{Limit: 1}, "a"},
		{projections.Range{Limit: 4}, "a b c d"},
		{projections.Range{Limit: 5}, "a b c d"},
		{projections.Range{Limit: 2, From: "b"}, "b c"},
		{projections.Range{Limit: 1, Reverse: true}, "d"},
		{projections.Range{Limit: 2, Before: "c", Reverse: true}, "b a"},
	} {
		if got := list(query(t, v, "p", test.r)); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.r, got, test.want)
		}
	}
	for _, limit := range []int{0, -1} {
		if _, err := v.Query(t.Context(), "p", projections.Range{Limit: limit}); err == nil {
			t.Errorf("Query with limit %d: got no error", limit)
		}
	}
}

// testQueryPages asks for more than a store hands out at once: DynamoDB stops at 1 MB.
func testQueryPages(t *testing.T, v projections.Views) {
	const n = 3000
	sorts := make([]string, n)
	for i := range n {
		sorts[i] = fmt.Sprintf("%05d", i)
	}
	want := fill(t, v, "p", strings.Repeat("body", 600), sorts...)

	expect(t, "all", query(t, v, "p", projections.Range{Limit: n + 1}), want)
	expect(t, "a part", query(t, v, "p", projections.Range{From: "00100", Before: "02900", Limit: n}), want[100:2900])
	expect(t, "a limit", query(t, v, "p", projections.Range{Limit: 1234}), want[:1234])
	slices.Reverse(want)
	expect(t, "all in reverse", query(t, v, "p", projections.Range{Limit: n, Reverse: true}), want)
	expect(t, "a limit in reverse", query(t, v, "p", projections.Range{Limit: 1234, Reverse: true}), want[:1234])
}

// testQueryFresh checks that a Query sees each Save that returned, and one version of a view.
func testQueryFresh(t *testing.T, v projections.Views) {
	fill(t, v, "p", "0", "a", "b", "c")
	for version := int64(1); version < 20; version++ {
		body := fmt.Sprint(version)
		save(t, v, view(key("p", "b"), version, body))
		want := []projections.View{view(key("p", "a"), 1, "0"), view(key("p", "b"), version+1, body), view(key("p", "c"), 1, "0")}
		expect(t, "forward", query(t, v, "p", projections.Range{Limit: 9}), want)
		slices.Reverse(want)
		expect(t, "in reverse", query(t, v, "p", projections.Range{Limit: 9, Reverse: true}), want)
	}
}

// testPartitionsApart uses partitions and sort keys that run into each other when they are
// joined without care.
func testPartitionsApart(t *testing.T, v projections.Views) {
	partitions := []string{
		"a", "ab", "a/", "a/b", "a#", "a#b", "a\x00", "a\x00b", "a\x00\x00", "a\x01", "a\x02", "aÿ", "a\U0010ffff", "b",
	}
	sorts := []string{"\x00", "\x00b", "\x01", "#b", "/", "/b", "b", "b/", "b/b", "ÿ", "\U0010ffff"}
	want := map[string][]projections.View{}
	for _, p := range partitions {
		want[p] = fill(t, v, p, "of "+p, sorts...)
	}
	for _, p := range partitions {
		expect(t, fmt.Sprintf("%q", p), query(t, v, p, projections.Range{Limit: 100}), want[p])
		for i, sort := range sorts {
			r := projections.Range{From: sort, Limit: 100}
			expect(t, fmt.Sprintf("%q from %q", p, sort), query(t, v, p, r), want[p][i:])
			r = projections.Range{Before: sort, Limit: 100}
			expect(t, fmt.Sprintf("%q before %q", p, sort), query(t, v, p, r), want[p][:i])
		}
	}
	expect(t, "a partition that is not there", query(t, v, "a/b/c", projections.Range{Limit: 1}), nil)
}

// testKeyBytes checks that keys are compared as bytes and come back as they went in.
func testKeyBytes(t *testing.T, v projections.Views) {
	sorts := []string{
		"\x00", "\x00\x00", "\x00\x01", "\x01", " ", "#", "/", "/a", "0", "0/", "A", "Z", "\\", "a", "a\x00", "a\x00z",
		"a\x01", "a ", "a/", "a/b", "aa", "z", "{}", "\x7f", "\u0080", "é", "ÿ", "ā", "中", "\ufffd", "👍", "👍🏽", "\U0010ffff",
		strings.Repeat("k", 900),
	}
	slices.Sort(sorts)
	backwards := slices.Clone(sorts)
	slices.Reverse(backwards)
	want := fill(t, v, "p/ä/👍", "body", backwards...)
	expect(t, "in reverse", query(t, v, "p/ä/👍", projections.Range{Limit: 100, Reverse: true}), want)
	slices.Reverse(want)
	expect(t, "forward", query(t, v, "p/ä/👍", projections.Range{Limit: 100}), want)
	for _, w := range want {
		expect(t, "Get", get(t, v, w.Key), []projections.View{w})
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
