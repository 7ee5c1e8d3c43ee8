package dynamolog

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"golang.org/x/sync/errgroup"

	"parley/events"
)

// benchText makes an event of about 400 bytes.
const benchText = "It was a bright cold day in April, and the clocks were striking thirteen. And then some: " +
	"it was a bright cold day in April, and the clocks were striking thirteen. "

const (
	benchRooms = 100
	benchTurn  = 100 // appends before it is the other's turn
)

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

// sideways puts events from a number of goroutines and returns how long it took.
func sideways(b *testing.B, writers int, all []events.Event, put func(events.Event) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var group errgroup.Group
	start := time.Now()
	for range writers {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				if err := put(all[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkAppend compares Append with a bare PutItem of the same bytes by as many goroutines, each
// op one of either. They take turns, and in turns begin, as the machine has its moods; the ratio is
// the median of those of the turns.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			place := newPlace(b)
			l := logAt(place)
			client := dynamodb.NewFromConfig(place.Config(region))
			ours := func(e events.Event) error {
				_, _, err := l.Append(context.Background(), e)
				return err
			}
			bare := func(e events.Event) error {
				_, err := client.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &l.table, Item: itemOf(e)})
				return err
			}
			var took [2]time.Duration
			var ratios []float64
			puts := [2]func(events.Event) error{ours, bare}
			for _, put := range puts { // the connections, and the server's first steps
				sideways(b, writers, benchMessages(b, 2*benchTurn), put)
			}
			b.ResetTimer()
			for done, turn := 0, 0; done < b.N; done, turn = done+benchTurn, turn+1 {
				var now [2]time.Duration
				for i := range puts {
					which := (i + turn) % 2
					b.StopTimer()
					all := benchMessages(b, min(benchTurn, b.N-done))
					b.StartTimer()
					now[which] = sideways(b, writers, all, puts[which])
					took[which] += now[which]
				}
				ratios = append(ratios, float64(now[1])/float64(now[0]))
			}
			b.ReportMetric(float64(b.N)/took[0].Seconds(), "appends/s")
			b.ReportMetric(float64(b.N)/took[1].Seconds(), "puts/s")
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
		})
	}
}
