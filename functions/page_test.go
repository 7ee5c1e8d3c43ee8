package functions_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

// messagePage is a page as a client reads it.
type messagePage struct {
	Messages      []map[string]any
	Before, After *string
}

func (c *client) page(path, query string) messagePage {
	c.r.t.Helper()
	var p messagePage
	c.get(path + "?" + query).want(200).into(&p)
	return p
}

func (p messagePage) ids() []string {
	ids := []string{}
	for _, m := range p.Messages {
		ids = append(ids, m["id"].(string))
	}
	return ids
}

// Walked either way, in steps of any size, a list shows everything once and ends.
func TestWalkPages(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	owner := s.as("owner")
	all := map[string][]string{"/messages": {s.message.String()}, "/messages/" + s.message.String() + "/replies": nil}
	replies := "/messages/" + s.message.String() + "/replies"
	for n := range 22 {
		body := `{"text":"x"}`
		if n%2 == 0 {
			body = `{"text":"x","thread":"` + s.message.String() + `"}`
		}
		id := owner.post(s.room+"/messages", body).want(201).id().String()
		all["/messages"] = append(all["/messages"], id)
		if n%2 == 0 {
			all[replies] = append(all[replies], id)
		}
	}
	s.Sync()
	for path, want := range all {
		for _, limit := range []int{1, 2, 3, len(want) - 1, len(want), len(want) + 1, 200} {
			for _, from := range []string{"before", "after"} {
				if got := walk(t, owner, s.room+path, from, limit); !slices.Equal(got, want) {
					t.Errorf("%s by %s in steps of %d: %d of %d, in this order: %v", path, from, limit, len(got), len(want), got)
				}
			}
		}
	}
	for i, id := range all["/messages"] {
		for _, limit := range []int{1, 2, 3, 10, 200} {
			p := owner.page(s.room+"/messages", fmt.Sprintf("around=%s&limit=%d", id, limit))
			got := p.ids()
			first := max(0, i-limit/2)
			want := all["/messages"][first:min(first+limit, len(all["/messages"]))]
			if len(got) == 0 || len(got) > limit || !slices.Contains(got, id) || !slices.Equal(got, all["/messages"][first:first+len(got)]) {
				t.Errorf("around %d, %d: %v, want %v", i, limit, got, want)
			}
			if hasAfter := p.After != nil; hasAfter != (first+len(got) < len(all["/messages"])) || (p.Before != nil) != (first > 0) {
				t.Errorf("around %d, %d: before %v, after %v", i, limit, p.Before, p.After)
			}
		}
	}
	// A thread begins at its beginning.
	if p := owner.page(s.room+replies, "limit=3"); p.Before != nil || p.After == nil || !slices.Equal(p.ids(), all[replies][:3]) {
		t.Errorf("the first page of the thread: %v, before %v, after %v", p.ids(), p.Before, p.After)
	}
	// around an id that no message has
	gap := events.PrecedingID(s.message).String()
	if got := owner.page(s.room+"/messages", "limit=2&around="+gap).ids(); !slices.Equal(got, all["/messages"][:2]) {
		t.Errorf("around nothing: %v", got)
	}
	for _, query := range []string{"before=" + gap, "before=" + events.ID{}.String(), "after=" + all["/messages"][22], "after=7ZZZZZZZZZZZZZZZZZZZZZZZZZ"} {
		if p := owner.page(s.room+"/messages", query); p.Messages == nil || len(p.Messages) > 0 || p.Before != nil || p.After != nil {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

// walk goes through a list from its end by before, or from its beginning by after.
func walk(t *testing.T, c *client, path, by string, limit int) (ids []string) {
	t.Helper()
	query := fmt.Sprintf("limit=%d", limit)
	next := map[string]string{"before": "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "after": events.ID{}.String()}[by]
	for steps := 0; ; steps++ {
		if steps > 50 {
			t.Fatal("the walk does not end")
		}
		p := c.page(path, query+"&"+by+"="+next)
		if len(p.Messages) > limit {
			t.Fatalf("%d messages in a page of %d", len(p.Messages), limit)
		}
		more := p.After
		if by == "before" {
			ids, more = append(p.ids(), ids...), p.Before
		} else {
			ids = append(ids, p.ids()...)
		}
		if more == nil {
			return ids
		}
		next = *more
	}
}

func TestDefaultPage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var last []string
	for range 60 {
		last = append(last, s.as("ada").say(s.room, "x").String())
	}
	s.Sync()
	p := s.as("ada").page(s.room+"/messages", "")
	if !slices.Equal(p.ids(), last[10:]) || p.After != nil || p.Before == nil || *p.Before != last[10] {
		t.Errorf("the page has %d messages, before %v, after %v", len(p.Messages), p.Before, p.After)
	}
}

// The lists of rooms and of members, in steps of any size.
func TestWalkRoomsAndMembers(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	ada := r.as("ada")
	var rooms []string
	for n := range 7 {
		rooms = append(rooms, strings.TrimPrefix(ada.room(`{"name":"`+strconv.Itoa(n)+`"}`), "/v1/rooms/"))
	}
	ada.delete("/v1/rooms/" + rooms[3] + "/members/ada").want(200)
	rooms = append(slices.Delete(rooms, 3, 4), ada.put("/v1/direct/bob", "").want(201).text("id"))
	room := "/v1/rooms/" + rooms[0]
	var members []string
	for n := range 7 {
		user := fmt.Sprintf("user%d", n)
		ada.add(room, user, "")
		members = append(members, user)
	}
	ada.delete(room + "/members/user3").want(200)
	members = append([]string{"ada"}, slices.Delete(members, 3, 4)...)
	for _, limit := range []int{1, 2, 3, 6, 7, 8, 200} {
		if got := walkNames(t, ada, "/v1/rooms", "rooms", "id", limit); !slices.Equal(got, rooms) {
			t.Errorf("rooms in steps of %d: %v, want %v", limit, got, rooms)
		}
		if got := walkNames(t, ada, room+"/members", "members", "user", limit); !slices.Equal(got, members) {
			t.Errorf("members in steps of %d: %v, want %v", limit, got, members)
		}
	}
}

func walkNames(t *testing.T, c *client, path, list, name string, limit int) (names []string) {
	t.Helper()
	for next := ""; ; {
		a := c.get(fmt.Sprintf("%s?limit=%d&after=%s", path, limit, next)).want(200)
		for _, item := range a.value(list).([]any) {
			names = append(names, item.(map[string]any)[name].(string))
		}
		if next = a.text("after"); next == "" || len(names) > 50 {
			return names
		}
	}
}

// At every event of a random history as_of answers what a region that has heard of no more
// answers; only what was deleted since stays deleted.
func TestAsOf(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			s := newStage(t, true)
			randomHistory(s, rand.New(rand.NewPCG(seed, 0)))
			s.Sync()
			records, err := s.store.Next(t.Context(), "", 1000, true)
			must(t, err)
			slices.SortFunc(records, func(a, b events.Record) int { return a.Event.ID.Compare(b.Event.ID) })
			then := s.world.region(t, "eu")
			replicateKeys(s.region, then)
			for _, record := range records {
				must(t, then.store.Replicate(context.Background(), []events.Record{record}))
				then.Sync()
				at := record.Event.ID
				times := "as_of=" + url.QueryEscape(at.Timestamp().Format(time.RFC3339Nano))
				for _, query := range []string{"", "limit=3", "limit=2&before=" + s.message.String(), "limit=2&after=" + s.message.String(), "limit=3&around=" + s.message.String()} {
					if then.as("owner").get(s.room).status != 200 {
						continue // not created yet
					}
					want := deletedSince(t, s, then.as("owner").page(s.room+"/messages", query))
					if diff := cmp.Diff(want, s.as("owner").page(s.room+"/messages", query+"&as_of="+at.String())); diff != "" {
						t.Fatalf("%s as of %s (-then +now):\n%s", query, at, diff)
					}
					if diff := cmp.Diff(want, s.as("owner").page(s.room+"/messages", query+"&"+times)); diff != "" {
						t.Fatalf("%s %s (-then +now):\n%s", query, times, diff)
					}
				}
			}
		})
	}
}

