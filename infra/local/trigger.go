package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/projections"
)

// function is what a trigger calls, see [stream.Handler].
type function interface {
	Handle(ctx context.Context, records []events.Record) (int, error)
	Park(ctx context.Context, stage string, r events.Record, cause error) error
}

// lost handles events that the source lost, see [recovery].
type lost interface {
	each(ctx context.Context, handle func([]events.Record)) error
}

// trigger calls a function with the records of one lane of a source, as Lambda's event source mapping
// does with those of one shard: in order, at least once, in batches of available records. If the
// function handled a part of a batch, the trigger continues after it. If a batch fails as a whole,
// half of it is retried. A record that fails alone too often is parked, unless it fails because
// something is unavailable: that is retried for as long as it takes. A record is never dropped: parking
// is retried until it succeeds.
type trigger struct {
	source   events.Follower
	part     events.Part // the streams whose records the lane handles; the zero Part is all
	function function
	save     func(ctx context.Context, to checkpoint) error // saves the checkpoint: everything up to it is handled or parked
	settings triggerSettings
	log      *slog.Logger
	recovery lost

	handled atomic.Pointer[checkpoint] // every record of the lane up to it is handled or parked
	oldest  atomic.Int64               // since when the oldest record of the batch has waited, Unix ns; 0: no batch
	drained int64                      // when the source was last read to its end: later records have not waited longer
}

// triggerSettings bound the work of a trigger.
type triggerSettings struct {
	Batch int           // records in one call, at most
	Every time.Duration // the least time between two reads of the source: records of that time are one batch
	Tries int           // calls with one record alone, before it is parked
	Pause time.Duration // the backoff after the first failure; it doubles with each up to Max
	Max   time.Duration // the longest backoff
}

// defaultTrigger parks a record after about 10 seconds.
var defaultTrigger = triggerSettings{Batch: 1000, Every: 5 * time.Millisecond, Tries: 10, Pause: 20 * time.Millisecond, Max: 5 * time.Second}

// maxPassed is how many records of other lanes are read before a checkpoint behind them is saved. It
// bounds what a lane without records of its own reads again after a restart.
const maxPassed = 256

// run handles the records after a checkpoint until ctx ends.
func (t *trigger) run(ctx context.Context, at checkpoint) {
	passed := 0 // records of other lanes since the checkpoint was saved
	defer func() {
		if passed > 0 {
			t.saveCheckpoint(context.WithoutCancel(ctx), at)
		}
	}()
	var read time.Time
	for failed := 0; ctx.Err() == nil; {
		_ = events.Sleep(ctx, t.settings.Every-time.Since(read))
		got, err := t.source.Next(ctx, at.Sequence, t.settings.Batch, true)
		read = time.Now()
		if trimmed, ok := errors.AsType[*events.TrimmedError](err); ok {
			if err = t.recover(ctx); err == nil {
				// Where that is among the numbers is not known, so it is saved with the next record.
				at.Sequence, passed = trimmed.Resume, 0
			}
		}
		if err != nil {
			failed++
			t.warn(ctx, "reading the change stream failed; it will be retried", err)
			t.backOff(ctx, failed)
			continue
		}
		if failed = 0; len(got) == 0 {
			continue
		}
		own, last := t.ownOf(got), got[len(got)-1]
		drained := len(got) < t.settings.Batch
		if len(own) > 0 {
			t.oldest.Store(max(own[0].At.UnixNano(), t.drained, 1))
		}
		if drained {
			t.drained = time.Now().UnixNano()
		}
		if len(own) > 0 {
			passed = 0
			handled := t.handleAll(ctx, own)
			t.oldest.Store(0)
			if !handled {
				return
			}
		}
		at = checkpoint{last.Sequence, last.Number}
		t.handled.Store(&checkpoint{last.Sequence, last.Number})
		if len(own) == 0 || own[len(own)-1].Sequence != last.Sequence {
			passed += len(got) - len(own)
		}
		if passed >= maxPassed {
			t.saveCheckpoint(ctx, at)
			passed = 0
		}
	}
}

// ownOf returns the records of this lane. A record that cannot be decoded may have no stream: then it is
// in the first lane.
func (t *trigger) ownOf(records []events.Record) []events.Record {
	if t.part.Of <= 1 {
		return records
	}
	var own []events.Record
	for _, r := range records {
		if r.Event.Stream == "" && t.part.Index == 0 || r.Event.Stream != "" && t.part.Holds(r.Event.Stream) {
			own = append(own, r)
		}
	}
	return own
}

// recover handles the events of the lane that the source lost. After an error all of them must be
// handled again. No checkpoint is saved meanwhile.
func (t *trigger) recover(ctx context.Context) error {
	t.log.ErrorContext(ctx, "the change stream lost events before they were handled; they are read from the log")
	err := t.recovery.each(ctx, func(list []events.Record) { t.handleAll(ctx, list) })
	if err := errors.Join(err, ctx.Err()); err != nil {
		return fmt.Errorf("recover lost events: %w", err)
	}
	return nil
}

