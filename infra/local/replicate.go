package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
)

// replicator replicates the events that one region stored first to one other, with the faults of a
// global table: each item on its own, with a lag, out of order, sometimes twice, and not while either
// region is isolated. No event is lost: events that are not durable in the target are replicated again
// after a restart.
type replicator struct {
	from, to       string
	source, target events.Replica
	network        *network
	linkFaults     linkFaults
	logs           map[string]string // the identity of each region's log, of all that run now
	checkpoints    checkpoints       // of the source region
	log            *slog.Logger
	copied         func() // called when the target has all that the source had at first; may be nil

	fresh    bool      // the target needs a copy of the whole log
	after    string    // the sequence up to which the source was read
	saved    string    // the last checkpoint
	savedAt  time.Time // and when it was saved
	inFlight inFlight

	oldest atomic.Int64 // when the oldest item in flight was accepted, Unix ns; 0: there is none
}

// The bounds of one replicator.
const (
	maxInFlight      = 16384                  // items in flight
	maxInFlightBytes = 16 << 20               // bytes of data in flight
	replicateBatch   = 512                    // items made durable by one call
	checkpointEvery  = 100 * time.Millisecond // between two checkpoints; later events are replicated again after a crash
	lastSaveTimeout  = 5 * time.Second        // to save the last checkpoint at the end
)

// replicatorCheckpoint is the checkpoint of a replicator: everything that it replicates up to Sequence
// is durable in the target. It is valid only while all regions with these Logs run, by name and identity
// of the log. A former release wrote none: it did not replicate what was imported from other regions.
type replicatorCheckpoint struct {
	Sequence string            `json:"sequence"`
	Logs     map[string]string `json:"logs"`
}

func (f *replicator) checkpointName() string { return "replicate/" + f.to }

// resume loads the replicator's checkpoint. A new target gets a copy of the source's whole log, like a
// new replica of a table. So does every target if any region no longer runs, or runs with another log:
// events that that region has not replicated everywhere must come from the regions that have them.
func (f *replicator) resume(ctx context.Context) error {
	text, err := f.checkpoints.load(ctx, f.checkpointName())
	if err != nil {
		return err
	}
	var loaded replicatorCheckpoint
	if text != "" && json.Unmarshal([]byte(text), &loaded) != nil {
		f.log.ErrorContext(ctx, "the checkpoint of replication is damaged; the whole log is copied", "from", f.from, "to", f.to)
		loaded = replicatorCheckpoint{}
	}
	f.fresh = loaded.Logs[f.to] == ""
	for region, log := range loaded.Logs {
		f.fresh = f.fresh || f.logs[region] != log
	}
	if !f.fresh {
		f.after, f.saved = loaded.Sequence, loaded.Sequence
	}
	return nil
}

// saveProgress saves the checkpoint if it has changed.
func (f *replicator) saveProgress(ctx context.Context) error {
	if sequence := f.inFlight.checkpoint(f.after); sequence != f.saved && !f.fresh {
		return f.saveCheckpoint(ctx, sequence)
	}
	return nil
}

func (f *replicator) saveCheckpoint(ctx context.Context, sequence string) error {
	text, err := json.Marshal(replicatorCheckpoint{sequence, f.logs})
	if err != nil {
		return fmt.Errorf("encode the checkpoint of replication to %s: %w", f.to, err)
	}
	if err := f.checkpoints.save(ctx, f.checkpointName(), string(text)); err != nil {
		return err
	}
	f.saved, f.savedAt = sequence, time.Now()
	return nil
}

// savePeriodically saves the checkpoint at most once in checkpointEvery.
func (f *replicator) savePeriodically(ctx context.Context) error {
	if time.Since(f.savedAt) < checkpointEvery {
		return nil
	}
	return f.saveProgress(ctx)
}

// resumeAndRun resumes at the checkpoint, with retries, and replicates until ctx ends.
func (f *replicator) resumeAndRun(ctx context.Context) {
	for tries := 1; ; tries++ {
		err := f.resume(ctx)
		if err == nil {
			f.run(ctx)
			return
		}
		if replicateBackoff.Wait(ctx, tries) != nil {
			return
		}
		f.log.WarnContext(ctx, "replication cannot begin; it will be retried", "from", f.from, "to", f.to, "error", err)
	}
}