// randomHistory has members post to a room, and do all that can be done to messages.
func randomHistory(s *scene, r *rand.Rand) {
	posted := []string{s.message.String()}
	authors := []string{"owner"}
	for n := range 60 {
		i := r.IntN(len(posted))
		user := []string{"owner", "admin", "member"}[r.IntN(3)]
		c, path := s.as(user), s.room+"/messages/"+posted[i]
		switch r.IntN(8) {
		case 0, 1, 2:
			body := fmt.Sprintf(`{"text":"%d","thread":"%s","reply_to":"%s"}`, n, posted[i], posted[i])
			if r.IntN(2) == 0 {
				body = fmt.Sprintf(`{"text":"%d"}`, n)
			}
			posted = append(posted, c.post(s.room+"/messages", body).want(201).id().String())
			authors = append(authors, user)
		case 3:
			s.as(authors[i]).patch(path, fmt.Sprintf(`{"text":"edit %d"}`, n))
		case 4:
			if r.IntN(3) == 0 {
				s.as("admin").delete(path).want(200)
			}
		case 5:
			c.put(path+"/reactions/👍", "")
		case 6:
			c.delete(path + "/reactions/👍")
		case 7:
			c.put(path+"/pin", "")
		}
	}
}

// deletedSince takes from a page what was said in messages that are deleted by now.
func deletedSince(t *testing.T, s *scene, p messagePage) messagePage {
	t.Helper()
	for _, m := range p.Messages {
		now := s.as("owner").get(s.room + "/messages/" + m["id"].(string)).want(200)
		if now.value("deleted") != true {
			continue
		}
		for _, field := range []string{"edited_at", "pinned"} {
			delete(m, field)
		}
		m["deleted"], m["text"], m["reactions"] = true, "", map[string]any{}
	}
	return p
}

