package events

import (
	"context"
	"time"
)

// Sleep waits for d. It returns early, with the context's error, when ctx ends, and at once when
// ctx has ended before.
func Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Backoff is an exponential backoff with jitter: how long to wait after failures in a row, and
// how often to try at all.
type Backoff struct {
	// First bounds the wait after the first failure. Each further failure doubles it.
	First time.Duration
	// Max bounds every wait.
	Max time.Duration
	// Attempts is how often [Backoff.Retry] tries, the first time included. 0 is no bound.
	Attempts int
}

// Delay returns how long to wait after so many failures in a row, counted from 1: a random time
// between half of the bound and the bound, so that those that failed together do not retry
// together. After no failure it is 0.
func (b Backoff) Delay(failures int) time.Duration {
	if failures < 1 {
		return 0
	}
	bound := b.First
	for range failures - 1 {
		if bound >= b.Max/2 {
			bound = b.Max
			break
		}
		bound *= 2
	}
	bound = min(bound, b.Max)
	// From the source of the ids, so that a test that fixes it fixes all that is random.
	return bound - time.Duration(randomUint64()%uint64(bound/2+1))
}

// Wait sleeps for [Backoff.Delay]. The error is the context's.
func (b Backoff) Wait(ctx context.Context, failures int) error {
	return Sleep(ctx, b.Delay(failures))
}

// Retry calls try until it succeeds, fails with an error that is not retryable, or has been called
// Attempts times, and returns its last error. Between calls it backs off. When ctx ends meanwhile
// Retry returns the context's error.
func (b Backoff) Retry(ctx context.Context, retryable func(error) bool, try func() error) error {
	for failures := 0; ; {
		if err := b.Wait(ctx, failures); err != nil {
			return err
		}
		err := try()
		if err == nil || !retryable(err) {
			return err
		}
		if failures++; failures == b.Attempts {
			return err
		}
	}
}