// run replicates until ctx ends.
func (f *replicator) run(ctx context.Context) {
	repeat(ctx, func(ctx context.Context) bool {
		err := f.step(ctx)
		if err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "replication failed; it will be retried", "from", f.from, "to", f.to, "error", err)
		}
		return err == nil
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSaveTimeout)
	defer cancel()
	if err := f.saveProgress(ctx); err != nil {
		f.log.Warn("replication will repeat some events after the next start", "from", f.from, "to", f.to, "error", err)
	}
}

// repeat calls step until ctx ends. It backs off while step fails, which is when it returns false.
func repeat(ctx context.Context, step func(context.Context) bool) {
	for failures := 0; ctx.Err() == nil; {
		if step(ctx) {
			failures = 0
			continue
		}
		failures++
		_ = replicateBackoff.Wait(ctx, failures)
	}
}

var replicateBackoff = events.Backoff{First: 10 * time.Millisecond, Max: 5 * time.Second}

// step reads new records, waits for the next tick, and delivers the items that are due. If no item is
// in flight it waits for a new record.
func (f *replicator) step(ctx context.Context) error {
	if f.fresh {
		return f.copyAll(ctx)
	}
	if err := f.read(ctx); err != nil {
		return err
	}
	f.network.await(ctx, f.from, f.to)
	f.linkFaults.await(ctx)
	return f.deliverAll(ctx, time.Now())
}

