package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/operate"
	"parley/functions/wire"
	"parley/projections"
)

// ops is a region at which operators work.
type ops struct {
	*region
	runner *operate.Runner
	work   *workKind
	op     *client // an operator

	generations *projections.Generations
}

func newOps(t testing.TB) *ops {
	t.Helper()
	return opsOf(newRegion(t))
}

// opsOf is a region whose processes see at once what changes, and that knows one more kind of job.
func opsOf(r *region) *ops {
	f := r.functions
	f.Generations.Fresh = 0
	f.Rebuilder.Grace, f.Rebuilder.Confirm = 0, 0
	o := &ops{region: r, work: &workKind{}, runner: f.Jobs(), op: r.operator("olga"), generations: f.Generations}
	o.runner.Kinds["work"] = o.work
	return o
}

// newRunner makes a runner as another process would.
func (o *ops) newRunner() *operate.Runner {
	runner := o.functions.Runner()
	runner.Kinds["work"] = o.work
	return runner
}

// workKind is a kind of job that counts to five, one a step.
type workKind struct {
	mu     sync.Mutex
	steps  []string // job and what it had counted to, of each step
	undone []string
	during func() error // called in the middle of a step
}

func (k *workKind) Check(p wire.Params) error {
	if p.Room == "" {
		return nil
	}
	return events.ValidateRoomID("room", p.Room)
}

func (k *workKind) Step(ctx context.Context, t operate.Task) (operate.Progress, error) {
	n := 0
	if t.Work != nil {
		if err := json.Unmarshal(t.Work, &n); err != nil {
			return operate.Progress{}, err
		}
	}
	k.mu.Lock()
	k.steps = append(k.steps, string(rune('0'+n)))
	during := k.during
	k.mu.Unlock()
	if during != nil {
		if err := during(); err != nil {
			return operate.Progress{}, err
		}
	}
	n++
	work, err := json.Marshal(n)
	return operate.Progress{Work: work, Phase: "counting", Done: int64(n), Total: 5, Finished: n == 5, Result: json.RawMessage(`{"n":` + string(work) + `}`)}, err
}

func (k *workKind) Undo(_ context.Context, t operate.Task) (operate.Progress, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.undone = append(k.undone, t.ID)
	return operate.Progress{Finished: true}, nil
}

func (k *workKind) did() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.steps, "")
}

// start starts a job and returns its id.
func (o *ops) start(body string) string {
	o.t.Helper()
	return o.op.post("/v1/ops/jobs", body).want(201).text("id")
}

// step does a step of a job.
func (o *ops) step(id string) bool {
	o.t.Helper()
	more, err := o.runner.Step(context.Background(), id)
	must(o.t, err)
	return more
}

// finish does a job to its end.
func (o *ops) finish(id string) *answer {
	o.t.Helper()
	for i := 0; o.step(id); i++ {
		if i > 1000 {
			o.t.Fatal("the job does not end")
		}
	}
	return o.job(id)
}

func (o *ops) job(id string) *answer {
	o.t.Helper()
	return o.op.get("/v1/ops/jobs/" + id).want(200)
}

// inState checks a job's state.
func (o *ops) inState(id, state string) *answer {
	o.t.Helper()
	a := o.job(id)
	if a.text("state") != state {
		o.t.Fatalf("the job is %s, want %s: %s", a.text("state"), state, a.body)
	}
	return a
}

// acts are what operators did here: who, what and the result.
func (o *ops) acts() (all []string) {
	o.t.Helper()
	for e, err := range o.store.Read(context.Background(), events.OpsStream(o.name), events.Range{}) {
		must(o.t, err)
		p := e.Payload.(events.OpsActed)
		all = append(all, strings.TrimSpace(e.Actor+" "+p.What+" "+p.Result))
	}
	return all
}

// acted checks that the last act was this one.
func (o *ops) acted(want string) {
	o.t.Helper()
	all := o.acts()
	if len(all) == 0 || all[len(all)-1] != want {
		o.t.Fatalf("the acts are %q, the last should be %q", all, want)
	}
}

var errWork = errors.New("the work cannot be done")

