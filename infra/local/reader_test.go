package main

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
)

// TestSharedStream holds followers that share a reader to the contract of a change stream. What is trimmed
// of the stream may still be among the recent records, so that it is not missing.
func TestSharedStream(t *testing.T) {
	var mu sync.Mutex
	shared := map[events.Log]*sharedStream{}
	logtest.RunStream(t, logtest.StreamDriver{
		Open: func(testing.TB, string) events.Log { return logtest.NewModel() },
		Follow: func(_ testing.TB, log events.Log) events.Replica {
			mu.Lock()
			defer mu.Unlock()
			if shared[log] == nil {
				shared[log] = newSharedStream(func() events.Replica { return log.(*logtest.Model) })
			}
			return shared[log].follow()
		},
		Volatile:        true,
		EmitUndecodable: func(_ testing.TB, log events.Log) { log.(*logtest.Model).EmitUndecodable() },
	})
}

// countedReads counts the records that are read of a change stream.
type countedReads struct {
	*changeStream
	records atomic.Int64
}

// Next implements [events.Follower].
func (c *countedReads) Next(ctx context.Context, after string, limit int, wait bool) ([]events.Record, error) {
	if !wait {
		c.mu.Lock()
		end := len(c.changeStream.records) <= atoi(after)
		c.mu.Unlock()
		if end {
			return nil, ctx.Err()
		}
	}
	got, err := c.changeStream.Next(ctx, after, limit, wait)
	c.records.Add(int64(len(got)))
	return got, err
}

// TestSharedStreamFollowers: followers that begin anywhere, stop for a while and stop for good each get every
// record once, in order; records are read little more often than once.
func TestSharedStreamFollowers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		before, later := rapid.IntRange(0, 3000).Draw(rt, "before"), rapid.IntRange(0, 3000).Draw(rt, "later")
		starts := rapid.SliceOfN(rapid.IntRange(0, before), 1, 8).Draw(rt, "starts")
		pauses := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 1, 300, 5000}), len(starts), len(starts)).Draw(rt, "pauses")
		deaths := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 2000}), len(starts), len(starts)).Draw(rt, "deaths")
		synctest.Test(t, func(t *testing.T) {
			s := &countedReads{changeStream: newChangeStream(before, 10)}
			shared := newSharedStream(func() events.Replica { return s })
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			reached := make([]int, len(starts))
			for i, at := range starts {
				running.Go(func() {
					f, ctx := shared.follow(), ctx
					if deaths[i] > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, time.Duration(deaths[i])*time.Millisecond)
						defer cancel()
					}
					for ctx.Err() == nil {
						got, err := f.Next(ctx, strconv.Itoa(at), 1+at%200, true)
						if err != nil && ctx.Err() == nil {
							rt.Errorf("follower %d: %v", i, err)
						}
						for _, r := range got {
							if at++; atoi(r.Sequence) != at {
								rt.Errorf("follower %d got %s, want %d", i, r.Sequence, at)
							}
						}
						_ = events.Sleep(ctx, time.Duration(pauses[i])*time.Millisecond)
					}
					reached[i] = at
				})
			}
			for range later {
				s.put(events.Record{})
				time.Sleep(time.Millisecond)
			}
			time.Sleep(10 * time.Minute)
			settled := s.records.Load()
			for range 100 {
				s.put(events.Record{})
				time.Sleep(10 * time.Second)
			}
			time.Sleep(10 * time.Minute)
			if again := s.records.Load() - settled; again > 200 {
				rt.Errorf("100 records were read %d times", again)
			}
			stop()
			running.Wait()
			for i, at := range reached {
				if deaths[i] == 0 && at != before+later+100 {
					rt.Errorf("follower %d has come to %d of %d", i, at, before+later+100)
				}
			}
			if len(shared.recent) > recentRecords {
				rt.Errorf("%d records are kept", len(shared.recent))
			}
		})
	})
}
