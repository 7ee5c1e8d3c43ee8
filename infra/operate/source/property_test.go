package source

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/events"
)

type testLine struct {
	Room   string    `json:"room"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
	ID     string    `json:"id,omitempty"`
	Thread string    `json:"thread,omitempty"`
}

// drawLines draws a conversation with many messages in the same millisecond; times may go back.
func drawLines(t *rapid.T) (all []testLine, text []byte) {
	sorted := rapid.Bool().Draw(t, "sorted")
	at := int64(0)
	for i := range rapid.IntRange(0, 60).Draw(t, "lines") {
		if sorted {
			at += rapid.Int64Range(0, 2).Draw(t, "step")
		} else {
			at = rapid.Int64Range(0, 5).Draw(t, "at")
		}
		l := testLine{
			Room:   rapid.SampledFrom([]string{"a", "b"}).Draw(t, "room"),
			Author: rapid.SampledFrom([]string{"ada", "bob", "Charles B.", "dora"}).Draw(t, "author"),
			At:     time.UnixMilli(at).UTC(),
			Text:   rapid.SampledFrom([]string{"yes", "no"}).Draw(t, "text"),
		}
		if rapid.Bool().Draw(t, "named") {
			l.ID = fmt.Sprint("m", i)
		}
		if len(all) > 0 && rapid.Bool().Draw(t, "replies") {
			l.Thread = fmt.Sprint("m", rapid.IntRange(0, i).Draw(t, "to"))
		}
		line, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		all, text = append(all, l), append(append(text, line...), '\n')
	}
	return all, text
}

// Every message is imported once. Messages of one room and millisecond keep the order of the source.
// Each sorts after its room, its author's joining and its thread, at its time plus the few
// milliseconds that this needs. A second import makes the same events.
func TestLinesProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all, text := drawLines(rt)
		src := lines(string(text))
		m := makeAll(t, src, testOptions())
		if diff := cmp.Diff(m.events, makeAll(t, src, testOptions()).events); diff != "" {
			rt.Fatalf("the second import differs:\n%s", diff)
		}
		addsNothing(t, src, m)
		posted := m.of("message.posted")
		if len(posted) != len(all) || len(m.problems) > 0 {
			rt.Fatalf("%d messages of %d lines, %q", len(posted), len(all), m.problems)
		}
		created, joined := map[events.Stream]events.ID{}, map[string]events.ID{}
		for _, e := range m.events {
			switch p := e.Payload.(type) {
			case events.RoomCreated:
				if !events.CreatesRoom(e, p) {
					rt.Fatal("a room.created that does not create its room")
				}
				created[e.Stream], joined[string(e.Stream)+e.Actor] = e.ID, e.ID
			case events.MemberJoined:
				joined[string(e.Stream)+p.User] = e.ID
			}
		}
		last := map[string]events.ID{}
		for i, e := range posted {
			l := all[i]
			if e.Actor != UserOf(l.Author) || e.Payload.(events.MessagePosted).Text.Text() != l.Text {
				rt.Fatalf("message %d is wrong", i)
			}
			if moved := e.ID.Timestamp().Sub(l.At); moved < 0 || moved > time.Duration(len(all)+leadMillis)*time.Millisecond {
				rt.Fatalf("message %d was moved by %s", i, moved)
			}
			if e.ID.Compare(created[e.Stream]) <= 0 || e.ID.Compare(joined[string(e.Stream)+e.Actor]) <= 0 {
				rt.Fatalf("message %d sorts before its room or its author's joining", i)
			}
			if thread := e.Payload.(events.MessagePosted).Thread; thread != nil && thread.Compare(e.ID) >= 0 {
				rt.Fatalf("message %d sorts before its thread", i)
			}
			at := l.Room + l.At.String()
			if e.ID.Compare(last[at]) <= 0 {
				rt.Fatalf("message %d sorts before an earlier one of the same millisecond", i)
			}
			last[at] = e.ID
		}
	})
}

// A conversation sorted by time keeps its order, whatever the authors' marks.
func TestSortedStaysSorted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all, text := drawLines(rt)
		for i := range all {
			if i > 0 && all[i].At.Before(all[i-1].At) {
				rt.Skip("its times go back")
			}
		}
		last := map[events.Stream]events.ID{}
		for _, e := range makeAll(t, lines(string(text)), testOptions()).of("message.posted") {
			if e.ID.Compare(last[e.Stream]) <= 0 {
				rt.Fatal("two messages were swapped")
			}
			last[e.Stream] = e.ID
		}
	})
}

func TestUserOf(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := rapid.String().Draw(rt, "a"), rapid.String().Draw(rt, "b")
		for _, name := range []string{a, b} {
			if got := UserOf(name); name != "" && events.ValidateUser("user", got) != nil {
				rt.Fatalf("%q is mapped to %q", name, got)
			}
		}
		if a != b && UserOf(a) == UserOf(b) {
			rt.Fatalf("%q and %q become one user", a, b)
		}
	})
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte(`{"room":"r","author":"a","at":"2020-01-01T00:00:00Z","text":"t","id":"1"}` + "\n" +
		`{"room":"r","author":"b c","at":"2020-01-01T00:00:00Z","text":"t","thread":"1"}`))
	f.Add([]byte(`{"id":"01DXF6GVN1ZQQ4638000R7T54F","stream":"room/01DXF6GVN0G6V3FP00002C4QTG","type":"member.joined","version":1,"actor":"ada","region":"eu-west-1","data":{"user":"ada","role":"member"}}`))
	f.Add([]byte("{}\n\r\n[1]\nnull\n\"\xff\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		src := lines(string(text))
		m := makeAll(t, src, testOptions())
		if diff := cmp.Diff(m.events, makeAll(t, src, testOptions()).events); diff != "" {
			t.Error(diff)
		}
		addsNothing(t, src, m)
	})
}

// addsNothing checks that a second import adds nothing.
func addsNothing(t *testing.T, src Source, first made) {
	for _, e := range makeAfter(t, src, testOptions(), first.events).added {
		if kind, _ := e.Stream.Split(); kind == events.KindRoom { // users' streams are not read
			t.Errorf("a second import adds %s %s", e.Type, e.Data)
		}
	}
}

func FuzzSlack(f *testing.F) {
	f.Add([]byte(`[{"id":"U1","name":"ada","updated":5,"profile":{"real_name":"Ada"}}]`),
		[]byte(`[{"id":"C1","name":"general","created":1577836800,"creator":"U1","members":["U1"],"topic":{"value":"t"}}]`),
		[]byte(`[{"type":"message","user":"U1","text":"<@U1> &lt;","ts":"1577836870.000200","edited":{"user":"U1","ts":"1577836875.0"},"reactions":[{"name":"a","users":["U2"],"count":1}]},
		{"type":"message","user":"U2","text":"x","ts":"1577836870.000300","thread_ts":"1577836870.000200"},{"type":"message","subtype":"channel_leave","user":"U2","ts":"1577836880.0"}]`))
	f.Add([]byte(`[`), []byte(`[{"id":"D1","name":"general","members":["a","b"]},{"id":"D1","name":"general"}]`), []byte(`[{"ts":"1"}, 7]`))
	f.Fuzz(func(t *testing.T, users, channels, day []byte) {
		for _, list := range slackLists {
			src := Slack{Files: FilesOf(fstest.MapFS{
				"users.json": {Data: users}, list: {Data: channels},
				"general/2020-01-01.json": {Data: day}, "D1/2020-01-01.json": {Data: day},
			})}
			m := makeAll(t, src, testOptions())
			if diff := cmp.Diff(m.events, makeAll(t, src, testOptions()).events); diff != "" {
				t.Error(diff)
			}
			addsNothing(t, src, m)
		}
	})
}
