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

	"parley/events/pebblelog"
)

// replica is one region's log as replication sees it, see [pebblelog.Log].
type replica interface {
	Tail(ctx context.Context, after uint64, limit int) ([]pebblelog.Record, error)
	Replicate(ctx context.Context, records []pebblelog.Record) error
	Head() uint64
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

	after   uint64 // the position in the source's log up to which it was read
	full    uint64 // the position up to which all is passed on, whoever accepted it
	saved   uint64 // the position of the last mark
	transit transit

	oldest atomic.Int64 // when the oldest item under way was accepted, Unix ns; 0: none is
}

// The bounds of one flow.
const (
	flowItems  = 16384    // under way
	flowBytes  = 16 << 20 // of data under way
	flowBatch  = 512      // items made durable by one call
	flowUnread = 4096     // foreign records that are read again after a crash, at most
)

// flowMark is how far a flow has come: the target has durably all up to Position that the flow
// is to pass on. It holds for this Target log only, and only while all Regions still run.
type flowMark struct {
	Position uint64   `json:"position"`
	Full     uint64   `json:"full"`
	Target   string   `json:"target"`
	Regions  []string `json:"regions"`
}

func (f *flow) markName() string { return "replicate/" + f.to }

// resume reads the flow's mark. A target that is new gets everything that is in the source's log
// by now, as a new replica of a table does; and so does every target if a region no longer runs,
// because whatever that one has not passed on must come from those that have it.
func (f *flow) resume() error {
	text, err := f.marks.load(f.markName())
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
	if gone || mark.Target != f.identity {
		f.full = f.source.Head()
		return nil
	}
	f.after, f.saved, f.full = mark.Position, mark.Position, mark.Full
	return nil
}

// save writes the flow's mark if it has moved by at least so many positions.
func (f *flow) save(step uint64) error {
	position := f.transit.settled(f.after)
	if position < f.saved+max(step, 1) {
		return nil
	}
	text, err := json.Marshal(flowMark{position, f.full, f.identity, f.regions})
	if err != nil {
		return fmt.Errorf("write the mark of replication to %s: %w", f.to, err)
	}
	if err := f.marks.save(f.markName(), string(text)); err != nil {
		return err
	}
	f.saved = position
	return nil
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
	if err := f.save(1); err != nil {
		f.log.Warn("replication will repeat some events after the next start", "from", f.from, "to", f.to, "error", err)
	}
}

// step reads what is new, waits until an item is due or it is time to read again, and delivers
// what is due. With nothing under way it waits for something new.
func (f *flow) step(ctx context.Context) error {
	if err := f.read(ctx); err != nil {
		return err
	}
	f.network.await(ctx, f.from, f.to)
	wait := f.weather.tick()
	if due, ok := f.transit.next(); ok {
		wait = min(wait, time.Until(due))
	}
	if wait > 0 {
		pause(ctx, wait)
	}
	return f.deliver(ctx)
}

// read takes new records from the source's log.
func (f *flow) read(ctx context.Context) error {
	limit := flowItems - f.transit.items()
	if f.transit.items() > 0 && (limit <= 0 || f.transit.bytes > flowBytes || f.source.Head() <= f.after) {
		return nil
	}
	got, err := f.source.Tail(ctx, f.after, limit)
	var damaged *pebblelog.DamagedError
	if errors.As(err, &damaged) {
		f.log.ErrorContext(ctx, "a damaged event cannot be replicated", "from", f.from, "position", damaged.Position)
		f.after = damaged.Position
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range got {
		f.after = r.Position
		if r.Modified {
			f.transit.merge(r)
		}
		if f.forwards(r) {
			f.transit.add(r, f.weather)
		}
	}
	f.note()
	return f.save(flowUnread)
}

// forwards reports whether a record is for this flow to pass on: what its own region accepted.
// An event whose region was rewritten because the last writer won is passed on by that writer.
func (f *flow) forwards(r pebblelog.Record) bool {
	return r.Event.Region == f.from || r.Position <= f.full && r.Event.Region != ""
}

// deliver makes durable in the target what is due.
func (f *flow) deliver(ctx context.Context) error {
	due := f.transit.due(time.Now(), flowBatch)
	if len(due) == 0 {
		return nil
	}
	batch := make([]pebblelog.Record, len(due))
	for i, d := range due {
		batch[i] = d.item.record
	}
	passed, err := f.network.pass(f.from, f.to, func() error { return f.target.Replicate(ctx, batch) })
	if !passed || err != nil {
		f.transit.back(due)
		return err
	}
	f.transit.done(due)
	f.note()
	return f.save(1)
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