// waited returns how long the oldest record of the batch has waited, 0 if there is none.
func (t *trigger) waited(now time.Time) time.Duration {
	since := t.oldest.Load()
	if since == 0 {
		return 0
	}
	return max(0, now.Sub(time.Unix(0, since)))
}

// handleAll handles or parks records, one call after the other, and saves the checkpoint of each that
// has a sequence. It reports whether all are handled or parked: they are, unless ctx ends before.
func (t *trigger) handleAll(ctx context.Context, list []events.Record) bool {
	size := len(list)    // of a call
	tries, waits := 0, 0 // how often the first of the list has failed alone, and how often it could not be tried
	for len(list) > 0 && ctx.Err() == nil {
		size = min(size, len(list))
		done, err := t.call(ctx, list[:size])
		waiting := unavailable(err)
		if err != nil && done == 0 && ctx.Err() == nil {
			switch {
			case waiting:
				waits++
			case size == 1:
				tries++
			}
			if !waiting && tries >= t.settings.Tries {
				if done = t.park(ctx, list[0], err); done == 1 {
					err = nil
				}
			}
		}
		if done > 0 {
			if last := list[done-1]; last.Sequence != "" {
				t.saveCheckpoint(ctx, checkpoint{last.Sequence, last.Number})
			}
			list, tries, waits = list[done:], 0, 0
		}
		switch {
		case err == nil:
			size *= 2 // a failure had halved it
		case done > 0:
			t.warn(ctx, "a batch failed in part", err, "records", size, "handled", done)
			t.backOff(ctx, 1)
		case waiting:
			t.warn(ctx, "a batch failed because something is unavailable; it will be retried", err, "records", size, "tries", waits)
			size = max(size/2, 1)
			t.backOff(ctx, waits)
		default:
			t.warn(ctx, "a batch failed", err, "records", size, "tries", tries)
			size = max(size/2, 1)
			t.backOff(ctx, max(tries, 1))
		}
	}
	return len(list) == 0
}

// unavailable reports whether a call failed because of the state of a store, other writers, a key that
// has not been replicated yet, or a time limit. That is no property of the records, and passes.
func unavailable(err error) bool {
	for _, is := range []error{
		events.ErrUnavailable, events.ErrThrottled, events.ErrUnknownOutcome, projections.ErrUnavailable,
		projections.ErrTooManyConflicts, keys.ErrMissing, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// call calls the function. A panic in it is an error.
func (t *trigger) call(ctx context.Context, batch []events.Record) (done int, err error) {
	defer func() {
		if p := recover(); p != nil {
			done, err = 0, panicked(p)
			t.log.ErrorContext(ctx, "panic in the stream function", "stack", string(debug.Stack()))
		}
	}()
	done, err = t.function.Handle(ctx, batch)
	if done < 0 || done > len(batch) {
		return 0, fmt.Errorf("the function reported an invalid count of handled records, %d of %d: %w", done, len(batch), err)
	}
	if err == nil && done < len(batch) {
		err = errors.New("the function handled only a part of the batch without an error")
	}
	if done == len(batch) {
		err = nil
	}
	return done, err
}

// panicked returns the error of a panic. Its value is dropped unless it is an error: it may contain
// user text, which errors do not.
func panicked(p any) error {
	if err, ok := p.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return errors.New("panic")
}

// park parks a record. It retries until it succeeds and returns 1, or ctx ends and it returns 0.
func (t *trigger) park(ctx context.Context, r events.Record, cause error) int {
	for tries := 1; ; tries++ {
		err := t.tryPark(ctx, r, cause)
		if err == nil {
			return 1
		}
		if ctx.Err() != nil {
			return 0
		}
		t.warn(ctx, "parking an event failed; it will be retried", err, "tries", tries)
		t.backOff(ctx, tries)
	}
}

func (t *trigger) tryPark(ctx context.Context, r events.Record, cause error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return t.function.Park(ctx, "trigger", r, cause)
}

// saveCheckpoint saves the checkpoint. If that fails the records are handled again after a restart.
func (t *trigger) saveCheckpoint(ctx context.Context, to checkpoint) {
	if err := t.save(ctx, to); err != nil {
		t.warn(ctx, "saving the checkpoint of the change stream failed", err)
	}
}

func (t *trigger) warn(ctx context.Context, what string, err error, args ...any) {
	if ctx.Err() == nil {
		t.log.WarnContext(ctx, what, append(args, "error", err)...)
	}
}

func (t *trigger) backOff(ctx context.Context, failed int) {
	_ = events.Sleep(ctx, min(t.settings.Pause<<min(max(failed-1, 0), 20), t.settings.Max))
}
