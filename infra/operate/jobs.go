package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/events"
	"parley/functions/wire"
	"parley/projections"
)

// watchInterval is how often the state of a watched job is read.
const watchInterval = 300 * time.Millisecond

// Run rebuilds a projection in each region.
func (c rebuildCmd) Run(s *session) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	n := wire.NewJob{Kind: "rebuild", Params: wire.Params{Projection: projectionParam(c.Projection), Room: c.Room, DryRun: c.DryRun}}
	if c.DryRun || c.Detach {
		return s.runJobs(regions, n, c.Detach)
	}
	var failed []error
	for i, r := range regions { // one after the other: a fault shows in one region first
		err := s.runJobs([]*region{r}, n, false)
		if err == nil {
			continue
		}
		failed = append(failed, err)
		if rest := regions[i+1:]; s.ctx.Err() != nil && len(rest) > 0 {
			command := "operate rebuild " + c.Projection
			if c.Room != "" {
				command += " -room " + c.Room
			}
			var names []string
			for _, r := range rest {
				names = append(names, r.title())
				command += " -region " + r.title()
			}
			return fmt.Errorf("%w\nNot started in %s. To start it there: %s", errors.Join(failed...), strings.Join(names, ", "), command)
		}
	}
	return sumUp(failed, len(regions), "region")
}

// sumUp returns the errors of some of so many things that were tried, and how many they are.
func sumUp(failed []error, of int, thing string) error {
	if len(failed) == 0 || of == 1 {
		return errors.Join(failed...)
	}
	if of != 1 {
		thing += "s"
	}
	return fmt.Errorf("%w\nFailed: %d of %d %s", errors.Join(failed...), len(failed), of, thing)
}

// Run replays past events in one region: each region has its own subscribers.
func (c replayCmd) Run(s *session) error {
	if len(s.Region) > 1 {
		return usage("replay: one region replays; name one with -region")
	}
	if c.Rate < 1 || c.Rate > 10_000 {
		return usage("-rate must be from 1 to 10000")
	}
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	return s.runJobs([]*region{r}, wire.NewJob{Kind: "replay", Params: wire.Params{
		To: c.To, From: c.From, Until: c.Until, Room: c.Room, Type: c.Type, Rate: c.Rate, DryRun: c.DryRun,
	}}, c.Detach)
}

// Run deletes the previous generation of a projection, or of all, in each region.
func (c dropCmd) Run(s *session) error {
	return s.eachPrevious(c.Projection, func(r *region, projection string) error {
		return s.runJobs([]*region{r}, wire.NewJob{Kind: "drop", Params: wire.Params{Projection: projection}}, false)
	})
}

// Run switches each region back to the previous generation of a projection, or of all.
func (c backCmd) Run(s *session) error {
	return s.eachPrevious(c.Projection, func(r *region, projection string) error {
		var g wire.Generation
		if err := r.send("POST", "generations/"+url.PathEscape(projection)+"/back", nil, &g); err != nil {
			return fmt.Errorf("%s: %s: %w", r.title(), projection, err)
		}
		if s.JSON {
			if err := r.printItem("generation", g); err != nil {
				return err
			}
		}
		s.printf("%-16s %s %s", r.title(), projection, generationText(g))
		return nil
	})
}

// eachPrevious calls do with a projection in each region; "all" is every projection that has a previous
// generation there. An error in one does not stop the others.
func (s *session) eachPrevious(projection string, do func(r *region, projection string) error) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	var failed []error
	tried := 0
	for _, r := range regions {
		names := []string{projection}
		if projection == "all" {
			status, err := r.status()
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", r.title(), err))
				tried++
				continue
			}
			names = nil
			for _, name := range slices.Sorted(maps.Keys(status.Generations)) {
				if g := status.Generations[name]; g.Previous != 0 || len(g.Dropped) > 0 {
					names = append(names, name)
				}
			}
			if len(names) == 0 {
				s.printf("%-16s no projection has a previous generation", r.title())
			}
		}
		for _, name := range names {
			tried++
			if err := do(r, name); err != nil {
				failed = append(failed, err)
			}
			if s.ctx.Err() != nil {
				return errors.Join(failed...)
			}
		}
	}
	return sumUp(failed, tried, "projection")
}

// projectionParam is a projection as the parameter of a job: "" is all.
func projectionParam(name string) string {
	if name == "all" {
		return ""
	}
	return name
}

