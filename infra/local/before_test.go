package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/pebblelog"
	"parley/projections"
)

// Data folders that an earlier release left behind are in testdata/before, one that was stopped and
// one whose process was killed, each with what that release answered at the end. Today's code must open
// them and go on. See the README there.

const beforeDir = "testdata/before"

var makeBefore = flag.String("make-before", "", "make the data folders of this release in this folder")

// left is what is known of a data folder that an earlier release left behind.
type left struct {
	Questions []question   `json:"questions"`
	Cursors   []leftCursor `json:"cursors"`
	Paused    string       `json:"paused,omitempty"` // a job of region one; what a region keeps beside its log may be lost with a process
	Rooms     []string     `json:"rooms"`
}

// question is what somebody asked at an address, and what the answer must still say.
type question struct {
	At     int            `json:"at"`
	User   string         `json:"user"`
	Path   string         `json:"path"`
	Answer map[string]any `json:"answer"`
}

// leftCursor is a cursor that a client holds, and the events that came after it. Those in the folders are
// of a release with a journal: they are answered with a reset. Cursors made since bring the events.
type leftCursor struct {
	At     int      `json:"at"`
	User   string   `json:"user"`
	Cursor string   `json:"cursor"`
	Events []string `json:"events"`
}

// TestDataOfTheReleaseBefore opens what the release before left behind and lives on in it.
func TestDataOfTheReleaseBefore(t *testing.T) {
	for _, name := range []string{"stopped", "killed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l left
			text, err := os.ReadFile(filepath.Join(beforeDir, name+".json"))
			if err == nil {
				err = json.Unmarshal(text, &l)
			}
			if err != nil {
				t.Fatal(err)
			}
			set := testSettings(t.TempDir())
			unpack(t, filepath.Join(beforeDir, name+".tar.gz"), set.data)
			s := serve(t, set)
			s.quick()
			feeds := l.feeds(t, s)
			l.check(t, s)
			l.goOn(t, s)
			s.halt()
			s = serve(t, set) // and what today's code wrote into it is read again
			l.agreed(t, s, 3)
			l.continued(t, s, feeds)
		})
	}
}

// check asks again what was asked before. The answers must hold all that they held.
func (l *left) check(t *testing.T, s *running) {
	t.Helper()
	for _, q := range l.Questions {
		if strings.HasPrefix(q.Path, "/v1/rooms?") || q.Path == "/v1/rooms" {
			l.dropDeleted(q)
		}
		c := s.at(q.At, q.User)
		if strings.HasPrefix(q.Path, "/v1/ops/") {
			c = s.operator(q.At)
		}
		got := map[string]any{}
		if !eventually(20*time.Second, func() bool {
			got = steady(c.must("GET", q.Path, nil))
			return missing("", q.Answer, got) == ""
		}) {
			t.Errorf("%s asks region %d for %s: %s", q.User, q.At, q.Path, missing("", q.Answer, got))
		}
	}
	for i, cursor := range l.Cursors { // they are places in a journal, which is gone
		page := s.at(cursor.At, cursor.User).must("GET", "/v1/sync?limit=200&cursor="+cursor.Cursor, nil)
		if page["reset"] != true || len(page["events"].([]any)) > 0 {
			t.Errorf("a cursor of %s in region %d gives %v, reset %v; want a reset", cursor.User, cursor.At, eventIDs(page), page["reset"])
		}
		l.Cursors[i].Cursor = page["cursor"].(string)
	}
}

// dropDeleted takes the deleted messages, which the release before counted, from the unread counts of an answer.
func (l *left) dropDeleted(q question) {
	for _, room := range q.Answer["rooms"].([]any) {
		room := room.(map[string]any)
		since, readTo := "", ""
		if room["read_to"] != nil {
			readTo = room["read_to"].(string)
		}
		deleted := map[string]bool{}
		for _, other := range l.Questions {
			switch path := "/v1/rooms/" + room["id"].(string); {
			case other.At != q.At || !strings.HasPrefix(other.Path, path):
			case strings.HasPrefix(other.Path, path+"/members"):
				for _, m := range other.Answer["members"].([]any) {
					if m := m.(map[string]any); m["user"] == q.User {
						since = m["since"].(string)
					}
				}
			case strings.HasPrefix(other.Path, path+"/messages?limit="):
				for _, m := range other.Answer["messages"].([]any) {
					m := m.(map[string]any)
					if m["deleted"] == true && m["author"] != q.User && m["id"].(string) > readTo && (readTo != "" || timeOf(m["sent_at"].(string)).After(timeOf(since))) {
						deleted[m["id"].(string)] = true
					}
				}
			}
		}
		room["unread"] = room["unread"].(float64) - float64(len(deleted))
	}
}

