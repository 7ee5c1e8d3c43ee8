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
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/functions/wire"
)

// spoken is a line of a conversation.
type spoken struct {
	Room   string    `json:"room"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

const apollo = "../../../shared/data/apollo13.jsonl"

// conversation returns Apollo 13's conversation, or a generated one where the file does not exist.
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

// imports runs an import. Its exit code says whether something was left out.
func (p *place) imports(args ...string) (i importResult) {
	p.t.Helper()
	s := p.operate(append([]string{"import", "-json"}, args...)...)
	if err := json.Unmarshal([]byte(s.out), &i); err != nil {
		p.t.Fatalf("%v: %+v", err, s)
	}
	if want := map[bool]int{false: 0, true: exitDiffers}[i.NotTaken+i.Refused > 0]; s.code != want || len(i.Reported) != i.NotTaken+i.InPart+i.Refused {
		p.t.Fatalf("the exit code is %d, want %d: %+v", s.code, want, s)
	}
	return i
}

// A conversation of 1970 is imported once, however often the import runs. It can be paged and read as
// of a time, and its export makes the same log in an empty Parley.
func TestImport(t *testing.T) {
	t.Parallel()
	p := startLocal(t)
	file, lines := conversation(t)
	dry := p.imports(file, "-dry-run")
	first := p.imports(file)
	if first.Messages != (tally{len(lines), 0}) || first.NotTaken+first.InPart+first.Refused != 0 {
		t.Fatalf("imported %+v of %d lines", first, len(lines))
	}
	if dry.Messages != first.Messages || dry.Members != first.Members || dry.Rooms != first.Rooms || !dry.DryRun || dry.Dollars <= 0 {
		t.Errorf("the dry run counted %+v, the import %+v", dry, first)
	}
	again := p.imports(file)
	if again.Messages != (tally{0, len(lines)}) || again.Rooms != (tally{0, first.Rooms.Stored}) || again.Members != (tally{0, first.Members.Stored}) {
		t.Errorf("imported again %+v", again)
	}

	out := filepath.Join(t.TempDir(), "all.jsonl")
	p.must("export", "all", "-out", out)
	t.Run("pages", func(t *testing.T) { checkPages(t, p, lines) })
	t.Run("messages", func(t *testing.T) { checkMessages(t, p, lines) })

	acceptedIn(t, out, "elsewhere", testRegions...)
	other := startLocal(t)
	stopped, cancel := context.WithTimeout(t.Context(), time.Second) // in the middle of it
	defer cancel()
	if s := other.operateIn(stopped, "import", out, "-events"); s.code != 0 && (s.code != exitFailed || !strings.Contains(s.err, "stopped")) {
		t.Errorf("stopped: %+v", s)
	}
	if without := other.operate("import", out); without.code != exitFailed || !strings.Contains(without.out, "-events") {
		t.Errorf("without -events: %+v", without)
	}
	counted := other.imports(out, "-events", "-dry-run")
	if n := counted.Types["message.posted"]; n == nil || *n != (tally{len(lines), 0}) {
		t.Errorf("the dry run counted %v messages of %d", n, len(lines))
	}
	second := other.imports(out, "-events")
	if second.Messages.Stored+second.Messages.Repeats != len(lines) || second.Rooms.Stored+second.Rooms.Repeats != first.Rooms.Stored || second.Refused != 0 {
		t.Errorf("the export was imported as %+v", second)
	}
	out2 := filepath.Join(t.TempDir(), "all.jsonl")
	other.must("export", "all", "-out", out2)
	if a, b := sortedLines(t, out), sortedLines(t, out2); !slices.Equal(a, b) {
		t.Errorf("%d events were exported, %d after an import of that, and not the same", len(a), len(b))
	}
	eventually(t, "all regions have what one imported", func() bool {
		s := other.operate("audit", "-only", "regions", "-settle", "1ms")
		return s.code == 0 && strings.Contains(s.out, " 0 differ")
	})
	if s := p.operate("export", "all", "-out", out); s.code != exitFailed {
		t.Errorf("an existing file was overwritten: %+v", s)
	}
}

// acceptedIn lets the events of an export name these regions, in turn, as those that accepted them.
func acceptedIn(t *testing.T, file string, region string, more ...string) {
	t.Helper()
	regions := append([]string{region}, more...)
	lines := sortedLines(t, file)
	for i, line := range lines {
		lines[i] = regexp.MustCompile(`"region":"[a-z0-9-]+"`).ReplaceAllString(line, `"region":"`+regions[i%len(regions)]+`"`)
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sortedLines returns the lines of a file, sorted.
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

// checkPages compares every page of every room with the conversation, and each room as of half way.
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
			t.Errorf("%s as of half way has %d messages, not %d", name, len(got), then)
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

// checkMessages compares the export of messages with the conversation.
func checkMessages(t *testing.T, p *place, lines []spoken) {
	var got []spoken
	for _, line := range strings.Split(strings.TrimSpace(p.must("export", "all", "-messages")), "\n") {
		var l spoken
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Author == "" {
			continue // it describes a room
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
		t.Errorf("exported %d messages, want the %d of the conversation", len(got), len(want))
	}
}

// A dry run counts what would become unreadable. Erasing waits for all regions; then the texts are
// nowhere, and an export with the gaps can be imported elsewhere.
func TestErase(t *testing.T) {
	p := startLocal(t)
	file := filepath.Join(t.TempDir(), "said.jsonl")
	said := `{"room":"engines","author":"ada","at":"2020-01-01T00:00:00Z","text":"uNfOrGeTtAbLe"}
{"room":"engines","author":"bob","at":"2020-01-01T00:00:01Z","text":"bobs"}
{"room":"engines","author":"ada","at":"2020-01-01T00:00:02Z","text":"uNfOrGeTtAbLe too"}
`
	if err := os.WriteFile(file, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("import", file)
	if out := p.must("erase", "ada", "-dry-run"); !strings.Contains(out, "wrote 2 messages") || !strings.Contains(out, "in 1 rooms") || !strings.Contains(out, "name  engines") {
		t.Errorf("the dry run says %q", out)
	}
	for _, flag := range []string{"-dry-run", "-yes"} {
		if s := p.operate("erase", "adda", flag); s.code == 0 || !strings.Contains(s.err, "check the user id") {
			t.Errorf("erase %s of an unknown user: %+v", flag, s)
		}
	}
	if out := p.must("export", "all", "-messages"); strings.Count(out, "uNfOrGeTtAbLe") != 2 {
		t.Errorf("before: %s", out)
	}
	eventually(t, "the region has heard of all others", func() bool {
		return len(p.statusOf(testRegions[0]).Frontiers) == len(testRegions)
	})
	for range 2 { // the second time only shows the state
		out := p.must("erase", "ada", "-yes")
		for _, region := range testRegions {
			if !strings.Contains(out, region+": the keys of ada are destroyed") {
				t.Errorf("%s is not among %q", region, out)
			}
		}
	}
	var e wire.Erasure
	if err := json.Unmarshal([]byte(p.must("erase", "ada", "-yes", "-json")), &e); err != nil || e.By != "operator" || len(e.Regions) != len(testRegions) || len(unacknowledged(&e)) != 0 {
		t.Errorf("as JSON: %+v, %v", e, err)
	}
	if out := p.must("erase", "ada", "-dry-run"); !strings.Contains(out, "ada was erased on 20") || !strings.Contains(out, " by operator: 2 messages") || !strings.Contains(out, "name  engines") || strings.Contains(out, "would") {
		t.Errorf("a dry run of an erased user prints %s", out)
	}
	if s := p.operate("export", "all", "-messages"); strings.Count(s.out, `"text"`) != 1 || !strings.Contains(s.out, "bobs") || !strings.Contains(s.err, "2 messages that were deleted or erased") {
		t.Errorf("messages: %+v", s)
	}
	all := filepath.Join(t.TempDir(), "all.jsonl")
	p.must("export", "all", "-out", all)
	text, err := os.ReadFile(all)
	if err != nil || strings.Contains(string(text), "uNfOrGeTtAbLe") || strings.Count(string(text), `"text":null`) != 2 {
		t.Errorf("events: %s, %v", text, err)
	}
	other := startLocal(t)
	if got := other.imports(all, "-events"); got.Refused != 0 || got.NotTaken != 1 || got.Skipped["user.erased"] != 1 {
		t.Errorf("imported elsewhere: %+v", got)
	}
	again := filepath.Join(t.TempDir(), "all.jsonl")
	other.must("export", "all", "-out", again)
	erasure := func(line string) bool { return strings.Contains(line, `"user.erased"`) }
	if a, b := slices.DeleteFunc(sortedLines(t, all), erasure), sortedLines(t, again); strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("exported again it is\n%s, it was\n%s", strings.Join(b, "\n"), strings.Join(a, "\n"))
	}
	if out := other.must("erase", "typo", "-yes", "-force"); !strings.Contains(out, "the keys of typo are destroyed") {
		t.Error(out)
	}
}

// Messages that are exported and imported elsewhere are in rooms as they were: as private, with the
// same members, and with what is said of each message.
func TestMessagesRoundTrip(t *testing.T) {
	p := startLocal(t)
	type room struct {
		ID, Name, Topic string
		Private         bool
		Direct          []string
		Role            string
	}
	rooms := map[string]string{} // ids
	for _, name := range []string{"open", "secret"} {
		var r room
		p.api("ada", "POST", "/v1/rooms", map[string]any{"name": name, "topic": "about " + name, "private": name == "secret"}, &r)
		rooms[name] = r.ID
	}
	var direct room
	p.api("ada", "PUT", "/v1/direct/bob", nil, &direct)
	rooms["direct"] = direct.ID
	p.api("ada", "PUT", "/v1/rooms/"+rooms["secret"]+"/members/bob", nil, nil)
	p.api("bob", "PUT", "/v1/rooms/"+rooms["secret"]+"/members/bob", nil, nil)
	p.api("ada", "PATCH", "/v1/rooms/"+rooms["secret"]+"/members/bob", map[string]string{"role": "admin"}, nil)
	for name, id := range rooms {
		var first, second readMessage
		p.api("ada", "POST", "/v1/rooms/"+id+"/messages", map[string]string{"text": "first in " + name}, &first)
		p.api("ada", "POST", "/v1/rooms/"+id+"/messages", map[string]string{"text": "second in " + name, "reply_to": first.ID}, &second)
		eventually(t, "the message shows", func() bool {
			return p.api("ada", "PATCH", "/v1/rooms/"+id+"/messages/"+first.ID, map[string]string{"text": "edited in " + name}, nil) == http.StatusOK
		})
		p.api("ada", "PUT", "/v1/rooms/"+id+"/messages/"+first.ID+"/reactions/:+1:", nil, nil)
		p.api("ada", "PUT", "/v1/rooms/"+id+"/messages/"+first.ID+"/pin", nil, nil)
	}
	file := filepath.Join(t.TempDir(), "said.jsonl")
	p.must("export", "all", "-messages", "-out", file)

	other := startLocal(t)
	if got := other.imports(file, "-public"); got.Rooms.Stored != 3 || got.NotTaken+got.InPart+got.Refused != 0 {
		t.Errorf("imported %+v", got)
	}
	again := map[string]room{}
	eventually(t, "bob has his rooms", func() bool {
		var mine struct{ Rooms []room }
		other.api("bob", "GET", "/v1/rooms", nil, &mine)
		for _, r := range mine.Rooms {
			again[r.Name] = r
		}
		return len(again) == 2
	})
	if r := again["secret"]; !r.Private || r.Topic != "about secret" || r.Role != "admin" {
		t.Errorf("secret is %+v", r)
	}
	if r := again[""]; r.ID != direct.ID || !slices.Equal(r.Direct, []string{"ada", "bob"}) {
		t.Errorf("the direct room is %+v", r)
	}
	for _, r := range again {
		var page struct {
			Messages []struct {
				ID, Text  string
				ReplyTo   string `json:"reply_to"`
				EditedAt  string `json:"edited_at"`
				Reactions map[string][]string
				Pinned    bool
			}
		}
		if status := other.api("eve", "GET", "/v1/rooms/"+r.ID+"/messages", nil, nil); status != http.StatusNotFound {
			t.Errorf("a stranger's request is answered %d", status)
		}
		eventually(t, "the messages show", func() bool {
			other.api("bob", "GET", "/v1/rooms/"+r.ID+"/messages", nil, &page)
			return len(page.Messages) == 2 && page.Messages[0].Pinned && len(page.Messages[0].Reactions) > 0
		})
		first, second := page.Messages[0], page.Messages[1]
		if !strings.HasPrefix(first.Text, "edited") || first.EditedAt == "" || !slices.Equal(first.Reactions[":+1:"], []string{"ada"}) || second.ReplyTo != first.ID {
			t.Errorf("%+v", page.Messages)
		}
	}
}
