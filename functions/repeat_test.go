package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

// scene is a room with a message, in which every command can be given.
type scene struct {
	*region
	room    string // its path
	message events.ID
}

// newScene makes a public room of ada's, with bob as a member and a message by ada.
func newScene(t testing.TB) *scene {
	t.Helper()
	r := newRegion(t)
	room := r.as("ada").room(`{"name":"Engine"}`)
	r.as("bob").put(room+"/members/bob", "").want(200)
	s := &scene{r, room, r.as("ada").say(room, "hello")}
	r.Sync()
	return s
}

func (s *scene) about(rest string) string { return s.room + "/messages/" + s.message.String() + rest }

// order is a command that ada gives; key is its id. A command with its id in the path has no need
// of a key.
type order struct {
	name   string
	give   func(s *scene, c *client, id events.ID) *answer
	status int // of the first time
	stream func(s *scene) events.Stream
}

func inRoom(s *scene) events.Stream {
	return events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/"))
}
func inUser(*scene) events.Stream { return events.UserStream("ada") }

// orders are all commands that ada can give in a scene.
var orders = []order{
	{"post", func(s *scene, c *client, id events.ID) *answer {
		return c.key(id).post(s.room+"/messages", `{"text":"a"}`)
	}, 201, inRoom},
	{"put", func(s *scene, c *client, id events.ID) *answer {
		return c.put(s.room+"/messages/"+id.String(), `{"text":"a"}`)
	}, 201, inRoom},
	{"reply", func(s *scene, c *client, id events.ID) *answer {
		m := s.message.String()
		return c.put(s.room+"/messages/"+id.String(), `{"text":"a","reply_to":"`+m+`","thread":"`+m+`","after":"`+m+`"}`)
	}, 201, inRoom},
	{"edit", func(s *scene, c *client, id events.ID) *answer { return c.key(id).patch(s.about(""), `{"text":"b"}`) }, 200, inRoom},
	{"delete", func(s *scene, c *client, id events.ID) *answer { return c.key(id).delete(s.about("")) }, 200, inRoom},
	{"react", func(s *scene, c *client, id events.ID) *answer { return c.key(id).put(s.about("/reactions/👍"), "") }, 200, inRoom},
	{"unreact", func(s *scene, c *client, id events.ID) *answer { return c.key(id).delete(s.about("/reactions/👍")) }, 200, inRoom},
	{"pin", func(s *scene, c *client, id events.ID) *answer { return c.key(id).put(s.about("/pin"), "") }, 200, inRoom},
	{"unpin", func(s *scene, c *client, id events.ID) *answer { return c.key(id).delete(s.about("/pin")) }, 200, inRoom},
	{"change room", func(s *scene, c *client, id events.ID) *answer { return c.key(id).patch(s.room, `{"name":"B"}`) }, 200, inRoom},
	{"archive", func(s *scene, c *client, id events.ID) *answer { return c.key(id).patch(s.room, `{"archived":true}`) }, 200, inRoom},
	{"unarchive", func(s *scene, c *client, id events.ID) *answer { return c.key(id).patch(s.room, `{"archived":false}`) }, 200, inRoom},
	{"add", func(s *scene, c *client, id events.ID) *answer { return c.key(id).put(s.room+"/members/eve", "") }, 200, inRoom},
	{"add admin", func(s *scene, c *client, id events.ID) *answer {
		return c.key(id).put(s.room+"/members/eve", `{"role":"admin"}`)
	}, 200, inRoom},
	{"change role", func(s *scene, c *client, id events.ID) *answer {
		return c.key(id).patch(s.room+"/members/bob", `{"role":"admin"}`)
	}, 200, inRoom},
	{"remove", func(s *scene, c *client, id events.ID) *answer { return c.key(id).delete(s.room + "/members/bob") }, 200, inRoom},
	{"ban", func(s *scene, c *client, id events.ID) *answer { return c.key(id).put(s.room+"/bans/bob", "") }, 200, inRoom},
	{"create room", func(s *scene, c *client, id events.ID) *answer {
		return c.key(id).post("/v1/rooms", `{"name":"New","private":true}`)
	}, 201, nil},
	{"put room", func(s *scene, c *client, id events.ID) *answer {
		return c.put("/v1/rooms/"+id.String(), `{"name":"New","topic":"t"}`)
	}, 201, nil},
	{"direct", func(s *scene, c *client, id events.ID) *answer { return c.key(id).put("/v1/direct/bob", "") }, 201, func(*scene) events.Stream {
		return events.RoomStream(events.DirectRoom("ada", "bob"))
	}},
	{"read", func(s *scene, c *client, id events.ID) *answer {
		return c.key(id).put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`)
	}, 200, inUser},
	{"profile", func(s *scene, c *client, id events.ID) *answer {
		return c.key(id).put("/v1/users/ada", `{"name":"Ada"}`)
	}, 200, inUser},
}

func (o order) events(s *scene, id events.ID) int {
	if o.stream == nil {
		return s.count(events.RoomStream(id.String()))
	}
	return s.count(o.stream(s))
}

// eachOrder runs a test for every command.
func eachOrder(t *testing.T, test func(t *testing.T, s *scene, o order)) {
	t.Helper()
	for _, o := range orders {
		t.Run(strings.ReplaceAll(o.name, " ", "_"), func(t *testing.T) { test(t, newScene(t), o) })
	}
}

// first and again have the same body, but for the mark of a repeat.
func wantRepeat(t *testing.T, first, again *answer) {
	t.Helper()
	again.want(200)
	want, got := first.value().(map[string]any), again.value().(map[string]any)
	if _, accepted := want["event"]; accepted {
		want["repeat"] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: the repeat differs (-first +again):\n%s", again.asked, diff)
	}
}

func TestRepeat(t *testing.T) {
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		ada := s.as("ada")
		id := ada.mint()
		first := o.give(s, ada, id).want(o.status)
		n := o.events(s, id)
		wantRepeat(t, first, o.give(s, ada, id))
		s.Sync()
		wantRepeat(t, first, o.give(s, ada, id))
		s.pass(25 * time.Hour)
		wantRepeat(t, first, o.give(s, ada, id))
		if got := o.events(s, id); got != n {
			t.Errorf("the repeats made %d events of %d", got, n)
		}
	})
}

// What was accepted once stays accepted, whatever has become of the room and of ada since.
func TestRepeatRefusedNow(t *testing.T) {
	changes := map[string]func(s *scene){
		"archived": func(s *scene) { s.as("zoe").patch(s.room, `{"archived":true}`).want(200) },
		"removed":  func(s *scene) { s.as("zoe").delete(s.room + "/members/ada").want(200) },
		"banned":   func(s *scene) { s.as("zoe").put(s.room+"/bans/ada", "").want(200) },
		"hidden": func(s *scene) {
			s.as("zoe").delete(s.room + "/members/ada").want(200)
			s.as("zoe").patch(s.room, `{"private":true}`).want(200)
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			eachOrder(t, func(t *testing.T, s *scene, o order) {
				ada := s.as("ada")
				ada.put(s.room+"/members/zoe", `{"role":"owner"}`).want(200)
				id := ada.mint()
				first := o.give(s, ada, id).want(o.status)
				if o.name == "archive" {
					s.as("zoe").patch(s.room, `{"archived":false}`).want(200)
				}
				change(s)
				s.Sync()
				s.pass(25 * time.Hour)
				wantRepeat(t, first, o.give(s, ada, id))
			})
		})
	}
}

// A taken id never takes another content, and nothing is overwritten.
func TestTakenID(t *testing.T) {
	s := newScene(t)
	ada := s.as("ada")
	id := ada.mint()
	ada.put(s.room+"/messages/"+id.String(), `{"text":"a"}`).want(201)
	for _, o := range orders {
		if o.stream == nil || o.stream(s) != inRoom(s) || o.name == "put" || o.name == "post" {
			continue
		}
		o.give(s, ada, id).refused(409, "id_taken")
	}
	ada.put(s.room+"/messages/"+id.String(), `{"text":"b"}`).refused(409, "id_taken")
	ada.key(id).put(s.room+"/members/bob", "").refused(409, "id_taken") // there already, but not by this
	s.Sync()
	if got := ada.get(s.room + "/messages/" + id.String()); got.text("text") != "a" {
		t.Errorf("the message is %s", got.body)
	}
	room := ada.mint()
	ada.put("/v1/rooms/"+room.String(), `{"name":"A"}`).want(201)
	ada.put("/v1/rooms/"+room.String(), `{"name":"B"}`).refused(409, "id_taken")
	ada.put("/v1/rooms/"+room.String(), `{"name":"A","private":true}`).refused(409, "id_taken")
}

// Times and owners of ids, each at the edge and one beyond.
func TestJudgeID(t *testing.T) {
	s := newScene(t)
	s.step.Store(0)
	ada, now := s.as("ada"), s.now()
	put := func(id events.ID) *answer { return ada.put(s.room+"/messages/"+id.String(), `{"text":"a"}`) }
	put(s.mintAt("ada", now.Add(10*time.Second))).want(201)
	late := put(s.mintAt("ada", now.Add(10*time.Second+time.Millisecond))).refused(422, "id_in_future")
	if at, err := time.Parse(time.RFC3339Nano, late.text("time")); err != nil || !at.Equal(now) {
		t.Errorf("the server's time is %q, want %v", late.text("time"), now)
	}
	put(s.mintAt("ada", now.Add(11*time.Second))).refused(422, "id_in_future")
	old := s.mintAt("ada", now.Add(-24*time.Hour))
	put(old).want(201)
	early := put(s.mintAt("ada", now.Add(-24*time.Hour-time.Millisecond))).refused(422, "id_in_past")
	if early.text("time") == "" {
		t.Error("the server's time is missing")
	}
	s.pass(time.Hour)
	put(old).want(200)
	put(s.mintAt("ada", now.Add(-24*time.Hour))).refused(422, "id_in_past")

	put(s.mint("bob")).refused(403, "id_not_yours")
	s.as("bob").put(s.room+"/messages/"+old.String(), `{"text":"a"}`).refused(403, "id_not_yours")
	put(events.ID{}).refused(403, "id_not_yours")
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		o.give(s, s.as("ada"), s.mint("bob")).refused(403, "id_not_yours")
		if o.name != "profile" && o.stream != nil {
			o.give(s, s.as("ada"), s.mintAt("ada", s.now().Add(11*time.Second))).refused(422, "id_in_future")
		}
	})
}

// An operator may write for another, with ids of that user and of any age; nobody else may.
func TestImport(t *testing.T) {
	s := newScene(t)
	op := s.operator("root")
	id := s.mintAt("bob", time.Date(1970, 4, 13, 0, 0, 0, 0, time.UTC))
	body := `{"text":"old","author":"bob"}`
	a := op.put(s.room+"/messages/"+id.String(), body).want(201)
	if a.text("author") != "bob" {
		t.Errorf("imported: %s", a.body)
	}
	wantRepeat(t, a, op.put(s.room+"/messages/"+id.String(), body))
	op.put(s.room+"/messages/"+s.mint("root").String(), body).refused(403, "id_not_yours")
	op.put(s.room+"/messages/"+s.mintAt("bob", s.now().Add(time.Minute)).String(), body).refused(422, "id_in_future")
	op.post(s.room+"/messages", `{"text":"x","author":"b/b"}`).refused(422, "invalid_field").names("author")
	op.post(s.room+"/messages", `{"text":"x","author":"eve"}`).refused(403, "not_a_member")
	op.post(s.room+"/messages", `{"text":"x"}`).refused(403, "not_a_member")
	s.as("ada").post(s.room+"/messages", `{"text":"x","author":"bob"}`).refused(403, "operator_only")
	s.as("ada").post(s.room+"/messages", `{"text":"x","author":"ada"}`).want(201)
}

// An id sorts after everything it refers to; one that the server mints always does.
func TestCauses(t *testing.T) {
	s := newScene(t)
	ada := s.as("ada")
	early := ada.mint()
	m := s.as("bob").say(s.room, "later").String()
	for _, field := range []string{"reply_to", "thread", "after"} {
		body := `{"text":"a","` + field + `":"` + m + `"}`
		ada.put(s.room+"/messages/"+early.String(), body).refused(422, "id_order")
		ada.key(early).post(s.room+"/messages", body).refused(422, "id_order")
	}
	for _, path := range []string{"/reactions/👍", "/pin"} {
		ada.key(early).put(s.room+"/messages/"+m+path, "").refused(422, "id_order")
		ada.key(early).delete(s.room+"/messages/"+m+path).refused(422, "id_order")
	}
	ada.key(early).delete(s.room+"/messages/"+m).refused(422, "id_order")
	s.as("bob").key(s.mintAt("bob", s.now().Add(-time.Hour))).patch(s.room+"/messages/"+m, `{"text":"a"}`).refused(422, "id_order")
	ada.key(early).put(s.room+"/read", `{"up_to":"`+m+`"}`).refused(422, "id_order")

	// bob's clock is ahead of the server's by 9 s.
	ahead := s.mintAt("bob", s.now().Add(9*time.Second))
	s.as("bob").put(s.room+"/messages/"+ahead.String(), `{"text":"ahead"}`).want(201)
	for _, field := range []string{"reply_to", "thread", "after"} {
		a := ada.post(s.room+"/messages", `{"text":"a","`+field+`":"`+ahead.String()+`"}`).want(201)
		if a.id().Compare(ahead) <= 0 {
			t.Errorf("%s: the answer sorts before its question", field)
		}
	}
	if id := ada.put(s.room+"/messages/"+ahead.String()+"/pin", "").want(200).id(); id.Compare(ahead) <= 0 {
		t.Error("the pin sorts before its message")
	}
	beyond := s.mintAt("bob", s.now().Add(time.Minute)).String()
	for _, field := range []string{"reply_to", "thread", "after"} {
		ada.post(s.room+"/messages", `{"text":"a","`+field+`":"`+beyond+`"}`).refused(422, "invalid_field").names(field)
	}
	ada.put(s.room+"/read", `{"up_to":"`+beyond+`"}`).refused(422, "invalid_field").names("up_to")
	ada.delete(s.room+"/messages/"+beyond).refused(422, "invalid_field").names("id")
}

// Two regions that accept one command before they hear of each other hold one event.
func TestTwoRegionsAccept(t *testing.T) {
	for _, o := range orders {
		t.Run(strings.ReplaceAll(o.name, " ", "_"), func(t *testing.T) {
			s := newScene(t)
			there := &scene{s.world.region(t, "us"), s.room, s.message}
			replicate(s.region, there.region)
			id := s.mint("ada")
			n := o.events(s, id)
			a, b := o.give(s, s.as("ada"), id).want(o.status), o.give(there, there.as("ada"), id).want(o.status)
			for range 2 {
				replicate(s.region, there.region)
				replicate(there.region, s.region)
			}
			if here, there := o.events(s, id), o.events(there, id); here != n+1 || there != n+1 {
				t.Errorf("there were %d events; one region has %d, the other %d", n, here, there)
			}
			if a.text("event") != b.text("event") || a.text("id") != b.text("id") {
				t.Errorf("the regions answer %s and %s", a.body, b.body)
			}
			o.give(s, s.as("ada"), id).want(200)
			o.give(there, there.as("ada"), id).want(200)
			for _, path := range []string{s.room, s.room + "/messages", s.room + "/members", "/v1/rooms"} {
				x, y := s.as("zoe").get(path), there.as("zoe").get(path)
				if diff := cmp.Diff(shown(x), shown(y)); diff != "" {
					t.Errorf("%s: the regions differ:\n%s", path, diff)
				}
			}
		})
	}
}

// shown is an answer without what names the request, or a place in this region.
func shown(a *answer) any {
	object, ok := a.value().(map[string]any)
	if ok {
		delete(object, "request_id")
		delete(object, "cursor")
	}
	return fmt.Sprint(a.status, object)
}
