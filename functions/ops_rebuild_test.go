package functions_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/projections"
)

// generation is what the status says of a projection.
func (o *ops) generation(projection string) (live, previous, next float64) {
	o.t.Helper()
	a := o.op.get("/v1/ops/status").want(200)
	number := func(name string) float64 {
		n, _ := a.value("generations", projection, name).(float64)
		return n
	}
	return number("live"), number("previous"), number("next")
}

func (o *ops) generationIs(projection string, live, previous, next float64) {
	o.t.Helper()
	if l, p, n := o.generation(projection); l != live || p != previous || n != next {
		o.t.Errorf("%s: generation %v is live, %v was, %v will be; want %v, %v, %v", projection, l, p, n, live, previous, next)
	}
}

// Each projection is rebuilt from the log, step by step and each step saved; there is a way back,
// and what is no longer wanted is dropped.
func TestOpsRebuild(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	rooms, _ := o.history()
	room := strings.TrimPrefix(rooms[0], "/v1/rooms/")
	messages := func() string {
		got, err := projections.ListMessages(t.Context(), o.generations.Views(), room, events.Range{Limit: 100})
		must(t, err)
		text, err := json.Marshal(got)
		must(t, err)
		return string(text)
	}
	before := messages()
	for _, p := range projections.All() {
		name := p.Name()
		a := o.finish(o.start(`{"kind":"rebuild","projection":"` + name + `"}`))
		if a.text("state") != "done" || a.value("result", "differ") != 0.0 || a.value("result", "events").(float64) < 100 {
			t.Errorf("%s: %s", name, a.body)
		}
		o.generationIs(name, 2, 1, 0)
	}
	if messages() != before {
		t.Error("the messages differ")
	}
	again := o.start(`{"kind":"rebuild","projection":"timeline"}`)
	if _, err := o.runner.Step(t.Context(), again); err != nil { // counts
		t.Fatal(err)
	}
	if _, err := o.runner.Step(t.Context(), again); err == nil {
		t.Error("rebuilt while the previous one is kept")
	}
	o.inState(again, "failed")
	o.op.post("/v1/ops/generations/timeline/back", "").want(200)
	o.acted("olga generation.back generation 1 is read")
	o.generationIs("timeline", 1, 2, 0)
	drop := o.op.post("/v1/ops/generations/timeline/drop", "").want(201)
	if a := o.finish(drop.text("id")); a.text("state") != "done" || a.value("result", "deleted").(float64) < 100 {
		t.Errorf("%s", a.body)
	}
	o.generationIs("timeline", 1, 0, 0)
	got, err := o.model.Query(t.Context(), "g2/timeline/"+room, projections.Range{Limit: 1})
	if must(t, err); len(got) > 0 || messages() != before {
		t.Error("it was not dropped, or the wrong one was")
	}
	o.op.post("/v1/ops/jobs/"+again+"/cancel", "").want(200)
	for o.step(again) {
	}
	o.inState(again, "cancelled")
}

// After a rebuild of everything, and after the first generation is dropped, an event that comes late is still
// reported.
func TestOpsRebuildKeepsLateNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu := w.region(t, "us"), opsOf(w.region(t, "eu"))
	late := func(id events.ID, room string) (found bool) {
		t.Helper()
		for e, err := range eu.store.Read(t.Context(), events.RoomStream(roomOf(room)), events.Range{}) {
			must(t, err)
			p, is := e.Payload.(events.EventLate)
			found = found || is && slices.ContainsFunc(p.Events(), func(ref events.Ref) bool { return ref.ID == id })
		}
		return found
	}
	// notice lets an event of us arrive 20 minutes late in eu.
	notice := func() bool {
		t.Helper()
		room := us.as("ada").room(`{"name":"a"}`)
		replicate(us, eu.region)
		id := us.as("ada").say(room, "late")
		last, err := us.store.Next(t.Context(), strconv.FormatUint(us.store.Head()-1, 10), 1, true)
		must(t, err)
		w.pass(20 * time.Minute)
		replicateKeys(us, eu.region)
		must(t, eu.store.Replicate(t.Context(), last))
		eu.Sync()
		return late(id, room)
	}
	if !notice() {
		t.Fatal("a late event is not reported")
	}
	eu.finish(eu.start(`{"kind":"rebuild"}`))
	for _, p := range projections.All() {
		eu.generationIs(p.Name(), 2, 1, 0)
		eu.finish(eu.op.post("/v1/ops/generations/"+p.Name()+"/drop", "").want(201).text("id"))
		eu.generationIs(p.Name(), 2, 0, 0)
	}
	if !notice() {
		t.Error("after a rebuild and a drop a late event is not reported")
	}
}

