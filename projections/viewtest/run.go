package viewtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"parley/projections"
)

// Driver opens views of one kind.
type Driver struct {
	// Open opens the views in a place of their own, named by the path of an empty directory that
	// is removed after the test; a driver that keeps its data elsewhere may use it as a name. The
	// suite closes the views if they are an [io.Closer]. The same place opened again holds the
	// same views.
	Open func(t testing.TB, dir string) projections.Views

	// Volatile says that views are lost when they are closed. Only the tests of reopening are
	// skipped.
	Volatile bool
}

// Run holds a driver to the contract of [projections.Views]. The partitions and sort keys
// of the suite are UTF-8 text and not empty; no body is above 300 KB.
func Run(t *testing.T, d Driver) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, projections.Views)
	}{
		{"GetMissing", testGetMissing},
		{"SaveAndGet", testSaveAndGet},
		{"EmptyBody", testEmptyBody},
		{"BigBody", testBigBody},
		{"ManyKeys", testManyKeys},
		{"NoAlias", testNoAlias},
		{"CreateTwice", testCreateTwice},
		{"Conflicts", testConflicts},
		{"KeyTwice", testKeyTwice},
		{"NothingAsked", testNothingAsked},
		{"Cancelled", testCancelled},
		{"QueryBounds", testQueryBounds},
		{"QueryLimit", testQueryLimit},
		{"QueryPages", testQueryPages},
		{"QueryFresh", testQueryFresh},
		{"PartitionsApart", testPartitionsApart},
		{"KeyBytes", testKeyBytes},
		{"RaceOneView", testRaceOneView},
		{"RaceManyViews", testRaceManyViews},
		{"RaceCreate", testRaceCreate},
		{"Delete", testDelete},
		{"DeleteConflicts", testDeleteConflicts},
		{"DeleteMany", testDeleteMany},
		{"Scan", testScan},
		{"ScanPages", testScanPages},
		{"LikeModel", testLikeModel},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, d.open(t))
		})
	}
	if !d.Volatile {
		t.Run("Reopen", func(t *testing.T) { testReopen(t, d) })
	}
}

// open opens views in a new place and closes them when the test ends.
func (d Driver) open(t *testing.T) projections.Views {
	t.Helper()
	views := d.Open(t, t.TempDir())
	t.Cleanup(func() { closeViews(t, views) })
	return views
}

func closeViews(t testing.TB, views projections.Views) {
	t.Helper()
	if c, ok := views.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func key(partition, sort string) projections.Key {
	return projections.Key{Partition: partition, Sort: sort}
}

func view(k projections.Key, version int64, body string) projections.View {
	return projections.View{Key: k, Version: version, Body: []byte(body)}
}

func get(t testing.TB, v projections.Views, keys ...projections.Key) []projections.View {
	t.Helper()
	got, err := v.Get(t.Context(), keys...)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return got
}

func save(t testing.TB, v projections.Views, views ...projections.View) {
	t.Helper()
	if err := v.Save(t.Context(), views...); err != nil {
		t.Fatalf("Save: %v", err)
	}
}

func query(t testing.TB, v projections.Views, partition string, r projections.Range) []projections.View {
	t.Helper()
	got, err := v.Query(t.Context(), partition, r)
	if err != nil {
		t.Fatalf("Query %+v: %v", r, err)
	}
	return got
}

// conflicts returns the keys of a conflict in order, and fails the test on any other error.
func conflicts(t testing.TB, err error) []projections.Key {
	t.Helper()
	var conflict *projections.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("Save: got error %v, want a conflict", err)
	}
	return sorted(conflict.Keys)
}

func sorted(keys []projections.Key) []projections.Key {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b projections.Key) int {
		if c := strings.Compare(a.Partition, b.Partition); c != 0 {
			return c
		}
		return strings.Compare(a.Sort, b.Sort)
	})
	return keys
}

// expect fails the test unless got and want are the same views in the same order.
func expect(t testing.TB, what string, got, want []projections.View) {
	t.Helper()
	if diff := difference(got, want); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
}

// difference says in a line where got differs from want: bodies may be too long to print.
func difference(got, want []projections.View) string {
	if len(got) != len(want) {
		return fmt.Sprintf("got %d views, want %d", len(got), len(want))
	}
	for i := range got {
		if !same(got[i], want[i]) {
			return fmt.Sprintf("view %d: got %s, want %s", i, outline(got[i]), outline(want[i]))
		}
	}
	return ""
}

// same reports whether two views are equal. One that is stored may have a nil body; one that is
// not must have.
func same(a, b projections.View) bool {
	if a.Version == 0 && (a.Body != nil || b.Body != nil) {
		return false
	}
	return a.Key == b.Key && a.Version == b.Version && bytes.Equal(a.Body, b.Body)
}

func outline(v projections.View) string {
	return fmt.Sprintf("{%q %q version %d, %d bytes %.20q}", v.Key.Partition, v.Key.Sort, v.Version, len(v.Body), v.Body)
}