// copyAll copies the source's whole log to the target, including events that other regions accepted.
func (f *replicator) copyAll(ctx context.Context) error {
	after, err := f.source.Snapshot(ctx, func(batch []events.Record) error {
		for len(batch) > 0 {
			n := min(replicateBatch, len(batch))
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
	if f.copied != nil {
		f.copied()
	}
	return f.saveCheckpoint(ctx, after)
}

// read reads new records from the source's log.
func (f *replicator) read(ctx context.Context) error {
	limit := maxInFlight - f.inFlight.items()
	if limit <= 0 || f.inFlight.bytes > maxInFlightBytes {
		return nil
	}
	got, err := f.source.Next(ctx, f.after, limit, f.inFlight.items() == 0)
	if _, ok := errors.AsType[*events.TrimmedError](err); ok {
		f.log.ErrorContext(ctx, "the change stream lost events before they were replicated; the whole log is copied", "from", f.from, "to", f.to)
		f.fresh = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range got {
		f.send(ctx, r)
	}
	f.setOldest()
	return f.savePeriodically(ctx)
}

// send adds a record to those in flight, unless its event came from another region: that region
// replicates it. Which region the event names does not matter, as an import keeps the names.
func (f *replicator) send(ctx context.Context, r events.Record) {
	before := f.after
	f.after = r.Sequence
	if r.Err != nil {
		f.log.ErrorContext(ctx, "a damaged event cannot be replicated", "from", f.from, "to", f.to, "error", r.Err)
		return
	}
	if !r.Replica {
		f.inFlight.add(r, before, f.linkFaults)
	}
}

// deliverAll delivers the items that are due at a time.
func (f *replicator) deliverAll(ctx context.Context, now time.Time) error {
	for {
		due := f.inFlight.due(now, replicateBatch)
		if len(due) == 0 {
			return nil
		}
		if passed, err := f.deliver(ctx, due); !passed || err != nil {
			return err
		}
	}
}

// deliver makes items durable in the target, unless either region is isolated.
func (f *replicator) deliver(ctx context.Context, due []delivery) (passed bool, err error) {
	batch := make([]events.Record, len(due))
	for i, d := range due {
		batch[i] = d.item.record
	}
	passed, err = f.network.pass(f.from, f.to, func() error { return f.target.Replicate(ctx, batch) })
	if !passed || err != nil {
		f.inFlight.putBack(due)
		return passed, err
	}
	f.inFlight.done(due)
	f.setOldest()
	return true, f.savePeriodically(ctx)
}

// setOldest sets the time of the oldest item in flight, for the health check.
func (f *replicator) setOldest() {
	at := int64(0)
	if oldest := f.inFlight.oldest(); !oldest.IsZero() {
		at = oldest.UnixNano()
	}
	f.oldest.Store(at)
}

// waited returns how long ago the oldest item in flight was accepted, 0 if there is none.
func (f *replicator) waited(now time.Time) time.Duration {
	at := f.oldest.Load()
	if at == 0 {
		return 0
	}
	return max(0, now.Sub(time.Unix(0, at)))
}

// notifyingKeys are a region's keys that call changed after each change, so that it is replicated.
type notifyingKeys struct {
	keys.Store
	changed func(user string)
}

// Add implements [keys.Store].
func (k *notifyingKeys) Add(ctx context.Context, user string, key keys.Wrapped) error {
	err := k.Store.Add(ctx, user, key)
	k.changed(user) // even after an error it may be stored
	return err
}

// Erase implements [keys.Store].
func (k *notifyingKeys) Erase(ctx context.Context, user string) error {
	err := k.Store.Erase(ctx, user)
	k.changed(user)
	return err
}

// keyReplicator replicates one region's keys to one other, as a global table does: with a lag, and not
// while either region is isolated. At its start it replicates all keys, so that changes that were in
// flight at a crash are not lost.
type keyReplicator struct {
	from, to       string
	source, target keys.Store
	root           keys.Wrapper // of the keys
	network        *network
	lag            time.Duration
	log            *slog.Logger

	mu      sync.Mutex
	pending map[string]bool // users whose keys have changed
	wake    chan struct{}   // holds one while users are pending
}

func newKeyReplicator(from, to *incarnation, root keys.Wrapper, network *network, lag time.Duration) *keyReplicator {
	return &keyReplicator{
		from: from.name, to: to.name, source: from.store.keys, target: to.store.keys, root: root,
		network: network, lag: lag, log: from.logger, pending: map[string]bool{}, wake: make(chan struct{}, 1),
	}
}

// changed adds a user whose keys have changed.
func (f *keyReplicator) changed(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[user] = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// takePending returns the pending users and removes them.
func (f *keyReplicator) takePending() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	users := slices.Collect(maps.Keys(f.pending))
	clear(f.pending)
	return users
}

// run replicates until ctx ends.
func (f *keyReplicator) run(ctx context.Context) {
	for user, err := range f.source.Users(ctx) {
		if err != nil {
			f.warn(ctx, err)
			break
		}
		f.changed(user)
	}
	repeat(ctx, f.step)
}

// step waits for changes and replicates them. It reports whether it succeeded.
func (f *keyReplicator) step(ctx context.Context) bool {
	select {
	case <-f.wake:
	case <-ctx.Done():
		return true
	}
	_ = events.Sleep(ctx, f.lag/2) // as long as the fastest event that needs the key
	f.network.await(ctx, f.from, f.to)
	ok := true
	for _, user := range f.takePending() {
		passed, err := f.network.pass(f.from, f.to, func() error { return f.copyKeys(ctx, user) })
		if err != nil {
			f.warn(ctx, err)
		}
		if !passed || err != nil {
			ok = false
			f.changed(user)
		}
	}
	return ok
}

// copyKeys adds the user's keys that the target lacks or has damaged, or erases the user there.
func (f *keyReplicator) copyKeys(ctx context.Context, user string) error {
	from, err := f.source.Load(ctx, user)
	if err != nil {
		return err
	}
	to, err := f.target.Load(ctx, user)
	switch {
	case err != nil:
		return err
	case from.Erased && to.Erased && len(to.Wrapped) == 0:
		return nil
	case from.Erased:
		return f.target.Erase(ctx, user)
	}
	for _, key := range from.Wrapped {
		has := slices.IndexFunc(to.Wrapped, func(k keys.Wrapped) bool { return k.ID == key.ID })
		if has >= 0 && !f.repairs(ctx, user, key, to.Wrapped[has]) {
			continue
		}
		if err := f.target.Add(ctx, user, key); err != nil && !errors.Is(err, keys.ErrErased) {
			return err
		}
	}
	return nil
}

// repairs reports whether a key is good and another region's copy of it is damaged.
func (f *keyReplicator) repairs(ctx context.Context, user string, key, other keys.Wrapped) bool {
	if bytes.Equal(key.Bytes, other.Bytes) {
		return false
	}
	_, good := f.root.Unwrap(ctx, user, key.Bytes)
	_, damaged := f.root.Unwrap(ctx, user, other.Bytes)
	return good == nil && errors.Is(damaged, keys.ErrDamaged)
}

func (f *keyReplicator) warn(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.log.WarnContext(ctx, "replication of keys failed; it will be retried", "from", f.from, "to", f.to, "error", err)
	}
}
