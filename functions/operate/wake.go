package operate

import (
	"context"
	"time"
)

// wake tells whoever does the jobs that one is due, in this process or another.
func (r *Runner) wake(ctx context.Context, j *record) {
	r.Kick()
	if r.Wake == nil || !j.active() {
		return
	}
	if err := r.Wake(ctx, j.Job); err != nil {
		r.warn(ctx, "nobody was told of a job", err, "job", j.ID)
	}
}

// Still returns the jobs of this runner's kinds that are due and in nobody's hands, and of which
// nothing was heard for a time: whoever was to go on with them was not told, or was lost. It reads
// all jobs.
func (r *Runner) Still(ctx context.Context, silent time.Duration) (still []Job, err error) {
	for j, err := range r.jobs(ctx, "") {
		if err != nil {
			return nil, err
		}
		now := r.Now()
		_, known := r.Kinds[j.Kind]
		if known && j.active() && !j.Next.After(now) && !now.Before(j.Until) && now.Sub(j.Updated) >= silent {
			still = append(still, j.Job)
		}
	}
	return still, nil
}
