package functions_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

// A conversation in which every command succeeds, and what the queries show of it.
func TestConversation(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	ada, bob := r.as("ada"), r.as("bob")

	room := ada.room(`{"name":"Engine","topic":"notes"}`)
	id := strings.TrimPrefix(room, "/v1/rooms/")
	got := ada.get(room).want(200)
	if got.text("name") != "Engine" || got.text("topic") != "notes" || got.text("role") != "owner" || got.text("created_by") != "ada" {
		t.Errorf("the room is %s", got.body)
	}
	ada.put("/v1/rooms/"+ada.mint().String(), `{"name":"Other","private":true}`).want(201)
	bob.put(room+"/members/bob", "").want(200)
	ada.patch(room+"/members/bob", `{"role":"admin"}`).want(200)
	bob.patch(room, `{"topic":"on the engine"}`).want(200)
	if got := bob.get(room + "/members/bob").want(200); got.text("role") != "admin" {
		t.Errorf("the member is %s", got.body)
	}
	if got := bob.get(room + "/members").want(200); got.text("members", "user") != "ada" || got.value("after") != nil {
		t.Errorf("the members are %s", got.body)
	}

	first := ada.say(room, "hello")
	second := bob.mint(first)
	got = bob.put(room+"/messages/"+second.String(), `{"text":"hi","reply_to":"`+first.String()+`","thread":"`+first.String()+`","after":"`+first.String()+`"}`).want(201)
	want := map[string]any{
		"id": second.String(), "room": id, "author": "bob", "text": "hi", "sent_at": stamp(second),
		"reply_to": first.String(), "thread": first.String(), "reactions": map[string]any{}, "region": "eu",
	}
	if diff := cmp.Diff(want, got.value()); diff != "" {
		t.Errorf("posted message (-want +got):\n%s", diff)
	}
	edit := ada.patch(room+"/messages/"+first.String(), `{"text":"hello, all"}`).want(200).id()
	bob.put(room+"/messages/"+first.String()+"/reactions/👍", "").want(200)
	bob.put(room+"/messages/"+first.String()+"/reactions/:wave:", "").want(200)
	bob.delete(room + "/messages/" + first.String() + "/reactions/:wave:").want(200)
	ada.put(room+"/messages/"+second.String()+"/pin", "").want(200)
	ada.put(room+"/messages/"+first.String()+"/pin", "").want(200)
	ada.delete(room + "/messages/" + second.String() + "/pin").want(200)
	third := bob.say(room, "oops")
	bob.delete(room + "/messages/" + third.String()).want(200)
	r.Sync()

	want = map[string]any{
		"id": first.String(), "room": id, "author": "ada", "text": "hello, all", "sent_at": stamp(first), "edited_at": stamp(edit),
		"reactions": map[string]any{"👍": []any{"bob"}}, "pinned": true, "replies": 1.0, "region": "eu",
	}
	if diff := cmp.Diff(want, bob.get(room+"/messages/"+first.String()).want(200).value()); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	want = map[string]any{
		"id": third.String(), "room": id, "author": "bob", "text": "", "sent_at": stamp(third), "deleted": true,
		"reactions": map[string]any{}, "region": "eu",
	}
	if diff := cmp.Diff(want, bob.get(room+"/messages/"+third.String()).want(200).value()); diff != "" {
		t.Errorf("deleted message (-want +got):\n%s", diff)
	}
	if got := bob.get(room + "/messages").texts(); got != "hello, all hi " {
		t.Errorf("the page is %q", got)
	}
	if got := bob.get(room + "/messages/" + first.String() + "/replies").texts(); got != "hi" {
		t.Errorf("the thread is %q", got)
	}

	ada.put(room+"/read", `{"up_to":"`+first.String()+`"}`).want(200)
	inbox := ada.get("/v1/rooms?limit=1").want(200)
	if inbox.text("rooms", "id") != id || inbox.value("rooms", "unread") != 1.0 || inbox.text("rooms", "read_to") != first.String() ||
		inbox.text("rooms", "last", "id") != third.String() || inbox.text("after") != id {
		t.Errorf("the inbox is %s", inbox.body)
	}
	ada.put("/v1/users/ada", `{"name":"Ada","about":"writes notes"}`).want(200)
	if diff := cmp.Diff(map[string]any{"id": "ada", "name": "Ada", "about": "writes notes"}, bob.get("/v1/users/ada").want(200).value()); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}

	direct := ada.put("/v1/direct/bob", "").want(201)
	if direct.text("id") != events.DirectRoom("ada", "bob") || direct.value("private") != true || direct.text("role") != "member" {
		t.Errorf("the direct room is %s", direct.body)
	}
	if again := bob.put("/v1/direct/ada", "").want(200); again.text("id") != direct.text("id") {
		t.Errorf("the other's direct room is %s", again.body)
	}

	r.as("eve").put(room+"/members/eve", "").want(200)
	ada.put(room+"/bans/eve", "").want(200)
	if members := ada.get(room + "/members"); len(members.value("members").([]any)) != 3 {
		t.Errorf("an admin does not see the banned: %s", members.body)
	}
	ada.delete(room + "/bans/eve").want(200)
	bob.delete(room + "/members/bob").want(200)
	ada.patch(room, `{"archived":true}`).want(200)
	if got := ada.get(room).value("archived"); got != true {
		t.Errorf("archived is %v", got)
	}
	if news := bob.get("/v1/sync?cursor=" + bob.get("/v1/rooms").text("cursor")).want(200); news.value("reset") != false {
		t.Errorf("what bob missed is %s", news.body)
	}
}

func stamp(id events.ID) string { return id.Timestamp().UTC().Format("2006-01-02T15:04:05.999Z07:00") }

func TestNotRouted(t *testing.T) {
	t.Parallel()
	r := newRegion(t)
	ada := r.as("ada")
	for _, path := range []string{"/", "/v1", "/v1/rooms/", "/v1/nothing", "/v1//rooms", "/v1/rooms/../rooms", "/openapi.yaml", "/docs", "/schemas/Message.json"} {
		ada.get(path).refused(404, "no_such_path")
	}
	a := ada.delete("/v1/rooms").refused(405, "method_not_allowed")
	if got := a.header.Get("Allow"); got != "GET, POST" {
		t.Errorf("Allow is %q", got)
	}
	a = ada.do("PATCH", "/openapi.json", "").refused(405, "method_not_allowed")
	if got := a.header.Get("Allow"); got != "GET" {
		t.Errorf("Allow is %q", got)
	}
	if a := ada.do(http.MethodOptions, "/v1/rooms", ""); a.status != 405 {
		t.Errorf("OPTIONS answers %d", a.status)
	}
}
