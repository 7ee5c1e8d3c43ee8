package source

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
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

func TestLines(t *testing.T) {
	const text = "\ufeff" + `{"room":"moon","author":"cdr","at":"1970-04-11T19:12:50Z","text":"10, 9, 8"}
{"room":"moon","author":"cdr","at":"1970-04-11T19:12:50Z","text":"10, 9, 8"}

{"room":"moon","author":"Jim Lovell","at":"1970-04-11T19:12:51Z","text":"the clock is running","id":"m3"}
{"room":"moon","author":"cdr","at":"1970-04-11T19:12:52Z","text":"roger","thread":"m3"}
{"room":"moon","author":"lmp","at":"1970-04-11T19:12:53Z","text":"so is ours","thread":"1970-04-11T21:12:50+02:00"}
{"room":"moon","author":"cdr","at":"1970-04-11T19:12:54Z","text":"to none","thread":"m9"}
{"room":"moon","author":"cdr","at":"1969-12-31T23:59:59Z","text":"too early"}
{"room":"moon","author":"cdr","at":"2038-01-01T00:00:00Z","text":"too late"}
{"room":"moon","author":"cdr","at":"11 April","text":"when"}
{"room":"moon","author":"","at":"1970-04-11T19:12:54Z","text":"who"}
{"room":"\u200b","author":"cdr","at":"1970-04-11T19:12:54Z","text":"where"}
{"room":"moon","author":"cdr","at":"1970-04-11T19:12:54Z"}
{"room":"moon","author":7,"at":"1970-04-11T19:12:54Z","text":"a number"}
[]
{"room":"moon"
` + "{\"room\":\"moon\",\"author\":\"cdr\",\"at\":\"1970-04-11T19:12:54Z\",\"text\":\"\xff\"}\n" +
		`{"room":"moon","author":"cdr","at":"1970-04-11T19:12:55Z","text":"` + "LONG" + `"}
{"room":"moon","author":"cdr","at":"1970-01-01T00:00:00Z","text":"the first moment"}`
	src := lines(strings.Replace(text, "LONG", strings.Repeat("x", events.MaxTextBytes+1), 1) + "\n" + strings.Repeat(" ", MaxLine) + "{}\n")
	m := makeAll(t, src, testOptions())
	if got := len(m.of("message.posted")); got != 7 || m.survey.Messages != 7 {
		t.Errorf("%d messages, the survey has %d", got, m.survey.Messages)
	}
	want := []string{
		"test.jsonl:8: the time lies before 1970, which no id can hold: -shift moves all times",
		"test.jsonl:9: the time lies in the future",
		"test.jsonl:10: at must be a time like 2026-01-31T12:00:00Z",
		"test.jsonl:11: author is missing",
		"test.jsonl:12: room must be a name with at least one visible character",
		"test.jsonl:13: text is missing",
		"test.jsonl:14: author must be a string",
		"test.jsonl:15: it must be a JSON object",
		"test.jsonl:16: not JSON at byte 14",
		"test.jsonl:17: the line is not valid UTF-8",
		"test.jsonl:18: text must have 1 to 20000 bytes of valid UTF-8",
		"test.jsonl:20: the line has more than 262144 bytes",
	}
	if diff := cmp.Diff(want, m.problems); diff != "" {
		t.Error(diff)
	}
	if len(m.notes) != 1 || !strings.HasPrefix(m.notes[0], "test.jsonl:7: the first message of its thread") {
		t.Errorf("notes %q", m.notes)
	}
	if mapped := m.survey.Mapped; len(mapped) != 1 || events.ValidateUser("user", mapped["Jim Lovell"]) != nil {
		t.Errorf("mapped %q", mapped)
	}
	posted := m.of("message.posted")
	if root := posted[3].Payload.(events.MessagePosted).Thread; root == nil || *root != posted[2].ID {
		t.Errorf("the reply stands in thread %v, not %v", root, posted[2].ID)
	}
	if root := posted[4].Payload.(events.MessagePosted).Thread; root == nil || *root != posted[0].ID {
		t.Errorf("the reply stands in thread %v, not that of the first of its time, %v", root, posted[0].ID)
	}
	if joined := m.of("member.joined"); len(joined) != 2 {
		t.Errorf("%d joined, the owner needs not and two must", len(joined))
	}
	if room := m.of("room.created"); len(room) != 1 || room[0].Actor != "cdr" || room[0].ID.Time() != 0 {
		t.Errorf("rooms %v", room)
	}
}