// runJobs starts a job in each region, then follows all to their ends, unless detached.
func (s *session) runJobs(regions []*region, n wire.NewJob, detach bool) error {
	jobs := make([]*wire.Job, len(regions))
	for i, r := range regions {
		var err error
		if jobs[i], err = r.startJob(n); err != nil {
			return err
		}
	}
	differs := false
	for i, r := range regions {
		j := jobs[i]
		if detach {
			if s.JSON {
				if err := r.printItem("job", j); err != nil {
					return err
				}
			}
			s.printf("%s: %s is job %s. To follow it: operate jobs watch %s", r.title(), jobTitle(j), j.ID, j.ID)
			continue
		}
		j, err := r.watchJob(j)
		if err == nil {
			err = r.printOutcome(j)
		}
		if err != nil && !errors.Is(err, errDiffers) {
			return err
		}
		differs = differs || err != nil
	}
	if differs {
		return errDiffers
	}
	return nil
}

// startJob starts a job under an id minted here, so that a retry does not start another.
func (r *region) startJob(n wire.NewJob) (*wire.Job, error) {
	ask := request{method: "POST", url: r.url + "/v1/ops/jobs", body: n, attempts: 1}
	if user := tokenUser(r.token); user != "" {
		id, err := r.mint(user)
		if err != nil {
			return nil, err
		}
		ask.key, ask.attempts = id.String(), 0
	}
	j := &wire.Job{}
	ask.into = j
	if err := r.do(r.ctx, ask); err != nil {
		return nil, fmt.Errorf("%s: start %s: %w", r.title(), n.Kind, err)
	}
	return j, nil
}

// watchJob follows a job until it is over or paused.
func (r *region) watchJob(j *wire.Job) (*wire.Job, error) {
	p := r.progress()
	defer p.clear()
	for !j.Ended() && j.State != wire.JobPaused {
		text := r.title() + ": " + jobTitle(j)
		if j.Phase != "" {
			text += ", " + j.Phase
		}
		p.show(text + "  " + jobProgress(j))
		err := events.Sleep(r.ctx, watchInterval)
		next := &wire.Job{}
		if err == nil {
			err = r.get("jobs/"+j.ID, next)
		}
		if r.ctx.Err() != nil {
			return j, fmt.Errorf("stopped watching; the job continues in %s. To watch it again: operate jobs watch %s\n"+
				"To cancel it: operate jobs cancel %s. To list all jobs: operate jobs", r.title(), j.ID, j.ID)
		}
		if err != nil {
			return j, fmt.Errorf("%s: watch job %s: %w", r.title(), j.ID, err)
		}
		j = next
	}
	return j, nil
}

// printOutcome prints how a job ended. The error is [errDiffers] if an audit found differences and did
// not repair them.
func (r *region) printOutcome(j *wire.Job) error {
	if r.JSON {
		if err := r.printItem("job", j); err != nil {
			return err
		}
	}
	took := j.Updated.Sub(j.Started).Round(100 * time.Millisecond)
	r.printf("%s: %s %s after %s, %s", r.title(), jobTitle(j), j.State, took, jobAmount(j))
	r.printResult(j)
	var audit wire.RebuildResult
	if j.Kind == "audit" && len(j.Result) > 0 {
		if err := json.Unmarshal(j.Result, &audit); err != nil {
			return fmt.Errorf("%s: decode the result of job %s: %w", r.title(), j.ID, err)
		}
	}
	switch {
	case j.State == wire.JobFailed:
		err := fmt.Errorf("%s: %s failed: %s", r.title(), jobTitle(j), j.Error)
		if j.Kind == "rebuild" && strings.Contains(j.Error, projections.ErrPreviousKept.Error()) {
			err = fmt.Errorf("%w\nTo drop it: operate drop %s -region %s", err, cmp.Or(j.Params.Projection, "all"), r.title())
		}
		return err
	case j.State == wire.JobCancelled:
		return fmt.Errorf("%s: %s was cancelled", r.title(), jobTitle(j))
	case j.State == wire.JobPaused:
		r.printf("It is paused. To continue: operate jobs resume %s", j.ID)
	case audit.Differ > audit.Healed:
		return errDiffers
	}
	return nil
}

// printResult prints the result of a job: findings one a line, everything else on one line.
func (s *session) printResult(j *wire.Job) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(j.Result, &fields) != nil {
		return
	}
	var findings []wire.Finding
	if json.Unmarshal(fields["findings"], &findings) == nil {
		for _, f := range findings {
			text := fmt.Sprintf("  %s %s %s  %s", f.Projection, f.Key.Partition, f.Key.Sort, f.Fault)
			if len(f.Fields) > 0 {
				text += " in " + strings.Join(f.Fields, ", ")
			}
			if f.Healed {
				text += "  healed"
			}
			s.printf("%s", text)
		}
		delete(fields, "findings")
	}
	if text := fieldsText(fields); text != "" {
		s.printf("  %s", text)
	}
}

