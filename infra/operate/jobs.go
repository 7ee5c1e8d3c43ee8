package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/events"
)

// watchEvery is how often a job that is watched is asked about.
const watchEvery = 300 * time.Millisecond

// newJob is what POST /v1/ops/jobs takes.
type newJob struct {
	Kind       string `json:"kind"`
	DryRun     bool   `json:"dry_run,omitempty"`
	Projection string `json:"projection,omitempty"`
	Room       string `json:"room,omitempty"`
	To         string `json:"to,omitempty"`
	From       string `json:"from,omitempty"`
	Until      string `json:"until,omitempty"`
	Type       string `json:"type,omitempty"`
	Rate       int    `json:"rate,omitempty"`
	Heal       bool   `json:"heal,omitempty"`
}

// start starts a job under an id minted here, so that asking again does not start another.
func (r *region) start(n newJob) (*job, error) {
	user := subject(r.token)
	ask := request{method: "POST", url: r.url + "/v1/ops/jobs", body: n, tries: 1}
	if user != "" {
		id, err := events.NewClock(time.Now).Mint(user)
		if err != nil {
			return nil, err
		}
		ask.key, ask.tries = id.String(), 0
	}
	j := &job{}
	ask.into = j
	if err := r.do(ask); err != nil {
		return nil, fmt.Errorf("%s: start %s: %w", r.title(), n.Kind, err)
	}
	return j, nil
}

func (r *region) job(id string) (*job, error) {
	j := &job{}
	return j, r.get("jobs/"+id, j)
}

// errLeft says that a job goes on without being watched.
func (r *region) errLeft(j *job) error {
	return fmt.Errorf("no longer watching; the job goes on in %s. To come back: operate jobs watch %s\nTo end it: operate jobs cancel %s. All there are: operate jobs", r.title(), j.ID, j.ID)
}

// watch follows a job until it is over or rests.
func (r *region) watch(j *job) (*job, error) {
	p := r.progress()
	defer p.end()
	for !j.over() && j.State != "paused" {
		p.job(r.title(), j)
		if sleep(r.ctx, watchEvery) != nil {
			return j, r.errLeft(j)
		}
		next, err := r.job(j.ID)
		if r.ctx.Err() != nil {
			return j, r.errLeft(j)
		}
		if err != nil {
			return j, fmt.Errorf("%s: watch job %s: %w", r.title(), j.ID, err)
		}
		j = next
	}
	return j, nil
}

func (j *job) title() string {
	words := []string{j.Kind}
	if j.Params.DryRun {
		words = append([]string{"dry run of"}, words...)
	}
	for _, w := range []string{j.Params.Projection, j.Params.To, j.Params.Room} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

func (j *job) amount() string {
	text := thousands(j.Done)
	if j.Total > 0 && !(j.State == "done" && j.Done >= j.Total) { // more may have come while it ran
		text += " of " + thousands(j.Total)
	}
	return text
}

func (j *job) line() string {
	text := fmt.Sprintf("%s  %-9s %s  %s", j.ID, j.State, j.title(), j.amount())
	if j.Phase != "" && !j.over() {
		text += "  " + j.Phase
	}
	if j.Rate > 0 {
		text += fmt.Sprintf("  %s/s", thousands(int64(j.Rate)))
	}
	if j.SecondsLeft != nil {
		text += "  " + left(time.Duration(*j.SecondsLeft)*time.Second)
	}
	if j.Error != "" {
		text += "  " + j.Error
	}
	return text
}

// Run lists jobs.
func (c jobsListCmd) Run(s *session) error {
	regions, err := s.all()
	if err != nil {
		return err
	}
	for _, r := range regions {
		var page struct {
			Jobs []job `json:"jobs"`
		}
		if err := r.get("jobs", &page, "limit", strconv.Itoa(c.Limit)); err != nil {
			return fmt.Errorf("%s: %w", r.title(), err)
		}
		for _, j := range page.Jobs {
			if s.JSON {
				err = s.json(map[string]any{"region": r.name, "job": j.raw})
			} else {
				s.say("%-16s %s", r.title(), j.line())
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// owner finds the region whose job it is.
func (c jobArg) owner(s *session) (*region, *job, error) {
	if _, err := events.ParseID("the job's id", c.ID); err != nil {
		return nil, nil, usageError{err}
	}
	regions, err := s.all()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range regions {
		j, err := r.job(c.ID)
		if err == nil {
			return r, j, nil
		}
		if p := (*problem)(nil); !errors.As(err, &p) || p.Status != http.StatusNotFound {
			return nil, nil, fmt.Errorf("%s: %w", r.title(), err)
		}
	}
	return nil, nil, fmt.Errorf("no region has a job %s; operate jobs lists them", c.ID)
}

// Run shows a job.
func (c jobsShowCmd) Run(s *session) error {
	r, j, err := c.owner(s)
	if err != nil {
		return err
	}
	if s.JSON {
		return s.json(map[string]any{"region": r.name, "job": j.raw})
	}
	s.say("%s  %s", r.title(), j.line())
	s.say("  started        %s by %s", j.Started.Format(time.RFC3339), j.By)
	s.say("  updated        %s", j.Updated.Format(time.RFC3339))
	showResult(s, j.Result)
	return nil
}

// Run follows a job.
func (c jobsWatchCmd) Run(s *session) error {
	r, j, err := c.owner(s)
	if err != nil {
		return err
	}
	if j, err = r.watch(j); err != nil {
		return err
	}
	return r.outcome(j)
}

// Run pauses a job.
func (c jobsPauseCmd) Run(s *session) error { return c.change(s, "pause") }

// Run resumes a job.
func (c jobsResumeCmd) Run(s *session) error { return c.change(s, "resume") }

// Run cancels a job.
func (c jobsCancelCmd) Run(s *session) error { return c.change(s, "cancel") }

func (c jobArg) change(s *session, what string) error {
	r, _, err := c.owner(s)
	if err != nil {
		return err
	}
	j := &job{}
	if err := r.send("POST", "jobs/"+c.ID+"/"+what, nil, j); err != nil {
		return fmt.Errorf("%s: %w", r.title(), err)
	}
	if s.JSON {
		return s.json(map[string]any{"region": r.name, "job": j.raw})
	}
	s.say("%-16s %s", r.title(), j.line())
	return nil
}
