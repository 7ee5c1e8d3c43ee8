package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/functions/stream"
)

// replica is one region's log as replication sees it.
type replica interface {
	source
	// All hands to f what is in the log by now, in batches, and returns a sequence from which its
	// stream goes on: with whatever comes later, and maybe with some of what f was given.
	All(ctx context.Context, f func([]accepted) error) (after string, err error)
	// Replicate makes a batch durable: the last writer of an item wins. It must not keep the slice.
	Replicate(ctx context.Context, batch []accepted) error
}

// accepted is an event and when the region in it accepted it.
type accepted struct {
	event events.Event
	at    time.Time
}

// flow replicates what one region accepts to one other, as badly as a global table does: each
// item on its own, late, out of order, now and then twice, several changes of one item merged
// into one, and not at all while either end is isolated. But nothing is lost: what the target
// has not yet made durable is sent again after a restart.
type flow struct {
	from, to       string
	source, target replica
	network        *network
	weather        weather
	regions        []string // all that run now
	marks          marks    // of the source region
	identity       string   // of the target's log: another one has nothing yet
	log            *slog.Logger

	fresh   bool      // the target has nothing yet
	after   string    // the sequence up to which the source was read
	saved   string    // the last mark
	savedAt time.Time // and when it was saved
	transit transit

	oldest atomic.Int64 // when the oldest item under way was accepted, Unix ns; 0: none is
}

// The bounds of one flow.
const (
	flowItems = 16384                  // under way
	flowBytes = 16 << 20               // of data under way
	flowBatch = 512                    // items made durable by one call
	flowMarks = 100 * time.Millisecond // between two marks; what came between is sent again after a crash
	flowLast  = 5 * time.Second        // to save the last mark when it stops
)

// flowMark is how far a flow has come: the target has durably all up to Sequence that the flow
// is to pass on. It holds for this Target log only, and only while all Regions still run.
type flowMark struct {
	Sequence string   `json:"sequence"`
	Target   string   `json:"target"`
	Regions  []string `json:"regions"`
}

func (f *flow) markName() string { return "replicate/" + f.to }

// resume reads the flow's mark. A target that is new gets everything that is in the source's log
// by now, as a new replica of a table does; and so does every target if a region no longer runs,
// because whatever that one has not passed on must come from those that have it.
func (f *flow) resume(ctx context.Context) error {
	text, err := f.marks.load(ctx, f.markName())
	if err != nil {
		return err
	}
	var mark flowMark
	if text != "" {
		if err := json.Unmarshal([]byte(text), &mark); err != nil {
			return fmt.Errorf("read the mark of replication to %s: %w", f.to, err)
		}
	}
	gone := slices.ContainsFunc(mark.Regions, func(r string) bool { return !slices.Contains(f.regions, r) })
	f.fresh = gone || mark.Target != f.identity
	if !f.fresh {
		f.after, f.saved = mark.Sequence, mark.Sequence
	}
	return nil
}

// save writes the flow's mark if it has moved.
func (f *flow) save(ctx context.Context) error {
	if sequence := f.transit.settled(f.after); sequence != f.saved && !f.fresh {
		return f.mark(ctx, sequence)
	}
	return nil
}

func (f *flow) mark(ctx context.Context, sequence string) error {
	text, err := json.Marshal(flowMark{sequence, f.identity, f.regions})
	if err != nil {
		return fmt.Errorf("write the mark of replication to %s: %w", f.to, err)
	}
	if err := f.marks.save(ctx, f.markName(), string(text)); err != nil {
		return err
	}
	f.saved, f.savedAt = sequence, time.Now()
	return nil
}

// saveNowAndThen writes the mark unless it was written a moment ago.
func (f *flow) saveNowAndThen(ctx context.Context) error {
	if time.Since(f.savedAt) < flowMarks {
		return nil
	}
	return f.save(ctx)
}

