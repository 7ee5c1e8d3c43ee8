package projections

import (
	"context"
	"time"

	"parley/events"
)

// Beats is the projection of the last heartbeat received in each stream of heartbeats.
var Beats Projection = &projection[frontier, *frontier]{
	name:   "beat",
	stream: func(key Key) events.Stream { return events.Stream(string(events.KindRegion) + "/" + key.Sort) },
	keys: func(e events.Event) []Key {
		if _, ok := e.Payload.(events.RegionBeat); ok {
			return []Key{{beatPartition, e.Stream.Name()}}
		}
		return nil
	},
}

const beatPartition = "beat"

// frontier is the view of a stream's last heartbeat.
type frontier struct {
	Beat events.ID `json:"beat"`
}

func (f *frontier) fold(_ Key, e events.Event) {
	if e.ID.Compare(f.Beat) > 0 {
		f.Beat = e.ID
	}
}

// silence is how far behind a stream of heartbeats may be until it is left out of its region's frontier,
// and a region until it is left out of the least one.
const silence = time.Hour

// Heartbeats are the last heartbeats received, by the stream of heartbeats. A region appends to several
// streams, so that several shards of the change stream have one.
type Heartbeats map[events.Stream]events.ID

// LoadHeartbeats reads the last heartbeats received from all regions, this one included. Those of the last
// second may be missing.
func LoadHeartbeats(ctx context.Context, views Views) (Heartbeats, error) {
	const regions = 100 // DynamoDB has fewer
	got, err := views.Query(ctx, beatPartition, Range{Limit: regions * events.MaxBeatStreams, Stale: true})
	if err != nil {
		return nil, err
	}
	last := make(Heartbeats, len(got))
	for _, view := range got {
		state, err := decode[frontier](view.Body)
		if err != nil {
			return nil, err
		}
		last[Beats.Stream(view.Key)] = state.Beat
	}
	return last, nil
}

// Frontiers returns the frontier of each region: the least of the last heartbeats of its streams. What the
// region accepted until then has most likely arrived here; what has not is named by a late notice when it
// does. Streams with few events may lag behind all heartbeats, so it is no guarantee.
//
// A stream whose last heartbeat is more than an hour older than the region's newest is left out: the region
// now appends to fewer streams, or the shard lags so far that waiting for it helps nobody. A region without
// heartbeats is missing.
func (h Heartbeats) Frontiers() map[string]events.ID {
	newest := h.newest()
	least := make(map[string]events.ID, len(newest))
	for stream, beat := range h {
		region := stream.BeatRegion()
		if newest[region].Timestamp().Sub(beat.Timestamp()) > silence {
			continue
		}
		if other, ok := least[region]; !ok || beat.Compare(other) < 0 {
			least[region] = beat
		}
	}
	return least
}

// newest returns the newest heartbeat of each region, in any of its streams.
func (h Heartbeats) newest() map[string]events.ID {
	newest := map[string]events.ID{}
	for stream, beat := range h {
		if region := stream.BeatRegion(); beat.Compare(newest[region]) > 0 {
			newest[region] = beat
		}
	}
	return newest
}

// Low returns the least frontier of all regions, zero if there is none: what any region accepted until
// then has most likely arrived here, and what has not is named by a late notice when it does.
//
// A region whose newest heartbeat is more than an hour older than now is left out, or a region that is lost
// or was removed would hold all others back for good. What such a region accepted and still arrives is late.
func (h Heartbeats) Low(now time.Time) time.Time {
	newest := h.newest()
	var low time.Time
	for region, beat := range h.Frontiers() {
		if now.Sub(newest[region].Timestamp()) > silence {
			continue
		}
		if at := beat.Timestamp(); low.IsZero() || at.Before(low) {
			low = at
		}
	}
	return low
}

// LoadFrontiers reads [Heartbeats.Frontiers].
func LoadFrontiers(ctx context.Context, views Views) (map[string]events.ID, error) {
	last, err := LoadHeartbeats(ctx, views)
	if err != nil {
		return nil, err
	}
	return last.Frontiers(), nil
}

// LoadLow reads [Heartbeats.Low].
func LoadLow(ctx context.Context, views Views, now time.Time) (time.Time, error) {
	last, err := LoadHeartbeats(ctx, views)
	if err != nil {
		return time.Time{}, err
	}
	return last.Low(now), nil
}
