package dynamolog

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/aws/smithy-go/middleware"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
)

const (
	none     = dynamotest.None
	throttle = dynamotest.Throttle
	fail     = dynamotest.Fail
	drop     = dynamotest.Drop
	lose     = dynamotest.Lose
)

type faults = []dynamotest.Fault

// sideBySide returns a function that begins a subtest, and one that waits for all that were begun:
// they wait more than they work.
func sideBySide(t *testing.T) (run func(name string, test func(*testing.T)), wait func()) {
	var group sync.WaitGroup
	return func(name string, test func(*testing.T)) {
		group.Go(func() { t.Run(name, test) })
	}, group.Wait
}

// TestAppendFaults tries every way in which the calls of an append fail, and looks at what is
// stored then: before it was nothing, the very same event, or another one of its id.
func TestAppendFaults(t *testing.T) {
	run, wait := sideBySide(t)
	defer wait()
	place := newPlace(t)
	good := logAt(place)
	for _, tt := range []struct {
		name   string
		put    faults
		get    faults
		before string // the content that is there already
		region string // that has accepted it
		err    error
		repeat bool
		stored bool
		puts   int
	}{
		{name: "no fault", put: faults{none}, stored: true, puts: 1},
		{name: "throttled once", put: faults{throttle, none}, stored: true, puts: 2},
		{name: "throttled to the last but one", put: faults{throttle, throttle, throttle, throttle, throttle, none}, stored: true, puts: 6},
		{name: "throttled for good", put: faults{throttle}, err: events.ErrThrottled, puts: 6},
		{name: "throttled, a repeat", put: faults{throttle, none}, before: "hello", region: "here", repeat: true, stored: true, puts: 2},
		{name: "failed once", put: faults{fail, none}, stored: true, puts: 2},
		{name: "failed for good", put: faults{fail}, err: events.ErrUnknownOutcome, puts: 6},
		{name: "failed for good, a repeat of another region", put: faults{fail}, before: "hello", region: "there", repeat: true, stored: true, puts: 6},
		{name: "failed for good, beside another event of its id", put: faults{fail}, before: "other", region: "here", err: events.ErrUnknownOutcome, puts: 6},
		{name: "dropped once", put: faults{drop, none}, stored: true, puts: 2},
		{name: "dropped for good", put: faults{drop}, err: events.ErrUnknownOutcome, puts: 6},
		{name: "dropped, then throttled for good", put: faults{drop, throttle}, err: events.ErrUnknownOutcome, puts: 6},
		{name: "lost once", put: faults{lose, none}, stored: true, puts: 2},
		{name: "lost once, a repeat of another region", put: faults{lose, none}, before: "hello", region: "there", repeat: true, stored: true, puts: 2},
		{name: "lost for good", put: faults{lose}, stored: true, puts: 6},
		{name: "lost for good, beside another event of its id", put: faults{lose}, before: "other", region: "here", stored: true, puts: 6},
		{name: "lost, then throttled for good", put: faults{lose, throttle}, stored: true, puts: 6},
		{name: "lost for good, the look fails once", put: faults{lose}, get: faults{drop, none}, stored: true, puts: 6},
		{name: "lost for good, the look too", put: faults{lose}, get: faults{lose}, err: events.ErrUnknownOutcome, stored: true, puts: 6},
		{name: "lost for good, the look throttled", put: faults{lose}, get: faults{throttle}, err: events.ErrUnknownOutcome, stored: true, puts: 6},
	} {
		run(tt.name, func(t *testing.T) {
			room, id := newRoom(t), newID(t)
			if tt.before != "" {
				mustAppend(t, good, message(t, room, id, tt.region, tt.before))
			}
			c := calls{faults: map[string][]dynamotest.Fault{"PutItem": tt.put, "GetItem": tt.get}}
			l := logAt(dynamotest.Spoil(t, place, c.fault))
			e := message(t, room, id, "here", "hello")
			stored, repeat, err := l.Append(t.Context(), e)
			if !errors.Is(err, tt.err) || repeat != tt.repeat {
				t.Errorf("repeat %v, error %v; want %v, %v", repeat, err, tt.repeat, tt.err)
			}
			if err == nil && !events.Same(stored, e) {
				t.Errorf("%+v is returned as stored", stored)
			}
			wantOneKind(t, err)
			if n := len(c.of("PutItem")); n != tt.puts {
				t.Errorf("%d attempts, want %d", n, tt.puts)
			}
			got, err := good.GetMany(t.Context(), []events.Key{e.Key()})
			if err != nil || (len(got) == 1) != tt.stored {
				t.Errorf("%+v is stored, error %v; want it stored: %v", got, err, tt.stored)
			}
		})
	}
}

// wantOneKind checks that an error is at most one of the contract's: what nothing was stored by
// must not look like what may have been.
func wantOneKind(t *testing.T, err error) {
	t.Helper()
	n := 0
	for _, kind := range []error{
		events.ErrConflict, events.ErrNotFound, events.ErrThrottled, events.ErrUnavailable, events.ErrUnknownOutcome,
	} {
		if errors.Is(err, kind) {
			n++
		}
	}
	if n > 1 {
		t.Errorf("error %v is of %d kinds", err, n)
	}
}

// TestAppendCancelled: a canceled append returns the error of its context, which says if the event may be
// stored.
func TestAppendCancelled(t *testing.T) {
	place := newPlace(t)
	for _, tt := range []struct {
		name    string
		fault   dynamotest.Fault
		unknown bool
	}{
		{"while it waits after it was throttled", throttle, false},
		{"while it waits after it failed", fail, true},
		{"while it waits after it got lost", lose, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cfg := dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault { return tt.fault }).Config(region)
			cfg.APIOptions = append(cfg.APIOptions, afterAttempt(cancel))
			_, _, err := New(cfg, "events").Append(ctx, newMessage(t, newRoom(t)))
			wantCancelled(t, err, tt.unknown)
		})
	}
	t.Run("while it is on its way", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := logAt(dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault {
			cancel()
			<-ctx.Done()
			return none
		}))
		_, _, err := l.Append(ctx, newMessage(t, newRoom(t)))
		wantCancelled(t, err, true)
	})
	t.Run("while it looks what became of it", func(t *testing.T) { // that is seen through
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := logAt(dynamotest.Spoil(t, place, func(c dynamotest.Call) dynamotest.Fault {
			if c.Operation == "PutItem" {
				return lose
			}
			cancel()
			return none
		}))
		if _, repeat, err := l.Append(ctx, newMessage(t, newRoom(t))); err != nil || repeat {
			t.Errorf("repeat %v, error %v", repeat, err)
		}
	})
}

func wantCancelled(t *testing.T, err error, unknown bool) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	if errors.Is(err, events.ErrUnknownOutcome) != unknown {
		t.Errorf("error %v; that it says the outcome is unknown should be %v", err, unknown)
	}
}

// afterAttempt lets a client call f after each attempt, before it thinks of the next.
func afterAttempt(f func()) func(*middleware.Stack) error {
	return func(s *middleware.Stack) error {
		return s.Deserialize.Add(middleware.DeserializeMiddlewareFunc("AfterAttempt", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			defer f()
			return next.HandleDeserialize(ctx, in)
		}), middleware.Before)
	}
}
