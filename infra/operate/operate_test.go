package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
	"parley/functions/wire"
)

// statusOf returns the status of a region.
func (p *place) statusOf(region string) wire.Status {
	p.t.Helper()
	var out struct{ Regions []wire.Status }
	if err := json.Unmarshal([]byte(p.must("status", "-json", "-region", region)), &out); err != nil || len(out.Regions) != 1 {
		p.t.Fatal(err)
	}
	return out.Regions[0]
}

// room makes a room with a message in it.
func (p *place) room() string {
	p.t.Helper()
	var room struct{ ID string }
	if status := p.api("ada", "POST", "/v1/rooms", map[string]string{"name": "Engines"}, &room); status != http.StatusOK {
		p.t.Fatalf("create a room: %d", status)
	}
	p.post(room.ID, "first")
	return room.ID
}

func (p *place) post(room, text string) {
	p.t.Helper()
	if status := p.api("ada", "POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": text}, nil); status != http.StatusOK {
		p.t.Fatalf("post: %d", status)
	}
}

// Every command, against a running infra/local.
func TestOperate(t *testing.T) {
	t.Parallel()
	p := startLocal(t)
	room := p.room()

	t.Run("status", func(t *testing.T) {
		out := p.must("status")
		for _, want := range append(testRegions, "ok", "version        ", "lag", "heartbeats", "parked         0", "jobs           none", "timeline 1") {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		if s := p.operate("status", "-region", "us-west-9"); s.code != exitUsage || !strings.Contains(s.err, testRegions[1]) {
			t.Errorf("an unknown region: %+v", s)
		}
	})
	t.Run("a failing region", func(t *testing.T) {
		p.setRegion(testRegions[1], "failing")
		if s := p.operate("status"); s.code != exitFailed || !strings.Contains(s.err, "failing or not reachable: "+testRegions[1]) || !strings.Contains(s.out, "answers with an error") || !strings.Contains(s.out, testRegions[0]+" ") {
			t.Errorf("%+v", s)
		}
		p.setRegion(testRegions[1], "up")
	})
	t.Run("drain", func(t *testing.T) {
		p.must("drain", testRegions[0], "-as", "grace")
		if got := p.statusOf(testRegions[0]); !got.Drain.Drained || got.Drain.By != "grace" {
			t.Errorf("%+v", got.Drain)
		}
		s := &session{ctx: t.Context(), client: http.DefaultClient}
		url := p.regionURL(testRegions[0])
		eventually(t, "health answers 503", func() bool { return s.do(s.ctx, request{method: "GET", url: url + "/health", attempts: 1}) != nil })
		p.must("undrain", testRegions[0])
		p.await(url + "/health")
		if acts := p.must("events", "ops/"+testRegions[0]); !strings.Contains(acts, `"what":"drain"`) || !strings.Contains(acts, "grace") {
			t.Errorf("what operators did: %s", acts)
		}
	})
	t.Run("parked", func(t *testing.T) {
		if out := p.must("parked", "list"); out != "No events are parked.\n" {
			t.Error(out)
		}
		if s := p.operate("parked", "show", "x"); s.code != exitFailed {
			t.Errorf("%+v", s)
		}
	})
	t.Run("rooms and users", func(t *testing.T) {
		if out := p.must("rooms", "ENGI"); !strings.Contains(out, room+"  Engines (public; members 1, messages 1)") {
			t.Error(out)
		}
		if out := p.must("rooms", "-json"); !strings.Contains(out, `"id":"`+room+`"`) {
			t.Error(out)
		}
		if out := p.must("rooms", "nowhere"); out != "No room is found.\n" {
			t.Error(out)
		}
		if out := p.must("users", "Ad"); !strings.Contains(out, "ada ") || strings.Contains(out, "bob") {
			t.Error(out)
		}
	})
	t.Run("events", func(t *testing.T) {
		out := p.must("events", room, "-json")
		if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(lines[1], `"message.posted"`) {
			t.Error(out)
		}
		if out := p.must("events", room, "-as-of", room); strings.Contains(out, "message.posted") {
			t.Errorf("as of its creation: %s", out)
		}
	})
	t.Run("tail", func(t *testing.T) {
		p.tail(room, "-room", room, "-past", "1")
		p.tail(room, "-type", "message.*")
	})
	t.Run("replay", func(t *testing.T) {
		if out := p.must("replay", "-to", "billing", "-room", room, "-dry-run"); !strings.Contains(out, "dollars") {
			t.Error(out)
		}
		out := p.must("replay", "-to", "billing", "-room", room, "-json")
		var done struct{ Job wire.Job }
		if err := json.Unmarshal([]byte(out), &done); err != nil || done.Job.State != "done" || done.Job.Done < 2 {
			t.Errorf("%v: %s", err, out)
		}
		if list := p.must("jobs"); !strings.Contains(list, done.Job.ID) || !strings.Contains(p.must("jobs", "show", done.Job.ID), "operator") {
			t.Errorf("jobs: %s", list)
		}
	})
	t.Run("rebuild", func(t *testing.T) {
		out := p.must("rebuild", "timeline", "-region", testRegions[0])
		if !strings.Contains(out, "done") || p.statusOf(testRegions[0]).Generations["timeline"].Live != 2 {
			t.Error(out)
		}
		if out := p.must("back", "timeline", "-region", testRegions[0]); !strings.Contains(out, "timeline 1") {
			t.Error(out)
		}
		p.must("drop", "timeline", "-region", testRegions[0])
		if s := p.operate("rebuild", "timelin", "-region", testRegions[0]); s.code != exitFailed || !strings.Contains(s.err, "timeline") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("slack", func(t *testing.T) { importSlack(t, p) })
	t.Run("audit", func(t *testing.T) { auditIsolated(t, p, room) })
	t.Run("owner", func(t *testing.T) {
		p.must("owner", room, "heir")
		if out := p.must("events", room); !strings.Contains(out, `"heir","role":"owner"`) {
			t.Errorf("the room has %s", out)
		}
		if s := p.operate("owner", "user/ada", "heir"); s.code != exitUsage {
			t.Errorf("no room: %+v", s)
		}
	})
}

// importSlack imports a Slack export twice and reads a room that it makes.
func importSlack(t *testing.T, p *place) {
	const export = "source/testdata/slack"
	report := filepath.Join(t.TempDir(), "report")
	first := p.imports(export, "-report", report)
	again := p.imports(export)
	if first.Messages.Stored != 15 || first.Refused != 0 || first.NotTaken != 1 || first.Rooms.Stored != 4 {
		t.Errorf("imported %+v", first)
	}
	if text, err := os.ReadFile(report); err != nil || strings.Count(string(text), "\n") != first.NotTaken+first.InPart {
		t.Errorf("%v: the report is\n%s", err, text)
	}
	if again.Messages != (tally{0, 15}) || again.Rooms.Stored+again.Members.Stored+again.Edits.Stored+again.Reactions.Stored+again.Other.Stored != 0 ||
		again.Members.Repeats != first.Members.Stored || again.Other.Repeats != first.Other.Stored {
		t.Errorf("imported again %+v", again)
	}
	var inbox struct {
		Rooms []struct{ ID, Name string } `json:"rooms"`
	}
	ids := map[string]string{} // of ada's rooms, by name
	eventually(t, "all rooms show in the views", func() bool {
		p.api("ada", "GET", "/v1/rooms?limit=200", nil, &inbox)
		for _, r := range inbox.Rooms {
			ids[r.Name] = r.ID
		}
		return ids["general"] != "" && ids["quiet"] != ""
	})
	general := ids["general"]
	var page struct {
		Messages []struct {
			Author    string
			Thread    string
			EditedAt  string `json:"edited_at"`
			Reactions map[string][]string
		}
	}
	eventually(t, "the room shows in the views", func() bool {
		p.api("ada", "GET", "/v1/rooms/"+general+"/messages?limit=200", nil, &page)
		return len(page.Messages) == 13
	})
	got := page.Messages[0]
	if got.Author != "ada" || !strings.HasPrefix(got.EditedAt, "2020-01-01T00:01:15") || len(got.Reactions[":thumbsup:"]) != 2 || page.Messages[1].Thread == "" {
		t.Errorf("%+v", page.Messages[:2])
	}
	if status := p.api("eve", "GET", "/v1/rooms/"+ids["quiet"]+"/messages", nil, nil); status != http.StatusNotFound {
		t.Errorf("a stranger reads a private channel: %d", status)
	}
}

// What a release before keyed marks has imported is not imported again under other ids.
func TestImportedBefore(t *testing.T) {
	p := startLocal(t)
	golden, err := os.ReadFile("source/testdata/slack.golden")
	if err != nil {
		t.Fatal(err)
	}
	var before strings.Builder
	for line := range strings.Lines(string(golden)) {
		if _, event, found := strings.Cut(line, "Z {"); found {
			before.WriteString("{" + event)
		}
	}
	file := filepath.Join(t.TempDir(), "before.jsonl")
	if err := os.WriteFile(file, []byte(before.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("import", "-events", file)
	again := p.imports("source/testdata/slack")
	// New are three records that the former release left out, one of a new author, and the ids of two profiles.
	if again.Messages != (tally{3, 12}) || again.Rooms != (tally{0, 4}) || again.Members.Stored != 2 || again.Other.Stored != 2 || again.Edits.Stored+again.Reactions.Stored != 0 {
		t.Errorf("imported again %+v", again)
	}
}

// auditIsolated isolates a region: the audit lists what it lacks, heals it, and then finds nothing.
func auditIsolated(t *testing.T, p *place, room string) {
	p.setRegion(testRegions[1], "isolated")
	p.post(room, "only in one region")
	var s said
	eventually(t, "the audit finds what one region lacks", func() bool { // events younger than -settle do not count
		s = p.operate("audit", "-only", "regions", "-settle", "10ms")
		return s.code == exitDiffers && strings.Contains(s.out, "missing in "+testRegions[1]) && strings.Contains(s.out, "room/"+room)
	})
	p.operate("audit", "-only", "regions", "-settle", "10ms", "-heal")
	if s = p.operate("audit", "-only", "regions", "-settle", "10ms"); strings.Contains(s.out, "room/"+room) {
		t.Errorf("after healing: %+v", s)
	}
	if events := p.must("events", room, "-region", testRegions[1]); !strings.Contains(events, "only in one region") {
		t.Errorf("the isolated region has\n%s", events)
	}
	p.setRegion(testRegions[1], "up")
	eventually(t, "all regions have the same log", func() bool {
		s = p.operate("audit", "-only", "regions", "-settle", "1ms")
		return s.code == 0
	})
	if s = p.operate("audit"); s.code != 0 || !strings.Contains(s.out, " 0 differ") {
		t.Errorf("after everything was replicated: %+v", s)
	}
}

func (p *place) setRegion(region, state string) {
	p.t.Helper()
	if status := p.api("ada", "PUT", "/local/regions/"+region, map[string]string{"state": state}, nil); status != http.StatusOK {
		p.t.Fatalf("%s %s: %d", state, region, status)
	}
}

func (p *place) regionURL(region string) string {
	p.t.Helper()
	var r struct{ URL string }
	p.api("ada", "GET", "/local/regions/"+region, nil, &r)
	return r.URL
}

// tail runs tail until it shows a message that is posted meanwhile.
func (p *place) tail(room string, flags ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	defer cancel()
	out := &seen{want: "while the tail runs", found: cancel}
	code := make(chan int, 1)
	go func() { code <- run(ctx, append([]string{"tail", "-url", p.url}, flags...), out, out) }()
	for ctx.Err() == nil {
		p.post(room, "while the tail runs")
		_ = events.Sleep(ctx, 100*time.Millisecond)
	}
	if got := <-code; got != 0 || !out.seen() {
		p.t.Errorf("tail %v ended with %d and\n%s", flags, got, out.text.String())
	}
}

// seen is a writer that calls found when a text has been written.
type seen struct {
	mu    sync.Mutex
	text  bytes.Buffer
	want  string
	found func()
}

func (s *seen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.text.Write(p)
	if strings.Contains(s.text.String(), s.want) {
		s.found()
	}
	return n, err
}

func (s *seen) seen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), s.want)
}

// A wrong command line is answered with what is wrong and what would be right.
func TestUsage(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"stauts", `did you mean "status"`},
		{"jobs wach x", `"watch"`},
		{"status -jsno", `-json`},
		{"rebuild", "<projection>\": timeline, member"},
		{"help rebuidl", `did you mean "rebuild"?`},
		{"audit -only view", `"views"`},
		{"audit -settle soon", "-settle"},
		{"replay", "-to=PREFIX"},
		{"replay -to x -rate 0", "-rate"},
		{"replay -to x -rate 10001", "-rate"},
		{"replay -to x -region eu -region us", "-region"},
		{"import x -shift tomorrow", "20000d"},
		{"import x -owner a/b", "-owner"},
		{"import x -lanes 0", "-lanes"},
		{"status -url 127.0.0.1", "-url must be a URL"},
		{"status -as a/b", "-as"},
		{"jobs show x", "ULID"},
		{"events x", "neither the id of a room"},
		{"export user/ada -messages", "only rooms"},
		{"tail -type message.psted", "message.posted"},
		{"tail -past 3", "-room"},
		{"parked retry", "-all"},
		{"drain", "<region>"},
		{"erase", "<user>"},
		{"erase ada", "-yes"},
		{"erase ada -yes -dry-run", "-dry-run"},
		{"erase a/b -yes", "user's id"},
	} {
		s := operate(t.Context(), strings.Fields(tt.line)...)
		if s.code != exitUsage || !strings.Contains(s.err, tt.want) || !strings.Contains(s.err, "-help") || s.out != "" {
			t.Errorf("%s: %d %q, want %q", tt.line, s.code, s.err, tt.want)
		}
	}
}

