package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// A generator of odd Slack exports. What is said is drawn first, then the form in which the files say it, which
// must not matter.

type oddExport struct {
	lists, users map[string][]map[string]any // by file
	days         map[string][]map[string]any // messages, by folder and day
	forms        map[string]int              // how each file is written
	names        map[string]string           // of folders, as they are written
	unlisted     []string                    // channels in no list: who wrote first owns their rooms
	entries      int                         // messages in all days
}

const oddStart = 1577836800

// oddScalar writes a number as a number or as a text.
func oddScalar(t *rapid.T, n int) any {
	return rapid.SampledFrom([]any{n, strconv.Itoa(n), float64(n)}).Draw(t, "scalar")
}

// Texts that are too long for one message.
var long, accents = strings.Repeat("long ", 5000), strings.Repeat("é", 10001)

func oddTS(second, micros int) string { return fmt.Sprintf("%d.%06d", oddStart+second, micros) }

func drawExport(t *rapid.T) oddExport {
	x := oddExport{lists: map[string][]map[string]any{}, users: map[string][]map[string]any{}, days: map[string][]map[string]any{}, forms: map[string]int{}, names: map[string]string{}}
	users := []string{"U0AAAAA1", "U0AAAAA2", "U0AAAAA3", "U0AAAAA4"}
	file := rapid.SampledFrom([]string{"users.json", "org_users.json"}).Draw(t, "users")
	for i, id := range users[:3] { // one is in no list
		u := map[string]any{"id": id, "name": rapid.SampledFrom([]string{"ada", "bob", "sam", "Jürgen K."}).Draw(t, "name"), "deleted": rapid.SampledFrom([]any{true, false, "false", nil}).Draw(t, "deleted")}
		if rapid.Bool().Draw(t, "updated") {
			u["updated"] = oddScalar(t, oddStart+i)
		}
		u["profile"] = rapid.SampledFrom([]any{map[string]any{"real_name": "User " + id}, nil, "none"}).Draw(t, "profile")
		x.users[file] = append(x.users[file], u)
	}
	some := func(name string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(users), 1, len(users), rapid.ID[string]).Draw(t, name)
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "channels") {
		list := rapid.SampledFrom([]string{"channels.json", "groups.json", "mpims.json", "dms.json", ""}).Draw(t, "list")
		id, name := fmt.Sprintf("C0BBBBB%d", i), fmt.Sprintf("café-%d", i)
		c := map[string]any{"id": id, "created": oddScalar(t, oddStart), "members": some("members"), "is_archived": rapid.Bool().Draw(t, "archived")}
		folder := name
		switch list {
		case "dms.json":
			c["members"], folder = users[2*(i%2):2*(i%2)+2], id
		default:
			c["name"], c["creator"] = name, rapid.SampledFrom(users).Draw(t, "creator")
			c["topic"] = rapid.SampledFrom([]any{map[string]any{"value": "about it", "last_set": "0"}, nil, 7}).Draw(t, "topic")
		}
		if list == "" {
			x.unlisted = append(x.unlisted, `{"room":"`+name+`","about"`)
		} else {
			x.lists[list] = append(x.lists[list], c)
			x.names[folder] = rapid.SampledFrom([]string{folder, norm.NFD.String(folder), id}).Draw(t, "folder")
		}
		x.drawDays(t, folder, users)
	}
	for file := range maps.Keys(x.lists) {
		x.forms[file] = rapid.IntRange(0, 5).Draw(t, "form of "+file)
	}
	return x
}

// drawDays draws the messages of a channel.
func (x *oddExport) drawDays(t *rapid.T, folder string, users []string) {
	var all, roots []string // no reply begins a thread
	second, micros := 0, 0
	for range rapid.IntRange(0, 12).Draw(t, "messages") {
		second += rapid.SampledFrom([]int{0, 0, 1, 60, 86400}).Draw(t, "step")
		micros = (micros + rapid.SampledFrom([]int{1, 1, 999, 1000, 250000}).Draw(t, "micros")) % 1000000
		ts := oddTS(second, micros)
		if slices.Contains(all, ts) {
			continue
		}
		m := map[string]any{"type": "message", "ts": ts, "user": rapid.SampledFrom(users).Draw(t, "user"), "text": rapid.SampledFrom([]any{
			"hello", "<@U0AAAAA1> said <!here>", "1 &lt; 2", 42,
		}).Draw(t, "text")}
		if rapid.IntRange(0, 19).Draw(t, "is long") == 0 {
			m["text"] = rapid.SampledFrom([]string{long, accents}).Draw(t, "long text")
		}
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			m["subtype"] = rapid.SampledFrom([]string{"slackbot_response", "me_message", "bot_message", "tombstone", "some_new_thing"}).Draw(t, "subtype")
		case 1:
			m["subtype"] = rapid.SampledFrom([]string{"channel_join", "channel_leave", "group_join", "channel_archive"}).Draw(t, "subtype")
		case 2:
			m["text"], m["blocks"] = nil, []any{map[string]any{"type": "rich_text", "elements": []any{map[string]any{"type": "rich_text_section", "elements": []any{map[string]any{"type": "text", "text": "in blocks"}}}}}}
		case 3:
			m["text"], m["attachments"] = "", []any{map[string]any{"fallback": "attached", "title": "attached"}}
		case 4:
			m["edited"] = map[string]any{"user": m["user"], "ts": oddTS(second+3, 0)}
		case 5:
			m["reactions"] = []any{map[string]any{"name": "+1", "users": users[:rapid.IntRange(1, 4).Draw(t, "reactions")], "count": oddScalar(t, 4)}}
		case 6:
			m["pinned_to"] = []string{"C0BBBBB0"}
		case 7, 8:
			root := oddTS(second-1, 5) // in no file
			if len(roots) > 0 {
				root = rapid.SampledFrom(roots).Draw(t, "root")
			}
			m["thread_ts"] = root
			if rapid.Bool().Draw(t, "number") {
				m["thread_ts"] = json.Number(root)
			}
		}
		if all = append(all, ts); m["thread_ts"] == nil {
			roots = append(roots, ts)
		}
		day := fmt.Sprintf("%s/2020-01-%02d.json", folder, 1+second/86400)
		x.days[day] = append(x.days[day], m)
		x.entries++
	}
}