// run replicates until ctx ends.
func (f *flow) run(ctx context.Context) {
	failed := 0
	for ctx.Err() == nil {
		err := f.step(ctx)
		if err == nil || ctx.Err() != nil {
			failed = 0
			continue
		}
		f.log.WarnContext(ctx, "replication failed; it will be tried again", "from", f.from, "to", f.to, "error", err)
		pause(ctx, min(10*time.Millisecond<<min(failed, 20), 5*time.Second))
		failed++
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flowLast)
	defer cancel()
	if err := f.save(ctx); err != nil {
		f.log.Warn("replication will repeat some events after the next start", "from", f.from, "to", f.to, "error", err)
	}
}

// step reads what is new, waits for the next tick, and delivers what is due by then. With nothing
// under way it waits for something new.
func (f *flow) step(ctx context.Context) error {
	if f.fresh {
		return f.copyAll(ctx)
	}
	if err := f.read(ctx); err != nil {
		return err
	}
	f.network.await(ctx, f.from, f.to)
	f.weather.await(ctx)
	return f.deliverAll(ctx, time.Now())
}

// copyAll fills a target that has nothing yet with all that is in the source's log, whoever
// accepted it.
func (f *flow) copyAll(ctx context.Context) error {
	after, err := f.source.All(ctx, func(batch []accepted) error {
		for len(batch) > 0 {
			n := min(flowBatch, len(batch))
			f.network.await(ctx, f.from, f.to)
			passed, err := f.network.pass(f.from, f.to, func() error { return f.target.Replicate(ctx, batch[:n]) })
			if err != nil {
				return err
			}
			if passed {
				batch = batch[n:]
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.fresh, f.after = false, after
	return f.mark(ctx, after)
}

// read takes new records from the source's log.
func (f *flow) read(ctx context.Context) error {
	limit := flowItems - f.transit.items()
	if limit <= 0 || f.transit.bytes > flowBytes {
		return nil
	}
	got, err := f.source.Next(ctx, f.after, limit, f.transit.items() == 0)
	if _, ok := errors.AsType[*trimmedError](err); ok {
		f.log.ErrorContext(ctx, "the stream has lost events before they were replicated; all are copied from the log", "from", f.from, "to", f.to)
		f.fresh = true
		return nil
	}
	if err != nil {
		return err
	}
	for i, r := range got.list {
		f.take(ctx, r, got.at[i])
	}
	f.note()
	return f.saveNowAndThen(ctx)
}

// take sends a record on its way if it is for this flow to pass on: if its own region accepted
// it. An event whose region was rewritten because the last writer won is passed on by that writer.
func (f *flow) take(ctx context.Context, r stream.Record, at time.Time) {
	before := f.after
	f.after = r.Sequence
	if r.Err != nil {
		f.log.ErrorContext(ctx, "a damaged event cannot be replicated", "from", f.from, "to", f.to, "error", r.Err)
		return
	}
	if r.Replaced {
		f.transit.merge(r.Event)
	}
	if r.Event.Region == f.from {
		f.transit.add(accepted{r.Event, at}, before, f.weather)
	}
}

// deliverAll delivers what is due at a time.
func (f *flow) deliverAll(ctx context.Context, now time.Time) error {
	for {
		due := f.transit.due(now, flowBatch)
		if len(due) == 0 {
			return nil
		}
		if passed, err := f.deliver(ctx, due); !passed || err != nil {
			return err
		}
	}
}

// deliver makes deliveries durable in the target, unless the network keeps them back.
func (f *flow) deliver(ctx context.Context, due []delivery) (passed bool, err error) {
	batch := make([]accepted, len(due))
	for i, d := range due {
		batch[i] = d.item.accepted
	}
	passed, err = f.network.pass(f.from, f.to, func() error { return f.target.Replicate(ctx, batch) })
	if !passed || err != nil {
		f.transit.back(due)
		return passed, err
	}
	f.transit.done(due)
	f.note()
	return true, f.saveNowAndThen(ctx)
}

// note keeps for health how old the oldest item under way is.
func (f *flow) note() {
	at := int64(0)
	if oldest := f.transit.oldest(); !oldest.IsZero() {
		at = oldest.UnixNano()
	}
	f.oldest.Store(at)
}

// waited is how long ago the oldest item under way was accepted, 0 if there is none.
func (f *flow) waited(now time.Time) time.Duration {
	at := f.oldest.Load()
	if at == 0 {
		return 0
	}
	return max(0, now.Sub(time.Unix(0, at)))
}
