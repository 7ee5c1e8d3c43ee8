package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/infra/operate/source"
	"parley/projections"
)

// fakeRegion is a server that answers as a test wants.
type fakeRegion struct {
	name   string
	server *httptest.Server

	mu      sync.Mutex
	answers map[string]func(r *http.Request) (int, any) // by method and path under /v1/ops
}

func newFake(t *testing.T, name string) *fakeRegion {
	f := &fakeRegion{name: name, answers: map[string]func(*http.Request) (int, any){}}
	f.answer("GET status", func(*http.Request) (int, any) {
		return 200, map[string]any{"region": name, "time": time.Now(), "health": map[string]any{"status": "ok"}}
	})
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		answer, known := f.answers[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1/ops/")]
		f.mu.Unlock()
		status, body := 404, any(map[string]any{"code": "no_such_path", "detail": "nothing is here"})
		if known {
			status, body = answer(r)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeRegion) answer(what string, do func(*http.Request) (int, any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[what] = do
}

// ask runs a command against fakes.
func ask(ctx context.Context, fakes []*fakeRegion, args ...string) said {
	for _, f := range fakes {
		args = append(args, "-url", f.server.URL)
	}
	return operate(ctx, append(args, "-token", "t")...)
}

// A watched job is followed to its end. Ctrl-C leaves it running and says how to watch it again.
func TestWatch(t *testing.T) {
	const id = "01DXF6GVN1ZQQ4638000R7T54F"
	f := newFake(t, "eu")
	var asked atomic.Int32
	at := func(state string, done int) map[string]any {
		return map[string]any{
			"id": id, "kind": "audit", "state": state, "done": done, "total": 10, "rate": 5, "seconds_left": 1, "phase": "fold",
			"started": time.Now(), "updated": time.Now(), "params": map[string]any{},
			"result": map[string]any{"differ": done / 5, "healed": 0, "dollars": 0.00123},
		}
	}
	f.answer("POST jobs", func(*http.Request) (int, any) { return 201, at("running", 0) })
	f.answer("GET jobs/"+id, func(*http.Request) (int, any) {
		if asked.Add(1) < 3 {
			return 200, at("running", int(asked.Load()))
		}
		return 200, at("done", 10)
	})
	s := ask(t.Context(), []*fakeRegion{f}, "audit", "-only", "views")
	if s.code != exitDiffers || !strings.Contains(s.out, ", 10\n  differ 2, dollars 0.0012, healed 0\n") || s.err != "" {
		t.Errorf("%+v", s)
	}
	asked.Store(0)
	s = ask(t.Context(), []*fakeRegion{f}, "jobs", "watch", id, "-json")
	var out struct {
		Region string
		Job    struct{ State string }
	}
	if err := json.Unmarshal([]byte(s.out), &out); err != nil || s.code != exitDiffers || out.Region != "eu" && out.Region != "" || out.Job.State != "done" {
		t.Errorf("%v %+v", err, s)
	}

	asked.Store(-1_000_000)
	ctx, cancel := context.WithCancel(t.Context())
	f.answer("GET jobs/"+id, func(*http.Request) (int, any) {
		if asked.Add(1) > -999_998 {
			cancel()
		}
		return 200, at("running", 1)
	})
	s = ask(ctx, []*fakeRegion{f}, "jobs", "watch", id)
	if s.code != exitFailed || !strings.Contains(s.err, "operate jobs watch "+id) {
		t.Errorf("after Ctrl-C %+v", s)
	}
}

func TestParkedCommands(t *testing.T) {
	f, other := newFake(t, "eu"), newFake(t, "us")
	parked := map[string]bool{"a b/1": true, "c": true}
	one := func(key string) map[string]any {
		return map[string]any{"key": key, "stage": "publish", "error": "too large", "at": time.Now(), "tries": 3, "stream": "room/x", "id": "y", "event": map[string]any{"id": "y"}}
	}
	f.answer("GET parked", func(*http.Request) (int, any) {
		list := []any{}
		for key := range parked {
			list = append(list, one(key))
		}
		return 200, map[string]any{"parked": list, "after": nil}
	})
	other.answer("GET parked", func(*http.Request) (int, any) { return 200, map[string]any{"parked": []any{}, "after": nil} })
	notThere := func() (int, any) { return 404, map[string]any{"code": "parked_not_found", "detail": "nothing"} }
	f.answer("GET parked/one", func(r *http.Request) (int, any) {
		if key := r.URL.Query().Get("key"); parked[key] {
			return 200, one(key)
		}
		return notThere()
	})
	other.answer("GET parked/one", func(*http.Request) (int, any) { return notThere() })
	change := func(outcome string) func(r *http.Request) (int, any) {
		return func(r *http.Request) (int, any) {
			var body struct{ Key string }
			_ = json.NewDecoder(r.Body).Decode(&body)
			if !parked[body.Key] {
				return notThere()
			}
			if body.Key == "c" && outcome == "handled" {
				return 200, map[string]any{"key": body.Key, "outcome": "parked", "error": "still too large", "tries": 4}
			}
			delete(parked, body.Key)
			return 200, map[string]any{"key": body.Key, "outcome": outcome}
		}
	}
	f.answer("POST parked/retry", change("handled"))
	f.answer("POST parked/drop", change("dropped"))
	both := []*fakeRegion{f, other}

	s := ask(t.Context(), both, "parked")
	if s.code != 0 || !strings.Contains(s.out, "a b/1") || !strings.Contains(s.out, "publish: too large, attempts: 3") {
		t.Errorf("list %+v", s)
	}
	if s = ask(t.Context(), both, "parked", "show", "a b/1"); s.code != 0 || !strings.Contains(s.out, `{"id":"y"}`) {
		t.Errorf("show %+v", s)
	}
	if s = ask(t.Context(), both, "parked", "show", "z"); s.code != exitFailed || !strings.Contains(s.err, `no event is parked under "z"`) {
		t.Errorf("show what is not there %+v", s)
	}
	if s = ask(t.Context(), both, "parked", "retry", "-all"); s.code != exitFailed || len(parked) != 1 || !strings.Contains(s.out, "still too large") {
		t.Errorf("retry %+v", s)
	}
	if s = ask(t.Context(), both, "parked", "drop", "c"); s.code != 0 || len(parked) != 0 {
		t.Errorf("drop %+v", s)
	}
	if s = ask(t.Context(), both, "parked", "drop"); s.code != exitUsage {
		t.Errorf("drop nothing %+v", s)
	}
}

// fakeLog answers as a region whose log is one stream does, as far as audits ask.
func fakeLog(f *fakeRegion, log map[string]events.Event) {
	f.answer("GET digests", func(r *http.Request) (int, any) {
		list := []any{}
		if strings.HasPrefix(r.URL.Query().Get("part"), "0/") && len(log) > 0 {
			refs, sums := slices.Sorted(maps.Keys(log)), []string{}
			for _, ref := range refs {
				sums = append(sums, log[ref].WithDigest().Ref().String())
			}
			shared := []any{}
			for i, ref := range refs {
				id := ref[:len(events.ID{}.String())]
				if i > 0 && strings.HasPrefix(refs[i-1], id) || i+1 < len(refs) && strings.HasPrefix(refs[i+1], id) {
					shared = append(shared, map[string]any{"id": ref, "type": log[ref].Type, "region": log[ref].Region})
				}
			}
			list = append(list, map[string]any{"stream": "user/ada", "hour": time.Unix(0, 0).UTC(), "count": len(log), "sha256": fmt.Sprint(sums), "shared": shared})
		}
		return 200, map[string]any{"digests": list, "after": nil}
	})
	f.answer("GET digests/events", func(*http.Request) (int, any) {
		list := []any{}
		for ref, e := range log {
			list = append(list, map[string]any{"id": ref, "sha256": e.WithDigest().Ref().String()})
		}
		return 200, map[string]any{"events": list, "after": nil}
	})
	f.answer("GET events", func(r *http.Request) (int, any) {
		after, _ := events.ParseID("after", r.URL.Query().Get("after"))
		list := []any{}
		for _, ref := range slices.Sorted(maps.Keys(log)) {
			if log[ref].ID.Compare(after) > 0 {
				list = append(list, log[ref])
			}
		}
		return 200, map[string]any{"events": list, "after": nil}
	})
	f.answer("POST events", func(r *http.Request) (int, any) {
		var body struct {
			Events []events.Event
			Shared bool
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		list := []any{}
		for _, e := range body.Events {
			e = source.Canonical(e)
			outcome := "refused"
			if body.Shared {
				log[e.Ref().String()], outcome = e, "stored"
			}
			list = append(list, map[string]any{"id": e.ID.String(), "outcome": outcome})
		}
		return 201, map[string]any{"events": list}
	})
}

// An audit lists each event that a region lacks, and those that share an id. Healing appends what is
// missing.
func TestCompare(t *testing.T) {
	clock := events.NewClock(func() time.Time { return time.Unix(100, 0) }, events.NewMarks(nil))
	event := func(name string) events.Event {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.New(id, events.UserStream("ada"), "ada", "eu", events.UserProfileSet{Name: events.Plain(name)})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a, b, c := event("a"), event("b <"), event("c")
	other, err := events.New(c.ID, c.Stream, c.Actor, "eu", events.UserProfileSet{Name: events.Plain("another")})
	if err != nil {
		t.Fatal(err)
	}
	eu, us := newFake(t, "eu"), newFake(t, "us")
	logOf := func(all ...events.Event) map[string]events.Event {
		log := map[string]events.Event{}
		for _, e := range all {
			log[e.Ref().String()] = e
		}
		return log
	}
	former := b // stored under its id alone
	former.Digest = events.Digest{}
	inEU, inUS := logOf(a, former, c), logOf(a, other)
	fakeLog(eu, inEU)
	fakeLog(us, inUS)
	both := []*fakeRegion{eu, us}
	audit := []string{"audit", "-only", "regions", "-settle", "1ms"}

	s := ask(t.Context(), both, audit...)
	for _, want := range []string{
		b.ID.String() + "  missing in us", c.Ref().String() + "  missing in us", other.Ref().String() + "  missing in eu", "3 events, 3 differ, 0 healed",
	} {
		if s.code != exitDiffers || !strings.Contains(s.out, want) {
			t.Errorf("want %q: %+v", want, s)
		}
	}
	s = ask(t.Context(), both, append(audit, "-heal", "-json")...)
	var out struct{ Findings, Shared []difference }
	if err := json.Unmarshal([]byte(s.out), &out); err != nil || s.code != 0 || len(out.Findings) != 3 || len(out.Shared) != 0 {
		t.Errorf("%v %+v", err, s)
	}
	for _, d := range out.Findings {
		if !d.Healed {
			t.Errorf("not healed: %s", d)
		}
	}
	if !maps.EqualFunc(inUS, logOf(a, b, c, other), events.Same) || !maps.EqualFunc(inEU, logOf(a, former, c, other), events.Same) {
		t.Errorf("healed to %v and %v", inEU, inUS)
	}
	s = ask(t.Context(), both, audit...)
	for _, want := range []string{
		c.Ref().String() + "  user.profile_set of eu shares its id with another event\n", other.Ref().String() + "  user.profile_set of eu shares", "0 differ",
	} {
		if s.code != 0 || strings.Count(s.out, want) != 1 {
			t.Errorf("a system that agrees: want %q: %+v", want, s)
		}
	}
	s = ask(t.Context(), both, append(audit, "-json")...)
	if err := json.Unmarshal([]byte(s.out), &out); err != nil || len(out.Findings) != 0 || len(out.Shared) != 2 {
		t.Errorf("%v %+v", err, s)
	}
}

func TestRefused(t *testing.T) {
	f := newFake(t, "eu")
	f.answer("GET status", func(*http.Request) (int, any) {
		return 401, map[string]any{"code": "unauthenticated", "detail": "the token is not valid"}
	})
	if s := ask(t.Context(), []*fakeRegion{f}, "events", "01DXF6GVN1ZQQ4638000R7T54F"); s.code != exitFailed || !strings.Contains(s.err, "PARLEY_TOKEN") {
		t.Errorf("%+v", s)
	}
	if s := operate(t.Context(), "status", "-url", f.server.URL); s.code != exitFailed || !strings.Contains(s.err, "no token") {
		t.Errorf("%+v", s)
	}
	if s := ask(t.Context(), []*fakeRegion{f}, "status"); s.code != exitFailed || !strings.Contains(s.out, "refuses the request: the token is not valid") || !strings.Contains(s.err, "status refused by: ") {
		t.Errorf("%+v", s)
	}
	url := f.server.URL
	f.server.Close()
	if s := operate(t.Context(), "status", "-url", url); s.code != exitFailed || !strings.Contains(s.err, "start infra/local") {
		t.Errorf("%+v", s)
	}
}

// A region that does not answer does not keep commands from the others, and status says which one lags.
func TestSilentRegion(t *testing.T) {
	eu, us, silent := newFake(t, "eu"), newFake(t, "us"), newFake(t, "ap")
	silent.server.Close()
	all := []*fakeRegion{silent, eu, us}
	drained := ""
	for _, f := range []*fakeRegion{eu, us} {
		f.answer("PUT drain", func(*http.Request) (int, any) { drained = f.name; return 200, map[string]any{"drained": true} })
		f.answer("GET parked", func(*http.Request) (int, any) { return 200, map[string]any{"parked": []any{}, "after": nil} })
	}
	if s := ask(t.Context(), all, "drain", "us"); s.code != 0 || drained != "us" {
		t.Errorf("%+v", s)
	}
	if s := ask(t.Context(), all, "parked", "-region", "eu", "-region", "us"); s.code != 0 {
		t.Errorf("%+v", s)
	}
	if s := ask(t.Context(), all, "drain", "ap"); s.code != exitFailed || !strings.Contains(s.err, "-url ap=URL") || !strings.Contains(s.err, silent.server.URL) {
		t.Errorf("%+v", s)
	}
	named := []string{"-url", "ap=" + silent.server.URL, "-url", "eu=" + eu.server.URL, "-url", us.server.URL, "-token", "t"}
	if s := operate(t.Context(), append([]string{"drain", "eu"}, named...)...); s.code != 0 || drained != "eu" {
		t.Errorf("%+v", s)
	}
	if s := operate(t.Context(), append([]string{"drain", "asia"}, named...)...); s.code != exitUsage || !strings.Contains(s.err, "ap, eu, us") {
		t.Errorf("%+v", s)
	}
	if s := ask(t.Context(), all, "status"); s.code != exitFailed || !strings.Contains(s.out, "us ") || !strings.Contains(s.err, silent.server.URL) {
		t.Errorf("%+v", s)
	}
}

// Status fails while a region has not heard of another for minutes, or a stage is minutes behind. Regions that were
// removed do not count.
func TestStatusLags(t *testing.T) {
	for _, tt := range []struct {
		frontiers, stages map[string]float64
		want              string
	}{
		{map[string]float64{"eu": 30, "us": 149}, map[string]float64{"stream": 149}, ""},
		{map[string]float64{"eu": 30, "us": 175}, nil, "eu: last heartbeat of us 175 s ago"},
		{map[string]float64{"eu": 30, "us": 30, "removed": 1e6}, nil, ""},
		{map[string]float64{"eu": 30}, map[string]float64{"replicate to us": 160}, "eu: replicate to us 160 s behind"},
		{nil, map[string]float64{"stream": 530}, "eu: stream 530 s behind"},
	} {
		eu, us := newFake(t, "eu"), newFake(t, "us")
		eu.answer("GET status", func(*http.Request) (int, any) {
			return 200, map[string]any{"region": "eu", "time": time.Now(), "health": map[string]any{"status": "ok", "frontiers": tt.frontiers, "stages": tt.stages}}
		})
		s := ask(t.Context(), []*fakeRegion{eu, us}, "status")
		if (s.code == 0) != (tt.want == "") || !strings.Contains(s.err, tt.want) || strings.Contains(s.out, "lagging") != (tt.want != "") {
			t.Errorf("%v %v: %+v", tt.frontiers, tt.stages, s)
		}
	}
}

// What fails in one region, or with one projection, is tried in the others, and summed up.
func TestAllProjections(t *testing.T) {
	const id = "01DXF6GVN1ZQQ4638000R7T54F"
	eu, us, ap := newFake(t, "eu"), newFake(t, "us"), newFake(t, "ap")
	var done []string
	for _, f := range []*fakeRegion{eu, us, ap} {
		generations := map[string]any{"timeline": map[string]any{"live": 2, "previous": 1}, "inbox": map[string]any{"live": 1}, "room": map[string]any{"live": 3, "previous": 2}}
		if f == ap {
			generations = map[string]any{"timeline": map[string]any{"live": 1}}
		}
		f.answer("GET status", func(*http.Request) (int, any) {
			return 200, map[string]any{"region": f.name, "health": map[string]any{"status": "ok"}, "generations": generations}
		})
		f.answer("POST jobs", func(r *http.Request) (int, any) {
			var n struct{ Kind, Projection string }
			_ = json.NewDecoder(r.Body).Decode(&n)
			state, failure := "done", ""
			if n.Kind == "rebuild" && f != ap {
				state, failure = "failed", "rebuild, announce: timeline: "+projections.ErrPreviousKept.Error()
			}
			done = append(done, f.name+" "+n.Kind+" "+n.Projection)
			return 201, map[string]any{"id": id, "kind": n.Kind, "state": state, "error": failure, "params": map[string]any{"projection": n.Projection}, "started": time.Now(), "updated": time.Now()}
		})
		f.answer("POST generations/timeline/back", func(*http.Request) (int, any) {
			if done = append(done, f.name+" back timeline"); f == eu {
				return 409, map[string]any{"code": "no_previous_generation", "detail": "the projection has no generation beside the one that is read"}
			}
			return 200, map[string]any{"projection": "timeline", "live": 1, "previous": 2}
		})
		f.answer("POST generations/room/back", func(*http.Request) (int, any) {
			done = append(done, f.name+" back room")
			return 200, map[string]any{"projection": "room", "live": 2, "previous": 3}
		})
	}
	all := []*fakeRegion{eu, us, ap}
	for _, tt := range []struct {
		args      string
		code      int
		done, err string
	}{
		{"drop all", 0, "eu drop room, eu drop timeline, us drop room, us drop timeline", ""},
		{"back all", exitFailed, "eu back room, eu back timeline, us back room, us back timeline", "Failed: 1 of 4 projections"},
		{"back timeline", exitFailed, "eu back timeline, us back timeline, ap back timeline", "Failed: 1 of 3 projections"},
		{"rebuild timeline", exitFailed, "eu rebuild timeline, us rebuild timeline, ap rebuild timeline", "To drop it: operate drop timeline -region"},
		{"rebuild all", exitFailed, "eu rebuild , us rebuild , ap rebuild ", "Failed: 2 of 3 regions"},
		{"drop timeline -region eu", 0, "eu drop timeline", ""},
	} {
		done = nil
		s := ask(t.Context(), all, strings.Fields(tt.args)...)
		if s.code != tt.code || strings.Join(done, ", ") != tt.done || !strings.Contains(s.err, tt.err) {
			t.Errorf("%s: %d, %q, %s", tt.args, s.code, done, s.err)
		}
	}
}

// An export that is interrupted leaves a file that cannot be mistaken for a whole one, and can be repeated.
func TestExportInterrupted(t *testing.T) {
	f := newFake(t, "eu")
	ctx, cancel := context.WithCancel(t.Context())
	f.answer("GET log", func(*http.Request) (int, any) { cancel(); return 503, map[string]any{"code": "unavailable"} })
	out := filepath.Join(t.TempDir(), "all.jsonl")
	s := ask(ctx, []*fakeRegion{f}, "export", "all", "-out", out)
	if s.code != exitFailed || !strings.Contains(s.err, "the export was interrupted after 0 lines; "+out+".part is incomplete") {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it looks whole")
	}
	f.answer("GET log", func(*http.Request) (int, any) { return 200, map[string]any{"events": []any{}, "after": nil} })
	if s := ask(t.Context(), []*fakeRegion{f}, "export", "all", "-out", out); s.code != 0 || !strings.Contains(s.out, "0 lines in "+out) {
		t.Errorf("repeated: %+v", s)
	}
	if _, err := os.Stat(out + ".part"); err == nil {
		t.Error("the part is left")
	}
	if s := ask(t.Context(), []*fakeRegion{f}, "export", "all", "-out", out); s.code != exitFailed || !strings.Contains(s.err, "exists") {
		t.Errorf("over a file that is there: %+v", s)
	}
}
