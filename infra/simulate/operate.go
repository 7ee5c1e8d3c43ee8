package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"parley/events"
	"parley/functions/operate"
	"parley/functions/wire"
	"parley/projections"
)

// The steps of operators.

// opsJob is a job of a region, as far as its operators know.
type opsJob struct {
	id, kind string
	over     bool // a step has said that there is no more to do
	paused   bool // perhaps
}

// erase erases a user: never the first, and at most half of them.
func (w *world) erase(s Step) {
	if len(w.users) < 2 || len(w.erased) > len(w.users)/2 {
		return
	}
	user := w.users[1+s.A%(len(w.users)-1)]
	c := w.command(user, "POST", "/v1/ops/users/"+user+"/erase", "", events.UserStream(user))
	c.by = operator
	if a := w.send(s, w.region(s.C), c); c.acked || a.open() {
		w.erased[user] = true
	}
}

// startJob starts a rebuild, an audit or a replay.
func (w *world) startJob(s Step) {
	all := projections.All()
	name := all[s.B%len(all)].Name()
	in := []wire.NewJob{
		{Kind: "rebuild", Params: wire.Params{Projection: name}},
		{Kind: "rebuild"},
		{Kind: "rebuild", Params: wire.Params{Room: w.room(s.B).id}},
		{Kind: "rebuild", Params: wire.Params{Projection: projections.FeedName}},
		{Kind: "audit", Params: wire.Params{Projection: name}},
		{Kind: "audit", Params: wire.Params{Heal: true}},
		{Kind: "replay", Params: wire.Params{To: "again", Rate: 10_000}},
		{Kind: "drop", Params: wire.Params{Projection: name}},
	}[s.C/8%8]
	w.start(s, w.region(s.A), in)
}

// start starts a job, and returns it if the region says that it has.
func (w *world) start(s Step, r *region, in wire.NewJob) *opsJob {
	a := w.request(s, r, operator, "POST", "/v1/ops/jobs", bodyOf(in), "")
	id := idIn(a.body)
	if !a.ok() || id == (events.ID{}) {
		return nil
	}
	if in.Projection == projections.FeedName {
		r.rebuilds++
	}
	j := &opsJob{id: id.String(), kind: in.Kind}
	r.jobs = append(r.jobs, j)
	return j
}

// stepJob lets a process do a step of a job.
func (w *world) stepJob(s Step) {
	r := w.region(s.A)
	if len(r.jobs) == 0 {
		return
	}
	w.doStep(s, r, r.jobs[len(r.jobs)-1-s.B%min(len(r.jobs), 3)])
}

// doStep does a step of a job.
func (w *world) doStep(s Step, r *region, j *opsJob) {
	p := r.any(&r.workers, s, "job")
	ctx, end := p.begin(s, j.kind)
	defer end()
	c := callOf(ctx)
	c.rebuild = j.kind != "replay"
	more, err := p.f.Jobs().Step(context.WithValue(ctx, callKey{}, c), j.id)
	if err == nil && !more && !j.paused && !p.dead.Load() {
		j.over = true
	}
	if err != nil && !errors.Is(err, operate.ErrLeased) {
		w.trace.note(p.name, "note", "", "a step of a %s failed: %v", j.kind, err)
		return
	}
	w.trace.note(p.name, "note", "", "a step of a %s, more %v", j.kind, more)
}

// changeJob pauses, resumes or cancels a job.
func (w *world) changeJob(s Step) {
	r := w.region(s.A)
	if len(r.jobs) == 0 {
		return
	}
	j := r.jobs[len(r.jobs)-1-s.B%min(len(r.jobs), 3)]
	change := []string{"pause", "resume", "cancel"}[s.C/8%3]
	w.request(s, r, operator, "POST", "/v1/ops/jobs/"+j.id+"/"+change, "", "")
	j.over, j.paused = false, j.paused || change == "pause"
}

