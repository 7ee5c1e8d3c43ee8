package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/infra/operate/source"
)

// fakeRegion is a server that answers as a test wants.
type fakeRegion struct {
	name    string
	answers map[string]func(r *http.Request) (int, any) // by method and path under /v1/ops
	server  *httptest.Server
}

func newFake(t *testing.T, name string) *fakeRegion {
	f := &fakeRegion{name: name, answers: map[string]func(*http.Request) (int, any){}}
	f.answer("GET status", func(*http.Request) (int, any) {
		return 200, map[string]any{"region": name, "time": time.Now(), "health": map[string]any{"status": "ok"}}
	})
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := f.answers[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1/ops/")]
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

func (f *fakeRegion) answer(what string, do func(*http.Request) (int, any)) { f.answers[what] = do }

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
