package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"

	"parley/events"
	"parley/projections"
)

// The change stream of a region is handled in lanes, as the shards of a DynamoDB stream are by Lambda:
// side by side, each lane in order. The events of a stream are all in one lane.

const (
	// defaultShards is how many shards DynamoDB gives a new on-demand table.
	defaultShards = 4
	maxShards     = 16
	// streamInstances is how many instances of the stream function a region has. On AWS each would be a
	// process of its own.
	streamInstances = 3
)

// instances are several instances of a function, each with caches of its own. Each call goes to one of
// them at random, as if they were processes.
type instances []function

func (all instances) any() function { return all[rand.IntN(len(all))] }

// Handle implements function.
func (all instances) Handle(ctx context.Context, records []events.Record) (int, error) {
	return all.any().Handle(ctx, records)
}

// Park implements function.
func (all instances) Park(ctx context.Context, stage string, r events.Record, cause error) error {
	return all.any().Park(ctx, stage, r, cause)
}

// lane is a trigger for a part of the streams, and where it starts.
type lane struct {
	*trigger
	start checkpoint
}

// laneParts are what the lanes of a region are made of.
type laneParts struct {
	follow      func(events.Part) events.Replica
	functions   instances
	feed        *projections.Feed
	checkpoints checkpoints
	settings    triggerSettings
	log         *slog.Logger
}

// lanes makes one lane for each checkpoint to start from.
func (p laneParts) lanes(starts []checkpoint) []lane {
	all := make([]lane, len(starts))
	for i, start := range starts {
		part := events.Part{Index: i, Of: len(starts)}
		source := p.follow(part)
		all[i] = lane{&trigger{
			source: source, part: part, function: p.functions, settings: p.settings, log: p.log.With("lane", i),
			recovery: &recovery{log: source, part: part, feed: p.feed},
			save:     func(ctx context.Context, to checkpoint) error { return saveLane(ctx, p.checkpoints, part, to) },
		}, start}
	}
	return all
}

// checkpoint is how far a lane has come in the change stream: every record of the lane up to it is
// handled or parked.
type checkpoint struct {
	Sequence string `json:"sequence"` // of the last record, see [events.Record]; "" is the beginning
	// Number is that of the last record. It says which of several checkpoints is the earliest. The stream
	// must have one shard, as those of the embedded store and of DynamoDB Local have: between shards
	// numbers cannot be compared.
	Number events.Number `json:"number,omitempty"`
}

const (
	// streamCheckpoint is the name of the checkpoint that a region with a single lane had in a former
	// release: a sequence.
	streamCheckpoint = "stream"
	// lanesCheckpoint is the name under which the number of lanes is stored. The checkpoints of other
	// numbers of lanes are void.
	lanesCheckpoint = "stream/lanes"
)

// laneCheckpoint is the name of the checkpoint of a lane.
func laneCheckpoint(lane events.Part) string { return fmt.Sprintf("stream/%d/%d", lane.Of, lane.Index) }

// openLanes returns the checkpoints of n lanes, after it has checked all that are stored. If they were
// stored for another number of lanes, all lanes begin at the earliest of them: some records are
// handled again, none is left out.
func openLanes(ctx context.Context, store checkpoints, n int, check func(sequence string) error) ([]checkpoint, error) {
	stored, err := loadLanes(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, at := range stored {
		if err := check(at.Sequence); err != nil {
			return nil, err
		}
	}
	if len(stored) == n {
		text, err := store.load(ctx, lanesCheckpoint)
		if err != nil || text != "" {
			return stored, err
		}
	}
	earliest := stored[0]
	for _, at := range stored {
		if at.Number.Compare(earliest.Number) < 0 {
			earliest = at
		}
	}
	all := make([]checkpoint, n)
	for i := range all {
		all[i] = earliest
		if err := saveLane(ctx, store, events.Part{Index: i, Of: n}, earliest); err != nil {
			return nil, err
		}
	}
	// Only now these checkpoints count.
	return all, store.save(ctx, lanesCheckpoint, strconv.Itoa(n))
}

// loadLanes returns the checkpoints that are stored, for any number of lanes.
func loadLanes(ctx context.Context, store checkpoints) ([]checkpoint, error) {
	text, err := store.load(ctx, lanesCheckpoint)
	if err != nil {
		return nil, err
	}
	if text == "" {
		sequence, err := store.load(ctx, streamCheckpoint)
		return []checkpoint{{Sequence: sequence}}, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxShards {
		return nil, fmt.Errorf("the number of lanes of the change stream is damaged: %q", text)
	}
	all := make([]checkpoint, n)
	for i := range all {
		name := laneCheckpoint(events.Part{Index: i, Of: n})
		text, err := store.load(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &all[i]); err != nil {
			return nil, fmt.Errorf("checkpoint %q is damaged: %w", name, err)
		}
	}
	return all, nil
}

// saveLane saves the checkpoint of a lane.
func saveLane(ctx context.Context, store checkpoints, lane events.Part, at checkpoint) error {
	text, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("encode a checkpoint: %w", err)
	}
	return store.save(ctx, laneCheckpoint(lane), string(text))
}