// Of one room, and of the feeds.
func TestOpsRebuildInPlace(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	rooms, _ := o.history()
	room := strings.TrimPrefix(rooms[0], "/v1/rooms/")
	spoil(t, o, "timeline/"+room)
	for _, params := range []string{`"room":"` + strings.ToLower(room) + `"`, `"projection":"feed"`, `"projection":"feed","room":"` + room + `"`} {
		if a := o.finish(o.start(`{"kind":"rebuild",` + params + `}`)); a.text("state") != "done" {
			t.Errorf("%s: %s", params, a.body)
		}
	}
	if a := o.finish(o.start(`{"kind":"audit"}`)); a.value("result", "differ") != 0.0 {
		t.Errorf("%s", a.body)
	}
	o.generationIs("timeline", 1, 0, 0)
}

// spoil alters and removes views of a partition.
func spoil(t *testing.T, o *ops, partition string) {
	t.Helper()
	got, err := o.model.Query(t.Context(), partition, projections.Range{Limit: 3})
	if must(t, err); len(got) < 3 {
		t.Fatalf("%s has %d views", partition, len(got))
	}
	got[0].Body = []byte(`{}`)
	got[1].Body = []byte(`torn`)
	must(t, o.model.Save(t.Context(), got[:2]...))
	must(t, o.model.Delete(t.Context(), got[2]))
}

// An audit of a clean region finds nothing; of one with planted faults each of them, and repairs
// them if it is asked to.
func TestOpsAudit(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	rooms, _ := o.history()
	room := strings.TrimPrefix(rooms[0], "/v1/rooms/")
	audit := func(params string) (differ, healed float64, found string) {
		t.Helper()
		a := o.finish(o.start(`{"kind":"audit"` + params + `}`))
		var r struct {
			Result struct {
				Differ, Healed float64
				Findings       []projections.Finding
			}
		}
		if a.into(&r); a.text("state") != "done" {
			t.Fatalf("%s", a.body)
		}
		var all []string
		for _, f := range r.Result.Findings {
			all = append(all, fmt.Sprint(f.Projection, " ", f.Fault))
		}
		slices.Sort(all)
		return r.Result.Differ, r.Result.Healed, strings.Join(all, ", ")
	}
	clean := func() {
		t.Helper()
		if differ, _, found := audit(""); differ != 0 {
			t.Errorf("%v differ: %s", differ, found)
		}
	}
	clean()
	spoil(t, o, "timeline/"+room)
	for range 2 {
		if differ, healed, found := audit(`,"projection":"timeline"`); differ != 3 || healed != 0 || strings.Count(found, "timeline") != 3 {
			t.Errorf("%v differ, %v were healed: %s", differ, healed, found)
		}
	}
	if differ, healed, found := audit(`,"heal":true`); differ != 3 || healed != 3 {
		t.Errorf("%v differ, %v were healed: %s", differ, healed, found)
	}
	clean()
}

// A dry run counts and prices, and builds nothing.
func TestOpsRebuildDryRun(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	o.history()
	for _, kind := range []string{"rebuild", "audit"} {
		a := o.finish(o.start(`{"kind":"` + kind + `","dry_run":true}`))
		for _, name := range []string{"events", "read_units", "write_units", "dollars"} {
			if n, _ := a.value("result", name).(float64); n <= 0 {
				t.Errorf("%s: %s", kind, a.body)
			}
		}
		o.generationIs("timeline", 1, 0, 0)
	}
}

