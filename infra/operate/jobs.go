package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
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
	return fmt.Errorf("no longer watching; the job goes on in %s. To come back: operate jobs watch %s\nTo end it: operate jobs cancel %s", r.title(), j.ID, j.ID)
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

// outcome prints what came of a job.
func (r *region) outcome(j *job) error {
	if r.JSON {
		if err := r.json(map[string]any{"region": r.name, "job": j.raw}); err != nil {
			return err
		}
	} else {
		took := j.Updated.Sub(j.Started).Round(100 * time.Millisecond)
		r.say("%s: %s %s after %s, %s", r.title(), j.title(), j.State, took, j.amount())
		showResult(r.session, j.Result)
	}
	switch {
	case j.State == "failed":
		return fmt.Errorf("%s: %s failed: %s", r.title(), j.title(), j.Error)
	case j.State == "cancelled":
		return fmt.Errorf("%s: %s was cancelled", r.title(), j.title())
	case j.State == "paused":
		r.say("It is paused. To go on: operate jobs resume %s", j.ID)
	case differences(j.Result) > 0:
		return errDiffers
	}
	return nil
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
	if j.Total > 0 {
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

// differences counts what a job found wrong and did not repair.
func differences(result json.RawMessage) int {
	var r struct {
		Differs  *int `json:"differs"`
		Healed   int  `json:"healed"`
		Findings []struct {
			Healed bool `json:"healed"`
		} `json:"findings"`
	}
	if len(result) == 0 || json.Unmarshal(result, &r) != nil {
		return 0
	}
	if r.Differs != nil {
		return *r.Differs - r.Healed
	}
	n := 0
	for _, f := range r.Findings {
		if !f.Healed {
			n++
		}
	}
	return n
}

// showResult prints an object field by field, lists of objects line by line.
func showResult(s *session, result json.RawMessage) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(result, &fields) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var list []json.RawMessage
		if json.Unmarshal(fields[name], &list) != nil {
			s.say("  %-14s %s", strings.ReplaceAll(name, "_", " "), plainText(fields[name]))
			continue
		}
		for _, element := range list {
			s.say("  %-14s %s", strings.ReplaceAll(name, "_", " "), plainText(element))
		}
	}
}

// plainText shows a JSON value without its punctuation, where that can be read.
func plainText(raw json.RawMessage) string {
	var fields map[string]json.RawMessage
	var text string
	var number float64
	switch {
	case json.Unmarshal(raw, &text) == nil:
		return text
	case json.Unmarshal(raw, &number) == nil:
		return strconv.FormatFloat(math.Round(number*1e4)/1e4, 'f', -1, 64)
	case json.Unmarshal(raw, &fields) == nil:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			parts = append(parts, name+" "+plainText(fields[name]))
		}
		return strings.Join(parts, ", ")
	default:
		return string(raw)
	}
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