func TestShiftAndOwner(t *testing.T) {
	src := lines(`{"room":"r","author":"ada","at":"1969-07-20T20:17:40Z","text":"landed"}`)
	o := testOptions()
	o.Shift, o.Owner, o.Private = 365*24*time.Hour, "keeper", true
	m := makeAll(t, src, o)
	posted, room := m.of("message.posted"), m.of("room.created")
	if len(posted) != 1 || !posted[0].ID.Timestamp().Equal(time.Date(1970, 7, 20, 20, 17, 40, 0, time.UTC)) {
		t.Fatalf("%v", posted)
	}
	if len(room) != 1 || room[0].Actor != "keeper" || !room[0].Payload.(events.RoomCreated).Private || len(m.of("member.joined")) != 1 {
		t.Errorf("%v", room)
	}
}

// Events of Parley's own come out as they went in.
func TestEventLines(t *testing.T) {
	first := makeAll(t, lines(`{"room":"r","author":"ada","at":"2020-07-20T20:17:40Z","text":"a < b"}`), testOptions())
	var b strings.Builder
	for _, e := range first.events {
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(text, '\n'))
	}
	again := makeAll(t, lines(b.String()), testOptions())
	if diff := cmp.Diff(first.events, again.events); diff != "" {
		t.Error(diff)
	}
	o := testOptions()
	o.Shift = time.Hour
	if shifted := makeAll(t, lines(b.String()), o); len(shifted.problems) != len(first.events) {
		t.Errorf("shifted: %q", shifted.problems)
	}
	if other := makeAll(t, lines(strings.ReplaceAll(b.String(), `"actor":"ada"`, `"actor":"eve"`)), testOptions()); len(other.problems) != len(first.events) {
		t.Errorf("under another's ids: %q", other.problems)
	}
}

func TestApollo(t *testing.T) {
	const file = "../../../../shared/data/apollo13.jsonl"
	if _, err := os.Stat(file); err != nil {
		t.Skip("the conversation is not here")
	}
	src, closer, err := Open(file, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer.Close() }()
	m := makeAll(t, src, testOptions())
	if got := len(m.of("message.posted")); got != 11_291 || m.survey.Rooms() != 7 || len(m.problems)+len(m.notes) > 0 {
		t.Errorf("%d messages in %d rooms; %q %q", got, m.survey.Rooms(), m.problems, m.notes)
	}
}

// What Slack hands out, zipped with a folder around it, is the same source as the folder; a folder
// of JSON lines is one conversation.
func TestOpen(t *testing.T) {
	want := makeAll(t, Slack{Files: os.DirFS("testdata/slack")}, testOptions())
	dir := t.TempDir()
	zipped := filepath.Join(dir, "export.zip")
	f, err := os.Create(zipped)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	err = fs.WalkDir(os.DirFS("testdata/slack"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join("testdata/slack", name))
		if err != nil {
			return err
		}
		w, err := z.Create("My Slack export/" + name)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err = errors.Join(err, z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"testdata/slack", zipped} {
		src, closer, err := Open(name, false)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.events, makeAll(t, src, testOptions()).events); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}

	src, closer, err := Open("testdata/slack", true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer.Close() }()
	for _, e := range makeAll(t, src, testOptions()).of("message.posted") {
		if e.Actor == "ada" {
			t.Error("authors are named by names, not by ids")
		}
	}

	lines := filepath.Join(dir, "lines")
	if err := os.Mkdir(lines, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"1.jsonl", "2.ndjson", "notes.txt"} {
		text := fmt.Sprintf(`{"room":"r","author":"ada","at":"2020-01-0%dT00:00:00Z","text":"x"}`, i+1)
		if err := os.WriteFile(filepath.Join(lines, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder, closer, err := Open(lines, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer.Close() }()
	if m := makeAll(t, folder, testOptions()); len(m.of("message.posted")) != 2 || m.survey.Rooms() != 1 {
		t.Errorf("%d messages in %d rooms", len(m.of("message.posted")), m.survey.Rooms())
	}
	for _, name := range []string{filepath.Join(dir, "none"), t.TempDir()} {
		if _, _, err := Open(name, false); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
}
