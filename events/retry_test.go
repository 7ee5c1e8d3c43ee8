package events

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepEndsEarlyWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Sleep(t.Context(), time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("waited %v, error %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, d := range []time.Duration{time.Hour, 0} {
			if err := Sleep(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want that of the context", err)
			}
		}
		if err := Sleep(t.Context(), -1); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("waited %v, error %v", time.Since(start), err)
		}
	})
}

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	b := Backoff{First: 10 * time.Millisecond, Max: 70 * time.Millisecond}
	if d := b.Delay(0); d != 0 {
		t.Errorf("a delay of %v after no failure", d)
	}
	for failures, most := range map[int]time.Duration{1: 10, 2: 20, 3: 40, 4: 70, 5: 70, 1000: 70} {
		most *= time.Millisecond
		seen := map[time.Duration]bool{}
		for range 100 {
			d := b.Delay(failures)
			if d < most/2 || d > most {
				t.Errorf("a delay of %v after %d failures, want %v to %v", d, failures, most/2, most)
			}
			seen[d] = true
		}
		if len(seen) == 1 {
			t.Errorf("no jitter after %d failures", failures)
		}
	}
}

func TestRetryUntilSuccessRefusalOrTheLastAttempt(t *testing.T) {
	errBusy, errBroken := errors.New("busy"), errors.New("broken")
	for name, c := range map[string]struct {
		answers  []error // of one call after the other; the last is repeated
		attempts int
		want     error
		calls    int
	}{
		"success at once":        {[]error{nil}, 3, nil, 1},
		"success after failures": {[]error{errBusy, errBusy, nil}, 3, nil, 3},
		"too many failures":      {[]error{errBusy}, 3, errBusy, 3},
		"not retryable":          {[]error{errBusy, errBroken}, 3, errBroken, 2},
		"without a bound":        {[]error{errBusy, errBusy, errBusy, errBusy, errBusy, nil}, 0, nil, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				b := Backoff{First: time.Millisecond, Max: time.Second, Attempts: c.attempts}
				err := b.Retry(t.Context(), func(err error) bool { return errors.Is(err, errBusy) }, func() error {
					calls++
					return c.answers[min(calls, len(c.answers))-1]
				})
				if !errors.Is(err, c.want) || calls != c.calls {
					t.Errorf("error %v after %d calls, want %v after %d", err, calls, c.want, c.calls)
				}
			})
		})
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b := Backoff{First: time.Millisecond, Max: time.Second}
		err := b.Retry(ctx, func(error) bool { return true }, func() error { return errors.New("busy") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}
