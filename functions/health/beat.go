package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/projections"
)

// DefaultStreams is to how many streams a region appends its heartbeats if nothing else is set. They sample
// the shards of the change stream: a table of DynamoDB has at least four.
const DefaultStreams = 8

// Beat appends the region's heartbeats, one to each of so many streams, from which every region measures
// how far it lags behind this one. It is due about once a minute. One that fails does not stop the others.
func Beat(ctx context.Context, log events.Log, clock *events.Clock, region string, streams int) error {
	errs := make([]error, streams)
	var appends sync.WaitGroup
	for n := range streams {
		id, err := clock.Mint(region)
		if err != nil {
			errs[n] = fmt.Errorf("mint the id of a heartbeat: %w", err)
			continue
		}
		appends.Go(func() { errs[n] = beat(ctx, log, id, events.BeatStream(region, n), region) })
	}
	appends.Wait()
	return errors.Join(errs...)
}

func beat(ctx context.Context, log events.Log, id events.ID, stream events.Stream, region string) error {
	e, err := events.New(id, stream, region, region, events.RegionBeat{})
	if err != nil {
		return fmt.Errorf("make a heartbeat: %w", err)
	}
	if _, _, err = log.Append(ctx, e); err != nil {
		return fmt.Errorf("append a heartbeat to %s: %w", stream, err)
	}
	return nil
}

const (
	// patience is how long a heartbeat may take through log, change stream and views of its own region.
	// Lambda may be set to collect records for 5 minutes before it invokes the stream function.
	patience = 6 * time.Minute
	// unheard is how many heartbeats of a stream must not have come back. One that was appended just before
	// the region stopped does not show that anything is wrong when the region starts again.
	unheard = 6
	// recent is the age of the oldest heartbeats that are looked for.
	recent = time.Hour
	// fresh is how long a finding about a stream is kept.
	fresh = 10 * time.Second
)

// returns checks that the region's own heartbeats come back through the change stream.
type returns struct {
	mu    sync.Mutex
	found map[events.Stream]finding
}

// finding is since when the heartbeats of a stream do not come back; zero if they do.
type finding struct {
	at    time.Time // when it was found
	since time.Time
}

// missing returns a stream whose heartbeats do not come back though they are in the log, and since when;
// "" if all do. The log is read only for streams whose last heartbeat, as the views have it, is old: usually
// for none. It is the log that says whether the region has appended any since: if it was down, or has just
// started, there are none to come back.
func (r *returns) missing(ctx context.Context, log events.Log, region string, streams int, last projections.Heartbeats, now time.Time) (events.Stream, time.Time, error) {
	since := make([]time.Time, streams)
	var reads errgroup.Group
	for n := range streams {
		stream := events.BeatStream(region, n)
		if now.Sub(last[stream].Timestamp()) <= patience {
			continue
		}
		reads.Go(func() (err error) {
			since[n], err = r.look(ctx, log, stream, last[stream], now)
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return "", time.Time{}, err
	}
	for n, at := range since {
		if !at.IsZero() {
			return events.BeatStream(region, n), at, nil
		}
	}
	return "", time.Time{}, nil
}

// look finds out since when heartbeats after the last one in the views do not come back.
func (r *returns) look(ctx context.Context, log events.Log, stream events.Stream, last events.ID, now time.Time) (time.Time, error) {
	r.mu.Lock()
	f := r.found[stream]
	r.mu.Unlock()
	if age := now.Sub(f.at); 0 <= age && age < fresh {
		return f.since, nil
	}
	var after events.ID
	if err := after.SetTime(uint64(max(0, now.Add(-recent).UnixMilli()))); err != nil {
		return time.Time{}, err
	}
	if last.Compare(after) > 0 {
		after = last
	}
	var first time.Time
	n := 0
	for e, err := range log.Read(ctx, stream, events.Range{After: after, Limit: unheard, Stale: true}) {
		if err != nil {
			return time.Time{}, err
		}
		if n++; n == 1 {
			first = e.ID.Timestamp()
		}
	}
	f = finding{at: now}
	if n == unheard && now.Sub(first) > patience {
		f.since = first
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found == nil {
		r.found = map[events.Stream]finding{}
	}
	r.found[stream] = f
	return f.since, nil
}