// Every command has a help text that writes flags with one dash. Asking for it runs nothing.
func TestHelp(t *testing.T) {
	for _, line := range []string{"", "help", "help status", "help jobs watch", "-help", "-h", "--help", "status -help", "rebuild -help", "audit -h", "jobs -help", "jobs watch -help", "parked retry -help", "import -help", "export -help", "erase -help", "tail -help"} {
		s := operate(t.Context(), strings.Fields(line)...)
		if s.code != 0 || !strings.HasPrefix(s.out, "Usage: operate") || strings.Contains(s.out, "--") || s.err != "" {
			t.Errorf("%q: %d %q %q", line, s.code, s.out, s.err)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, line := range []string{"version", "-version", "--version"} {
		if s := operate(t.Context(), line); s.code != 0 || s.out != wire.Version()+"\n" || s.err != "" {
			t.Errorf("%s: %+v", line, s)
		}
	}
}

func TestShift(t *testing.T) {
	for text, want := range map[string]time.Duration{"36h": 36 * time.Hour, "-12h": -12 * time.Hour, "20000d": 480_000 * time.Hour, "1.5d": 36 * time.Hour} {
		var s shift
		if err := s.UnmarshalText([]byte(text)); err != nil || time.Duration(s) != want {
			t.Errorf("%s is %s, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "d", "7", "400000d", "1y"} {
		if err := new(shift).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func TestThousands(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.Int64Range(-1<<62, 1<<62).Draw(rt, "n")
		text := thousands(n)
		if strings.ReplaceAll(strings.TrimPrefix(text, "-"), ",", "") != strings.TrimPrefix(strings.ReplaceAll(text, ",", ""), "-") {
			rt.Fatal(text)
		}
		for i, part := range strings.Split(strings.TrimPrefix(text, "-"), ",") {
			if i > 0 && len(part) != 3 || len(part) == 0 || len(part) > 3 {
				rt.Fatalf("%d is %s", n, text)
			}
		}
	})
}
