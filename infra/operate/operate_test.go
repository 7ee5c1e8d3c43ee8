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
)

// statusOf is the status of a region.
func (p *place) statusOf(region string) status {
	p.t.Helper()
	var out struct{ Regions []status }
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

// What an operator does on a system that runs, command by command.
func TestOperate(t *testing.T) {
	p := startLocal(t)
	room := p.room()

	t.Run("status", func(t *testing.T) {
		out := p.must("status")
		for _, want := range append(testRegions, "ok", "behind", "last beat of", "parked         0", "jobs           none", "timeline 1") {
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
		if s := p.operate("status"); s.code != exitFailed || !strings.Contains(s.err, "not well: "+testRegions[1]) || !strings.Contains(s.out, testRegions[0]+" ") {
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
		eventually(t, "health answers 503", func() bool { return s.do(request{method: "GET", url: url + "/health", tries: 1}) != nil })
		p.must("undrain", testRegions[0])
		p.await(url + "/health")
		if acts := p.must("events", "ops/"+testRegions[0]); !strings.Contains(acts, `"what":"drain"`) || !strings.Contains(acts, "grace") {
			t.Errorf("what operators did: %s", acts)
		}
	})
	t.Run("parked", func(t *testing.T) {
		if out := p.must("parked", "list"); out != "Nothing is parked.\n" {
			t.Error(out)
		}
		if s := p.operate("parked", "show", "x"); s.code != exitFailed {
			t.Errorf("%+v", s)
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
		var done struct{ Job job }
		if err := json.Unmarshal([]byte(out), &done); err != nil || done.Job.State != "done" || done.Job.Done < 2 {
			t.Errorf("%v: %s", err, out)
		}
		if list := p.must("jobs"); !strings.Contains(list, done.Job.ID) || !strings.Contains(p.must("jobs", "show", done.Job.ID), "operator") {
			t.Errorf("jobs: %s", list)
		}
	})
	t.Run("rebuild", func(t *testing.T) {
		out := p.must("rebuild", "timeline", "-region", testRegions[0])
		if !strings.Contains(out, "done") || p.statusOf(testRegions[0]).Generations["timeline"] == nil {
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
}

// importSlack brings in an export of Slack's, twice, and reads the room it makes.
func importSlack(t *testing.T, p *place) {
	const export = "source/testdata/slack"
	report := filepath.Join(t.TempDir(), "report")
	first := importedOf(t, p.must("import", export, "-json", "-report", report))
	again := importedOf(t, p.must("import", export, "-json"))
	if first.Messages.Stored != 12 || first.Refused != 0 || first.NotTaken != 4 || first.Rooms.Stored != 4 {
		t.Errorf("imported %+v", first)
	}
	if text, err := os.ReadFile(report); err != nil || strings.Count(string(text), "\n") != first.NotTaken+first.InPart {
		t.Errorf("%v: the report is\n%s", err, text)
	}
	if again.Messages != (tally{0, 12}) || again.Rooms.Stored+again.Members.Stored+again.Edits.Stored+again.Reactions.Stored+again.Other.Stored != 0 {
		t.Errorf("imported again %+v", again)
	}
	const general = "01DXF6DT00ZQQ4638002A38DG8" // it follows from the fixture
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
		return len(page.Messages) == 10
	})
	got := page.Messages[0]
	if got.Author != "ada" || !strings.HasPrefix(got.EditedAt, "2020-01-01T00:01:15") || len(got.Reactions[":thumbsup:"]) != 2 || page.Messages[1].Thread == "" {
		t.Errorf("%+v", page.Messages[:2])
	}
	if status := p.api("eve", "GET", "/v1/rooms/01DXF6JCFGZQQ46380019SYQWY/messages", nil, nil); status != http.StatusNotFound {
		t.Errorf("a stranger reads a private channel: %d", status)
	}
}

// auditIsolated cuts a region off: the audit names what it lacks, heals it, and then finds nothing.
func auditIsolated(t *testing.T, p *place, room string) {
	p.setRegion(testRegions[1], "isolated")
	p.post(room, "not heard of elsewhere")
	var s said
	eventually(t, "the audit finds what one region lacks", func() bool { // what is younger than settle does not count yet
		s = p.operate("audit", "-only", "regions", "-settle", "10ms")
		return s.code == exitDiffers && strings.Contains(s.out, "missing in "+testRegions[1]) && strings.Contains(s.out, "room/"+room)
	})
	p.operate("audit", "-only", "regions", "-settle", "10ms", "-heal")
	if s = p.operate("audit", "-only", "regions", "-settle", "10ms"); strings.Contains(s.out, "room/"+room) {
		t.Errorf("after healing: %+v", s)
	}
	if events := p.must("events", room, "-region", testRegions[1]); !strings.Contains(events, "not heard of elsewhere") {
		t.Errorf("the region that was cut off has\n%s", events)
	}
	p.setRegion(testRegions[1], "up")
	eventually(t, "all regions have the same log", func() bool {
		s = p.operate("audit", "-only", "regions", "-settle", "1ms")
		return s.code == 0
	})
	if s = p.operate("audit"); s.code != 0 || !strings.Contains(s.out, " 0 differ") {
		t.Errorf("a sound system: %+v", s)
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

// tail follows until a message comes that is posted meanwhile.
func (p *place) tail(room string, flags ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	defer cancel()
	out := &seen{want: "while the tail runs", found: cancel}
	code := make(chan int, 1)
	go func() { code <- run(ctx, append([]string{"tail", "-url", p.url}, flags...), out, out) }()
	for ctx.Err() == nil {
		p.post(room, "while the tail runs")
		_ = sleep(ctx, 100*time.Millisecond)
	}
	if got := <-code; got != 0 || !out.seen() {
		p.t.Errorf("tail %v ended with %d and\n%s", flags, got, out.text.String())
	}
}

// seen is a writer that tells when a text has been written.
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