// A rebuild that is cancelled, at whatever step, leaves nothing behind.
func TestOpsRebuildCancelled(t *testing.T) {
	t.Parallel()
	for steps := range 6 {
		o := newOps(t)
		o.history()
		id := o.start(`{"kind":"rebuild"}`)
		over := false
		for range steps {
			over = !o.step(id)
		}
		if over {
			break
		}
		o.op.post("/v1/ops/jobs/"+id+"/cancel", "").want(200)
		for o.step(id) {
		}
		o.inState(id, "cancelled")
		for _, p := range projections.All() {
			o.generationIs(p.Name(), 1, 0, 0)
		}
	}
}

// Digests show where two logs differ, down to the event, and what is missing can be appended.
func TestOpsDigests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, there := opsOf(w.region(t, "eu")), opsOf(w.region(t, "us"))
	rooms, _ := here.history()
	replicate(here.region, there.region)
	w.pass(2 * time.Hour)
	late := here.as("user0").say(rooms[0], "late")
	replicate(here.region, there.region)
	digests := func(o *ops, query string, limit int) (all []string) {
		t.Helper()
		for after := ""; ; {
			var page struct {
				Digests []struct {
					Stream, Hour, SHA256 string
					Count                int
				}
				After *string
			}
			o.op.get(fmt.Sprintf("/v1/ops/digests?limit=%d&after=%s%s", limit, after, query)).want(200).into(&page)
			for _, d := range page.Digests {
				if all = append(all, fmt.Sprint(d.Stream, " ", d.Hour, " ", d.Count, " ", d.SHA256)); len(d.SHA256) != 64 {
					t.Errorf("%+v", d)
				}
			}
			if page.After == nil {
				slices.Sort(all)
				return all
			}
			after = *page.After
		}
	}
	want := digests(here, "", 1000)
	if got := digests(there, "", 2); !slices.Equal(got, want) {
		t.Errorf("the digests are\n%v, want\n%v", got, want)
	}
	var parts []string
	for i := range 3 {
		parts = append(parts, digests(here, fmt.Sprintf("&part=%d/3", i), 3)...)
	}
	if slices.Sort(parts); !slices.Equal(parts, want) {
		t.Errorf("in parts the digests are\n%v, want\n%v", parts, want)
	}
	if got := digests(here, "&until="+late.Timestamp().UTC().Truncate(time.Hour).Format(time.RFC3339), 1000); len(got) != len(want)-1 {
		t.Errorf("%d digests, want one less than %d", len(got), len(want))
	}
	stream := "room/" + strings.TrimPrefix(rooms[0], "/v1/rooms/")
	more := here.event("user0", stream)
	if got := here.appended(more); got[0] != "stored" {
		t.Fatal(got)
	}
	missing := slices.DeleteFunc(digests(here, "", 1000), func(d string) bool {
		return slices.Contains(digests(there, "", 1000), d) || strings.HasPrefix(d, "ops/")
	})
	if len(missing) != 1 || !strings.HasPrefix(missing[0], stream+" ") {
		t.Fatalf("what differs is %v", missing)
	}
	hour := strings.Fields(missing[0])[1]
	ids := func(o *ops) (all []string) {
		for after := ""; ; {
			var page struct {
				Events []struct{ ID, Type, SHA256 string }
				After  *string
			}
			o.op.get("/v1/ops/digests/events?limit=2&stream=" + stream + "&hour=" + hour + "&after=" + after).want(200).into(&page)
			for _, e := range page.Events {
				all = append(all, e.ID+e.Type+e.SHA256)
			}
			if page.After == nil {
				return all
			}
			after = *page.After
		}
	}
	have := ids(there)
	lacking := slices.DeleteFunc(ids(here), func(e string) bool { return slices.Contains(have, e) })
	var e events.Event
	must(t, e.UnmarshalJSON(more))
	if len(lacking) != 1 || !strings.HasPrefix(lacking[0], e.ID.String()+".") || !strings.Contains(lacking[0], "message.posted") {
		t.Fatalf("lacking is %v", lacking)
	}
	there.appended(more)
	if !slices.Equal(ids(here), ids(there)) {
		t.Error("they differ still")
	}
}