// fieldsText writes the fields of a JSON object as text: "events 11,469, views 22,582".
func fieldsText(fields map[string]json.RawMessage) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[name]
		var (
			text   string
			number float64
			object map[string]json.RawMessage
		)
		switch {
		case json.Unmarshal(raw, &text) == nil:
		case json.Unmarshal(raw, &number) == nil && number == math.Trunc(number) && math.Abs(number) < 1e15:
			text = thousands(int64(number))
		case json.Unmarshal(raw, &number) == nil:
			text = strconv.FormatFloat(math.Round(number*1e4)/1e4, 'f', -1, 64)
		case json.Unmarshal(raw, &object) == nil:
			text = fieldsText(object)
		default:
			text = string(raw)
		}
		parts = append(parts, strings.ReplaceAll(name, "_", " ")+" "+text)
	}
	return strings.Join(parts, ", ")
}

// jobTitle says what a job does: "dry run of rebuild timeline".
func jobTitle(j *wire.Job) string {
	words := []string{j.Kind}
	if j.Params.DryRun {
		words = []string{"dry run of", j.Kind}
	}
	for _, w := range []string{j.Params.Projection, j.Params.To, j.Params.Room} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// jobAmount says how much of a job is done: "4,200 of 11,291".
func jobAmount(j *wire.Job) string {
	total := j.Total
	if j.State == wire.JobDone && j.Done >= j.Total { // more may have come while it ran
		total = 0
	}
	return amountText(j.Done, total)
}

func jobProgress(j *wire.Job) string {
	left := time.Duration(0)
	if j.SecondsLeft != nil {
		left = time.Duration(*j.SecondsLeft) * time.Second
	}
	return jobAmount(j) + paceText(j.Rate, left)
}

// jobRow is a job as a row of a table.
func jobRow(j *wire.Job) string {
	progress := jobProgress(j)
	if j.Phase != "" && !j.Ended() {
		progress = j.Phase + " " + progress
	}
	return strings.TrimSpace(fmt.Sprintf("%s  %-9s  %s  %s  %s", j.ID, j.State, jobTitle(j), progress, j.Error))
}

// Run lists jobs.
func (c jobsListCmd) Run(s *session) error {
	regions, err := s.regions()
	if err != nil {
		return err
	}
	n := 0
	for _, r := range regions {
		var page wire.JobPage
		if err := r.get("jobs", &page, "limit", strconv.Itoa(c.Limit)); err != nil {
			return fmt.Errorf("%s: %w", r.title(), err)
		}
		for _, j := range page.Jobs {
			n++
			if s.JSON {
				if err := r.printItem("job", j); err != nil {
					return err
				}
			}
			s.printf("%-16s %s", r.title(), jobRow(&j))
		}
	}
	if n == 0 {
		s.printf("No jobs.")
	}
	return nil
}

// find finds the job and its region.
func (c jobArg) find(s *session) (*region, *wire.Job, error) {
	if _, err := events.ParseID("the job's id", c.ID); err != nil {
		return nil, nil, usageError{err}
	}
	regions, err := s.regions()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range regions {
		j := &wire.Job{}
		err := r.get("jobs/"+c.ID, j)
		if err == nil {
			return r, j, nil
		}
		if p, is := errors.AsType[*problem](err); !is || p.Status != http.StatusNotFound {
			return nil, nil, fmt.Errorf("%s: %w", r.title(), err)
		}
	}
	return nil, nil, fmt.Errorf("no region has a job %s; list the jobs with operate jobs", c.ID)
}

// Run shows a job.
func (c jobsShowCmd) Run(s *session) error {
	r, j, err := c.find(s)
	if err != nil {
		return err
	}
	if s.JSON {
		return r.printItem("job", j)
	}
	s.printf("%s  %s", r.title(), jobRow(j))
	s.printf("  started        %s by %s", j.Started.Format(time.RFC3339), j.By)
	s.printf("  updated        %s", j.Updated.Format(time.RFC3339))
	s.printResult(j)
	return nil
}

// Run follows a job.
func (c jobsWatchCmd) Run(s *session) error {
	r, j, err := c.find(s)
	if err != nil {
		return err
	}
	if j, err = r.watchJob(j); err != nil {
		return err
	}
	return r.printOutcome(j)
}

// Run pauses a job.
func (c jobsPauseCmd) Run(s *session) error { return c.change(s, "pause") }

// Run resumes a job.
func (c jobsResumeCmd) Run(s *session) error { return c.change(s, "resume") }

// Run cancels a job.
func (c jobsCancelCmd) Run(s *session) error { return c.change(s, "cancel") }

func (c jobArg) change(s *session, action string) error {
	r, _, err := c.find(s)
	if err != nil {
		return err
	}
	var j wire.Job
	if err := r.send("POST", "jobs/"+c.ID+"/"+action, nil, &j); err != nil {
		return fmt.Errorf("%s: %w", r.title(), err)
	}
	if s.JSON {
		return r.printItem("job", j)
	}
	s.printf("%-16s %s", r.title(), jobRow(&j))
	return nil
}
