package functions_test

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
)

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
	"listLog":      {"GET", "/v1/ops/log", ""},
	"startJob":     {"POST", "/v1/ops/jobs", `{"kind":"work"}`},
	"listJobs":     {"GET", "/v1/ops/jobs", ""},
	"getJob":       {"GET", "/v1/ops/jobs/{job}", ""},
	"pauseJob":     {"POST", "/v1/ops/jobs/{job}/pause", ""},
	"resumeJob":    {"POST", "/v1/ops/jobs/{job}/resume", ""},
	"cancelJob":    {"POST", "/v1/ops/jobs/{job}/cancel", ""},

	"switchBack":       {"POST", "/v1/ops/generations/room/back", ""},
	"dropPrevious":     {"POST", "/v1/ops/generations/room/drop", ""},
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

// Every operation answers an operator and nobody else. Whoever else asks learns nothing: what is
// there is like what is not, good is like bad.
func TestOpsAreForOperators(t *testing.T) {
	o := newOps(t)
	room := o.as("ada").room(`{"name":"` + secret + `"}`)
	o.as("ada").say(room, secret)
	parked, _ := o.park()
	job := o.start(`{"kind":"work"}`)
	stream := "room/" + strings.TrimPrefix(room, "/v1/rooms/")
	fill := strings.NewReplacer("{parked}", parked, "{job}", job, "{stream}", stream, "{event}", string(o.event("ada", stream)))
	nothing := strings.NewReplacer("{parked}", "x", "{job}", "x", "{stream}", "x", "{event}", "x")
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
		"listLog", "startJob", "listJobs", "getJob", "pauseJob", "resumeJob", "cancelJob",
		"switchBack", "dropPrevious", "listDigests", "listEventDigests",
	} {
		way := opsWays[id]
		if a := o.op.do(way.method, fill.Replace(way.path), fill.Replace(way.body)); a.status >= 300 {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
	for _, id := range []string{"eraseUser", "getErasure"} {
		if a := o.op.do(opsWays[id].method, opsWays[id].path, ""); a.status >= 300 {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
		o.Sync()
	}
	again, _ := o.park()
	o.op.post("/v1/ops/parked/drop", `{"key":"`+again+`"}`).want(200)
	for _, id := range o.operations() {
		if !o.doc.asked[id] {
			t.Errorf("%s never answered well", id)
		}
	}
}

// What operators did is told to nobody, and is in no view.
func TestOpsAreNotTold(t *testing.T) {
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
			t.Errorf("%s is told: %s", user, a.body)
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
	o := newOps(t)
	ask := func() int {
		w := httptest.NewRecorder()
		o.health.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
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

func TestOpsStatus(t *testing.T) {
	o := newOps(t)
	a := o.op.get("/v1/ops/status").want(200)
	if a.text("region") != "eu" || a.text("health", "status") != "ok" || a.value("parked") != 0.0 || a.value("drain", "drained") != false {
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
	if got := o.acts(); len(got) > 0 {
		t.Errorf("something was done: %v", got)
	}
}
