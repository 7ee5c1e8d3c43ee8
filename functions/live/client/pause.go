package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// The pauses after failures: half to all of a time that doubles with each.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 15 * time.Second
)

// backoff is how long to wait after so many failures in a row, from 1: at random, so that a crowd
// of clients does not come back as one.
func backoff(failures int, first, longest time.Duration) time.Duration {
	pause := first << min(max(failures, 1)-1, 20)
	if pause > longest {
		pause = longest
	}
	return pause/2 + rand.N(pause/2+1)
}

// sleep waits, or returns early with the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
