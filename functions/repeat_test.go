package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"parley/events"
)

// scene is a room with a message, in which every command can be given.
type scene struct {
	*region
	room    string // its path
	message events.ID
	other   string // an ordinary member
}

// newScene makes a public room of ada's, with bob as a member and a message by ada.
func newScene(t testing.TB) *scene {
	t.Helper()
	return newWorld(t).scene(t)
}

func (w *world) scene(t testing.TB) *scene {
	t.Helper()
	r := w.region(t, "eu")
	room := r.as("ada").room(`{"name":"Engine"}`)
	r.as("bob").put(room+"/members/bob", "").want(200)
	s := &scene{r, room, r.as("ada").say(room, "hello"), "bob"}
	r.Sync()
	return s
}

func (s *scene) about(rest string) string { return s.room + "/messages/" + s.message.String() + rest }

// order is a command that ada gives in a scene.
type order struct {
	name string
	asked
}

// orders are all commands, each as in the table of operations, and some with another content.
func orders() (all []order) {
	for _, op := range operations {
		if op.method != "GET" {
			all = append(all, order{op.id, op})
		}
	}
	const refs = `{"text":"a","reply_to":"{message}","thread":"{message}","after":"{message}"}`
	return append(all,
		order{"reply", asked{id: "putMessage", method: "PUT", path: "{room}/messages/{new}", body: refs, owner: 201}},
		order{"rename", asked{id: "changeRoom", method: "PATCH", path: "{room}", body: `{"name":"B"}`, owner: 200}},
		order{"archive", asked{id: "changeRoom", method: "PATCH", path: "{room}", body: `{"archived":true}`, owner: 200}},
		order{"unarchive", asked{id: "changeRoom", method: "PATCH", path: "{room}", body: `{"archived":false}`, owner: 200}},
	)
}

// give sends the command with an id: in its path, if that has one, or else in the header.
func (o order) give(s *scene, c *client, id events.ID) *answer {
	path := strings.ReplaceAll(o.path, "{new}", id.String())
	if path == o.path {
		c = c.key(id)
	}
	return c.do(o.method, s.fill(c.user, path), s.fill(c.user, o.body))
}

func (o order) createsRoom() bool { return o.id == "createRoom" || o.id == "putRoom" }

// stream returns where the event of the command with an id goes.
func (o order) stream(s *scene, id events.ID) events.Stream {
	switch {
	case o.createsRoom():
		return events.RoomStream(id.String())
	case o.id == "openDirect":
		return events.RoomStream(events.DirectRoom("ada", s.other))
	case o.id == "setRead" || o.id == "setUnread" || o.id == "setProfile":
		return events.UserStream("ada")
	default:
		return events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/"))
	}
}

func (o order) events(s *scene, id events.ID) int { return s.count(o.stream(s, id)) }

// eachOrder runs a test for every command, each in a scene in which it can be given.
func eachOrder(t *testing.T, test func(t *testing.T, s *scene, o order)) {
	t.Helper()
	for _, o := range orders() {
		t.Run(o.name, func(t *testing.T) {
			s := newScene(t)
			if o.id == "unbanUser" {
				s.as("ada").put(s.room+"/bans/banned", "").want(200)
				s.Sync()
			}
			test(t, s, o)
		})
	}
}

// first and again have the same body, except for the mark of a repeat.
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
	t.Parallel()
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		ada := s.as("ada")
		id := ada.mint()
		first := o.give(s, ada, id).want(o.owner)
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
	t.Parallel()
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
				ada.add(s.room, "zoe", "owner")
				id := ada.mint()
				first := o.give(s, ada, id).want(o.owner)
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
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	id := ada.mint()
	ada.put(s.room+"/messages/"+id.String(), `{"text":"a"}`).want(201)
	for _, o := range orders() {
		if o.inRoom() && o.id != "setRead" && o.id != "setUnread" && o.id != "unbanUser" { // nobody is banned
			o.give(s, ada, id).refused(409, "id_taken")
		}
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
	t.Parallel()
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
		if o.id != "setProfile" && !o.createsRoom() {
			o.give(s, s.as("ada"), s.mintAt("ada", s.now().Add(11*time.Second))).refused(422, "id_in_future")
		}
	})
}