// back lets a region read the previous generation of a projection again.
func (w *world) back(s Step) {
	all := projections.All()
	w.request(s, w.region(s.A), operator, "POST", "/v1/ops/generations/"+url.PathEscape(all[s.B%len(all)].Name())+"/back", "", "")
}

// finishJobs resumes what is paused, and does steps of all jobs until there is no more to do. It reports
// whether there was anything to do.
func (w *world) finishJobs(s Step) (any bool) {
	for _, r := range w.regions {
		for _, j := range r.jobs {
			if j.over {
				continue
			}
			any = true
			w.request(s, r, operator, "POST", "/v1/ops/jobs/"+j.id+"/resume", "", "")
			j.paused = false
			for tries := 0; tries < 60 && !j.over; tries++ {
				w.doStep(s, r, j)
			}
		}
	}
	return any
}

// retryParked lets every region handle again what is parked, as an operator does once the cause is gone: a key
// that came late. It reports whether there was anything.
func (w *world) retryParked(s Step) (any bool) {
	for _, r := range w.regions {
		list, err := projections.ListParked(context.Background(), r.views, "", 100)
		if err != nil {
			w.fail("parked", "cannot read what is parked in %s: %v", r.name, err)
		}
		for _, p := range list {
			any = true
			w.request(s, r, operator, "POST", "/v1/ops/parked/retry", bodyOf(wire.ParkedChange{Key: p.Key}), "")
		}
	}
	return any
}

// checkAudit lets one region audit its views: nothing differs.
func (w *world) checkAudit([][]events.Event) {
	if mix(w.schedule.Seed, 6)%8 != 0 {
		return
	}
	s := Step{N: -200}
	r := w.region(int(mix(w.schedule.Seed, 7) >> 1))
	j := w.start(s, r, wire.NewJob{Kind: "audit"})
	if j == nil {
		w.fail("audit", "no audit can be started in %s", r.name)
		return
	}
	for tries := 0; tries < 100 && !j.over; tries++ {
		w.doStep(s, r, j)
	}
	a := w.request(s, r, operator, "GET", "/v1/ops/jobs/"+j.id, "", "")
	var got wire.Job
	var result wire.RebuildResult
	if err := errors.Join(json.Unmarshal(a.body, &got), json.Unmarshal(got.Result, &result)); err != nil || got.State != wire.JobDone {
		w.fail("audit", "the audit of %s ends as %s (%v)", r.name, a.body, err)
		return
	}
	if result.Differ > 0 {
		w.fail("audit", "the audit of %s finds differences: %s", r.name, a.body)
	}
}

// checkShown checks what readers get in a world at rest: every room as a member reads it is the same in every
// region, nothing of a user who was erased can be read, and everything else can.
func (w *world) checkShown(logs [][]events.Event) {
	erased := map[string]bool{}
	for _, e := range logs[0] {
		if _, is := e.Payload.(events.UserErased); is {
			erased[e.Actor] = true
		}
	}
	s := Step{N: -300}
	for _, in := range w.rooms {
		var first string
		for i, r := range w.regions {
			a := w.request(s, r, w.users[0], "GET", in.path("/messages?limit=200"), "", "")
			shows := withoutRegion(a.body)
			if i > 0 && first != shows && a.ok() {
				w.fail("pages-equal", "%s shows %s as %s, and %s as %s", w.regions[0].name, in.id, first, r.name, shows)
				return
			}
			first = shows
			var page wire.MessagePage
			if !a.ok() || json.Unmarshal(a.body, &page) != nil {
				continue
			}
			for _, m := range page.Messages {
				switch {
				case m.Text != "" && erased[m.Author]:
					w.fail("erased", "%s shows what %s wrote, who was erased: %s", r.name, m.Author, m.Text)
				case m.Unreadable, m.Text == "" && !m.Deleted && !erased[m.Author]:
					w.fail("readable", "%s cannot show message %s of %s", r.name, m.ID, m.Author)
				}
			}
		}
	}
}
