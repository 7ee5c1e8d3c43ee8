package source

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var testNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testOptions() Options { return Options{Region: "eu-west-1", Now: testNow} }

// made is everything made from a source.
type made struct {
	survey   *Survey
	events   []events.Event
	added    []events.Event // those that the log did not have
	repeats  int
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

// makeAll imports a source and checks what holds for every source.
func makeAll(t testing.TB, src Source, o Options) made { return makeAfter(t, src, o, nil) }

// makeAfter imports a source where the log has these events already.
func makeAfter(t testing.TB, src Source, o Options, log []events.Event) made {
	t.Helper()
	s, err := NewSurvey(src, o)
	if err != nil {
		t.Fatal(err)
	}
	continueRooms(t, src, s, log)
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
		case item.Repeat:
			m.repeats++
			continue
		}
		e := item.Event
		if !item.Copied && !item.Known && !events.Imported(e.ID) {
			t.Fatalf("%s: the id of %s is not that of an imported event", item.Place, e.Type)
		}
		if _, bad := e.Payload.(events.Unreadable); bad {
			t.Fatalf("%s: %s cannot be decoded", item.Place, e.Type)
		}
		if key := string(e.Stream) + e.ID.String(); ids[key] {
			t.Fatalf("%s: the id of a %s is used twice", item.Place, e.Type)
		} else {
			ids[key] = true
		}
		if m.events = append(m.events, e); !item.Known {
			m.added = append(m.added, e)
		}
	}
	if len(m.events) != s.Events {
		t.Fatalf("%d events, the survey counted %d", len(m.events), s.Events)
	}
	return m
}

