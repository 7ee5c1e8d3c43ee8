package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"parley/functions/stream"
)

// function is what a trigger calls, see [stream.Handler].
type function interface {
	Handle(ctx context.Context, records []stream.Record) (int, error)
	Park(ctx context.Context, stage string, r stream.Record, cause error) error
}

// lost is what a source lost, see [recovery].
type lost interface {
	each(ctx context.Context, handle func([]stream.Record)) error
	over()
}

// trigger calls a function with the records of a source, the way Lambda's event source mapping
// does: in order, at least once, in batches of what is there. Where the function reports how far
// it came, it goes on from there; where a batch fails as a whole it is called again with half of
// it. A record that fails alone too often is parked. It is never dropped: parking is tried until
// it succeeds.
type trigger struct {
	source   source
	function function
	mark     func(ctx context.Context, sequence string) error // remembers that all up to here is handled or parked
	settings triggerSettings
	log      *slog.Logger
	recovery lost

	recovering bool         // since the source was trimmed it was not read empty
	oldest     atomic.Int64 // since when the oldest record in hand has waited, Unix ns; 0: none in hand
	drained    int64        // when the source was last read empty: what came after has not waited longer
}

// triggerSettings bound the work of a trigger.
type triggerSettings struct {
	Batch int           // records in one call, at most
	Every time.Duration // from one read of the source to the next, at least: what comes meanwhile is one batch
	Tries int           // calls with one record alone, before it is parked
	Pause time.Duration // after the first failure; it doubles with each up to MaxPause
	Max   time.Duration // the longest pause
}

// defaultTrigger gives up on a record after about 10 seconds.
var defaultTrigger = triggerSettings{Batch: 1000, Every: 5 * time.Millisecond, Tries: 10, Pause: 20 * time.Millisecond, Max: 5 * time.Second}

// run handles what comes after a sequence until ctx ends.
func (t *trigger) run(ctx context.Context, after string) {
	var read time.Time
	for failed := 0; ctx.Err() == nil; {
		if wait := t.settings.Every - time.Since(read); wait > 0 {
			pause(ctx, wait)
		}
		got, err := t.source.Next(ctx, after, t.settings.Batch, true)
		read = time.Now()
		if trimmed, ok := errors.AsType[*trimmedError](err); ok {
			after, err = t.recover(ctx, after, trimmed.resume)
		}
		if err != nil {
			failed++
			t.warn(ctx, "the stream cannot be read", err)
			t.pause(ctx, failed)
			continue
		}
		if failed = 0; len(got.list) == 0 {
			continue
		}
		t.oldest.Store(max(got.at[0].UnixNano(), t.drained, 1))
		drained := len(got.list) < t.settings.Batch
		if drained {
			t.drained = time.Now().UnixNano()
		}
		after = t.handleAll(ctx, got.list, after)
		t.oldest.Store(0)
		if drained && t.recovering {
			t.recovery.over()
			t.recovering = false
		}
	}
}

// recover handles what the source lost, and returns the sequence behind which it goes on. Until
// all of that is done none of it counts as done.
func (t *trigger) recover(ctx context.Context, after, resume string) (string, error) {
	t.log.ErrorContext(ctx, "the stream has lost events before they were handled; they are taken from the log")
	t.recovering = true
	err := t.recovery.each(ctx, func(list []stream.Record) {
		for i := range list {
			list[i].Sequence = after
		}
		t.handleAll(ctx, list, after)
	})
	if err := errors.Join(err, ctx.Err()); err != nil {
		return after, fmt.Errorf("make up for lost events: %w", err)
	}
	t.save(ctx, resume)
	return resume, nil
}

// waited is how long the oldest record that is not handled has waited, 0 if all are.
func (t *trigger) waited(now time.Time) time.Duration {
	since := t.oldest.Load()
	if since == 0 {
		return 0
	}
	return max(0, now.Sub(time.Unix(0, since)))
}

// handleAll handles or parks records, one call after the other. It returns the sequence up to
// which that is done: of the last record, unless ctx ends before.
func (t *trigger) handleAll(ctx context.Context, list []stream.Record, after string) string {
	size, tries := len(list), 0 // of a call; how often the first of the list has failed
	for len(list) > 0 && ctx.Err() == nil {
		size = min(size, len(list))
		done, err := t.call(ctx, list[:size])
		if err != nil && done == 0 && ctx.Err() == nil {
			tries++
			if size == 1 && tries >= t.settings.Tries {
				if done = t.park(ctx, list[0], err); done == 1 {
					err = nil
				}
			}
		}
		if done > 0 {
			after, list, tries = list[done-1].Sequence, list[done:], 0
			t.save(ctx, after)
		}
		switch {
		case err == nil:
			size *= 2 // after a failure it has been halved
		case done == 0:
			t.warn(ctx, "a batch failed", err, "records", size, "tries", tries)
			if size > 1 {
				size, tries = size/2, 0 // tries count for a record alone
				t.pause(ctx, 1)
			} else {
				t.pause(ctx, tries)
			}
		default:
			t.warn(ctx, "a batch failed in part", err, "records", size, "handled", done)
			t.pause(ctx, 1)
		}
	}
	return after
}

// call calls the function. Whatever goes wrong in there is an error.
func (t *trigger) call(ctx context.Context, batch []stream.Record) (done int, err error) {
	defer func() {
		if p := recover(); p != nil {
			done, err = 0, panicked(p)
			t.log.ErrorContext(ctx, "panic in the stream function", "stack", string(debug.Stack()))
		}
	}()
	done, err = t.function.Handle(ctx, batch)
	if done < 0 || done > len(batch) {
		return 0, fmt.Errorf("the function reports %d of %d records as handled: %w", done, len(batch), err)
	}
	if err == nil && done < len(batch) {
		err = errors.New("the function left records and does not say why")
	}
	if done == len(batch) {
		err = nil
	}
	return done, err
}

// panicked is the error of a panic. What was panicked with may hold user text; an error is
// expected not to.
func panicked(p any) error {
	if err, ok := p.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return errors.New("panic")
}

// park sets a record aside, trying until it succeeds and 1 record is taken care of, or ctx ends
// and none is.
func (t *trigger) park(ctx context.Context, r stream.Record, cause error) int {
	for tries := 1; ; tries++ {
		err := t.tryPark(ctx, r, cause)
		if err == nil {
			return 1
		}
		if ctx.Err() != nil {
			return 0
		}
		t.warn(ctx, "an event cannot be parked", err, "tries", tries)
		t.pause(ctx, tries)
	}
}

func (t *trigger) tryPark(ctx context.Context, r stream.Record, cause error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return t.function.Park(ctx, "trigger", r, cause)
}

// save remembers how far it has come. If that fails the records come again after a restart.
func (t *trigger) save(ctx context.Context, sequence string) {
	if err := t.mark(ctx, sequence); err != nil {
		t.warn(ctx, "the stream's mark cannot be saved", err)
	}
}

func (t *trigger) warn(ctx context.Context, what string, err error, args ...any) {
	if ctx.Err() == nil {
		t.log.WarnContext(ctx, what, append(args, "error", err)...)
	}
}

func (t *trigger) pause(ctx context.Context, failed int) {
	pause(ctx, min(t.settings.Pause<<min(max(failed-1, 0), 20), t.settings.Max))
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
