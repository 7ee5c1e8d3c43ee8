package source

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testOptions() Options { return Options{Region: "eu-west-1", Now: testNow} }

// made is all that becomes of a source.
type made struct {
	survey   *Survey
	events   []events.Event
	problems []string
	notes    []string
}

func (m made) of(types ...string) (found []events.Event) {
	for _, e := range m.events {
		for _, t := range types {
			if e.Type == t {
				found = append(found, e)
			}
		}
	}
	return found
}

// makeAll reads a source, and holds what becomes of it against what is promised of every source.
func makeAll(t testing.TB, src Source, o Options) made {
	t.Helper()
	s, err := Look(src, o)
	if err != nil {
		t.Fatal(err)
	}
	m := made{survey: s}
	ids := map[string]bool{}
	for item, err := range Events(src, s) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case item.Problem != "":
			m.problems = append(m.problems, item.Place.String()+": "+item.Problem)
			continue
		case item.Note != "":
			m.notes = append(m.notes, item.Place.String()+": "+item.Note)
			continue
		}
		e := item.Event
		if !events.Owns(e.Actor, e.ID) {
			t.Fatalf("%s: the id of %s does not carry the mark of its actor", item.Place, e.Type)
		}
		if _, bad := e.Payload.(events.Unreadable); bad {
			t.Fatalf("%s: %s cannot be read", item.Place, e.Type)
		}
		if key := string(e.Stream) + e.ID.String(); ids[key] {
			t.Fatalf("%s: the id of a %s is there twice", item.Place, e.Type)
		} else {
			ids[key] = true
		}
		m.events = append(m.events, e)
	}
	if len(m.events) != s.Events {
		t.Fatalf("%d events, the survey counted %d", len(m.events), s.Events)
	}
	return m
}

func lines(text string) Lines { return linesOf("test.jsonl", []byte(text)) }

func TestSlackGolden(t *testing.T) {
	m := makeAll(t, Slack{Files: os.DirFS("testdata/slack")}, testOptions())
	var b strings.Builder
	for _, e := range m.events {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", e.ID.Timestamp().UTC().Format("2006-01-02T15:04:05.000Z"), text)
	}
	fmt.Fprintf(&b, "\ncould not be taken:\n%s\n\nin part:\n%s\n", strings.Join(m.problems, "\n"), strings.Join(m.notes, "\n"))
	golden := filepath.Join("testdata", "slack.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
}
