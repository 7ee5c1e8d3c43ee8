package pebblelog

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
)

// benchText makes an event of about 400 bytes.
const benchText = "It was a bright cold day in April, and the clocks were striking thirteen. And then some: " +
	"it was a bright cold day in April, and the clocks were striking thirteen. "

const benchRooms = 100

func benchMessages(b *testing.B, n int) []events.Event {
	b.Helper()
	rooms := make([]events.Stream, min(benchRooms, n))
	for i := range rooms {
		rooms[i] = newRoom(b)
	}
	all := make([]events.Event, n)
	for i := range all {
		all[i] = message(b, rooms[i%len(rooms)], newID(b), "here", benchText)
	}
	return all
}

// parallel does b.N calls from a number of goroutines and reports calls per second.
func parallel(b *testing.B, writers int, call func(i int) error) {
	b.Helper()
	var next atomic.Int64
	failed := make(chan error, writers)
	b.ResetTimer()
	start := time.Now()
	for range writers {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					failed <- nil
					return
				}
				if err := call(i); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range writers {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "events/s")
}

// BenchmarkAppend compares Append with the same bytes set and synced in a bare Pebble database
// of the same options by as many goroutines. The two take turns, as the disk has its moods.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d/log", writers), func(b *testing.B) {
			l := openTemp(b, Options{})
			all := benchMessages(b, b.N)
			parallel(b, writers, func(i int) error {
				_, _, err := l.Append(context.Background(), all[i])
				return err
			})
		})
		b.Run(fmt.Sprintf("writers=%d/raw", writers), func(b *testing.B) {
			l := openTemp(b, Options{})
			keys, values := make([][]byte, b.N), make([][]byte, b.N)
			for i, e := range benchMessages(b, b.N) {
				w, err := newWrite(e, time.Now())
				if err != nil {
					b.Fatal(err)
				}
				// As one pair, it costs a bare database the least.
				keys[i] = w.key
				values[i] = append(append(w.value, positionKey(uint64(i))...), appendArrival(nil, w.key, false)...)
			}
			parallel(b, writers, func(i int) error { return l.db.Set(keys[i], values[i], pebble.Sync) })
		})
	}
}

func fill(b *testing.B, n int) (*Log, []events.Event) {
	b.Helper()
	l := openTemp(b, Options{})
	all := benchMessages(b, n)
	records := make([]events.Record, n)
	for i, e := range all {
		records[i] = events.Record{Event: e, At: time.Now()}
	}
	if err := l.Replicate(b.Context(), records); err != nil {
		b.Fatal(err)
	}
	return l, all
}

const benchEvents = 200_000

func BenchmarkGet(b *testing.B) {
	l, all := fill(b, benchEvents)
	b.ResetTimer()
	for i := range b.N {
		e := all[i*7919%len(all)]
		if _, err := events.Get(b.Context(), l, e.Stream, e.ID); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadLast50(b *testing.B) {
	l, all := fill(b, benchEvents)
	b.ResetTimer()
	for i := range b.N {
		n := 0
		for _, err := range l.Read(b.Context(), all[i%benchRooms].Stream, events.Range{Reverse: true, Limit: 50}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 50 {
			b.Fatalf("%d events", n)
		}
	}
}

// BenchmarkTail is a follower that reads records from the disk, one op a record.
func BenchmarkTail(b *testing.B) {
	l, _ := fill(b, benchEvents)
	b.ResetTimer()
	for n, after := 0, uint64(0); n < b.N; {
		records, err := l.Next(b.Context(), formatPosition(after), 500, true)
		if err != nil {
			b.Fatal(err)
		}
		n += len(records)
		if after += uint64(len(records)); after >= benchEvents-recentRecords {
			after = 0
		}
	}
}