func timeOf(text string) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, text)
	return at
}

// arrival is an entry of a feed as far as it must stay.
type arrival struct {
	epoch    string
	position uint64
	ref      events.Ref
}

// feeds returns the feeds of the rooms in each region.
func (l *left) feeds(t *testing.T, s *running) (all [][]arrival) {
	t.Helper()
	for _, r := range s.cluster.regions {
		for _, room := range l.Rooms {
			entries, epoch, err := projections.ListFeed(t.Context(), r.now.Load().views, events.RoomStream(room), 0, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			var feed []arrival
			for _, e := range entries {
				feed = append(feed, arrival{epoch, e.Position, e.Ref})
			}
			all = append(all, feed)
		}
	}
	return all
}

// continued checks that feeds went on where the release before left them, without a gap and with nothing
// twice, and that its journal is gone.
func (l *left) continued(t *testing.T, s *running, before [][]arrival) {
	t.Helper()
	for i, feed := range l.feeds(t, s) {
		was := before[i]
		if len(was) == 0 || len(feed) < len(was) || !slices.Equal(feed[:len(was)], was) {
			t.Errorf("feed %d has the %d entries %v, had %v", i, len(feed), feed, was)
		}
		if i%len(l.Rooms) == 0 && len(feed) < len(was)+6 { // three messages, three reactions
			t.Errorf("feed %d has %d entries, had %d", i, len(feed), len(was))
		}
		seen := map[events.Ref]bool{}
		for j, e := range feed {
			if e.position != uint64(j+1) || e.epoch != was[0].epoch || seen[e.ref] {
				t.Errorf("feed %d has %v at %d, twice: %v", i, e, j+1, seen[e.ref])
			}
			seen[e.ref] = true
		}
	}
	for _, r := range s.cluster.regions {
		if !eventually(20*time.Second, func() bool {
			rows, err := r.now.Load().views.Query(t.Context(), "journal", projections.Range{Limit: 1})
			return err == nil && len(rows) == 0
		}) {
			t.Errorf("%s still has the journal of the release before", r.name)
		}
	}
}

// goOn does what people and operators do, in every region.
func (l *left) goOn(t *testing.T, s *running) {
	t.Helper()
	room := l.Rooms[0]
	var posted []string
	for i := range s.cluster.regions {
		ada := s.at(1+i, "ada")
		id := ada.post(room, fmt.Sprint("today ", i))
		ada.must("PUT", "/v1/rooms/"+room+"/messages/"+id+"/reactions/👍", nil)
		ada.must("PUT", "/v1/rooms/"+room+"/read", map[string]string{"up_to": id})
		posted = append(posted, id)
	}
	l.agreed(t, s, 3)
	for _, cursor := range l.Cursors { // after the reset, they bring what is new and nothing else
		var messages []string
		page := s.at(cursor.At, cursor.User).must("GET", "/v1/sync?limit=200&cursor="+cursor.Cursor, nil)
		for _, e := range page["events"].([]any) {
			if e := e.(map[string]any)["event"].(map[string]any); e["type"] == "message.posted" {
				messages = append(messages, e["id"].(string))
			}
		}
		if page["reset"] != false || !sameIDs(messages, posted) {
			t.Errorf("the cursor of %s after the reset gives %v, reset %v; want %v", cursor.User, messages, page["reset"], posted)
		}
	}
	if status, _, text := s.at(1, "eve").try("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": "again"}); status != 403 {
		t.Errorf("the erased user posts: %d %s", status, text)
	}
	if status, _, text := s.at(2, "bob").try("PUT", "/v1/rooms/"+room+"/members/bob", nil); status != 403 {
		t.Errorf("the banned user joins: %d %s", status, text)
	}
	op := s.operator(1)
	if l.Paused != "" {
		op.must("POST", "/v1/ops/jobs/"+l.Paused+"/resume", nil)
		if !eventually(20*time.Second, func() bool { return op.must("GET", "/v1/ops/jobs/"+l.Paused, nil)["done"] != 0.0 }) {
			t.Error("a job that was paused does not go on")
		}
		op.must("POST", "/v1/ops/jobs/"+l.Paused+"/cancel", nil) // it would take a second for each event
	}
	op.done(op.must("POST", "/v1/ops/generations/timeline/drop", nil)["id"].(string))
	var audits []string
	for i := range s.cluster.regions {
		audits = append(audits, s.operator(1+i).start(map[string]any{"kind": "audit"}))
	}
	for i, audit := range audits {
		if result := s.operator(1 + i).done(audit); result["differ"] != 0.0 {
			t.Errorf("the audit of region %d finds %v", 1+i, result)
		}
	}
	s.operator(3).must("DELETE", "/v1/ops/drain", nil)
}