// opsWays is how each of the operators' operations is asked.
var opsWays = map[string]struct{ method, path, body string }{
	"opsStatus":    {"GET", "/v1/ops/status", ""},
	"opsDrain":     {"PUT", "/v1/ops/drain", ""},
	"opsUndrain":   {"DELETE", "/v1/ops/drain", ""},
	"listParked":   {"GET", "/v1/ops/parked", ""},
	"getParked":    {"GET", "/v1/ops/parked/one?key={parked}", ""},
	"retryParked":  {"POST", "/v1/ops/parked/retry", `{"key":"{parked}"}`},
	"dropParked":   {"POST", "/v1/ops/parked/drop", `{"key":"{parked}"}`},
	"listEvents":   {"GET", "/v1/ops/events?stream={stream}", ""},
	"appendEvents": {"POST", "/v1/ops/events", `{"events":[{event}]}`},
	"getMarks":     {"POST", "/v1/ops/marks", `{"users":["ada"]}`},
	"listLog":      {"GET", "/v1/ops/log", ""},
	"startJob":     {"POST", "/v1/ops/jobs", `{"kind":"work"}`},
	"listJobs":     {"GET", "/v1/ops/jobs", ""},
	"getJob":       {"GET", "/v1/ops/jobs/{job}", ""},
	"pauseJob":     {"POST", "/v1/ops/jobs/{job}/pause", ""},
	"resumeJob":    {"POST", "/v1/ops/jobs/{job}/resume", ""},
	"cancelJob":    {"POST", "/v1/ops/jobs/{job}/cancel", ""},

	"switchBack":       {"POST", "/v1/ops/generations/room/back", ""},
	"dropPrevious":     {"POST", "/v1/ops/generations/room/drop", ""},
	"putOwner":         {"PUT", "/v1/ops/rooms/{room}/owners/gone", ""},
	"eraseUser":        {"POST", "/v1/ops/users/gone/erase", ""},
	"getErasure":       {"GET", "/v1/ops/users/gone/erasure", ""},
	"listDigests":      {"GET", "/v1/ops/digests", ""},
	"listEventDigests": {"GET", "/v1/ops/digests/events?stream={stream}&hour=2026-07-01T12:00:00Z", ""},
}

