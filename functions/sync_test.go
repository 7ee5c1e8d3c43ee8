package functions_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/functions/api"
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
			Deleted, Unreadable             bool
		}
	}
	Cursor            string
	More, Held, Reset bool
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
	must(r.t, health.Beat(context.Background(), r.log, r.clock, r.name, 1))
	r.Sync()
}

// Every kind of event comes, once, those of a room in the order of arrival and the user's own behind them, and
// of nothing else.
func TestSync(t *testing.T) {
	t.Parallel()
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
	s.Sync()
	bob.put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200)
	ada.put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200) // only the owner sees it
	s.Sync()                                                                // between streams there is no order
	ada.delete(s.about("")).want(200)
	secret := ada.room(`{"name":"Secret","private":true}`)
	ada.say(secret, "hidden")
	s.Sync()
	n := bob.sync(cursor)
	want := []string{"reaction.added", "message.edited", "room.updated", "message.pinned", "message.deleted", "room.read"}
	if got := n.types(); !slices.Equal(got, want) || n.More || n.Reset {
		t.Errorf("happened %v, want %v", got, want)
	}
	room := strings.TrimPrefix(s.room, "/v1/rooms/")
	for i, e := range n.Events[:5] {
		if e.Room != room || e.Position != n.Events[0].Position+uint64(i) || e.Event.Stream != "room/"+room || e.Event.Actor != "ada" {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	if e := n.Events[5]; e.Room != "" || e.Stream != "user/bob" {
		t.Errorf("the marker is %+v", e)
	}
	if again := bob.sync(n.Cursor); len(again.Events) != 0 || again.More {
		t.Errorf("sent again: %v", again.types())
	}
	if n := eve.sync(eves); len(n.Events) != 0 || n.Reset {
		t.Errorf("a stranger receives %v", n.types())
	}
}

// The parts of a catch-up make up the whole, in the same order.
func TestSyncInParts(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	s := newScene(t)
	ada, bob, eve := s.as("ada"), s.as("bob"), s.as("eve")
	secret := ada.room(`{"name":"Secret","private":true}`)
	s.Sync()
	bobs, eves := bob.cursor(), eve.cursor()
	ada.say(secret, "before")
	ada.put(secret+"/members/eve", "").want(200)
	ada.say(secret, "before joining")
	s.Sync()
	n := eve.sync(eves)
	if got := n.types(); !slices.Equal(got, []string{"member.invited"}) || n.Events[0].Position != 0 {
		t.Errorf("the invited user receives %v, at %d", got, n.Events[0].Position)
	}
	eve.put(secret+"/members/eve", "").want(200)
	s.Sync()
	n = eve.sync(n.Cursor)
	if got := n.types(); !slices.Contains(got, "member.joined") {
		t.Errorf("the user who joined receives %v", got)
	}
	eves = n.Cursor
	ada.say(secret, "during")
	s.Sync()
	if n = eve.sync(eves); len(n.Events) != 1 || n.Events[0].Event.Type != "message.posted" {
		t.Errorf("a member receives %v", n.types())
	}
	eves = n.Cursor
	ada.delete(secret + "/members/eve").want(200)
	ada.say(secret, "after")
	ada.put(secret+"/bans/eve", "").want(200)
	s.Sync()
	if got := eve.sync(eves).types(); !slices.Equal(got, []string{"member.left", "member.banned"}) {
		t.Errorf("the removed user receives %v", got)
	}
	for _, e := range eve.sync(eves).Events[1:] {
		if e.Position != 0 {
			t.Errorf("and how much happened since: %d", e.Position)
		}
	}
	if got := bob.sync(bobs).types(); len(got) != 0 {
		t.Errorf("a user who was never a member receives %v", got)
	}
}

// In another region a cursor goes on: nothing is left out, whatever had not arrived in the first.
func TestSyncElsewhere(t *testing.T) {
	t.Parallel()
	here := newScene(t)
	there := &scene{here.world.region(t, "us"), here.room, here.message, here.other}
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
		t.Fatalf("received %v", n.types())
	}
	third := here.as("ada").say(here.room, "here, not seen")
	replicate(here.region, there.region)
	received := map[string]bool{}
	m := there.as("bob").sync(n.Cursor)
	for _, e := range m.Events {
		received[e.Event.ID] = true
	}
	if m.Reset || !received[first.String()] || !received[third.String()] {
		t.Errorf("in another region, reset %v, received %v; want at least %s and %s", m.Reset, received, first, third)
	}
	if again := there.as("bob").sync(m.Cursor); len(again.Events) != 0 {
		t.Errorf("sent again in the same region: %v", again.types())
	}
}

// Without a cursor, and with one of the release before, a sync begins anew. Nothing else does: not a cursor from
// before any heartbeat, and not an old one, in whichever region.
func TestSyncResets(t *testing.T) {
	t.Parallel()
	here := newScene(t)
	there := &scene{here.world.region(t, "us"), here.room, here.message, here.other}
	replicate(here.region, there.region)
	block, err := aes.NewCipher(make([]byte, 32))
	must(t, err)
	seal, err := cipher.NewGCMWithRandomNonce(block)
	must(t, err)
	former := seal.Seal([]byte{1}, nil, []byte("\x02eu\x05EPOCH\x07\x00"), []byte("bob"))
	for _, query := range []string{"", "?cursor=" + base64.RawURLEncoding.EncodeToString(former)} {
		a := here.as("bob").get("/v1/sync" + query).want(200)
		var n news
		must(t, json.Unmarshal(a.body, &n))
		if !n.Reset || n.Cursor == "" || n.More || len(n.Events) > 0 {
			t.Errorf("GET /v1/sync%s: %s", query, a.body)
		}
		if n = here.as("bob").sync(n.Cursor); n.Reset || len(n.Events) > 0 {
			t.Errorf("with the cursor of the reset: %+v", n)
		}
	}
	cursor := here.as("bob").cursor()
	if n := there.as("bob").sync(cursor); n.Reset {
		t.Errorf("a cursor from before any heartbeat: %+v", n)
	}
	here.pass(40 * 24 * time.Hour)
	id := here.as("ada").say(here.room, "after a long time")
	here.Sync()
	replicate(here.region, there.region)
	for _, s := range []*scene{here, there} {
		n := s.as("bob").sync(cursor)
		if last := len(n.Events) - 1; n.Reset || last < 0 || n.Events[last].Event.ID != id.String() {
			t.Errorf("an old cursor in %s: %+v", s.name, n)
		}
	}
}

// A cursor of another user, an invented one and an altered one are refused.
func TestSyncCursor(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	good := s.as("bob").cursor()
	for _, cursor := range map[string]string{
		"another's": s.as("ada").cursor(), "nonsense": "nonsense!", "empty": "%20", "cut": good[:len(good)-4],
		"bent": "B" + good[1:], "long": strings.Repeat("A", api.MaxCursor+4), "zeros": strings.Repeat("A", 100),
	} {
		s.as("bob").get("/v1/sync?cursor="+cursor).refused(422, "invalid_cursor")
	}
	s.as("bob").get("/v1/sync?cursor="+good+"&limit=0").refused(422, "invalid_field")
	s.as("bob").get("/v1/sync?cursor="+good+"&wait=26").refused(422, "invalid_field")
	if len(good) > 512 {
		t.Errorf("a cursor has %d bytes", len(good))
	}
}

// A waiting request is answered as soon as something arrives, and with nothing when its time ends.
func TestSyncWaits(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} { // a single process is woken, others poll
		testSyncWaits(t, single)
	}
}

func testSyncWaits(t *testing.T, single bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.single = single
		s := w.scene(t)
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
