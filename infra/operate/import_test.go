package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// said in one line of a conversation.
type spoken struct {
	Room   string    `json:"room"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

const apollo = "../../../shared/data/apollo13.jsonl"

// conversation is Apollo 13's, or one made up where that is not at hand.
func conversation(t *testing.T) (file string, lines []spoken) {
	t.Helper()
	file = apollo
	if _, err := os.Stat(apollo); err != nil {
		file = filepath.Join(t.TempDir(), "made-up.jsonl")
		var b strings.Builder
		r, at := rand.New(rand.NewPCG(13, 1970)), time.Unix(8_700_000, 0).UTC()
		for i := range 3000 {
			at = at.Add(time.Duration(r.IntN(20)) * time.Second)
			line, err := json.Marshal(spoken{fmt.Sprint("room ", r.IntN(5)), fmt.Sprint("author-", r.IntN(20)), at, fmt.Sprint("line <", i, ">")})
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for in := bufio.NewScanner(f); in.Scan(); {
		var l spoken
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return file, lines
}

func importedOf(t *testing.T, text string) (i imported) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return i
}

// A conversation of 1970 is imported once however often it is, is paged and travelled in as it was
// held, and is the same again in an empty system that gets its export.
func TestImport(t *testing.T) {
	p := startLocal(t)
	file, lines := conversation(t)
	dry := importedOf(t, p.must("import", file, "-dry-run", "-json"))
	first := importedOf(t, p.must("import", file, "-json"))
	if first.Messages != (tally{len(lines), 0}) || first.NotTaken+first.InPart+first.Refused != 0 {
		t.Fatalf("imported %+v of %d lines", first, len(lines))
	}
	if dry.Messages != first.Messages || dry.Members != first.Members || dry.Rooms != first.Rooms || !dry.DryRun || dry.Dollars <= 0 {
		t.Errorf("the dry run said %+v, it came to %+v", dry, first)
	}
	again := importedOf(t, p.must("import", file, "-json"))
	if again.Messages != (tally{0, len(lines)}) || again.Rooms != (tally{0, first.Rooms.Stored}) || again.Members != (tally{0, first.Members.Stored}) {
		t.Errorf("imported again %+v", again)
	}

	out := filepath.Join(t.TempDir(), "all.jsonl")
	p.must("export", "all", "-out", out)
	t.Run("pages", func(t *testing.T) { checkPages(t, p, lines) })
	t.Run("messages", func(t *testing.T) { checkMessages(t, p, lines) })

	other := startLocal(t)
	stopped, cancel := context.WithTimeout(t.Context(), time.Second) // in the middle of it
	defer cancel()
	if s := other.operateIn(stopped, "import", out); s.code != 0 && (s.code != exitFailed || !strings.Contains(s.err, "stopped")) {
		t.Errorf("stopped: %+v", s)
	}
	second := importedOf(t, other.must("import", out, "-json"))
	if second.Messages.Stored+second.Messages.Repeats != len(lines) || second.Rooms.Stored+second.Rooms.Repeats != first.Rooms.Stored || second.Refused != 0 {
		t.Errorf("the export was imported as %+v", second)
	}
	out2 := filepath.Join(t.TempDir(), "all.jsonl")
	other.must("export", "all", "-out", out2)
	if a, b := sortedLines(t, out), sortedLines(t, out2); !slices.Equal(a, b) {
		t.Errorf("%d events were exported, %d after an import of that, and not the same", len(a), len(b))
	}
	if s := p.operate("export", "all", "-out", out); s.code != exitFailed {
		t.Errorf("it overwrote a file: %+v", s)
	}
}

// sortedLines are the lines of a file, but for the region that accepted each event.
func sortedLines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(lines)
	return lines
}

// checkPages holds every page of every room against what was said, and one as it was half way.
func checkPages(t *testing.T, p *place, lines []spoken) {
	rooms := map[string][]spoken{}
	for _, l := range lines {
		rooms[l.Room] = append(rooms[l.Room], l)
	}
	for name, want := range rooms {
		var inbox struct {
			Rooms []struct{ ID, Name string } `json:"rooms"`
		}
		reader := want[0].Author
		id := ""
		eventually(t, name+" is among the rooms", func() bool {
			p.api(reader, "GET", "/v1/rooms?limit=200", nil, &inbox)
			for _, r := range inbox.Rooms {
				if r.Name == name {
					id = r.ID
				}
			}
			return id != ""
		})
		eventually(t, name+" holds all messages", func() bool { return len(readRoom(t, p, reader, id, "")) == len(want) })
		for i, got := range readRoom(t, p, reader, id, "") {
			if w := want[i]; got.Author != w.Author || got.Text != w.Text || got.SentAt.Sub(w.At) < 0 || got.SentAt.Sub(w.At) > time.Second {
				t.Fatalf("message %d of %s is %+v, want %+v", i, name, got, w)
			}
		}
		half := want[len(want)/2].At.Add(time.Second - time.Millisecond)
		then := 0
		for _, w := range want {
			if !w.At.After(half) {
				then++
			}
		}
		if got := readRoom(t, p, reader, id, half.Format(time.RFC3339Nano)); len(got) != then {
			t.Errorf("%s as it was half way has %d messages, not %d", name, len(got), then)
		}
		seen := strings.Count(p.must("events", id, "-json", "-limit", "0", "-as-of", half.Format(time.RFC3339Nano)), `"message.posted"`)
		if seen != then {
			t.Errorf("the events of %s as of half way hold %d messages, not %d", name, seen, then)
		}
	}
}

type readMessage struct {
	ID     string
	Author string
	Text   string
	SentAt time.Time `json:"sent_at"`
}

// readRoom reads all messages of a room, page by page.
func readRoom(t *testing.T, p *place, reader, room, asOf string) (all []readMessage) {
	t.Helper()
	for after := "00000000000000000000000000"; ; {
		var page struct {
			Messages []readMessage `json:"messages"`
			After    *string       `json:"after"`
		}
		path := "/v1/rooms/" + room + "/messages?limit=200&after=" + after
		if asOf != "" {
			path += "&as_of=" + asOf
		}
		if status := p.api(reader, "GET", path, nil, &page); status != http.StatusOK {
			t.Fatalf("%s answers %d", path, status)
		}
		all = append(all, page.Messages...)
		if page.After == nil {
			return all
		}
		after = *page.After
	}
}

// checkMessages holds the export of messages against what was said.
func checkMessages(t *testing.T, p *place, lines []spoken) {
	var got []spoken
	for _, line := range strings.Split(strings.TrimSpace(p.must("export", "all", "-messages")), "\n") {
		var l spoken
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		l.At = l.At.Truncate(time.Second)
		got = append(got, l)
	}
	key := func(l spoken) string {
		return l.Room + "\x00" + l.At.UTC().String() + "\x00" + l.Author + "\x00" + l.Text
	}
	order := func(a, b spoken) int { return strings.Compare(key(a), key(b)) }
	want := slices.Clone(lines)
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	if !slices.EqualFunc(want, got, func(a, b spoken) bool { return key(a) == key(b) }) {
		t.Errorf("%d messages were exported, not the %d that were said", len(got), len(want))
	}
}
