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

func testGetMissing(t *testing.T, v projections.Views) {
	stored := key("p", "there")
	save(t, v, view(stored, 0, "body"))
	keys := []projections.Key{key("p", "z"), key("q", "there"), stored, key("p", "a"), key("p", "z")}
	got := get(t, v, keys...)
	expect(t, "Get", got, []projections.View{
		{Key: keys[0]}, {Key: keys[1]}, view(stored, 1, "body"), {Key: keys[3]}, {Key: keys[4]},
	})
}

func testSaveAndGet(t *testing.T, v projections.Views) {
	a, b := key("p", "a"), key("p", "b")
	for version := range int64(5) {
		body := fmt.Sprint("body ", version)
		save(t, v, view(a, version, body))
		expect(t, "Get", get(t, v, b, a), []projections.View{{Key: b}, view(a, version+1, body)})
	}
	save(t, v, view(a, 5, "a"), view(b, 0, "b"))
	expect(t, "Get", get(t, v, a, b), []projections.View{view(a, 6, "a"), view(b, 1, "b")})
}

func testEmptyBody(t *testing.T, v projections.Views) {
	empty, null, missing := key("p", "empty"), key("p", "null"), key("p", "missing")
	save(t, v, view(empty, 0, ""), projections.View{Key: null})
	want := []projections.View{view(empty, 1, ""), view(null, 1, ""), {Key: missing}}
	expect(t, "Get", get(t, v, empty, null, missing), want)
	expect(t, "Query", query(t, v, "p", projections.Range{Limit: 9}), want[:2])

	save(t, v, view(empty, 1, "filled"))
	save(t, v, view(empty, 2, ""))
	expect(t, "Get", get(t, v, empty), []projections.View{view(empty, 3, "")})
}

func testBigBody(t *testing.T, v projections.Views) {
	big, small := key("p", "big"), key("p", "small")
	body := strings.Repeat("0123456789", 30_000)
	save(t, v, view(big, 0, body), view(small, 0, "s"))
	save(t, v, view(big, 1, body[1:]))
	want := []projections.View{view(big, 2, body[1:]), view(small, 1, "s")}
	expect(t, "Get", get(t, v, big, small), want)
	expect(t, "Query", query(t, v, "p", projections.Range{Limit: 9}), want)
}

func testManyKeys(t *testing.T, v projections.Views) {
	const n = 1000
	keys := make([]projections.Key, n)
	views := make([]projections.View, n)
	for i := range n {
		keys[i] = key(fmt.Sprint("partition/", i%7), fmt.Sprint(i))
		views[i] = view(keys[i], 0, fmt.Sprint("body ", i))
	}
	save(t, v, views...)
	for i := range views {
		views[i].Version = 1
	}
	slices.Reverse(keys)
	slices.Reverse(views)
	expect(t, "Get", get(t, v, keys...), views)
	save(t, v, views...)
	for _, got := range get(t, v, keys...) {
		if got.Version != 2 {
			t.Fatalf("got version %d after two Saves", got.Version)
		}
	}
}

func testNoAlias(t *testing.T, v projections.Views) {
	k := key("p", "k")
	save(t, v, view(k, 0, "first"))
	got := get(t, v, k)
	got = append(got, query(t, v, "p", projections.Range{Limit: 1})...)
	for version := range int64(50) {
		save(t, v, view(k, version+1, "other"))
		get(t, v, k)
		query(t, v, "p", projections.Range{Limit: 1})
	}
	expect(t, "views read before later Saves", got, []projections.View{view(k, 1, "first"), view(k, 1, "first")})
}

func testCreateTwice(t *testing.T, v projections.Views) {
	k := key("p", "k")
	save(t, v, view(k, 0, "first"))
	got := conflicts(t, v.Save(t.Context(), view(k, 0, "second")))
	if !slices.Equal(got, []projections.Key{k}) {
		t.Fatalf("conflict names %q", got)
	}
	expect(t, "Get", get(t, v, k), []projections.View{view(k, 1, "first")})
}

func testConflicts(t *testing.T, v projections.Views) {
	stale, ahead, gone, fine, fresh := key("p", "stale"), key("p", "ahead"), key("q", "gone"), key("p", "fine"), key("q", "fresh")
	save(t, v, view(stale, 0, "1"), view(ahead, 0, "1"), view(fine, 0, "1"))
	save(t, v, view(stale, 1, "2"))

	err := v.Save(t.Context(),
		view(stale, 1, "x"), view(fine, 1, "2"), view(ahead, 2, "x"), view(fresh, 0, "1"), view(gone, 1, "x"))
	want := sorted([]projections.Key{stale, ahead, gone})
	if got := conflicts(t, err); !slices.Equal(got, want) {
		t.Fatalf("conflict names %q, want %q", got, want)
	}
	expect(t, "Get", get(t, v, stale, ahead, gone, fine, fresh), []projections.View{
		view(stale, 2, "2"), view(ahead, 1, "1"), {Key: gone}, view(fine, 2, "2"), view(fresh, 1, "1"),
	})
}

func testKeyTwice(t *testing.T, v projections.Views) {
	a, b := key("p", "a"), key("p", "b")
	err := v.Save(t.Context(), view(a, 0, "1"), view(b, 0, "1"), view(a, 0, "2"))
	var conflict *projections.ConflictError
	if err == nil || errors.As(err, &conflict) {
		t.Fatalf("Save of one key twice: got error %v, want one that is no conflict", err)
	}
}

func testNothingAsked(t *testing.T, v projections.Views) {
	save(t, v)
	if got := get(t, v); len(got) != 0 {
		t.Fatalf("Get of no keys returned %d views", len(got))
	}
	if got := query(t, v, "p", projections.Range{Limit: 1}); len(got) != 0 {
		t.Fatalf("Query of an empty partition returned %d views", len(got))
	}
}

func testCancelled(t *testing.T, v projections.Views) {
	k := key("p", "k")
	save(t, v, view(k, 0, "1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, errGet := v.Get(ctx, k)
	_, errQuery := v.Query(ctx, "p", projections.Range{Limit: 1})
	errSave := v.Save(ctx, view(k, 1, "2"))
	for _, err := range []error{errGet, errQuery, errSave} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
	}
}

func testReopen(t *testing.T, d Driver) {
	dir := t.TempDir()
	v := d.Open(t, dir)
	reopen := func() {
		closeViews(t, v)
		v = d.Open(t, dir)
	}
	t.Cleanup(func() { closeViews(t, v) })
	var want []projections.View
	for i := range 500 {
		k := key("p", fmt.Sprintf("%03d", i))
		save(t, v, view(k, 0, "1"))
		want = append(want, view(k, 1, "1"))
	}
	reopen()
	expect(t, "Query after Reopen", query(t, v, "p", projections.Range{Limit: 1000}), want)

	conflicts(t, v.Save(t.Context(), view(want[0].Key, 0, "x")))
	want[0] = view(want[0].Key, 2, "2")
	save(t, v, view(want[0].Key, 1, "2"))
	reopen()
	expect(t, "Query after two Reopens", query(t, v, "p", projections.Range{Limit: 1000}), want)
}

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
