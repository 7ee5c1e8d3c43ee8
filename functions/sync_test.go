package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/functions/health"
)

// news is the answer of GET /v1/sync.
type news struct {
	Events []struct {
		Room, Stream string
		Position     uint64
		Event        struct {
			ID, Stream, Type, Actor, Region string
			Data                            json.RawMessage
		}
	}
	Cursor      string
	More, Reset bool
}

func (n news) types() []string {
	types := []string{}
	for _, e := range n.Events {
		types = append(types, e.Event.Type)
	}
	return types
}

func (c *client) sync(cursor string, more ...string) news {
	c.r.t.Helper()
	a := c.get("/v1/sync?cursor=" + url.QueryEscape(cursor) + strings.Join(more, "")).want(200)
	var n news
	must(c.r.t, json.Unmarshal(a.body, &n))
	return n
}

func (c *client) cursor() string {
	c.r.t.Helper()
	return c.get("/v1/rooms").want(200).text("cursor")
}

// beat makes a region be heard of.
func (r *region) beat() {
	r.t.Helper()
	must(r.t, health.Beat(context.Background(), r.log, r.clock, r.name))
	r.Sync()
}

// Every kind of event comes, once, in the order of arrival, and of nothing else.
func TestSync(t *testing.T) {
	s := newScene(t)
	ada, bob, eve := s.as("ada"), s.as("bob"), s.as("eve")
	cursor, eves := bob.cursor(), eve.cursor()
	if n := bob.sync(cursor); len(n.Events) != 0 || n.More || n.Reset {
		t.Fatalf("before anything happened: %+v", n)
	}
	s.as("ada").put(s.about("/reactions/👍"), "").want(200)
	ada.patch(s.about(""), `{"text":"hello all"}`).want(200)
	ada.patch(s.room, `{"topic":"steam"}`).want(200)
	ada.put(s.about("/pin"), "").want(200)
	bob.put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200)
	ada.put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200) // is nobody's but hers
	ada.delete(s.about("")).want(200)
	secret := ada.room(`{"name":"Secret","private":true}`)
	ada.say(secret, "hidden")
	s.Sync()
	n := bob.sync(cursor)
	want := []string{"reaction.added", "message.edited", "room.updated", "message.pinned", "room.read", "message.deleted"}
	if got := n.types(); !slices.Equal(got, want) || n.More || n.Reset {
		t.Errorf("happened %v, want %v", got, want)
	}
	room := strings.TrimPrefix(s.room, "/v1/rooms/")
	for i, e := range n.Events[:4] {
		if e.Room != room || e.Position != n.Events[0].Position+uint64(i) || e.Event.Stream != "room/"+room || e.Event.Actor != "ada" {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	if e := n.Events[4]; e.Room != "" || e.Stream != "user/bob" {
		t.Errorf("the marker is %+v", e)
	}
	if again := bob.sync(n.Cursor); len(again.Events) != 0 || again.More {
		t.Errorf("told again: %v", again.types())
	}
	if n := eve.sync(eves); len(n.Events) != 0 || n.Reset {
		t.Errorf("a stranger is told %v", n.types())
	}
}

// What is told in parts is the whole, in the same order.
func TestSyncInParts(t *testing.T) {
	s := newScene(t)
	bob, cursor := s.as("bob"), s.as("bob").cursor()
	var want, got []string
	for i := range 50 {
		want = append(want, s.as("ada").say(s.room, fmt.Sprint(i)).String())
		s.Sync()
	}
	for more := true; more; {
		n := bob.sync(cursor, "&limit=7")
		if len(n.Events) > 7 || n.Cursor == cursor {
			t.Fatalf("a part has %d events", len(n.Events))
		}
		for _, e := range n.Events {
			got = append(got, e.Event.ID)
		}
		cursor, more = n.Cursor, n.More
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d events %v, want %v", len(got), got, want)
	}
}

// Who joins hears from then on; who leaves or is removed hears that, and no more.
func TestSyncOfMembership(t *testing.T) {
	s := newScene(t)
	ada, bob, eve := s.as("ada"), s.as("bob"), s.as("eve")
	secret := ada.room(`{"name":"Secret","private":true}`)
	s.Sync()
	bobs, eves := bob.cursor(), eve.cursor()
	ada.say(secret, "before")
	ada.put(secret+"/members/eve", "").want(200)
	s.Sync()
	n := eve.sync(eves)
	if got := n.types(); !slices.Contains(got, "member.joined") {
		t.Errorf("who was added is told %v", got)
	}
	eves = n.Cursor
	ada.say(secret, "during")
	s.Sync()
	if n = eve.sync(eves); len(n.Events) != 1 || n.Events[0].Event.Type != "message.posted" {
		t.Errorf("a member is told %v", n.types())
	}
	eves = n.Cursor
	ada.delete(secret + "/members/eve").want(200)
	ada.say(secret, "after")
	ada.put(secret+"/bans/eve", "").want(200)
	s.Sync()
	if got := eve.sync(eves).types(); !slices.Equal(got, []string{"member.left", "member.banned"}) {
		t.Errorf("who was removed is told %v", got)
	}
	for _, e := range eve.sync(eves).Events[1:] {
		if e.Position != 0 {
			t.Errorf("and how much happened since: %d", e.Position)
		}
	}
	if got := bob.sync(bobs).types(); len(got) != 0 {
		t.Errorf("who was never there is told %v", got)
	}
}

// In another region a cursor goes on: nothing is left out, whatever had not arrived in the first.
func TestSyncElsewhere(t *testing.T) {
	here := newScene(t)
	there := &scene{here.world.region(t, "us"), here.room, here.message}
	here.beat()
	there.beat()
	replicate(here.region, there.region)
	replicate(there.region, here.region)
	bob := here.as("bob")
	cursor := bob.cursor()
	first := there.as("ada").say(there.room, "only there")
	there.Sync()
	second := here.as("ada").say(here.room, "here, seen")
	here.Sync()
	n := bob.sync(cursor)
	if len(n.Events) != 1 || n.Events[0].Event.ID != second.String() {
		t.Fatalf("told %v", n.types())
	}
	third := here.as("ada").say(here.room, "here, not seen")
	replicate(here.region, there.region)
	told := map[string]bool{}
	m := there.as("bob").sync(n.Cursor)
	for _, e := range m.Events {
		told[e.Event.ID] = true
	}
	if m.Reset || !told[first.String()] || !told[third.String()] {
		t.Errorf("in another region, reset %v, told %v; want at least %s and %s", m.Reset, told, first, third)
	}
	if again := there.as("bob").sync(m.Cursor); len(again.Events) != 0 {
		t.Errorf("told again in the same region: %v", again.types())
	}
}

// A cursor that says nothing of other regions, or is too old for one, begins anew.
func TestSyncResets(t *testing.T) {
	here := newScene(t)
	there := &scene{here.world.region(t, "us"), here.room, here.message}
	replicate(here.region, there.region)
	if n := there.as("bob").sync(here.as("bob").cursor()); !n.Reset || len(n.Events) != 0 {
		t.Errorf("a cursor from before any beat: %+v", n)
	}
	a := here.as("bob").get("/v1/sync").want(200)
	if a.value("reset") != true || a.text("cursor") == "" {
		t.Errorf("without a cursor: %s", a.body)
	}
	here.as("bob").sync(a.text("cursor")) // which is good
}

// Nobody can use another's cursor, make one up or bend one.
func TestSyncCursor(t *testing.T) {
	s := newScene(t)
	good := s.as("bob").cursor()
	for _, cursor := range map[string]string{
		"another's": s.as("ada").cursor(), "nonsense": "nonsense!", "empty": "%20", "cut": good[:len(good)-4],
		"bent": "B" + good[1:], "long": strings.Repeat("A", 600), "zeros": strings.Repeat("A", 100),
	} {
		s.as("bob").get("/v1/sync?cursor="+cursor).refused(422, "invalid_cursor")
	}
	s.as("bob").get("/v1/sync?cursor="+good+"&limit=0").refused(422, "invalid_field")
	s.as("bob").get("/v1/sync?cursor="+good+"&wait=26").refused(422, "invalid_field")
	if len(good) > 512 {
		t.Errorf("a cursor has %d bytes", len(good))
	}
}

// A client that waits is told as soon as something happens, and of nothing when the time is up.
func TestSyncWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		bob, cursor := s.as("bob"), s.as("bob").cursor()
		start := time.Now()
		if n := bob.sync(cursor, "&wait=20"); len(n.Events) != 0 || time.Since(start) != 20*time.Second {
			t.Errorf("after %v: %v", time.Since(start), n.types())
		}
		start = time.Now()
		var said events.ID
		go func() {
			time.Sleep(7 * time.Second)
			said = s.as("ada").say(s.room, "at last")
			s.Sync()
		}()
		n := bob.sync(cursor, "&wait=20")
		if len(n.Events) != 1 || n.Events[0].Event.ID != said.String() || time.Since(start) > 9*time.Second {
			t.Errorf("after %v: %v", time.Since(start), n.types())
		}
	})
}
