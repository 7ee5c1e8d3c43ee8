package source

import (
	"archive/zip"
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"parley/events"
)

// slackFiles makes an export with the users ada, bob and cyd.
func slackFiles(files map[string]string) Source {
	all := fstest.MapFS{"users.json": {Data: []byte(`[{"id":"UA","name":"ada"},{"id":"UB","name":"bob"},{"id":"UC","name":"cyd"}]`)}}
	for name, text := range files {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Slack{Files: FilesOf(all)}
}

// oneChannel makes an export with one channel and messages of one day.
func oneChannel(channel string, messages ...string) Source {
	return slackFiles(map[string]string{
		"channels.json":     `[{"id":"C0000001","name":"c","created":1577836800,"creator":"UA"` + channel + `}]`,
		"c/2020-01-01.json": "[" + strings.Join(messages, ",") + "]",
	})
}

// said is a message by a user, n seconds after some time.
func said(user string, n int, text string, more ...string) string {
	return fmt.Sprintf(`{"type":"message","user":%q,"ts":"%d.000100","text":%q%s}`, user, 1577900000+n, text, strings.Join(more, ""))
}

func textsOf(m made) (texts []string) {
	for _, e := range m.of("message.posted") {
		texts = append(texts, e.Payload.(events.MessagePosted).Text.Text())
	}
	return texts
}

// A field in a form that nobody expects costs that field and a line in the report, never the record.
func TestStrangeFields(t *testing.T) {
	base := func(field, form string) string {
		fields := map[string]string{"type": `"message"`, "user": `"UA"`, "ts": `"1577900001.000100"`, "text": `"hello"`}
		fields[field] = form
		var parts []string
		for _, name := range sortedKeys(fields) {
			parts = append(parts, fmt.Sprintf("%q:%s", name, fields[name]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	for _, c := range []struct {
		field, form string
		reported    bool
	}{
		{"ts", `1577900001.000100`, false},
		{"ts", `"1577900001.0001"`, false},
		{"ts", `1577900001`, false},
		{"ts", `"1577900001000"`, false},
		{"ts", `1.5779000010001e9`, false},
		{"ts", `"2020-01-01T17:33:21Z"`, false},
		{"thread_ts", `1577900000.000100`, true},
		{"thread_ts", `"later"`, true},
		{"thread_ts", `false`, true},
		{"thread_ts", `null`, false},
		{"thread_ts", `""`, false},
		{"edited", `{"user":"UA","ts":1577900009}`, false},
		{"edited", `true`, true},
		{"edited", `"yesterday"`, true},
		{"edited", `{"ts":{}}`, true},
		{"edited", `null`, false},
		{"reactions", `{"name":"+1","users":["UB"],"count":"1"}`, false},
		{"reactions", `"+1"`, true},
		{"reactions", `[7]`, true},
		{"reactions", `[{"name":"+1","users":"UB"}]`, false},
		{"reactions", `[{"name":7,"users":[true],"count":1}]`, true},
		{"files", `[null]`, true},
		{"files", `"a.png"`, true},
		{"attachments", `{"text":"hello"}`, false},
		{"attachments", `7`, true},
		{"subtype", `null`, false},
		{"subtype", `["x"]`, true},
		{"bot_id", `null`, false},
		{"pinned_to", `"C1"`, false},
		{"type", `null`, false},
		{"blocks", `"x"`, false},
		{"reply_count", `"many"`, false},
	} {
		m := makeAll(t, oneChannel("", base(c.field, c.form)), testOptions())
		if texts := textsOf(m); len(texts) != 1 || texts[0] != "hello" || len(m.problems) > 0 {
			t.Errorf("%s: %s: texts %q, problems %q", c.field, c.form, texts, m.problems)
		}
		if at := m.of("message.posted"); len(at) == 1 && at[0].ID.Time()/1000 != 1577900001 {
			t.Errorf("%s: %s: the time is %d", c.field, c.form, at[0].ID.Time())
		}
		if (len(m.notes) > 0) != c.reported {
			t.Errorf("%s: %s: notes %q, reported %v", c.field, c.form, m.notes, c.reported)
		}
	}
	for _, form := range []string{
		`"created":"1577836800"`, `"created":1577836800.0`, `"created":null`, `"created":"long ago"`, `"created":1577836800000`, `"members":{"UA":true}`, `"members":[7,null,"UA"]`,
		`"topic":"a text"`, `"topic":null`, `"topic":{"value":7}`, `"purpose":[]`, `"is_archived":"false"`, `"is_archived":0`, `"pins":"none"`, `"pins":[{"id":7}]`, `"creator":7`, `"name":null`, `"is_general":"?"`,
	} {
		name, _, _ := strings.Cut(form, ":")
		channel := `[{"id":"C0000001",` + form + `,"x":1` + strings.ReplaceAll(`,"name":"c"`, map[bool]string{true: `,"name":"c"`, false: "\x00"}[name == `"name"`], "") + `}]`
		m := makeAll(t, slackFiles(map[string]string{"channels.json": channel, "c/2020-01-01.json": "[" + said("UA", 1, "hello") + "]"}), testOptions())
		// Of a channel without its name, the folder is another's, and nobody is in it.
		if texts := textsOf(m); len(texts) != 1 || len(m.problems) > 0 && name != `"name"` {
			t.Errorf("%s: texts %q, problems %q", form, texts, m.problems)
		}
	}
	// What says that a room is private, and is not understood, does not open it.
	for _, flag := range []string{`"is_private":"maybe"`, `"is_private":"true"`, `"is_group":1`, `"is_mpim":{}`, `"is_im":"yes"`} {
		for _, e := range makeAll(t, oneChannel(","+flag, said("UA", 1, "secret")), testOptions()).of("room.created") {
			if !e.Payload.(events.RoomCreated).Private {
				t.Errorf("%s opens the room", flag)
			}
		}
	}
}

// Files in every encoding and with what other programs write into JSON are read.
func TestEncodings(t *testing.T) {
	text := "[" + said("UA", 1, "héllo, [1,]") + "," + said("UB", 2, "two") + "]"
	utf16 := func(e unicode.Endianness, bom unicode.BOMPolicy) string {
		out, err := unicode.UTF16(e, bom).NewEncoder().String(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, form := range map[string]string{
		"plain": text, "a mark": "\ufeff" + text, "UTF-16": utf16(unicode.LittleEndian, unicode.UseBOM), "UTF-16 BE": utf16(unicode.BigEndian, unicode.UseBOM),
		"UTF-16 without mark": utf16(unicode.LittleEndian, unicode.IgnoreBOM), "a comma at the end": strings.TrimSuffix(text, "]") + " , \n]",
		"commas in objects": strings.ReplaceAll(text, "}", ",}"), "commas in a row": strings.ReplaceAll(text, "},{", "},,{"), "a comma first": "[," + text[1:],
		"an object": `{"ok":true,"meta":{"a":[1,{}]},"messages":` + text + `}`, "tabs in texts": strings.ReplaceAll(text, "two", "t\two"), "spaces": " \n\t" + text + "\n\n",
	} {
		m := makeAll(t, slackFiles(map[string]string{"channels.json": `[{"id":"C0000001","name":"c"}]`, "c/2020-01-01.json": form}), testOptions())
		if texts := textsOf(m); len(texts) != 2 || texts[0] != "héllo, [1,]" || len(m.problems)+len(m.notes) > 0 {
			t.Errorf("%s: %q, %q, %q", name, texts, m.problems, m.notes)
		}
	}
}

// What is JSON is read as it is, whatever the reader forgives.
func TestLenientReaderKeepsJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(rt, "value")
		text, err := marshalIndent(want)
		if err != nil {
			rt.Fatal(err)
		}
		var got map[string][]string
		if err := readLenient(text, &got); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// Every file is imported or reported, whatever its folder is called and however it was packed.
func TestEveryFile(t *testing.T) {
	day := "[" + said("UA", 1, "one") + "," + said("UB", 2, "two") + "]"
	list := func(name string) string { return fmt.Sprintf(`[{"id":"C0000001","name":%q}]`, name) }
	for _, c := range []struct {
		name, list, folder string
		listed             bool
	}{
		{"by name", list("café"), "café", true},
		{"macOS", list("café"), norm.NFD.String("café"), true},
		{"composed", list(norm.NFD.String("café")), "café", true},
		{"by id", list("c"), "C0000001", true},
		{"lower case", list("General"), "general", true},
		{"without name", `[{"id":"C0000001"}]`, "C0000001", true},
		{"renamed", list("new"), "old", false},
		{"no list", "[]", "c", false},
		{"a broken list", `[{"id":`, "c", false},
		{"a list that is null", "null", "c", false},
		{"its id only", "[]", "C0000001", false},
	} {
		m := makeAll(t, slackFiles(map[string]string{"channels.json": c.list, c.folder + "/2020-01-01.json": day}), testOptions())
		if texts := textsOf(m); len(texts) != 2 {
			t.Errorf("%s: %q, %q, %q", c.name, texts, m.problems, m.notes)
		}
		in := m.of("message.posted")[0].Stream
		for _, e := range m.of("room.created") {
			if e.Stream == in && e.Payload.(events.RoomCreated).Private == c.listed {
				t.Errorf("%s: private is %v", c.name, !c.listed)
			}
		}
		if !c.listed && !strings.Contains(strings.Join(m.notes, "\n"), "in no list") {
			t.Errorf("%s: not reported: %q", c.name, m.notes)
		}
	}
	m := makeAll(t, slackFiles(map[string]string{
		"channels.json": list("c"), "c/2020-01-01.json": day, "c/2020-01-02.json": "no JSON", "c/files/a.png": "x", "c/files/b.png": "x", "read.me": "x", "integration_logs.json": "[]",
		"unknown.json": `[{"a":1}]`, "C0000002.json": `{"channel_id":"C0000002","messages":` + "[" + said("UC", 3, "dumped", `,"slackdump_thread_replies":[`+said("UA", 4, "a reply", `,"thread_ts":"1577900003.000100"`)+`]`) + `]}`,
	}), testOptions())
	if diff := cmp.Diff([]string{"one", "two", "dumped", "a reply"}, textsOf(m)); diff != "" {
		t.Error(diff)
	}
	report := strings.Join(append(m.problems, m.notes...), "\n")
	for _, file := range []string{"c/2020-01-02.json", "c: 2 files", "read.me", "integration_logs.json", "unknown.json"} {
		if !strings.Contains(report, file) {
			t.Errorf("%s is not in the report:\n%s", file, report)
		}
	}
	if replies := m.of("message.posted"); replies[3].Payload.(events.MessagePosted).Thread == nil || *replies[3].Payload.(events.MessagePosted).Thread != replies[2].ID {
		t.Error("the reply in a dump is in no thread")
	}
}

// What cannot be opened, and what is a link, is reported.
func TestUnopenable(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"channels.json": `[{"id":"C0000001","name":"c"}]`, "c/2020-01-01.json": "[" + said("UA", 1, "one") + "]"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"folder", "c/2020-01-02.json", "c/note.txt"} {
		if err := os.Symlink("/etc", filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	m := makeAll(t, Slack{Files: FilesOf(os.DirFS(dir))}, testOptions())
	report := strings.Join(m.problems, "\n")
	for _, name := range []string{"folder: the file cannot", "c/2020-01-02.json: the file cannot", "c/note.txt: the file cannot"} {
		if !strings.Contains(report, name) {
			t.Errorf("%q is not in the report: %s", name, report)
		}
	}
	if texts := textsOf(m); len(texts) != 1 {
		t.Errorf("%q", texts)
	}
}

// Reactions are names of emoji, of any length that Parley takes, or emoji.
func TestReactionNames(t *testing.T) {
	for name, emoji := range map[string]string{
		"+1": ":+1:", "wave::skin-tone-3": ":wave:", "a_rather_long_name_of_a_custom_emoji_of_this_team": ":a_rather_long_name_of_a_custom_emoji_of_this_team:", "👍": events.NormalizeEmoji("👍"), "❤": events.NormalizeEmoji("❤"),
		"café": "", "": "", strings.Repeat("x", 99): "",
	} {
		m := makeAll(t, oneChannel("", said("UA", 1, "x", fmt.Sprintf(`,"reactions":[{"name":%q,"users":["UB"],"count":1}]`, name))), testOptions())
		added := m.of("reaction.added")
		if emoji == "" && (len(added) != 0 || len(m.notes) == 0) || emoji != "" && (len(added) != 1 || added[0].Payload.(events.ReactionAdded).Emoji != emoji) {
			t.Errorf("%q becomes %v, %q", name, added, m.notes)
		}
	}
}

// Archives are read as they come: with backslashes, in code pages, in folders, by standard input.
func TestArchives(t *testing.T) {
	files := map[string]string{
		"channels.json": `[{"id":"C0000001","name":"é"}]`, "org_users.json": `[{"id":"UA","name":"ada"}]`, "é/2020-01-01.json": "[" + said("UA", 1, "one") + "]",
	}
	for name, form := range map[string]func(string) string{
		"plain":         func(name string) string { return name },
		"in a folder":   func(name string) string { return "My export/" + name },
		"in two":        func(name string) string { return "a/b/" + name },
		"backslashes":   func(name string) string { return `x\` + strings.ReplaceAll(name, "/", `\`) },
		"macOS":         func(name string) string { return norm.NFD.String(name) },
		"code page 437": func(name string) string { return strings.ReplaceAll(name, "é", "\x82") },
		"a leading dot": func(name string) string { return "./" + name },
	} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, file := range sortedKeys(files) {
			for at, text := range map[string]string{form(file): files[file], "__MACOSX/._" + file: "x"} {
				w, err := z.CreateHeader(&zip.FileHeader{Name: at, NonUTF8: true})
				if err == nil {
					_, err = w.Write([]byte(text))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		zipped := filepath.Join(t.TempDir(), "export.zip")
		if err := os.WriteFile(zipped, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{zipped, "-"} {
			in, err := os.Open(zipped)
			if err != nil {
				t.Fatal(err)
			}
			stdin := os.Stdin
			os.Stdin = in
			src, closer, err := Open(from, false)
			os.Stdin = stdin
			if err != nil {
				t.Fatalf("%s, %s: %v", name, from, err)
			}
			m := makeAll(t, src, testOptions())
			if texts := textsOf(m); len(texts) != 1 || len(m.problems)+len(m.notes) > 0 || m.of("message.posted")[0].Actor != "ada" || len(m.of("room.created")) != 1 {
				t.Errorf("%s, %s: %q, %q, %q", name, from, texts, m.problems, m.notes)
			}
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
			_ = in.Close()
		}
	}
}

// What somebody said is a message under whatever subtype, and with its text wherever it is.
func TestWhatWasSaid(t *testing.T) {
	for _, c := range []struct{ message, author, text string }{
		{`"subtype":"slackbot_response","user":"USLACKBOT","text":"a break"`, "USLACKBOT", "a break"},
		{`"subtype":"reply_broadcast","user":"UA","text":"","attachments":[{"text":"broadcast"}]`, "ada", "broadcast"},
		{`"subtype":"file_comment","text":"nice","comment":{"user":"UB","comment":"nice"}`, "bob", "nice"},
		{`"subtype":"file_comment","text":null,"comment":{"user":"UB","comment":"nicer"}`, "bob", "nicer"},
		{`"subtype":"bot_message","username":"deploy","text":"done"`, "bot-deploy", "done"},
		{`"subtype":"bot_message","bot_id":"B1","username":"ada","text":"done"`, "bot-B1", "done"},
		{`"subtype":"bot_message","bot_profile":{"id":"B2"},"text":"done"`, "bot-B2", "done"},
		{`"subtype":"never_seen_before","user":"UA","text":"new"`, "ada", "new"},
		{`"subtype":"channel_purpose","user":"UA","text":"set the purpose"`, "ada", "set the purpose"},
		{`"subtype":"message_changed","message":{"user":"UA","ts":"1577900001.000100","text":"changed"}`, "ada", "changed"},
		{`"user":"UA","text":"","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"hi <@UB>"}},{"type":"divider"},{"type":"context","elements":[{"type":"plain_text","text":"small"}]}]`, "ada", "hi @bob\nsmall"},
		{`"user":"UA","text":null,"blocks":[{"type":"rich_text","elements":[{"type":"rich_text_list","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"a"}]},{"type":"rich_text_section","elements":[{"type":"link","url":"http://x"}]}]}]}]`, "ada", "- a\n- http://x"},
		{`"user":"UA","text":"see","attachments":[{"title":"T","title_link":"http://t","text":"body","fields":[{"title":"k","value":"v"}]}]`, "ada", "see\nT (http://t)\nbody\nk: v"},
		{`"user":"UA","text":"","attachments":[{"fallback":"only this"}]`, "ada", "only this"},
		{`"user":"UA","text":"<http://x>","attachments":[{"from_url":"http://x","title":"a preview"}]`, "ada", "http://x"},
		{`"user":"UA","text":"","files":[{"name":"a.png","permalink":"http://f"}]`, "ada", "[file] a.png http://f"},
		{`"user":"UX","text":"from elsewhere"`, "UX", "from elsewhere"},
		{`"user":"UA","text":"","thread_ts":"1577900001.000100","reply_count":2`, "ada", "(message without text)"},
	} {
		m := makeAll(t, oneChannel("", `{"type":"message","ts":"1577900001.000100",`+c.message+"}"), testOptions())
		posted := m.of("message.posted")
		if len(posted) != 1 || posted[0].Actor != c.author || textsOf(m)[0] != c.text || len(m.problems) > 0 {
			t.Errorf("%s: %q, %v, %q", c.message, textsOf(m), posted, m.problems)
		}
	}
	m := makeAll(t, oneChannel("", said("UX", 1, "hello", `,"user_profile":{"real_name":"Foreign User","name":"ada"}`), said("UX", 2, "<@UX>")), testOptions())
	if names := m.of("user.profile_set"); len(names) != 1 || names[0].Actor != "UX" || m.of("message.posted")[0].Actor != "UX" || textsOf(m)[1] != "@ada" {
		t.Errorf("an author of another workspace: %v, %q", m.events, textsOf(m))
	}
	for markup, text := range map[string]string{
		"<!date^1588744800^{date} at {time}|May 6th>": "May 6th", "<!date^1588744800^{date}>": "2020-05-06 06:00 UTC", "<!date^x^{date}>": "(a date)", "<!date^1588744800^{date}^http://x|May>": "May",
		"<!subteam^S1|@devs>": "@devs", "<!subteam^S1|devs>": "@devs", "<!subteam^S1>": "@group S1", "<!here|here>": "@here", "<!everyone>": "@everyone", "<!foo^bar>": "foo bar", "<!foo|label>": "label",
		"<@UA|>": "@ada", "<#C0000001|>": "#c", "<#C9|gone>": "#gone", "<tel:1|one>": "one (tel:1)", "a &lt;!here&gt;": "a <!here>",
	} {
		if texts := textsOf(makeAll(t, oneChannel("", said("UA", 1, markup)), testOptions())); len(texts) != 1 || texts[0] != text {
			t.Errorf("%s reads %q, want %q", markup, texts, text)
		}
	}
}

// Long texts are split where a line or a word ends, with a mark, and nothing of them is lost.
func TestLongTexts(t *testing.T) {
	for name, text := range map[string]string{
		"words": strings.Repeat("word ", 9000), "lines": strings.Repeat(strings.Repeat("x", 79)+"\n", 700), "accents": strings.Repeat("é", 20000), "emoji": strings.Repeat("👍🏽", 6000), "exact": strings.Repeat("x", events.MaxTextBytes), "one more": strings.Repeat("x", events.MaxTextBytes+1),
	} {
		parts := splitText(text)
		for i, part := range parts {
			if events.ValidateText("text", part) != nil || strings.HasPrefix(part, goesOn) != (i > 0) || strings.HasSuffix(part, goesOn) != (i < len(parts)-1) {
				t.Errorf("%s: part %d of %d has %d bytes, %.5q … %q", name, i, len(parts), len(part), part, part[len(part)-5:])
			}
		}
		joined := strings.NewReplacer(goesOn, "", " ", "", "\n", "").Replace(strings.Join(parts, ""))
		if joined != strings.NewReplacer(" ", "", "\n", "").Replace(text) || (len(parts) > 1) != (len(text) > events.MaxTextBytes) {
			t.Errorf("%s: %d parts, %d bytes of %d", name, len(parts), len(joined), len(text))
		}
	}
	m := makeAll(t, oneChannel("", said("UA", 1, strings.Repeat("long ", 9000)), said("UB", 2, "after")), testOptions())
	if posted := m.of("message.posted"); len(posted) != 4 || !slices.IsSortedFunc(posted, func(a, b events.Event) int { return a.ID.Compare(b.ID) }) {
		t.Errorf("%d messages, or not in order", len(posted))
	}
}

// Two users with one name stay two, the same ones whatever else is in the source.
func TestOneNameTwoUsers(t *testing.T) {
	for name, users := range map[string]string{
		"one is gone":            `{"id":"UA","name":"sam","deleted":true},{"id":"UB","name":"sam"}`,
		"both are there":         `{"id":"UA","name":"sam"},{"id":"UB","name":"sam"}`,
		"in the other order":     `{"id":"UB","name":"sam"},{"id":"UA","name":"sam"}`,
		"one has the other's id": `{"id":"UA","name":"UB"},{"id":"UB","name":"UB"}`,
		"odd names":              `{"id":"UA","name":"S. Am"},{"id":"UB","name":"S. Am"}`,
	} {
		m := makeAll(t, slackFiles(map[string]string{
			"users.json": "[" + users + "]", "channels.json": `[{"id":"C0000001","name":"c","members":["UA","UB"]}]`,
			"c/2020-01-01.json": "[" + said("UA", 1, "one") + "," + said("UB", 2, "two") + "]",
		}), testOptions())
		posted := m.of("message.posted")
		if len(posted) != 2 || posted[0].Actor == posted[1].Actor || !strings.Contains(strings.Join(m.notes, "\n"), "same name") {
			t.Errorf("%s: %v, %q", name, posted, m.notes)
		}
	}
}

// What the lists say comes along, and what is said later is followed.
func TestStateComesAlong(t *testing.T) {
	m := makeAll(t, oneChannel(`,"is_archived":"true","members":["UA"],"topic":{"value":"of <@UB>"},"pins":[{"id":1577900001.000100,"user":"UB","created":"1577900100"},{"id":"1577999999.0"}]`,
		said("UA", 1, "keep"), `{"type":"message","subtype":"channel_topic","user":"UA","topic":"before","text":"set the topic","ts":"1577900002.0"}`,
		`{"type":"message","subtype":"channel_name","user":"UA","name":"new","old_name":"c","text":"renamed","ts":"1577900003.0"}`), testOptions())
	var have []string
	for _, e := range m.of("room.updated", "room.archived", "message.pinned") {
		have = append(have, e.Type+" "+e.Actor+" "+string(e.Data))
	}
	want := []string{
		`room.updated ada {"topic":"before"}`, `room.updated ada {"name":"new"}`,
		`room.updated ada {"name":"c"}`, `room.updated ada {"topic":"of @bob"}`, `room.archived ada {}`,
		`message.pinned bob {"message":"` + m.of("message.posted")[0].ID.String() + `"}`,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(strings.Join(m.notes, "\n"), "pinned message is not in the source") {
		t.Errorf("notes %q", m.notes)
	}
}

// A later export continues what an earlier one made, though names of users and channels have changed, and says
// of members, topics and archiving what holds then. What people changed in Parley stays.
func TestLaterExport(t *testing.T) {
	export := func(users, channel string, messages ...string) Source {
		return slackFiles(map[string]string{
			"users.json": "[" + users + "]", "channels.json": `[{"id":"C0000001","created":1577836800,"creator":"UA",` + channel + `}]`,
			"C0000001/2020-01-01.json": "[" + strings.Join(messages, ",") + "]",
			"dms.json":                 `[{"id":"D0000001","members":["UA","UB"]}]`, "D0000001/2020-01-01.json": "[" + said("UA", 5, "between us") + "]",
		})
	}
	const before, after = `{"id":"UA","name":"ada"},{"id":"UB","name":"bob"},{"id":"UC","name":"cyd"}`, `{"id":"UA","name":"ada.l"},{"id":"UB","name":"bob"},{"id":"UC","name":"ada"}`
	first := makeAll(t, export(before, `"name":"c","members":["UA","UC"],"is_archived":true`, said("UA", 1, "one"), said("UB", 2, "two"), said("UA", 3, "draft")), testOptions())
	second := makeAfter(t, export(after, `"name":"renamed","members":["UA","UB"],"is_archived":false`,
		said("UB", 2, "two"), said("UA", 3, "final", `,"edited":{"user":"UA","ts":"1577900050.0"}`), said("UA", 99, "new"), said("UC", 98, "hi")), testOptions(), first.events)
	var added []string
	for _, e := range second.added {
		if e.Type != "user.profile_set" {
			added = append(added, fmt.Sprintf("%s %s %s", e.Type, e.Actor, e.Data))
		}
	}
	slices.Sort(added)
	want := []string{
		`member.joined bob {"user":"bob","role":"member"}`,
		`member.left cyd {"user":"cyd"}`,
		`message.edited ada {"message":"` + first.of("message.posted")[2].ID.String() + `","text":"final"}`,
		`message.posted ada {"text":"new"}`,
		`message.posted cyd {"text":"hi"}`,
		`room.unarchived ada {}`,
		`room.updated ada {"name":"renamed"}`,
	}
	if diff := cmp.Diff(want, added); diff != "" {
		t.Error(diff)
	}
	log := append(slices.Clone(first.events), second.added...)
	if third := makeAfter(t, export(after, `"name":"renamed","members":["UA","UB"],"is_archived":false`, said("UA", 99, "new")), testOptions(), log); len(third.added) > 0 {
		t.Errorf("a part of what was imported adds %v", third.added)
	}
	// In Parley bob was removed and the room got a topic; a still later export does not undo that.
	room := first.of("room.created")[0].Stream
	clock := events.NewClock(testNowFunc, events.NewMarks(nil))
	topic := "of Parley"
	for _, p := range []events.Payload{events.MemberLeft{User: "bob"}, events.RoomUpdated{Topic: &topic}} {
		e, err := events.New(clock.MintAfter("ada"), room, "ada", "eu-west-1", p)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
	}
	if fourth := makeAfter(t, export(after, `"name":"renamed","members":["UA","UB"],"topic":{"value":"of Slack"},"is_archived":false`, said("UA", 99, "new")), testOptions(), log); len(fourth.added) > 0 {
		t.Errorf("what was changed in Parley is undone: %v", fourth.added)
	}
}

// The same message twice in a source is one, and lines of one room in two sources are two rooms if the sources have names.
func TestRepeats(t *testing.T) {
	line := func(n int, text string) string {
		return fmt.Sprintf(`{"room":"r","author":"ada","at":"2020-01-01T00:00:0%dZ","text":"%s","id":"m%d"}`+"\n", n, text, n)
	}
	m := makeAll(t, sequence{lines(line(1, "a") + line(2, "b")), lines(line(2, "b") + line(3, "c"))}, testOptions())
	if diff := cmp.Diff([]string{"a", "b", "c"}, textsOf(m)); diff != "" || m.repeats != 1 {
		t.Errorf("%d repeats; %s", m.repeats, diff)
	}
	m = makeAll(t, slackFiles(map[string]string{
		"channels.json": `[{"id":"C0000001","name":"c"}]`, "c/2020-01-01.json": "[" + said("UA", 1, "once") + "]",
		"c/2020-01-01 copy.json": "[" + said("UA", 1, "once", `,"edited":{"user":"UA","ts":"1577900009.0"},"reactions":[{"name":"+1","users":["UB"],"count":1}]`) + "]",
	}), testOptions())
	if texts := textsOf(m); len(texts) != 1 || m.repeats != 1 || len(m.of("message.edited")) != 1 || len(m.of("reaction.added")) != 1 {
		t.Errorf("%q, %d repeats, %v", texts, m.repeats, m.events)
	}
	later := makeAfter(t, lines(line(3, "c")), testOptions(), makeAll(t, lines(line(1, "a")), testOptions()).events)
	if len(later.of("room.created")) != 1 || len(later.added) != 1 {
		t.Errorf("a later file adds %v", later.added)
	}
	both := `[{"id":"UA","name":"ada","updated":1577836800,"profile":{"real_name":"Ada"}}]`
	m = makeAll(t, slackFiles(map[string]string{"users.json": both, "org_users.json": both, "channels.json": "[]"}), testOptions())
	if len(m.of("user.profile_set")) != 1 || m.repeats != 1 {
		t.Errorf("a user in two lists: %v", m.events)
	}
	accents := func(form norm.Form) string {
		return fmt.Sprintf(`{"room":%q,"author":"ada","at":"2020-01-01T00:00:0%dZ","text":"x"}`+"\n", form.String("Zoë"), form)
	}
	if m := makeAll(t, lines(accents(norm.NFC)+accents(norm.NFD)), testOptions()); len(m.of("room.created")) != 1 || len(textsOf(m)) != 2 {
		t.Errorf("accents make two rooms: %v", m.of("room.created"))
	}
	o := testOptions()
	o.Name = "another"
	if other := makeAll(t, lines(line(1, "a")), o); other.of("room.created")[0].Stream == later.of("room.created")[0].Stream {
		t.Error("two sources have one room")
	}
}

// A reply keeps its thread if the root is in an earlier part, in a later one, or in none.
func TestThreadsAcrossParts(t *testing.T) {
	root, reply := said("UA", 1, "root"), said("UB", 2, "reply", `,"thread_ts":"1577900001.000100"`)
	whole := makeAll(t, oneChannel("", root, reply), testOptions())
	for name, parts := range map[string][]string{"the root first": {root, reply}, "the reply first": {reply, root}} {
		log := makeAll(t, oneChannel("", parts[0]), testOptions()).events
		log = append(log, makeAfter(t, oneChannel("", parts[1]), testOptions(), log).added...)
		messages := map[events.ID]string{}
		for _, e := range log {
			if e.Type == "message.posted" {
				messages[e.ID] = string(e.Data)
			}
		}
		want := map[events.ID]string{}
		for _, e := range whole.of("message.posted") {
			want[e.ID] = string(e.Data)
		}
		if diff := cmp.Diff(want, messages); diff != "" || len(want) != 2 || !strings.Contains(strings.Join(slices.Collect(maps.Values(want)), ""), "thread") {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