// includes shows one's own write before the stream has brought it.
func TestIncludes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada := s.as("ada")
	m := s.message.String()
	get := func(path string, id events.ID) *answer { return ada.get(path + "?includes=" + id.String()).want(200) }
	see := func(what string, ok bool, a *answer) {
		t.Helper()
		if !ok {
			t.Errorf("%s is not seen: %s", what, a.body)
		}
	}
	id := ada.say(s.room, "new")
	ada.get(s.room+"/messages/"+id.String()).refused(404, "message_not_found")
	see("a post", get(s.room+"/messages/"+id.String(), id).text("text") == "new", nil)
	if got := get(s.room+"/messages", id).texts(); got != "hello new" {
		t.Errorf("the page is %q", got)
	}
	if got := ada.get(s.room + "/messages").texts(); got != "hello" {
		t.Errorf("without includes the page is %q", got)
	}
	edit := ada.patch(s.room+"/messages/"+id.String(), `{"text":"newer"}`).want(200).id()
	see("an edit of what is as new", get(s.room+"/messages/"+id.String(), edit).text("text") == "newer", nil)
	reply := ada.post(s.room+"/messages", `{"text":"reply","thread":"`+m+`"}`).want(201).id()
	if got := get(s.about("/replies"), reply).texts(); got != "reply" {
		t.Errorf("the thread is %q", got)
	}
	see("a reply in the count", get(s.about(""), reply).value("replies") == 1.0, get(s.about(""), reply))

	edit = ada.patch(s.about(""), `{"text":"edited"}`).want(200).id()
	see("an edit", get(s.about(""), edit).text("text") == "edited", get(s.about(""), edit))
	react := ada.put(s.about("/reactions/👍"), "").want(200).id()
	see("a reaction", len(get(s.about(""), react).value("reactions").(map[string]any)) == 1, get(s.about(""), react))
	pin := ada.put(s.about("/pin"), "").want(200).id()
	see("a pin", get(s.about(""), pin).value("pinned") == true, get(s.about(""), pin))
	s.Sync()
	unreact := ada.delete(s.about("/reactions/👍")).want(200).id()
	see("a reaction taken back", len(get(s.about(""), unreact).value("reactions").(map[string]any)) == 0, nil)
	unpin := ada.delete(s.about("/pin")).want(200).id()
	see("an unpin", get(s.about(""), unpin).value("pinned") == nil, nil)
	gone := ada.delete(s.about("")).want(200).id()
	see("a deletion", get(s.about(""), gone).value("deleted") == true, nil)

	// What is folded at once is included even where that failed.
	s.views.OnSave = failSaves
	joined := s.as("eve").put(s.room+"/members/eve", "").want(200).id()
	see("a join", s.as("eve").get(s.room+"/members/eve?includes="+joined.String()).want(200).text("role") == "member", nil)
	room := ada.post("/v1/rooms", `{"name":"new","private":true}`).want(201).id()
	see("a room", get("/v1/rooms/"+room.String(), room).text("name") == "new", nil)
	if got := get("/v1/rooms", room).value("rooms").([]any); len(got) != 2 {
		t.Errorf("the rooms are %v", got)
	}
	name := ada.patch(s.room, `{"name":"renamed"}`).want(200).id()
	see("a name", get(s.room, name).text("name") == "renamed", nil)
	read := ada.put(s.room+"/read", `{"up_to":"`+m+`"}`).want(200).id()
	see("a read marker", get("/v1/rooms", read).text("rooms", "read_to") == m, nil)
	profile := ada.put("/v1/users/ada", `{"name":"Ada"}`).want(200).id()
	see("a profile", get("/v1/users/ada", profile).text("name") == "Ada", nil)
	ada.get("/v1/users/ada").refused(404, "user_not_found")
	s.views.OnSave = nil
	s.Sync()
	if got := ada.get("/v1/users/ada").want(200).text("name"); got != "Ada" {
		t.Errorf("the profile is %q", got)
	}
	ada.get(s.room+"/messages?includes="+ada.mint().String()).refused(404, "event_not_found")
}

