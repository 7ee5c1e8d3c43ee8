package pebbleview

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"parley/events/pebbledb"
	"parley/projections"
)

// benchBody is about as long as the view of a message, and compresses about as well.
var benchBody = func() []byte {
	body := make([]byte, 300)
	for i := range body {
		body[i] = byte('a' + i*i%23)
	}
	return body
}()

// benchKey is the i-th of keys that rise within a partition, as those of messages do.
func benchKey(partition string, i int) projections.Key {
	return projections.Key{Partition: partition, Sort: fmt.Sprintf("01JD%022d", i)}
}

// freshViews makes n views that were never saved.
func freshViews(partition string, from, n int) []projections.View {
	views := make([]projections.View, n)
	for i := range views {
		views[i] = projections.View{Key: benchKey(partition, from+i), Body: benchBody}
	}
	return views
}

const partitions = 100

// spread makes n views that were never saved, round robin in many partitions.
func spread(from, n int) []projections.View {
	views := make([]projections.View, n)
	for i := range views {
		at := from + i
		views[i] = projections.View{Key: benchKey(fmt.Sprint("timeline/room", at%partitions), at), Body: benchBody}
	}
	return views
}

const before = 200_000 // views in the store when a benchmark of Save begins

func benchStore(b *testing.B) *store {
	s := openStore(b, pebbledb.Options{})
	for i := 0; i < before; i += 1000 {
		if err := s.Save(b.Context(), spread(i, 1000)...); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func perView(b *testing.B, n int) {
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "views/s")
}

// BenchmarkSaveNew saves 1,000 new views a call.
func BenchmarkSaveNew(b *testing.B) {
	s := benchStore(b)
	at := before
	for b.Loop() {
		b.StopTimer()
		views := spread(at, 1000)
		at += 1000
		b.StartTimer()
		if err := s.Save(b.Context(), views...); err != nil {
			b.Fatal(err)
		}
	}
	perView(b, 1000)
}

// BenchmarkRawBatch writes the same bytes as BenchmarkSaveNew and asks for nothing.
func BenchmarkRawBatch(b *testing.B) {
	s := benchStore(b)
	at := before
	for b.Loop() {
		b.StopTimer()
		views := spread(at, 1000)
		at += 1000
		b.StartTimer()
		batch := s.db.NewBatch()
		for _, view := range views {
			if err := batch.Set(appendKey(nil, s.prefix, view.Key), encode(1, view.Body), nil); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Commit(pebble.NoSync); err != nil {
			b.Fatal(err)
		}
		batch.Close()
	}
	perView(b, 1000)
}

// BenchmarkSaveAgain saves 1,000 views a call that are stored already, all over the store.
func BenchmarkSaveAgain(b *testing.B) {
	s := benchStore(b)
	versions := make([]int64, before)
	for i := range versions {
		versions[i] = 1
	}
	at := 0
	for b.Loop() {
		b.StopTimer()
		views := spread(0, 1000)
		for i := range views {
			at = (at + 7919) % before
			views[i].Key = benchKey(fmt.Sprint("timeline/room", at%partitions), at)
			views[i].Version = versions[at]
			versions[at]++
		}
		b.StartTimer()
		if err := s.Save(b.Context(), views...); err != nil {
			b.Fatal(err)
		}
	}
	perView(b, 1000)
}

// BenchmarkSaveOne saves one view again and again.
func BenchmarkSaveOne(b *testing.B) {
	s := benchStore(b)
	view := projections.View{Key: benchKey("room/one", 0), Body: benchBody}
	for b.Loop() {
		if err := s.Save(b.Context(), view); err != nil {
			b.Fatal(err)
		}
		view.Version++
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys := make([]projections.Key, 10_000+n)
			for i := range keys {
				at := i * 7919 % before
				keys[i] = benchKey(fmt.Sprint("timeline/room", at%partitions), at)
			}
			at := 0
			for b.Loop() {
				at = (at + n) % 10_000
				if _, err := s.Get(b.Context(), keys[at:at+n]...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkQueryLast50 asks for the newest page of a small and of a huge partition.
func BenchmarkQueryLast50(b *testing.B) {
	s := openStore(b, pebbledb.Options{})
	for _, n := range []int{1000, 1_000_000} {
		partition := fmt.Sprint("timeline/", n)
		for i := 0; i < n; i += 1000 {
			if err := s.Save(b.Context(), freshViews(partition, i, 1000)...); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.db.Flush(); err != nil { // neither is to be all in memory
		b.Fatal(err)
	}
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchLast50(b, s.Views, fmt.Sprint("timeline/", n)) })
	}
}

// BenchmarkQueryOverwritten queries 50 views; one of them, or each, was saved many times
// shortly before, so that the superseded versions are still in memory.
func BenchmarkQueryOverwritten(b *testing.B) {
	for _, test := range []struct {
		name         string
		views, times int
	}{{"one×10000", 1, 10_000}, {"each×200", 50, 200}} {
		b.Run(test.name, func(b *testing.B) {
			s := openStore(b, pebbledb.Options{})
			if err := s.Save(b.Context(), freshViews("inbox/ada", 0, 50)...); err != nil {
				b.Fatal(err)
			}
			for version := range int64(test.times) {
				views := freshViews("inbox/ada", 10, test.views)
				if test.views == 50 {
					views = freshViews("inbox/ada", 0, 50)
				}
				for i := range views {
					views[i].Version = version + 1
				}
				if err := s.Save(b.Context(), views...); err != nil {
					b.Fatal(err)
				}
			}
			benchLast50(b, s.Views, "inbox/ada")
		})
	}
}

func benchLast50(b *testing.B, v *Views, partition string) {
	for b.Loop() {
		views, err := v.Query(context.Background(), partition, projections.Range{Reverse: true, Limit: 50})
		if err != nil || len(views) != 50 {
			b.Fatalf("got %d views, error %v", len(views), err)
		}
	}
}