func (o *ops) operations() (ids []string) {
	for path, operations := range o.doc.Paths {
		for _, op := range operations {
			if strings.HasPrefix(path, "/v1/ops/") {
				ids = append(ids, op.OperationID)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// Every operation answers operators only. All others learn nothing: what is
// there is like what is not, good is like bad.
func TestOpsAreForOperators(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	room := o.as("ada").room(`{"name":"` + secret + `"}`)
	o.as("ada").say(room, secret)
	parked, _ := o.park()
	job := o.start(`{"kind":"work"}`)
	stream := "room/" + strings.TrimPrefix(room, "/v1/rooms/")
	fill := strings.NewReplacer("{parked}", parked, "{job}", job, "{room}", roomOf(room), "{stream}", stream, "{event}", string(o.event("ada", stream)))
	nothing := strings.NewReplacer("{parked}", "x", "{job}", "x", "{room}", "x", "{stream}", "x", "{event}", "x")
	if got, want := o.operations(), namesOf(opsWays); !slices.Equal(got, want) {
		t.Fatalf("the operations are\n%v, want\n%v", got, want)
	}
	o.finish(o.start(`{"kind":"rebuild","projection":"room"}`))
	before := o.acts()
	for id, way := range opsWays {
		for _, user := range []string{"ada", "stranger"} {
			for _, scope := range []string{"", "operators", "Operator", "chat"} {
				c := o.as(user)
				c.token = o.token(user, scope)
				good := c.do(way.method, fill.Replace(way.path), fill.Replace(way.body)).refused(403, "operator_only")
				bad := c.do(way.method, nothing.Replace(way.path)+"?x=y", "{").refused(403, "operator_only")
				if good.text("detail") != bad.text("detail") {
					t.Errorf("%s: %s and %s", id, good.body, bad.body)
				}
			}
		}
		nobody := o.as("ada")
		nobody.token = ""
		nobody.do(way.method, fill.Replace(way.path), fill.Replace(way.body)).refused(401, "unauthenticated")
	}
	if got := o.acts(); len(got) != len(before) {
		t.Errorf("something was done: %v", got)
	}
	for _, id := range []string{
		"opsStatus", "opsDrain", "opsUndrain", "listParked", "getParked", "retryParked", "listEvents", "appendEvents",
		"listLog", "getMarks", "startJob", "listJobs", "getJob", "pauseJob", "resumeJob", "cancelJob",
		"switchBack", "dropPrevious", "listDigests", "listEventDigests", "putOwner",
	} {
		way := opsWays[id]
		if a := o.op.do(way.method, fill.Replace(way.path), fill.Replace(way.body)); a.status >= 300 {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
	o.as("gone").room(`{"name":"left behind"}`)
	for _, id := range []string{"eraseUser", "getErasure"} {
		if a := o.op.do(opsWays[id].method, opsWays[id].path, ""); a.status >= 300 {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
		o.Sync()
	}
	again, _ := o.park()
	o.op.post("/v1/ops/parked/drop", `{"key":"`+again+`"}`).want(200)
	for _, id := range o.operations() {
		if !o.doc.succeeded[id] {
			t.Errorf("%s never succeeded", id)
		}
	}
}

// What operators did is delivered to no client, and is in no view.
func TestOpsAreNotDelivered(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	room := o.as("ada").room(`{"name":"a"}`)
	o.Sync()
	cursor := o.as("olga").get("/v1/sync").text("cursor")
	here := o.as("ada").get("/v1/rooms").text("cursor")
	o.op.put("/v1/ops/drain", "").want(200)
	o.op.delete("/v1/ops/drain").want(200)
	o.as("ada").say(room, "x")
	o.Sync()
	for user, from := range map[string]string{"olga": cursor, "ada": here} {
		a := o.as(user).get("/v1/sync?cursor=" + url.QueryEscape(from)).want(200)
		if strings.Contains(string(a.body), "ops") {
			t.Errorf("%s receives: %s", user, a.body)
		}
	}
	if n := o.count(events.OpsStream("eu")); n != 2 {
		t.Errorf("%d acts", n)
	}
	for _, kind := range []string{"feed", "timeline", "room", "member"} {
		got, err := o.model.Query(t.Context(), kind+"/ops/eu", projections.Range{Limit: 1})
		if must(t, err); len(got) > 0 {
			t.Errorf("there is a view %v", got[0].Key)
		}
	}
}

func TestOpsDrain(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	ask := func() int {
		w := httptest.NewRecorder()
		o.functions.Health().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
		return w.Code
	}
	room := o.as("ada").room(`{"name":"a"}`)
	for range 2 { // again changes nothing
		a := o.op.put("/v1/ops/drain", "").want(200)
		if a.value("drained") != true || a.text("by") != "olga" || a.text("since") == "" || ask() != 503 {
			t.Errorf("drained: %s, health %d", a.body, ask())
		}
	}
	if a := o.op.get("/v1/ops/status").want(200); a.value("drain", "drained") != true || a.text("health", "status") != "drained" {
		t.Errorf("status: %s", a.body)
	}
	o.as("ada").say(room, "still here")
	o.Sync()
	if got := o.as("ada").get(room + "/messages").texts(); got != "still here" {
		t.Errorf("the messages are %q", got)
	}
	for range 2 {
		if a := o.op.delete("/v1/ops/drain").want(200); a.value("drained") != false || ask() != 200 {
			t.Errorf("no longer drained: %s, health %d", a.body, ask())
		}
	}
	if got := o.acts(); !slices.Equal(got, []string{"olga drain", "olga undrain"}) {
		t.Errorf("the acts are %q", got)
	}
	// The log refuses: the operator hears of it, and may send it again.
	o.log.OnAppend = func(events.Event) logtest.Fault { return logtest.NotStored }
	o.op.put("/v1/ops/drain", "").refused(503, "throttled")
	if o.log.OnAppend = nil; ask() != 503 {
		t.Error("it was not drained all the same")
	}
}

// An operator can give any room an owner, who can then do what owners can.
func TestOpsOwner(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	ada, bob, cyd := o.as("ada"), o.as("bob"), o.as("cyd")
	for _, body := range []string{`{"name":"open"}`, `{"name":"closed","private":true}`} {
		room := ada.room(body)
		owner := strings.Replace(room, "/v1/", "/v1/ops/", 1) + "/owners/"
		ada.delete(room + "/members/ada").want(200) // nobody is left
		o.Sync()
		bob.patch(room, `{"topic":"mine"}`).want(map[bool]int{true: 404, false: 403}[strings.Contains(body, "private")])
		first := o.op.put(owner+"bob", "").want(200)
		o.acted("olga room.owner bob")
		o.Sync()
		if again := o.op.put(owner+"bob", "").want(200); again.value("repeat") != true || again.text("event") != first.text("event") {
			t.Errorf("again: %s", again.body)
		}
		bob.patch(room, `{"topic":"mine"}`).want(200)
		cyd.do("PUT", room+"/members/cyd", "")
		o.op.put(owner+"cyd", "").want(200)
		o.Sync()
		cyd.patch(room+"/members/bob", `{"role":"member"}`).want(200)
		o.Sync()
		o.op.put(owner+"bob", "").want(200) // who is a member
		o.Sync()
		if role := bob.get(room + "/members/bob").text("role"); role != "owner" {
			t.Errorf("the role of bob is %q", role)
		}
		bob.put(room+"/bans/ada", "").want(200)
		o.op.put(owner+"ada", "").refused(409, "member_banned")
		o.op.put(owner+"a/b", "").want(404)
		o.op.put(owner+"~", "").refused(422, "invalid_field").names("user")
	}
	direct := "/v1/ops/rooms/" + ada.put("/v1/direct/bob", "").want(201).text("id")
	o.op.put(direct+"/owners/ada", "").refused(409, "direct_room")
	o.op.put("/v1/ops/rooms/"+ada.mint().String()+"/owners/ada", "").refused(404, "room_not_found")
}

func TestOpsStatus(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	a := o.op.get("/v1/ops/status").want(200)
	if a.text("region") != "eu" || a.text("version") != wire.Version() || a.text("health", "version") != wire.Version() || a.text("health", "status") != "ok" || a.value("parked") != 0.0 || a.value("drain", "drained") != false {
		t.Errorf("%s", a.body)
	}
	o.park()
	running, over := o.start(`{"kind":"work"}`), o.start(`{"kind":"work"}`)
	o.finish(over)
	var s struct {
		Parked int
		Jobs   []struct{ ID string }
	}
	o.op.get("/v1/ops/status").want(200).into(&s)
	if s.Parked != 1 || len(s.Jobs) != 1 || s.Jobs[0].ID != running {
		t.Errorf("%+v", s)
	}
	o.views.OnGet = func([]projections.Key) error { return projections.ErrUnavailable }
	o.op.get("/v1/ops/status").refused(503, "views_unavailable")
}

// Whatever is wrong in a request is named.
func TestOpsBadInput(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	room := strings.TrimPrefix(o.as("ada").room(`{"name":"a"}`), "/v1/rooms/")
	for _, q := range []struct{ path, field string }{
		{"/v1/ops/status?x=1", "x"},
		{"/v1/ops/parked?limit=0", "limit"},
		{"/v1/ops/parked?limit=201", "limit"},
		{"/v1/ops/parked/one", "key"},
		{"/v1/ops/parked/one?key=", "key"},
		{"/v1/ops/events", "stream"},
		{"/v1/ops/events?stream=" + secret, "stream"},
		{"/v1/ops/events?stream=room/" + secret, "stream"},
		{"/v1/ops/events?stream=region/EU", "stream"},
		{"/v1/ops/events?stream=user/ada&limit=1001", "limit"},
		{"/v1/ops/events?stream=user/ada&after=" + secret, "after"},
		{"/v1/ops/events?stream=user/ada&before=1", "before"},
		{"/v1/ops/events?stream=user/ada&as_of=yesterday", "as_of"},
		{"/v1/ops/events?stream=user/ada&as_of=1969-01-01T00:00:00Z", "as_of"},
		{"/v1/ops/log?part=1", "part"},
		{"/v1/ops/log?part=1/1", "part"},
		{"/v1/ops/log?part=-1/2", "part"},
		{"/v1/ops/log?part=a/b", "part"},
		{"/v1/ops/log?part=0/0", "part"},
		{"/v1/ops/log?after=x", "after"},
		{"/v1/ops/log?after=user/ada", "after"},
		{"/v1/ops/log?limit=x", "limit"},
		{"/v1/ops/digests?part=1/1", "part"},
		{"/v1/ops/digests?after=x", "after"},
		{"/v1/ops/digests?until=now", "until"},
		{"/v1/ops/digests?limit=0", "limit"},
		{"/v1/ops/digests/events?hour=2026-07-01T12:00:00Z", "stream"},
		{"/v1/ops/digests/events?stream=x&hour=2026-07-01T12:00:00Z", "stream"},
		{"/v1/ops/digests/events?stream=user/ada", "hour"},
		{"/v1/ops/digests/events?stream=user/ada&hour=noon", "hour"},
		{"/v1/ops/digests/events?stream=user/ada&hour=2026-07-01T12:00:00Z&after=x", "after"},
		{"/v1/ops/jobs?before=x", "before"},
		{"/v1/ops/jobs?limit=0", "limit"},
		{"/v1/ops/jobs/x", "id"},
	} {
		o.op.get(q.path).refused(422, "invalid_field").names(q.field)
	}
	for _, q := range []struct{ path, body, field string }{
		{"/v1/ops/parked/retry", `{}`, "key"},
		{"/v1/ops/parked/drop", `{"key":""}`, "key"},
		{"/v1/ops/parked/drop", `{"key":1}`, "key"},
		{"/v1/ops/events", `{}`, "events"},
		{"/v1/ops/events", `{"events":[]}`, "events"},
		{"/v1/ops/events", `{"events":{}}`, "events"},
		{"/v1/ops/events", `{"events":[1]}`, "events"},
		{"/v1/ops/events", `{"events":["` + secret + `"]}`, "events"},
		{"/v1/ops/events", `{"events":[{},null]}`, "events"},
		{"/v1/ops/events", `{"events":[` + strings.Repeat("{},", 100) + `{}]}`, "events"},
		{"/v1/ops/events", `{"events":[{}],"room":"x"}`, "room"},
		{"/v1/ops/jobs", `{}`, "kind"},
		{"/v1/ops/jobs", `{"kind":"` + secret + `"}`, "kind"},
		{"/v1/ops/jobs", `{"kind":"work","room":"x"}`, "room"},
		{"/v1/ops/jobs", `{"kind":"work","colour":"red"}`, "colour"},
		{"/v1/ops/jobs", `{"kind":"work","dry_run":1}`, "dry_run"},
		{"/v1/ops/jobs", `{"kind":"replay"}`, "to"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"A/b"}`, "to"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"` + strings.Repeat("x", 33) + `"}`, "to"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","rate":-1}`, "rate"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","rate":10001}`, "rate"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","rate":"fast"}`, "rate"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","from":"x"}`, "from"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","until":"x"}`, "until"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","room":"x"}`, "room"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","from":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`, "until"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","type":"message"}`, "type"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","type":"nothing.*"}`, "type"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","heal":true}`, "heal"},
		{"/v1/ops/jobs", `{"kind":"replay","to":"x","projection":"room"}`, "projection"},
		{"/v1/ops/jobs", `{"kind":"rebuild","projection":"` + secret + `"}`, "projection"},
		{"/v1/ops/jobs", `{"kind":"rebuild","room":"x"}`, "room"},
		{"/v1/ops/jobs", `{"kind":"rebuild","heal":true}`, "heal"},
		{"/v1/ops/jobs", `{"kind":"rebuild","to":"x"}`, "kind"},
		{"/v1/ops/jobs", `{"kind":"audit","projection":"feed"}`, "projection"},
		{"/v1/ops/jobs", `{"kind":"audit","room":"` + room + `"}`, "room"},
		{"/v1/ops/jobs", `{"kind":"drop"}`, "projection"},
		{"/v1/ops/jobs", `{"kind":"drop","projection":"room","room":"x"}`, "kind"},
		{"/v1/ops/generations/x/back", "", "projection"},
		{"/v1/ops/generations/x/drop", "", "projection"},
		{"/v1/ops/jobs/x/pause", "", "id"},
		{"/v1/ops/jobs/x/resume", "", "id"},
		{"/v1/ops/jobs/x/cancel", "", "id"},
	} {
		o.op.post(q.path, q.body).refused(422, "invalid_field").names(q.field)
	}
	for _, body := range []string{"", "null", "[]", "{"} {
		o.op.post("/v1/ops/jobs", body).refused(400, "malformed_body")
		o.op.post("/v1/ops/events", body).refused(400, "malformed_body")
	}
	o.op.post("/v1/ops/jobs", strings.Repeat(" ", 70_000)).refused(413, "body_too_large")
	if a := o.op.post("/v1/ops/events", strings.Repeat(" ", 5<<20)).refused(413, "body_too_large"); !strings.Contains(a.text("detail"), "4194304") {
		t.Errorf("%s", a.body)
	}
	o.op.get("/v1/ops/parked/one?key=x").refused(404, "parked_not_found")
	o.op.post("/v1/ops/parked/retry", `{"key":"x"}`).refused(404, "parked_not_found")
	o.op.post("/v1/ops/parked/drop", `{"key":"x"}`).refused(404, "parked_not_found")
	o.op.post("/v1/ops/generations/room/back", "").refused(409, "no_previous_generation")
	o.op.post("/v1/ops/generations/room/drop", "").refused(409, "no_previous_generation")
	none := o.mint("ada").String()
	o.op.get("/v1/ops/jobs/"+none).refused(404, "job_not_found")
	o.op.post("/v1/ops/jobs/"+none+"/pause", "").refused(404, "job_not_found")
	o.op.get("/v1/ops/nothing").refused(404, "no_such_path")
	o.op.get("/v1/ops/events?stream=room/" + strings.ToLower(room)).want(200)
	if got := o.acts(); !slices.Equal(got, []string{"olga events.read"}) { // the one before this
		t.Errorf("something was done: %v", got)
	}
}