// Unread counts, each at its edge.
func TestUnread(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ada, bob := s.as("ada"), s.as("bob")
	unread := func(c *client) float64 {
		s.Sync()
		return c.get("/v1/rooms").want(200).value("rooms", "unread").(float64)
	}
	want := func(c *client, n float64) {
		t.Helper()
		if got := unread(c); got != n {
			t.Errorf("%s has %v unread, want %v", c.user, got, n)
		}
	}
	want(bob, 1) // posted after he joined
	want(ada, 0) // the message is ada's own
	bob.put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200)
	want(bob, 0)
	var ids []events.ID
	for range 99 {
		ids = append(ids, ada.say(s.room, "x"))
	}
	bob.say(s.room, "own")
	ada.put(s.about("/pin"), "").want(200)
	want(bob, 99)
	ids = append(ids, ada.say(s.room, "x"))
	want(bob, 100)
	ids = append(ids, ada.say(s.room, "x"))
	want(bob, 100)
	bob.put(s.room+"/read", `{"up_to":"`+ids[49].String()+`"}`).want(200)
	want(bob, 51)
	bob.put(s.room+"/read", `{"up_to":"`+ids[10].String()+`"}`).want(200) // an older marker changes nothing
	want(bob, 51)
	bob.put(s.room+"/read", `{"up_to":"`+ids[100].String()+`"}`).want(200)
	want(bob, 0)

	// One that arrives late sorts before the marker, and is unread all the same.
	there := s.world.region(t, "us")
	replicate(s.region, there)
	late := s.mintAt("ada", s.now().Add(-time.Hour))
	there.as("ada").put(s.room+"/messages/"+late.String(), `{"text":"late"}`).want(201)
	replicate(there, s.region)
	want(bob, 1)
	there.Sync()
	replicate(s.region, there)
	if got := there.as("bob").get("/v1/rooms").want(200).value("rooms", "unread"); got != 1.0 {
		t.Errorf("in the other region bob has %v unread", got)
	}
	there.as("bob").put(s.room+"/read", `{"up_to":"`+ids[100].String()+`"}`).want(200)
	if got := there.as("bob").get("/v1/rooms").want(200).value("rooms", "unread"); got != 0.0 {
		t.Errorf("in the region where bob read on, bob has %v unread", got)
	}
	replicate(there, s.region)
	want(bob, 0)

	// What is deleted is not unread, and neither is what was said while bob was no member.
	first, second := ada.say(s.room, "x"), ada.say(s.room, "x")
	want(bob, 2)
	ada.delete(s.room + "/messages/" + first.String()).want(200)
	want(bob, 1)
	bob.delete(s.room + "/members/bob").want(200)
	ada.say(s.room, "while bob is away")
	bob.put(s.room+"/members/bob", "").want(200)
	want(bob, 0)
	last := ada.say(s.room, "x")
	want(bob, 1)

	// Marked as unread: from a message on, until it is read again, and not by a marker that was set before.
	bob.put(s.room+"/read", `{"up_to":"`+last.String()+`"}`).want(200)
	early := bob.mint()
	marked := bob.put(s.room+"/unread", `{"from":"`+second.String()+`"}`).want(200)
	want(bob, 3)
	if again := bob.put(s.room+"/unread", `{"from":"`+second.String()+`"}`).want(200); again.value("repeat") != true || again.id() != marked.id() {
		t.Errorf("marked as unread again: %s", again.body)
	}
	bob.key(early).put(s.room+"/read", `{"up_to":"`+last.String()+`"}`).refused(422, "id_order")
	bob.put(s.room+"/unread", `{"from":"`+last.String()+`"}`).want(200)
	want(bob, 1)
	bob.put(s.room+"/read", `{"up_to":"`+last.String()+`"}`).want(200)
	want(bob, 0)
}

// A read marker under a client's id is one event, wherever it is sent, and clears what came late.
func TestReadIsOneEvent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	there := s.world.region(t, "us")
	replicate(s.region, there)
	last := s.as("ada").say(s.room, "last")
	replicate(s.region, there)
	late := s.mintAt("ada", s.now().Add(-time.Hour))
	body := `{"up_to":"` + last.String() + `"}`
	s.as("bob").put(s.room+"/read", body).want(200)
	there.as("ada").put(s.room+"/messages/"+late.String(), `{"text":"late"}`).want(201)
	there.Sync()
	key := s.mint("bob", last)
	s.as("bob").key(key).put(s.room+"/read", body).want(200)
	there.as("bob").key(key).put(s.room+"/read", body).want(200)
	replicate(there, s.region)
	replicate(s.region, there)
	for _, r := range []*region{s.region, there} {
		if n := r.count(events.UserStream("bob")); n != 2 {
			t.Errorf("%s has %d markers of bob's, want 2", r.name, n)
		}
		if got := r.as("bob").get("/v1/rooms").want(200).value("rooms", "unread"); got != 0.0 {
			t.Errorf("in %s bob has %v unread", r.name, got)
		}
	}
}