// continueRooms does what the command does: it gives the survey what a log has of its rooms.
func continueRooms(t testing.TB, src Source, s *Survey, log []events.Event) {
	t.Helper()
	for _, direct := range []bool{false, true} {
		for key, streams := range s.Candidates(direct) {
			for _, stream := range streams {
				past := NewPast(stream)
				for _, e := range log {
					if e.Stream == stream {
						past.Add(e)
					}
				}
				if past.Len() > 0 {
					s.Continue(key, past)
					break
				}
			}
		}
		if err := s.Recognize(src); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prepare(src); err != nil {
		t.Fatal(err)
	}
}

func lines(text string) Lines {
	return Lines{"test.jsonl", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

// What is made of an export is frozen: a later release must make the same events of it, or a second import
// would add to them.
func TestSlackGolden(t *testing.T) {
	m := makeAll(t, Slack{Files: FilesOf(os.DirFS("testdata/slack"))}, testOptions())
	var b strings.Builder
	for _, e := range m.events {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", e.ID.Timestamp().UTC().Format("2006-01-02T15:04:05.000Z"), text)
	}
	fmt.Fprintf(&b, "\nnot imported:\n%s\n\nimported in part:\n%s\n", strings.Join(m.problems, "\n"), strings.Join(m.notes, "\n"))
	golden := filepath.Join("testdata", "slack2.golden")
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

// formerEvents are the events that a former release, with other ids, made of the export.
func formerEvents(t *testing.T) (log []events.Event) {
	text, err := os.ReadFile("testdata/slack.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if _, text, found := strings.Cut(line, " {"); found {
			var e events.Event
			if err := e.UnmarshalJSON([]byte("{" + text)); err != nil {
				t.Fatal(err)
			}
			log = append(log, e)
		}
	}
	return log
}

// What a former release imported is continued in its rooms, and nothing of it comes again.
func TestContinuesFormerRelease(t *testing.T) {
	log := formerEvents(t)
	m := makeAfter(t, Slack{Files: FilesOf(os.DirFS("testdata/slack"))}, testOptions(), log)
	rooms := map[events.Stream]bool{}
	for _, e := range log {
		rooms[e.Stream] = true
	}
	var added []string
	for _, e := range m.added {
		if !rooms[e.Stream] {
			t.Errorf("%s is in %s, which is new", e.Type, e.Stream)
		}
		if e.Type != "user.profile_set" {
			added = append(added, fmt.Sprintf("%s %s", e.Type, e.Data))
		}
	}
	want := []string{ // what the former release did not import
		`message.posted {"text":"set the topic"}`,
		`message.posted {"text":"[file] a.png"}`,
		`member.joined {"user":"7","role":"member"}`,
		`message.posted {"text":"wrong"}`,
		`member.left {"user":"7"}`,
	}
	if diff := cmp.Diff(want, added); diff != "" {
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
	if got := len(m.of("message.posted")); got != 11 || m.survey.Messages != 11 {
		t.Errorf("%d messages, the survey has %d", got, m.survey.Messages)
	}
	want := []string{
		"test.jsonl:8: the time is before 1970, which ids cannot represent; use -shift to move all times",
		"test.jsonl:9: the time is in the future",
		"test.jsonl:10: at must be a time like 2026-01-31T12:00:00Z",
		"test.jsonl:11: author is missing",
		"test.jsonl:12: room must be a name with at least one visible character",
		"test.jsonl:13: text is missing",
		"test.jsonl:15: it must be a JSON object",
		"test.jsonl:16: not JSON at byte 14",
		"test.jsonl:20: the line is longer than 262144 bytes",
	}
	if diff := cmp.Diff(want, m.problems); diff != "" {
		t.Error(diff)
	}
	notes := []string{
		"test.jsonl:7: the message it refers to as thread is not in the source: imported without thread",
		"test.jsonl:17: not understood: bytes that are not UTF-8",
		"test.jsonl:18: the text is longer than 20000 bytes: it is split into 2 messages",
	}
	if diff := cmp.Diff(notes, m.notes); diff != "" {
		t.Error(diff)
	}
	if mapped := m.survey.Mapped; len(mapped) != 1 || events.ValidateUser("user", mapped["Jim Lovell"]) != nil {
		t.Errorf("mapped %q", mapped)
	}
	posted := m.of("message.posted")
	if root := posted[3].Payload.(events.MessagePosted).Thread; root == nil || *root != posted[2].ID {
		t.Errorf("the reply is in thread %v, want %v", root, posted[2].ID)
	}
	if root := posted[4].Payload.(events.MessagePosted).Thread; root == nil || *root != posted[0].ID {
		t.Errorf("the reply is in thread %v, want that of the first message of that time, %v", root, posted[0].ID)
	}
	if joined := m.of("member.joined"); len(joined) != 3 {
		t.Errorf("%d joined, want the three who are not the owner", len(joined))
	}
	if room := m.of("room.created"); len(room) != 1 || room[0].Actor != "cdr" || room[0].ID.Time() != 0 {
		t.Errorf("rooms %v", room)
	}
}

func TestShiftAndOwner(t *testing.T) {
	src := lines(`{"room":"r","author":"ada","at":"1969-07-20T20:17:40Z","text":"landed"}`)
	o := testOptions()
	o.Shift, o.Owner = 365*24*time.Hour, "keeper"
	m := makeAll(t, src, o)
	posted, room := m.of("message.posted"), m.of("room.created")
	if len(posted) != 1 || !posted[0].ID.Timestamp().Equal(time.Date(1970, 7, 20, 20, 17, 40, 0, time.UTC)) {
		t.Fatalf("%v", posted)
	}
	if len(room) != 1 || room[0].Actor != "keeper" || !room[0].Payload.(events.RoomCreated).Private || len(m.of("member.joined")) != 1 {
		t.Errorf("%v", room)
	}
}

// What a source calls private or direct never becomes public, in whatever form it says so, and what
// cannot be imported as it is described takes its messages along.
func TestPrivateStaysPrivate(t *testing.T) {
	said := func(user string) string {
		return `[{"type":"message","user":"` + user + `","text":"secret","ts":"1577900000.000100"}]`
	}
	slack := func(list, channel, folder string) Source {
		files := fstest.MapFS{
			"users.json":                {Data: []byte(`[{"id":"UA","name":"ada"},{"id":"UB","name":"bob"},{"id":"UC","name":"cyd"}]`)},
			"channels.json":             {Data: []byte(`[]`)},
			folder + "/2020-01-01.json": {Data: []byte(said("UA"))},
		}
		files[list] = &fstest.MapFile{Data: []byte(channel)}
		return Slack{Files: FilesOf(files)}
	}
	const line = `{"room":"r","author":"ada","at":"2020-01-01T00:00:00Z","text":"secret"}` + "\n"
	twice := slack("channels.json", `[{"id":"C1","name":"staff","members":["UA","UB"]}]`, "staff").(Slack)
	twice.Files = append(twice.Files, FilesOf(fstest.MapFS{"groups.json": {Data: []byte(`[{"id":"G1","name":"staff","members":["UA"]}]`)}})...)
	for name, c := range map[string]struct {
		src    Source
		direct bool   // it becomes a direct room
		want   string // the members, as far as it is imported
	}{
		"a direct room":                    {src: slack("dms.json", `[{"id":"D1","members":["UA","UB"]}]`, "D1"), direct: true},
		"notes to oneself":                 {src: slack("dms.json", `[{"id":"D1","members":["UA"]}]`, "D1"), want: "ada"},
		"one member twice":                 {src: slack("dms.json", `[{"id":"D1","members":["UA","UA"]}]`, "D1"), want: "ada"},
		"three members":                    {src: slack("dms.json", `[{"id":"D1","members":["UA","UB","UC"]}]`, "D1"), want: "ada bob cyd"},
		"no members":                       {src: slack("dms.json", `[{"id":"D1"}]`, "D1"), want: "ada"},
		"the other user":                   {src: slack("dms.json", `[{"id":"D1","user":"UB"}]`, "D1"), want: "ada bob"},
		"a group without a name":           {src: slack("groups.json", `[{"id":"G1","members":["UA","UB"]}]`, "G1")},
		"a group":                          {src: slack("groups.json", `[{"id":"G1","name":"g","members":["UA","UB"]}]`, "g"), want: "ada bob"},
		"a group among the channels":       {src: slack("channels.json", `[{"id":"G1","name":"g","is_private":true,"members":["UA","UB"]}]`, "g"), want: "ada bob"},
		"a direct room among the channels": {src: slack("channels.json", `[{"id":"D1","is_im":true,"user":"UB"}]`, "D1"), want: "ada bob"},
		"a group and a channel of a name":  {src: twice},
		"a list that is broken":            {src: slack("groups.json", `[{"id":"G1","name":"g","members":"UA"}]`, "g")},
		"lines":                            {src: lines(line), want: "ada"},
		"lines of a private room":          {src: lines(line + `{"room":"r","about":{"private":true,"members":{"bob":"member"}}}`), want: "bob"},
		"lines of a room":                  {src: lines(`{"room":"r","about":{"topic":"t"}}` + "\n" + line), want: "ada"},
		"lines of a direct room":           {src: lines(line + `{"room":"r","about":{"direct":["ada","bob"]}}`), direct: true},
		"lines of an odd direct room":      {src: lines(line + `{"room":"r","about":{"direct":["ada"],"private":false}}`), want: "ada"},
		"lines of a room twice":            {src: lines(`{"room":"r","about":{"private":true}}` + "\n" + line + `{"room":"r","about":{"private":false}}`), want: "ada"},
		"lines of a room not understood":   {src: lines(line + `{"room":"r","about":{"private":"yes"}}`)},
	} {
		for _, public := range []bool{false, true} {
			if name == "lines" && public {
				continue
			}
			o := testOptions()
			o.Public = public
			m := makeAll(t, c.src, o)
			private, in := map[events.Stream]bool{}, map[string]bool{}
			for _, e := range m.events {
				switch p := e.Payload.(type) {
				case events.RoomCreated:
					private[e.Stream], in[e.Actor] = p.Private, true
					if c.direct != (len(p.Direct) == 2) {
						t.Errorf("%s: direct between %q", name, p.Direct)
					}
				case events.MemberJoined:
					in[p.User] = true
				case events.MemberLeft:
					delete(in, p.User)
				case events.MessagePosted:
					if !private[e.Stream] {
						t.Errorf("%s, -public=%v: a message is in a public room", name, public)
					}
				}
			}
			if got := strings.Join(slices.Sorted(maps.Keys(in)), " "); c.want != "" && got != c.want {
				t.Errorf("%s: the members are %s, want %s", name, got, c.want)
			}
			if len(m.of("message.posted")) == 0 && len(m.problems) == 0 {
				t.Errorf("%s: nothing was imported, and nothing reported", name)
			}
		}
	}
	o := testOptions()
	o.Public = true
	if room := makeAll(t, lines(line), o).of("room.created"); len(room) != 1 || room[0].Payload.(events.RoomCreated).Private {
		t.Errorf("-public: %v", room)
	}
}

// A room that is imported has an owner among its members at the end, or the report says that it has
// none.
func TestRoomHasOwner(t *testing.T) {
	slack := func(channel string, day string) Source {
		return Slack{Files: FilesOf(fstest.MapFS{
			"users.json":        {Data: []byte(`[{"id":"UA","name":"ada","deleted":true},{"id":"UB","name":"bob"},{"id":"UC","name":"cyd"}]`)},
			"channels.json":     {Data: []byte(`[{"id":"C1","name":"c",` + channel + `}]`)},
			"c/2020-01-01.json": {Data: []byte(`[` + day + `]`)},
		})}
	}
	said := func(user string, second int) string {
		return fmt.Sprintf(`{"type":"message","user":"%s","text":"x","ts":"157790000%d.000100"}`, user, second)
	}
	leave := `{"type":"message","subtype":"channel_leave","user":"UB","text":"x","ts":"1577900009.000100"}`
	for name, c := range map[string]struct {
		src   Source
		owner string // "": the report says that there is none
	}{
		"its creator stays":                   {slack(`"creator":"UA","members":["UB","UA"]`, said("UB", 1)), "ada"},
		"its creator has left":                {slack(`"creator":"UA","members":["UB","UC"]`, said("UA", 1)+","+said("UB", 2)), "bob"},
		"its creator is unknown":              {slack(`"creator":"UX","members":["UC","UB"]`, said("UB", 1)), "cyd"},
		"nobody has written":                  {slack(`"creator":"UA","members":["UC","UB"]`, ""), "cyd"},
		"its creator has left, and the other": {slack(`"creator":"UA","members":["UC"]`, said("UA", 1)+","+said("UB", 2)+","+leave), "cyd"},
		"nobody is left":                      {slack(`"creator":"UB"`, said("UB", 2)+","+leave), ""},
		"who left is listed":                  {slack(`"creator":"UA","members":["UB"]`, said("UA", 1)+","+said("UB", 2)+","+leave), "bob"},
		"an admin is left": {lines(`{"room":"r","author":"ada","at":"2020-01-01T00:00:00Z","text":"x"}
{"room":"r","about":{"owner":"ada","members":{"bob":"member","cyd":"admin"}}}`), "cyd"},
		"another owner is left": {lines(`{"room":"r","author":"ada","at":"2020-01-01T00:00:00Z","text":"x"}
{"room":"r","about":{"owner":"ada","members":{"bob":"member","cyd":"owner"}}}`), "cyd"},
	} {
		m := makeAll(t, c.src, testOptions())
		roles := map[string]events.Role{}
		all := m.of("room.created", "member.joined", "member.left", "member.role_changed")
		slices.SortFunc(all, func(a, b events.Event) int { return a.ID.Compare(b.ID) })
		for _, e := range all {
			switch p := e.Payload.(type) {
			case events.RoomCreated:
				roles[e.Actor] = events.RoleOwner
			case events.MemberJoined:
				roles[p.User] = p.Role
			case events.MemberRoleChanged:
				roles[p.User] = p.Role
			case events.MemberLeft:
				delete(roles, p.User)
			}
		}
		owners := slices.DeleteFunc(slices.Sorted(maps.Keys(roles)), func(user string) bool { return roles[user] != events.RoleOwner })
		if got := strings.Join(owners, " "); got != c.owner {
			t.Errorf("%s: the owners are %q, want %q", name, got, c.owner)
		}
		if c.owner == "" && !strings.Contains(strings.Join(m.notes, "\n"), "operate owner") {
			t.Errorf("%s: the report says %q", name, m.notes)
		}
	}
	src, o := slack(`"creator":"UB"`, said("UB", 1)+","+leave), testOptions()
	o.Owner = "keeper"
	if joined := makeAll(t, src, o).of("member.joined"); !slices.ContainsFunc(joined, func(e events.Event) bool {
		return e.Payload == events.MemberJoined{User: "keeper", Role: events.RoleOwner}
	}) {
		t.Errorf("-owner keeper: %v", joined)
	}
}

// Lines keep what they say of a message.
func TestMessageLines(t *testing.T) {
	m := makeAll(t, lines(`{"room":"r","author":"ada","at":"2020-01-01T00:00:00Z","text":"a","id":"1","edited":"2020-01-01T00:01:00Z","reactions":{":+1:":["bob","cyd"]},"pinned":"bob"}
{"room":"r","author":"bob","at":"2020-01-01T00:00:01Z","text":"b","reply_to":"1"}
{"room":"r","author":"bob","at":"2020-01-01T00:00:01Z","text":"c","reply_to":"none"}
`), testOptions())
	posted := m.of("message.posted")
	if to := posted[1].Payload.(events.MessagePosted).ReplyTo; to == nil || *to != posted[0].ID {
		t.Errorf("it answers %v, want %v", to, posted[0].ID)
	}
	if n := len(m.of("reaction.added")); n != 2 || len(m.of("message.edited")) != 1 || len(m.of("message.pinned")) != 1 || m.of("message.pinned")[0].Actor != "bob" {
		t.Errorf("%d reactions; %v", n, m.events)
	}
	if len(m.notes) != 1 || len(m.problems) != 0 {
		t.Errorf("notes %q, problems %q", m.notes, m.problems)
	}
}

// What may be imported as events is imported unchanged, also from where the marks are others, and only if
// that was asked for.
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
	if refused := makeAll(t, lines(b.String()), testOptions()); len(refused.events) > 0 || len(refused.problems) != len(first.events) || !strings.Contains(refused.problems[0], "-events") {
		t.Errorf("without -events: %v, %q", refused.events, refused.problems)
	}
	o := testOptions()
	o.Events = true
	again := makeAll(t, lines(b.String()), o)
	if diff := cmp.Diff(first.events, again.events); diff != "" {
		t.Error(diff)
	}
	for stream, payload := range map[events.Stream]events.Payload{
		events.UserStream("eve"):         events.UserErased{By: "eve"},
		events.OpsStream("eu-west-1"):    events.OpsActed{What: "drain"},
		events.RegionStream("eu-west-1"): events.RegionBeat{},
	} {
		_, actor := stream.Split()
		e, err := events.New(events.ID{5: 1}, stream, actor, "eu-west-1", payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if m := makeAll(t, lines(string(text)), o); len(m.events) > 0 || len(m.problems) != 1 || !strings.Contains(m.problems[0], e.Type) {
			t.Errorf("%s: %v, %q", e.Type, m.events, m.problems)
		}
	}
	o.Shift = time.Hour
	if shifted := makeAll(t, lines(b.String()), o); len(shifted.problems) != len(first.events) {
		t.Errorf("shifted: %q", shifted.problems)
	}
}

func TestApollo(t *testing.T) {
	const file = "../../../../shared/data/apollo13.jsonl"
	if _, err := os.Stat(file); err != nil {
		t.Skip("the conversation is not on this machine")
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

// A zipped export with a folder around it is the same source as the folder itself; the JSON lines
// of a folder are one conversation.
func TestOpen(t *testing.T) {
	want := makeAll(t, Slack{Files: FilesOf(os.DirFS("testdata/slack"))}, testOptions())
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
			t.Error("an author has the user name, want the id")
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

func testNowFunc() time.Time { return testNow }

func marshalIndent(v any) ([]byte, error) { return json.MarshalIndent(v, "", "\t") }

// readLenient decodes JSON as files of a Slack export are.
func readLenient(text []byte, into any) error {
	return json.NewDecoder(&lenientReader{in: utf8Reader(bytes.NewReader(text))}).Decode(into)
}
