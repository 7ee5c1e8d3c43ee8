package projections

import (
	"context"
	"time"
)

// SetClock gives a rebuilder another clock, on which waiting takes no time.
func (r *Rebuilder) SetClock(now func() time.Time, pause func(context.Context, time.Duration) error) {
	r.now, r.sleep = now, pause
}

// SetClock gives generations another clock.
func (g *Generations) SetClock(now func() time.Time) { g.now = now }

// SetSizes makes a rebuilder do little at a time.
func (r *Rebuilder) SetSizes(n int) { r.sizes = sizes{n, n, n} }