// agreed waits until all regions have the same messages, so many more than were known at the end.
func (l *left) agreed(t *testing.T, s *running, more int) {
	t.Helper()
	for _, q := range l.Questions {
		if q.Path == "/v1/rooms/"+l.Rooms[0]+"/messages?limit=200" {
			s.agree(l.Rooms[0], "ada", len(q.Answer["messages"].([]any))+more)
			return
		}
	}
	t.Fatal("nobody asked for the messages of the room")
}

// missing says where an answer lacks what it held before; "" if it has it all.
func missing(at string, want, got any) string {
	if want, is := want.(map[string]any); is {
		got, _ := got.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if text := missing(at+"."+key, want[key], got[key]); text != "" {
				return text
			}
		}
		return ""
	}
	wants, is := want.([]any)
	gots, _ := got.([]any)
	if is && len(wants) == len(gots) {
		for i := range wants {
			if text := missing(fmt.Sprintf("%s[%d]", at, i), wants[i], gots[i]); text != "" {
				return text
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s is %v, was %v", at, got, want)
	}
	return ""
}

// steady drops from an answer what is another with every call.
func steady(answer map[string]any) map[string]any {
	for _, name := range []string{"cursor", "health", "time", "frontiers"} {
		delete(answer, name)
	}
	return answer
}

// sameIDs compares what a cursor gives: events of several rooms may come in another order.
func sameIDs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func eventIDs(page map[string]any) (ids []string) {
	for _, e := range page["events"].([]any) {
		ids = append(ids, e.(map[string]any)["event"].(map[string]any)["id"].(string))
	}
	return ids
}

// unpack makes a folder of an archive.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zipped); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		name := filepath.Join(dir, filepath.FromSlash(head.Name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(name), 0o700)
		}
		if err == nil {
			err = os.WriteFile(name, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// pack makes an archive of a folder.
func pack(t *testing.T, dir, archive string) {
	t.Helper()
	file, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	zipped, _ := gzip.NewWriterLevel(file, gzip.BestCompression)
	w := tar.NewWriter(zipped)
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: path, Mode: 0o600, Size: int64(len(content)), Format: tar.FormatPAX})
		}
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	})
	if err = errors.Join(err, w.Close(), zipped.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestMakeBefore makes the data folders of this release, for the tests of those that come. It is run
// once for a release, by testdata/before/make.sh.
func TestMakeBefore(t *testing.T) {
	if *makeBefore == "" {
		t.Skip("runs with -make-before only")
	}
	for _, name := range []string{"stopped", "killed"} {
		data := filepath.Join(t.TempDir(), "data")
		c := &child{t: t, args: []string{"-addr", "127.0.0.1:0", "-data", data, "-regions", "one,two,three", "-lag", "4ms", "-rate", "0"}}
		c.start()
		rooms, cursors := c.beginStory()
		c.stop()
		plantUnreadable(t, data, rooms[0])
		c.start()
		l := &left{Rooms: rooms, Cursors: cursors, Paused: c.operate()}
		if name == "stopped" {
			c.note(l, true)
			c.stop()
		} else {
			for i := range 6 {
				c.everywhere(rooms[0], c.as(1+i%3, "ada").post(rooms[0], fmt.Sprint("the last but ", 5-i)))
			}
			l.Paused = ""
			c.note(l, false)
			c.kill()
		}
		text, err := json.MarshalIndent(l, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(*makeBefore, name+".json"), append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		pack(t, data, filepath.Join(*makeBefore, name+".tar.gz"))
	}
}

// stop ends the process as Ctrl-C does.
func (c *child) stop() {
	c.t.Helper()
	if err := errors.Join(c.cmd.Process.Signal(os.Interrupt), c.cmd.Wait()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) as(at int, user string) *client {
	c.t.Helper()
	return newClient(c.t, c.urls[0], c.urls[at], user)
}

func (c *child) op(at int) *client {
	c.t.Helper()
	return newOperator(c.t, c.urls[0], c.urls[at])
}

// plantUnreadable puts an event of a later release into the log of region one, to be parked everywhere.
func plantUnreadable(t *testing.T, data, room string) {
	t.Helper()
	e, err := events.Decode(events.Stored{
		Stream: "room/" + room, ID: events.ID{5: 1, 15: 1}.String(), Type: "message.moved/9", Actor: "ada", Region: "one", Data: `{"to":"<elsewhere>"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := pebblelog.Open(filepath.Join(data, "one", "log"), pebblelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Replicate(t.Context(), []events.Record{{Event: e, At: time.Now()}}), l.Close()); err != nil {
		t.Fatal(err)
	}
}

// beginStory lets people talk until there is something of everything, and takes cursors on the way.
func (c *child) beginStory() (rooms []string, cursors []leftCursor) {
	c.t.Helper()
	ada, grace, alan, eve, bob := c.as(1, "ada"), c.as(2, "grace"), c.as(3, "alan"), c.as(1, "eve"), c.as(2, "bob")
	for _, who := range []*client{ada, grace, eve} {
		who.must("PUT", "/v1/users/"+who.user, map[string]string{"name": strings.ToUpper(who.user), "about": "me & <myself>"})
	}
	lobby, _ := ada.must("POST", "/v1/rooms", map[string]string{"name": "Lobby", "topic": "all & sundry"})["id"].(string)
	crew, _ := ada.must("POST", "/v1/rooms", map[string]any{"name": "Crew", "private": true})["id"].(string)
	direct, _ := ada.must("PUT", "/v1/direct/grace", nil)["id"].(string)
	for _, who := range []*client{grace, alan, eve, bob} {
		who.join(lobby)
	}
	ada.must("PUT", "/v1/rooms/"+crew+"/members/grace", nil)
	grace.join(crew)
	ada.soon("PATCH", "/v1/rooms/"+crew+"/members/grace", map[string]string{"role": "admin"})
	ada.must("PATCH", "/v1/rooms/"+lobby, map[string]string{"topic": "everybody"})
	first := ada.post(lobby, "first <b>message</b> 👩‍🚀")
	c.everywhere(lobby, first)
	cursors = append(cursors, c.cursor(1, "ada"), c.cursor(2, "grace"))

	grace.must("POST", "/v1/rooms/"+lobby+"/messages", map[string]string{"text": "in the thread", "thread": first})
	alan.must("POST", "/v1/rooms/"+lobby+"/messages", map[string]string{"text": "an answer", "reply_to": first})
	edited, gone, moderated := ada.post(lobby, "tpyo"), grace.post(lobby, "a mistake"), bob.post(lobby, "spam")
	ada.must("PATCH", "/v1/rooms/"+lobby+"/messages/"+edited, map[string]string{"text": "typo"})
	grace.must("DELETE", "/v1/rooms/"+lobby+"/messages/"+gone, nil)
	ada.soon("DELETE", "/v1/rooms/"+lobby+"/messages/"+moderated, nil)
	ada.must("PUT", "/v1/rooms/"+lobby+"/messages/"+first+"/pin", nil)
	for _, who := range []*client{grace, alan, eve} {
		who.must("PUT", "/v1/rooms/"+lobby+"/messages/"+first+"/reactions/👍", nil)
	}
	alan.must("DELETE", "/v1/rooms/"+lobby+"/messages/"+first+"/reactions/👍", nil)
	secret := eve.post(lobby, "eve's secret")
	ada.must("PUT", "/v1/rooms/"+lobby+"/bans/bob", nil)
	alan.must("DELETE", "/v1/rooms/"+lobby+"/members/alan", nil)
	alan.join(lobby)
	c.everywhere(lobby, secret)
	grace.must("PUT", "/v1/rooms/"+lobby+"/read", map[string]string{"up_to": first})
	for i := range 3 {
		last := grace.post(crew, fmt.Sprint("crew ", i))
		grace.soon("POST", "/v1/rooms/"+direct+"/messages", map[string]string{"text": fmt.Sprint("direct ", i)})
		c.everywhere(crew, last)
	}
	return []string{lobby, crew, direct}, cursors
}

// everywhere waits until all regions have a message.
func (c *child) everywhere(room, id string) {
	c.t.Helper()
	for at := 1; at <= 3; at++ {
		c.as(at, "ada").soon("GET", "/v1/rooms/"+room+"/messages/"+id, nil)
	}
}

func (c *child) cursor(at int, user string) leftCursor {
	c.t.Helper()
	cursor, _ := c.as(at, user).must("GET", "/v1/rooms", nil)["cursor"].(string)
	return leftCursor{At: at, User: user, Cursor: cursor}
}

// operate does what operators do, and returns a job that it has paused.
func (c *child) operate() (paused string) {
	c.t.Helper()
	one := c.op(1)
	for at := 1; at <= 3; at++ {
		if !eventually(20*time.Second, func() bool { return len(c.op(at).must("GET", "/v1/ops/parked", nil)["parked"].([]any)) == 1 }) {
			c.t.Fatal("nothing is parked")
		}
	}
	one.must("POST", "/v1/ops/users/eve/erase", nil)
	if !eventually(20*time.Second, func() bool { return one.acknowledged("eve") == "one three two" }) {
		c.t.Fatal("not all regions have heard of the erasure")
	}
	one.done(one.start(map[string]any{"kind": "rebuild"}))
	one.done(one.start(map[string]any{"kind": "audit"}))
	paused = one.start(map[string]any{"kind": "replay", "to": "again", "rate": 1})
	one.must("POST", "/v1/ops/jobs/"+paused+"/pause", nil)
	c.op(3).must("PUT", "/v1/ops/drain", nil)
	return paused
}

// note notes what everybody is answered at the end, operators too or not.
func (c *child) note(l *left, operators bool) {
	c.t.Helper()
	c.everywhere(l.Rooms[0], c.as(2, "grace").post(l.Rooms[0], "the end"))
	for i, cursor := range l.Cursors {
		l.Cursors[i].Events = eventIDs(c.as(cursor.At, cursor.User).must("GET", "/v1/sync?limit=200&cursor="+cursor.Cursor, nil))
	}
	for at := 1; at <= 3; at++ {
		ask := func(asker *client, user string, paths ...string) {
			for _, path := range paths {
				l.Questions = append(l.Questions, question{at, user, path, steady(asker.must("GET", path, nil))})
			}
		}
		ada := c.as(at, "ada")
		for _, room := range l.Rooms {
			ask(ada, "ada", "/v1/rooms/"+room, "/v1/rooms/"+room+"/members", "/v1/rooms/"+room+"/messages?limit=200")
		}
		first := l.Questions[len(l.Questions)-7].Answer["messages"].([]any)[0].(map[string]any)["id"].(string)
		ask(ada, "ada", "/v1/rooms/"+l.Rooms[0]+"/messages/"+first, "/v1/rooms/"+l.Rooms[0]+"/messages/"+first+"/replies", "/v1/users/ada", "/v1/users/eve")
		for _, user := range []string{"ada", "grace", "alan"} {
			ask(c.as(at, user), user, "/v1/rooms")
		}
		if operators {
			ask(c.op(at), "olga", "/v1/ops/status", "/v1/ops/jobs", "/v1/ops/parked", "/v1/ops/users/eve/erasure")
		}
	}
}