// write writes the export with some of its days to a new folder.
func (x *oddExport) write(t *rapid.T, dir string, days []string) string {
	dir, err := os.MkdirTemp(dir, "export-")
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, all []map[string]any, form int) {
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		switch form {
		case 1:
			text = append([]byte("\ufeff"), text...)
		case 2:
			text = []byte(strings.TrimSuffix(string(text), "]") + ",\n]")
		case 3:
			text = []byte(strings.ReplaceAll(string(text), `}`, ` , }`))
		case 4, 5:
			endian := map[int]unicode.Endianness{4: unicode.LittleEndian, 5: unicode.BigEndian}[form]
			if text, err = unicode.UTF16(endian, unicode.ExpectBOM).NewEncoder().Bytes(text); err != nil {
				t.Fatal(err)
			}
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, all := range x.lists {
		put(name, all, x.forms[name])
	}
	for name, all := range x.users {
		put(name, all, x.forms[name])
	}
	if len(x.lists) == 0 {
		put("channels.json", nil, 0)
	}
	for i, day := range days {
		folder, base, _ := strings.Cut(day, "/")
		if name := x.names[folder]; name != "" {
			folder = name
		}
		put(folder+"/"+base, x.days[day], (x.forms[day]+i)%2)
	}
	return dir
}

// importInto imports and checks that every entry became an event, or is reported.
func importInto(t *rapid.T, m *memoryRegion, entries int, args ...string) (i importResult) {
	s := ask(t.Context(), []*fakeRegion{m.fakeRegion}, append([]string{"import", "-json"}, args...)...)
	if err := json.Unmarshal([]byte(s.out), &i); err != nil || i.Refused > 0 {
		t.Fatalf("%v: %+v", err, s)
	}
	if entries >= 0 {
		made := 0
		for _, name := range []string{"message.posted", "room.archived"} {
			if n := i.Types[name]; n != nil {
				made += n.Stored + n.Repeats
			}
		}
		for _, line := range i.Reported {
			if strings.Contains(line, "a direct room: left out") {
				made++
			}
		}
		if left := entries - made - i.NotTaken - i.Members.Stored - i.Members.Repeats; left > 0 {
			t.Fatalf("%d entries are neither imported nor reported: %+v", left, i)
		}
	}
	return i
}

// shown returns what a region shows: its export of messages, in order.
func shown(t *rapid.T, m *memoryRegion) []string {
	s := ask(t.Context(), []*fakeRegion{m.fakeRegion}, "export", "all", "-messages")
	if s.code != 0 {
		t.Fatalf("export: %+v", s)
	}
	all := strings.Split(strings.TrimSpace(s.out), "\n")
	slices.Sort(all)
	return all
}

var owners = regexp.MustCompile(`"owner":"[^"]*"|"members":\{[^}]*\}`)

// withoutOwners returns lines without the owners and members of rooms that are in no list: who did something first
// owns them.
func (x *oddExport) withoutOwners(lines []string) (without []string) {
	for _, line := range lines {
		if slices.ContainsFunc(x.unlisted, func(head string) bool { return strings.HasPrefix(line, head) }) {
			line = owners.ReplaceAllString(line, "")
		}
		without = append(without, line)
	}
	return without
}

// An import that is repeated adds nothing. An export in parts, which may overlap and come in any order, makes what
// the whole makes. What goes in comes out as lines, and goes in again, equal, privacy included.
func TestOddExports(t *testing.T) {
	whole, parts, again := newMemory(t), newMemory(t), newMemory(t)
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		for _, m := range []*memoryRegion{whole, parts, again} {
			m.reset()
		}
		x := drawExport(rt)
		days := slices.Sorted(maps.Keys(x.days))
		all := x.write(rt, dir, days)
		importInto(rt, whole, x.entries, all)
		want, size := shown(rt, whole), whole.size()
		importInto(rt, whole, x.entries, all)
		if n := whole.size(); n != size {
			rt.Fatalf("the second import added %d events", n-size)
		}

		for _, n := range rapid.Permutation([]int{0, 1, 2}).Draw(rt, "order") {
			var some []string
			for i, day := range days {
				if rapid.IntRange(0, 3).Draw(rt, "overlap") == 0 || i*3/len(days) == n {
					some = append(some, day)
				}
			}
			importInto(rt, parts, -1, x.write(rt, dir, some))
		}
		if diff := cmp.Diff(x.withoutOwners(want), x.withoutOwners(shown(rt, parts))); diff != "" {
			rt.Fatalf("in parts:\n%s", diff)
		}

		file := filepath.Join(dir, "lines.jsonl")
		if err := os.WriteFile(file, []byte(strings.Join(want, "\n")+"\n"), 0o600); err != nil {
			rt.Fatal(err)
		}
		if i := importInto(rt, again, -1, file, "-public"); i.NotTaken > 0 || slices.ContainsFunc(i.Reported, func(line string) bool {
			return !strings.Contains(line, "refers to") && !strings.Contains(line, "no member is left")
		}) {
			rt.Fatalf("the lines were not imported as a whole: %+v", i)
		}
		if diff := cmp.Diff(want, shown(rt, again)); diff != "" {
			rt.Fatalf("as lines:\n%s", diff)
		}
	})
}