// An operator may write for another, with ids of that user and of any age; other users may not.
func TestImport(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// Two regions that accept one command before either receives the other's event store one event.
func TestTwoRegionsAccept(t *testing.T) {
	t.Parallel()
	eachOrder(t, func(t *testing.T, s *scene, o order) {
		there := &scene{s.world.region(t, "us"), s.room, s.message, s.other}
		replicate(s.region, there.region)
		id := s.mint("ada")
		n := o.events(s, id)
		a, b := o.give(s, s.as("ada"), id).want(o.owner), o.give(there, there.as("ada"), id).want(o.owner)
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

// One id with two contents, sent to two regions before either receives the other's event: both are accepted,
// and from then on both regions have both events and show the same of them. A third content is refused
// everywhere.
func TestOneIDTwoContents(t *testing.T) {
	t.Parallel()
	type give func(s *scene, id events.ID) *answer
	keyed := func(method, path, body string) give {
		return func(s *scene, id events.ID) *answer {
			return s.as("ada").key(id).do(method, s.fill("ada", path), body)
		}
	}
	post := func(text string) give { return keyed("POST", "{room}/messages", `{"text":"`+text+`"}`) }
	create := func(body string) give { return keyed("POST", "/v1/rooms", body) }
	for name, test := range map[string]struct{ here, there, third give }{
		"two texts":             {post("a threat"), post("good morning"), post("never mind")},
		"a message and a ban":   {post("hello"), keyed("PUT", "{room}/bans/bob", ""), keyed("PUT", "{room}/messages/{message}/pin", "")},
		"a ban and an unban":    {keyed("PUT", "{room}/bans/bob", ""), keyed("DELETE", "{room}/bans/banned", ""), post("hello")},
		"a join, a reaction":    {keyed("PUT", "{room}/members/eve", ""), keyed("PUT", "{room}/messages/{message}/reactions/👍", ""), post("hello")},
		"two roles":             {keyed("PATCH", "{room}/members/bob", `{"role":"admin"}`), keyed("PATCH", "{room}/members/bob", `{"role":"owner"}`), post("hello")},
		"two edits":             {keyed("PATCH", "{room}/messages/{message}", `{"text":"a"}`), keyed("PATCH", "{room}/messages/{message}", `{"text":"b"}`), post("c")},
		"an edit, a deletion":   {keyed("PATCH", "{room}/messages/{message}", `{"text":"a"}`), keyed("DELETE", "{room}/messages/{message}", ""), post("c")},
		"two names":             {keyed("PATCH", "{room}", `{"name":"A"}`), keyed("PATCH", "{room}", `{"name":"B"}`), keyed("PATCH", "{room}", `{"name":"C"}`)},
		"a room, public or not": {create(`{"name":"A","private":true}`), create(`{"name":"B"}`), create(`{"name":"C"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.as("ada").put(s.room+"/bans/banned", "").want(200)
			s.as("zoe").put(s.room+"/members/zoe", "").want(200)
			s.Sync()
			us := &scene{s.world.region(t, "us"), s.room, s.message, s.other}
			replicate(s.region, us.region)
			in := map[*scene]give{s: test.here, us: test.there}
			cursors := map[*scene]string{}
			for r := range in {
				cursors[r] = r.as("ada").cursor()
			}
			id := s.mint("ada")
			for r, give := range in {
				if a := give(r, id); a.status != 200 && a.status != 201 || a.value("repeat") == true {
					t.Fatalf("%s answers %d %s", r.name, a.status, a.body)
				}
			}
			for range 2 {
				replicate(s.region, us.region)
				replicate(us.region, s.region)
			}
			stream := events.RoomStream(roomOf(s.room))
			if strings.HasPrefix(name, "a room") {
				stream = events.RoomStream(id.String())
			}
			var logs [][]events.Event
			for r, give := range in {
				found, err := events.Find(t.Context(), r.store, stream, id, false)
				must(t, err)
				if logs = append(logs, found); len(found) != 2 {
					t.Errorf("the log of %s has %d events with the id", r.name, len(found))
				}
				delivered := 0
				for _, e := range r.as("ada").sync(cursors[r]).Events {
					if e.Event.ID == id.String() {
						delivered++
					}
				}
				if delivered != 2 {
					t.Errorf("%s delivers %d events with the id", r.name, delivered)
				}
				if a := give(r, id).want(200); strings.Contains(string(a.body), `"event"`) && a.value("repeat") != true {
					t.Errorf("%s does not know its own command again: %s", r.name, a.body)
				}
				test.third(r, id).refused(409, "id_taken")
			}
			if diff := cmp.Diff(logs[0], logs[1]); diff != "" {
				t.Errorf("the logs differ:\n%s", diff)
			}
			for _, user := range []string{"ada", "zoe"} {
				for _, path := range []string{s.room, s.room + "/messages", s.room + "/messages/" + id.String(), s.room + "/members", "/v1/rooms", "/v1/rooms/" + id.String()} {
					if diff := cmp.Diff(shown(s.as(user).get(path)), shown(us.as(user).get(path))); diff != "" {
						t.Errorf("%s: the regions show %s:\n%s", path, user, diff)
					}
				}
			}
		})
	}
}

// Two messages with one id count as one: in pages, threads and unread counts.
func TestOneIDTwoMessagesCountOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	us := s.world.region(t, "us")
	replicate(s.region, us)
	id := s.mint("ada")
	for text, r := range map[string]*region{"one": s.region, "two": us} {
		r.as("ada").put(s.room+"/messages/"+id.String(), `{"text":"`+text+`","thread":"`+s.message.String()+`"}`).want(201)
	}
	replicate(s.region, us)
	replicate(us, s.region)
	for _, r := range []*region{s.region, us} {
		page := r.as("bob").get(s.room + "/messages").want(200)
		var got struct {
			Messages []struct {
				ID      string
				Replies int
			}
		}
		page.into(&got)
		if len(got.Messages) != 2 || got.Messages[0].Replies+got.Messages[1].Replies != 1 {
			t.Errorf("%s has the page %s", r.name, page.body)
		}
		if replies := r.as("bob").get(s.room + "/messages/" + s.message.String() + "/replies").want(200).texts(); replies != "one" && replies != "two" {
			t.Errorf("%s has the replies %q", r.name, replies)
		}
		rooms := r.as("bob").get("/v1/rooms").want(200)
		if !strings.Contains(string(rooms.body), `"unread":2`) {
			t.Errorf("%s counts %s", r.name, rooms.body)
		}
	}
}

// shown is an answer without what names the request, a place in this region, or which region accepted a
// message: each that accepted one command names itself.
func shown(a *answer) any {
	object, ok := a.value().(map[string]any)
	if ok {
		delete(object, "request_id")
		delete(object, "cursor")
		for _, list := range []any{object["messages"], object["rooms"]} {
			items, _ := list.([]any)
			for _, item := range items {
				delete(item.(map[string]any), "region")
				last, _ := item.(map[string]any)["last"].(map[string]any)
				delete(last, "region")
			}
		}
	}
	return fmt.Sprint(a.status, object)
}

// A success always changes something: where the latest event wins, a command's sorts after the one
// before, however far ahead that one's clock was. An id of the client's that does not is refused.
func TestSortsAfterWhatItChanges(t *testing.T) {
	t.Parallel()
	type step struct{ user, method, path, body string }
	const member, ban, eve = "{room}/members/eve", "{room}/bans/eve", "/v1/users/eve"
	pin, react := "{message}/pin", "{message}/reactions/x"
	join, remove, leave := step{"eve", "PUT", member, ""}, step{"ada", "DELETE", member, ""}, step{"eve", "DELETE", member, ""}
	name := func(name string) step { return step{"ada", "PATCH", "{room}", `{"name":"` + name + `"}`} }
	archived := func(is string) step { return step{"ada", "PATCH", "{room}", `{"archived":` + is + `}`} }
	role := func(role string) step { return step{"ada", "PATCH", "{room}/members/bob", `{"role":"` + role + `"}`} }
	edit := func(text string) step { return step{"ada", "PATCH", "{message}", `{"text":"` + text + `"}`} }
	profile := func(name string) step { return step{"eve", "PUT", eve, `{"name":"` + name + `"}`} }
	for what, c := range map[string]struct {
		before     []step
		ahead      step // under an id 9 s ahead
		then       step
		look       string // what shows it
		want, gone string
	}{
		"join, remove":    {nil, join, remove, "{room}/members", `"bob"`, `"eve"`},
		"join, leave":     {nil, join, leave, "{room}/members", `"bob"`, `"eve"`},
		"join, ban":       {nil, join, step{"ada", "PUT", ban, ""}, "{room}/members", `"banned":true`, ""},
		"leave, join":     {[]step{join}, leave, join, "{room}/members", `"eve"`, ""},
		"ban, unban":      {[]step{join}, step{"ada", "PUT", ban, ""}, step{"ada", "DELETE", ban, ""}, "{room}/members", `"bob"`, `"eve"`},
		"unban, ban":      {[]step{join, {"ada", "PUT", ban, ""}}, step{"ada", "DELETE", ban, ""}, step{"ada", "PUT", ban, ""}, "{room}/members", `"banned":true`, ""},
		"role, role":      {nil, role("admin"), role("member"), "{room}/members/bob", `"member"`, ""},
		"role, remove":    {nil, role("admin"), step{"ada", "DELETE", "{room}/members/bob", ""}, "{room}/members", `"ada"`, `"bob"`},
		"rename, rename":  {nil, name("first"), name("second"), "{room}", "second", ""},
		"archive, reopen": {nil, archived("true"), archived("false"), "{room}", `"Engine"`, `"archived"`},
		"pin, unpin":      {nil, step{"ada", "PUT", pin, ""}, step{"ada", "DELETE", pin, ""}, "{message}", "hello", "pinned"},
		"unpin, pin":      {[]step{{"ada", "PUT", pin, ""}}, step{"ada", "DELETE", pin, ""}, step{"ada", "PUT", pin, ""}, "{message}", `"pinned":true`, ""},
		"react, unreact":  {nil, step{"bob", "PUT", react, ""}, step{"bob", "DELETE", react, ""}, "{message}", "hello", `"bob"`},
		"unreact, react":  {nil, step{"bob", "DELETE", react, ""}, step{"bob", "PUT", react, ""}, "{message}", `"bob"`, ""},
		"edit, edit":      {nil, edit("first"), edit("second"), "{message}", "second", ""},
		"profile":         {nil, profile("First"), profile("Second"), eve, "Second", ""},
	} {
		t.Run(what, func(t *testing.T) {
			s := newScene(t)
			fill := strings.NewReplacer("{room}", s.room, "{message}", s.about(""))
			give := func(p step, id events.ID) *answer {
				as := s.as(p.user)
				if id != (events.ID{}) {
					as = as.key(id)
				}
				return as.do(p.method, fill.Replace(p.path), p.body)
			}
			for _, p := range c.before {
				give(p, events.ID{}).want(200)
			}
			s.Sync()
			ahead := s.mintAt(c.ahead.user, s.now().Add(9*time.Second))
			first := give(c.ahead, ahead).want(200)
			stored := s.store.Head()
			give(c.then, s.mint(c.then.user)).refused(422, "id_order")
			if s.store.Head() != stored {
				t.Error("a refused command was stored")
			}
			last, err := ulid.ParseStrict(give(c.then, events.ID{}).want(200).text("event"))
			if err != nil || last.Compare(ahead) <= 0 {
				t.Errorf("%s does not sort after %s: %v", last, ahead, err)
			}
			s.Sync()
			shown := s.as("ada").get(fill.Replace(c.look)).want(200).body
			if text := string(shown); !strings.Contains(text, c.want) || c.gone != "" && strings.Contains(text, c.gone) {
				t.Errorf("it shows %s", text)
			}
			wantRepeat(t, first, give(c.ahead, ahead))
		})
	}
}

// An id of a release before keyed marks is refused for a new event; a retry of a stored one is a repeat.
func TestFormerMark(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id, mark := s.mint("ada"), events.FormerMark("ada")
	copy(id[6:], mark[:])
	path := s.room + "/messages/" + id.String()
	s.as("ada").put(path, `{"text":"a"}`).refused(403, "id_not_yours")
	e, err := events.New(id, events.RoomStream(strings.TrimPrefix(s.room, "/v1/rooms/")), "ada", "eu", events.MessagePosted{Text: events.Plain("a")})
	must(t, err)
	sealed, err := s.ring.Seal(t.Context(), e)
	must(t, err)
	_, _, err = s.log.Append(t.Context(), sealed)
	must(t, err)
	s.as("ada").put(path, `{"text":"a"}`).want(200)
	s.as("ada").put(path, `{"text":"b"}`).refused(403, "id_not_yours")
	s.Sync()
	if text := s.as("ada").get(path).want(200).text("text"); text != "a" {
		t.Errorf("it says %q", text)
	}
	me := s.as("ada").get("/v1/me").want(200)
	if me.text("user") != "ada" || me.text("mark") != s.clock.Mark("ada").String() {
		t.Errorf("ada is %s", me.body)
	}
}

// A message of a time when a clock was ahead can be edited, answered and read up to; an id of that time
// that is not here is refused.
func TestMessageFarAhead(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.pass(time.Hour)
	ahead := s.as("ada").say(s.room, "early")
	s.pass(-time.Hour)
	ada, path := s.as("ada"), s.room+"/messages/"+ahead.String()
	ada.patch(path, `{"text":"edited"}`).want(200)
	ada.post(s.room+"/messages", `{"text":"b","reply_to":"`+ahead.String()+`"}`).want(201)
	ada.put(s.room+"/read", `{"up_to":"`+ahead.String()+`"}`).want(200)
	s.Sync()
	if text := ada.get(path).want(200).text("text"); text != "edited" {
		t.Errorf("it says %q", text)
	}
	if next := ada.say(s.room, "now"); next.Timestamp().After(s.now().Add(time.Second)) {
		t.Errorf("the next message lies at %s", next.Timestamp())
	}
	other := s.mintAt("bob", s.now().Add(time.Hour))
	ada.post(s.room+"/messages", `{"text":"b","after":"`+other.String()+`"}`).refused(422, "invalid_field").names("after")
	ada.post(s.room+"/messages", `{"text":"b","after":"`+ahead.String()+`"}`).want(201)
	ada.post(s.room+"/messages", `{"text":"b","thread":"`+ahead.String()+`"}`).want(201)
	bob := s.as("bob")
	for _, path := range []string{path + "/pin", path + "/reactions/👍"} {
		bob.put(path, "").want(200)
		bob.delete(path).want(200)
		bob.put(path, "").want(200)
	}
	ada.delete(path).want(200)
	s.Sync()
	if ada.get(path).want(200).value("deleted") != true {
		t.Error("the message is not deleted")
	}
}

// A room that was made, renamed and joined while a clock was ahead is like any other.
func TestRoomFarAhead(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.pass(24 * time.Hour)
	ada, bob := s.as("ada"), s.as("bob")
	room := "/v1/rooms/" + ada.post("/v1/rooms", `{"name":"Early"}`).want(201).text("id")
	bob.put(room+"/members/bob", "").want(200)
	s.pass(-24 * time.Hour)
	ada.patch(room, `{"name":"Now"}`).want(200)
	ada.patch(room+"/members/bob", `{"role":"admin"}`).want(200)
	id := bob.post(room+"/messages", `{"text":"hello"}`).want(201).id()
	if id.Timestamp().After(s.now().Add(time.Second)) {
		t.Errorf("a message lies at %s", id.Timestamp())
	}
	bob.put(room+"/read", `{"up_to":"`+id.String()+`"}`).want(200)
	bob.delete(room + "/members/bob").want(200)
	s.Sync()
	if name := ada.get(room).want(200).text("name"); name != "Now" {
		t.Errorf("the room is called %s", name)
	}
	bob.post(room+"/messages", `{"text":"gone"}`).refused(403, "not_a_member")
}
