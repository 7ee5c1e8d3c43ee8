package functions_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

// newStage makes a room with one user of each kind, who is named after it.
func newStage(t testing.TB, private bool) *scene {
	t.Helper()
	r := newRegion(t)
	owner := r.as("owner")
	body := map[bool]string{true: `{"name":"Hidden","private":true}`, false: `{"name":"Open"}`}[private]
	s := &scene{region: r, room: owner.room(body), other: "other"}
	for _, user := range []string{"admin", "member", "removed", "banned", "other"} {
		owner.add(s.room, user, map[bool]string{true: "admin"}[user == "admin"])
	}
	owner.delete(s.room + "/members/removed").want(200)
	owner.put(s.room+"/bans/banned", "").want(200)
	s.message = owner.say(s.room, secret)
	r.Sync()
	return s
}

// asked is an operation of chat clients: how a scene's users ask it, and the statuses of the answers
// to three members of the room. member and admin are 0 where it is about no room of the scene.
type asked struct {
	id, method, path, body string
	member, admin, owner   int
}

// operations are all operations of chat clients. Tests of what holds for every operation, or for every
// command, take them from here; TestOperations compares them with the OpenAPI document.
var operations = []asked{
	{"getRoom", "GET", "{room}", "", 200, 200, 200},
	{"listMembers", "GET", "{room}/members", "", 200, 200, 200},
	{"getMember", "GET", "{room}/members/admin", "", 200, 200, 200},
	{"listMessages", "GET", "{room}/messages", "", 200, 200, 200},
	{"getMessage", "GET", "{room}/messages/{message}", "", 200, 200, 200},
	{"listReplies", "GET", "{room}/messages/{message}/replies", "", 200, 200, 200},
	{"postMessage", "POST", "{room}/messages", `{"text":"x"}`, 201, 201, 201},
	{"putMessage", "PUT", "{room}/messages/{new}", `{"text":"x"}`, 201, 201, 201},
	{"editMessage", "PATCH", "{room}/messages/{message}", `{"text":"x"}`, 403, 403, 200}, // the owner wrote it
	{"deleteMessage", "DELETE", "{room}/messages/{message}", "", 403, 200, 200},
	{"addReaction", "PUT", "{room}/messages/{message}/reactions/👍", "", 200, 200, 200},
	{"removeReaction", "DELETE", "{room}/messages/{message}/reactions/👍", "", 200, 200, 200},
	{"pinMessage", "PUT", "{room}/messages/{message}/pin", "", 200, 200, 200},
	{"unpinMessage", "DELETE", "{room}/messages/{message}/pin", "", 200, 200, 200},
	{"changeRoom", "PATCH", "{room}", `{"topic":"x"}`, 403, 200, 200},
	{"putMember", "PUT", "{room}/members/eve", "", 403, 200, 200},
	{"changeRole", "PATCH", "{room}/members/{other}", `{"role":"admin"}`, 403, 403, 200},
	{"removeMember", "DELETE", "{room}/members/{other}", "", 403, 200, 200},
	{"banUser", "PUT", "{room}/bans/{other}", "", 403, 200, 200},
	{"unbanUser", "DELETE", "{room}/bans/banned", "", 403, 200, 200},
	{"setRead", "PUT", "{room}/read", `{"up_to":"{message}"}`, 200, 200, 200},
	{"setUnread", "PUT", "{room}/unread", `{"from":"{message}"}`, 200, 200, 200},

	{"listRooms", "GET", "/v1/rooms", "", 0, 0, 200},
	{"sync", "GET", "/v1/sync", "", 0, 0, 200},
	{"createRoom", "POST", "/v1/rooms", `{"name":"x","private":true}`, 0, 0, 201},
	{"putRoom", "PUT", "/v1/rooms/{new}", `{"name":"x","topic":"t"}`, 0, 0, 201},
	{"openDirect", "PUT", "/v1/direct/{other}", "", 0, 0, 201},
	{"getUser", "GET", "/v1/users/{me}", "", 0, 0, 200},
	{"getMe", "GET", "/v1/me", "", 0, 0, 200},
	{"setProfile", "PUT", "/v1/users/{me}", `{"name":"x"}`, 0, 0, 200},
}

// inRoom reports whether an operation is about the room of the scene.
func (a asked) inRoom() bool { return strings.HasPrefix(a.path, "{room}") }

// fill completes a path or body that a user sends: {room}, {message} and {other} stand for what the
// scene has, {me} for the user, and {new} for a new id of that user.
func (s *scene) fill(user, text string) string {
	s.t.Helper()
	return strings.NewReplacer(
		"{room}", s.room, "{message}", s.message.String(), "{other}", s.other, "{me}", user, "{new}", s.mint(user).String(),
	).Replace(text)
}

func (s *scene) ask(user string, op asked) *answer {
	s.t.Helper()
	return s.as(user).do(op.method, s.fill(user, op.path), s.fill(user, op.body))
}

// The OpenAPI document has the operations that the tests ask, and no other; the client holds every
// answer against it.
func TestOperations(t *testing.T) {
	t.Parallel()
	documented, known := map[string]bool{}, map[string]bool{}
	for path, methods := range newRegion(t).doc.Paths {
		for _, op := range methods {
			if ofChat(path) {
				documented[op.OperationID] = true
			}
		}
	}
	for _, op := range operations {
		known[op.id] = true
		s := newStage(t, false)
		s.as("owner").put("/v1/users/owner", `{"name":"Owner"}`).want(200)
		s.Sync()
		s.ask("owner", op).want(op.owner)
	}
	if diff := cmp.Diff(documented, known); diff != "" {
		t.Errorf("operations of the document and of these tests (-document +tests):\n%s", diff)
	}
}

// Every operation in a room, as every kind of user, in a public and in a private room.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		if !op.inRoom() {
			continue
		}
		t.Run(op.id, func(t *testing.T) {
			outsider := map[bool]int{true: 200, false: 403}[op.method == "GET"]
			for user, want := range map[string]struct{ public, private int }{
				"stranger": {outsider, 404}, "removed": {outsider, 404}, "banned": {403, 404},
				"member": {op.member, op.member}, "admin": {op.admin, op.admin}, "owner": {op.owner, op.owner},
			} {
				newStage(t, false).ask(user, op).want(want.public)
				newStage(t, true).ask(user, op).want(want.private)
			}
		})
	}
}

// To a user who is not a member, a private room answers every request as one that does not exist.
func TestPrivateRoomIsInvisible(t *testing.T) {
	t.Parallel()
	s := newStage(t, true)
	owner := s.as("owner")
	reply := owner.post(s.room+"/messages", `{"text":"x","thread":"`+s.message.String()+`"}`).want(201).id().String()
	there, not := strings.TrimPrefix(s.room, "/v1/rooms/"), s.mint("owner").String()
	public := s.as("stranger").room(`{"name":"mine"}`)
	s.as("owner").put(public+"/members/owner", "").want(200)
	s.Sync()
	m := s.message.String()
	type question struct{ method, path, body string }
	var questions []question
	for _, op := range operations {
		if op.inRoom() {
			questions = append(questions, question{op.method, op.path, op.body})
		}
	}
	for _, query := range []string{"?as_of=" + m, "?as_of=2026-07-02T00:00:00Z", "?includes=" + m, "?includes=" + reply, "?includes=" + not, "?includes=" + there, "?before=" + m, "?around=" + m} {
		questions = append(questions, question{"GET", "{room}/messages" + query, ""})
	}
	for _, path := range []string{"?includes=" + m, "/members?includes=" + there, "/members/owner?includes=" + not, "/messages/" + not, "/messages/" + m + "?includes=" + reply, "/messages/" + m + "/replies?includes=" + reply} {
		questions = append(questions, question{"GET", "{room}" + path, ""})
	}
	for _, q := range questions {
		for _, user := range []string{"stranger", "removed", "banned"} {
			ask := func(room string) any {
				path := strings.ReplaceAll(q.path, "{room}", "/v1/rooms/"+room)
				return shown(s.as(user).do(q.method, s.fill(user, path), s.fill(user, q.body)).refused(404, "room_not_found"))
			}
			if diff := cmp.Diff(ask(there), ask(not)); diff != "" {
				t.Errorf("%s %s tells %s the one from the other:\n%s", q.method, q.path, user, diff)
			}
		}
	}
	// Nothing can be learned through another room either, or through lists of the user's own.
	stranger := s.as("stranger")
	for _, id := range []string{there, m, reply, not} {
		for _, path := range []string{public + "/messages?includes=", "/v1/rooms?includes=", "/v1/users/owner?includes=", public + "?includes=", public + "/members?includes="} {
			if a := stranger.get(path + id); a.want(404).code() != "event_not_found" {
				t.Errorf("%s answers %s", path, a.body)
			}
		}
		for _, path := range []string{"/pin", "/reactions/👍"} {
			stranger.put(public+"/messages/"+id+path, "").refused(404, "message_not_found")
		}
		stranger.put(public+"/read", `{"up_to":"`+id+`"}`).refused(404, "message_not_found")
		stranger.post(public+"/messages", `{"text":"x","reply_to":"`+id+`"}`).refused(404, "message_not_found")
		stranger.post(public+"/messages", `{"text":"x","after":"`+id+`"}`).want(201)
		stranger.get(public+"/messages/"+id).refused(404, "message_not_found")
		if got := stranger.get(public + "/messages/" + id + "/replies").texts(); got != "" {
			t.Errorf("the replies of a message of another room: %q", got)
		}
	}
	if got := stranger.get("/v1/rooms"); len(got.value("rooms").([]any)) != 1 {
		t.Errorf("the stranger's rooms are %s", got.body)
	}
	marker := owner.put(s.room+"/read", `{"up_to":"`+m+`"}`).want(200).id().String()
	stranger.get("/v1/users/owner?includes="+marker).refused(404, "event_not_found")
	owner.get("/v1/rooms?includes=" + marker).want(200)
}

// A room that becomes private is gone for those outside at once, and back when it opens.
func TestRoomBecomesPrivate(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	s.as("owner").patch(s.room, `{"private":true}`).want(200)
	s.as("stranger").get(s.room).refused(404, "room_not_found")
	s.as("stranger").put(s.room+"/members/stranger", "").refused(404, "room_not_found")
	s.as("member").get(s.room).want(200)
	s.as("owner").patch(s.room, `{"private":false}`).want(200)
	s.as("stranger").get(s.room).want(200)
}

// Roles in a room, in the order of a life.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	owner, admin, member := s.as("owner"), s.as("admin"), s.as("member")
	in := func(user string) string { return s.room + "/members/" + user }

	member.put(in("x"), "").refused(403, "role_too_low")
	admin.put(in("x"), `{"role":"admin"}`).refused(422, "invalid_field").names("role")
	member.put(in("member"), `{"role":"owner"}`).refused(409, "already_member")
	s.as("stranger").put(in("stranger"), `{"role":"owner"}`).refused(403, "not_a_member")
	s.as("stranger").put(in("x"), "").refused(403, "not_a_member")
	admin.put(in("x"), `{"role":"member"}`).want(200)
	s.as("x").put(in("x"), `{"role":"admin"}`).refused(403, "not_a_member")
	s.as("x").put(in("x"), "").want(200)
	owner.put(in("x"), `{"role":"admin"}`).refused(409, "already_member")
	owner.patch(in("x"), `{"role":"king"}`).refused(422, "invalid_field").names("role")
	owner.put(in("y"), `{"role":"king"}`).refused(422, "invalid_field").names("role")
	owner.patch(in("nobody"), `{"role":"admin"}`).refused(404, "member_not_found")
	owner.patch(in("x"), `{"role":"admin"}`).want(200)
	admin.delete(in("x")).refused(403, "role_too_low")
	admin.put(s.room+"/bans/x", "").refused(403, "role_too_low")
	admin.put(s.room+"/bans/owner", "").refused(403, "role_too_low")
	owner.put(s.room+"/bans/owner", "").refused(422, "invalid_field").names("user")
	owner.delete(in("x")).want(200)

	// the last owner
	owner.patch(in("owner"), `{"role":"member"}`).refused(409, "last_owner")
	owner.delete(in("owner")).refused(409, "last_owner")
	owner.patch(in("admin"), `{"role":"owner"}`).want(200)
	owner.patch(in("owner"), `{"role":"member"}`).want(200)
	admin.delete(in("admin")).refused(409, "last_owner")
	alone := s.as("solo").room(`{"name":"mine"}`)
	s.as("solo").patch(alone+"/members/solo", `{"role":"member"}`).refused(409, "last_owner")
	s.as("solo").delete(alone + "/members/solo").want(200)

	// in and out
	member.delete(in("member")).want(200)
	if a := member.delete(in("member")).want(200); a.value("repeat") != true {
		t.Errorf("left twice: %s", a.body)
	}
	s.as("stranger").delete(in("stranger")).refused(404, "member_not_found")
	member.post(s.room+"/messages", `{"text":"x"}`).refused(403, "not_a_member")
	member.get(in("member")).refused(404, "member_not_found")
	first := member.put(in("member"), "").want(200)
	if again := member.put(in("member"), "").want(200); again.id() != first.id() || again.value("repeat") != true {
		t.Errorf("joined again: %s", again.body)
	}

	// a ban
	admin.put(s.room+"/bans/member", "").want(200)
	if a := admin.put(s.room+"/bans/member", "").want(200); a.value("repeat") != true {
		t.Errorf("banned again: %s", a.body)
	}
	member.get(s.room).refused(403, "banned")
	member.put(in("member"), "").refused(403, "banned")
	admin.put(in("member"), "").refused(409, "member_banned")
	if a := admin.get(in("member")).want(200); a.value("banned") != true || a.text("role") != "" {
		t.Errorf("the banned is %s", a.body)
	}
	s.as("other").get(in("member")).refused(404, "member_not_found")
	admin.delete(s.room + "/bans/member").want(200)
	admin.delete(s.room + "/bans/member").want(200)
	admin.delete(s.room+"/bans/nobody").refused(404, "member_not_found")
	member.post(s.room+"/messages", `{"text":"x"}`).refused(403, "not_a_member")
	member.put(in("member"), "").want(200)

	// the archive
	s.as("other").patch(s.room, `{"archived":true}`).refused(403, "role_too_low")
	admin.patch(s.room, `{"archived":true}`).want(200)
	for _, op := range operations {
		switch op.id {
		case "setRead", "setUnread", "removeMember", "banUser", "unbanUser":
			continue // a member may still read and leave, and be removed
		}
		switch {
		case !op.inRoom():
		case op.method == "GET":
			s.ask("admin", op).want(200)
		default:
			s.ask("admin", op).refused(409, "room_archived")
		}
	}
	s.as("newcomer").put(in("newcomer"), "").refused(409, "room_archived")
	s.as("other").put(s.room+"/read", `{"up_to":"`+s.message.String()+`"}`).want(200)
	s.as("other").delete(in("other")).want(200)
	admin.patch(s.room, `{"archived":false}`).want(200)
	member.post(s.room+"/messages", `{"text":"x"}`).want(201)
}

// Nobody becomes a member by what others do: whom others add is invited, and accepts or declines. Until
// then the room is to them as to any other user, except for the invitation.
func TestInvitations(t *testing.T) {
	t.Parallel()
	for _, private := range []bool{true, false} {
		s := newStage(t, private)
		owner, admin, eve := s.as("owner"), s.as("admin"), s.as("eve")
		in := s.room + "/members/eve"
		invitations := func() (rooms []any) {
			all, _ := eve.get("/v1/rooms").want(200).value("invitations").([]any)
			return all
		}
		outside := func(when string) {
			t.Helper()
			for _, op := range operations {
				if !op.inRoom() || !private && op.method == "GET" || op.path == "{room}/members/eve" {
					continue
				}
				if a := s.ask("eve", op); a.status != map[bool]int{true: 404, false: 403}[private] {
					t.Errorf("%s, private %v, %s: %d", when, private, op.id, a.status)
				}
			}
			if got := eve.get("/v1/rooms").value("rooms"); len(got.([]any)) != 0 {
				t.Errorf("%s eve has the rooms %v", when, got)
			}
		}

		first := admin.put(in, "").want(200)
		if first.value("invited") != true {
			t.Errorf("the answer does not say that eve is invited: %s", first.body)
		}
		if again := owner.put(in, "").want(200); again.id() != first.id() || again.value("repeat") != true || again.value("invited") != true {
			t.Errorf("invited again: %s", again.body)
		}
		s.Sync()
		if all := invitations(); len(all) != 1 || all[0].(map[string]any)["room"] != roomOf(s.room) || all[0].(map[string]any)["by"] != "admin" || all[0].(map[string]any)["name"] == "" {
			t.Errorf("the invitations of eve are %v", all)
		}
		if a := admin.get(in).want(200); a.value("invited") != true || a.text("role") != "" {
			t.Errorf("to an admin eve is %s", a.body)
		}
		s.as("member").get(in).refused(404, "member_not_found")

		eve.delete(in).want(200) // declines
		if len(invitations()) != 0 {
			t.Error("a declined invitation is listed")
		}
		outside("after declining")
		if private {
			eve.put(in, "").refused(404, "room_not_found")
		}
		s.Sync()
		admin.put(in, "").want(200)
		admin.delete(in).want(200) // withdraws it
		if len(invitations()) != 0 {
			t.Error("an invitation that was withdrawn is listed")
		}
		outside("after it was withdrawn")

		admin.put(in, "").want(200)
		for _, id := range []string{"getRoom", "listMembers", "listMessages", "postMessage", "changeRoom", "setRead", "setUnread"} {
			op := operations[slices.IndexFunc(operations, func(o asked) bool { return o.id == id })]
			if private || op.method != "GET" {
				s.ask("eve", op).want(map[bool]int{true: 404, false: 403}[private])
			}
		}
		eve.put(in, "").want(200) // accepts
		eve.get(s.room + "/messages").want(200)
		if admin.put(in, "").want(200).value("invited") != nil || len(invitations()) != 0 {
			t.Error("a member is invited")
		}
		eve.delete(in).want(200)
		owner.put(in, "").want(200)
		outside("after leaving")
		owner.put(s.room+"/bans/eve", "").want(200)
		owner.delete(s.room + "/bans/eve").want(200)
		if len(invitations()) != 0 {
			t.Error("a ban does not end an invitation")
		}
		s.Sync()
	}
}

// Others cannot take over a user's list of rooms: they can invite, and open direct rooms, so often an
// hour, and of many invitations the latest are listed.
func TestManyInvitations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.contacts = 60
	r := w.region(t, "eu")
	ada := r.as("ada")
	for n := range w.contacts {
		if n%10 == 0 {
			ada.put("/v1/direct/user"+strconv.Itoa(n), "").want(201)
			ada.put("/v1/direct/user"+strconv.Itoa(n), "").want(200) // it is there: not counted
			continue
		}
		room := ada.room(`{"name":"` + strconv.Itoa(n) + `","private":true}`)
		ada.put(room+"/members/eve", "").want(200)
		ada.put(room+"/members/eve", "").want(200) // not counted
	}
	room := ada.room(`{"name":"more"}`)
	if a := ada.put(room+"/members/eve", "").refused(429, "too_many_contacts"); a.header.Get("Retry-After") != "3600" {
		t.Errorf("retry after %s", a.header.Get("Retry-After"))
	}
	ada.put("/v1/direct/bob", "").refused(429, "too_many_contacts")
	ada.put("/v1/direct/user10", "").want(200)
	r.as("bob").put("/v1/direct/ada", "").want(201)
	a := r.as("eve").get("/v1/rooms").want(200)
	all, _ := a.value("invitations").([]any)
	if rooms, _ := a.value("rooms").([]any); len(rooms) != 0 || len(all) != 50 || all[0].(map[string]any)["name"] != "59" {
		t.Errorf("eve has %d rooms and %d invitations", len(rooms), len(all))
	}
	r.pass(time.Hour)
	ada.put(room+"/members/eve", "").want(200)
}

// Both users open their direct room in two regions at the same time: it is one room.
func TestDirectRooms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	eu, us := w.region(t, "eu"), w.region(t, "us")
	here := eu.as("ada").put("/v1/direct/bob", "").want(201).text("id")
	there := us.as("bob").put("/v1/direct/ada", "").want(201).text("id")
	room := "/v1/rooms/" + here
	if here != there {
		t.Fatalf("there are two rooms: %s and %s", here, there)
	}
	eu.as("ada").post(room+"/messages", `{"text":"a"}`).want(201)
	us.as("bob").post(room+"/messages", `{"text":"b"}`).want(201)
	replicate(eu, us)
	replicate(us, eu)
	replicate(eu, us)
	for _, r := range []*region{eu, us} {
		if got := r.as("ada").get(room + "/messages").texts(); got != "a b" {
			t.Errorf("%s: the messages are %q", r.name, got)
		}
		r.as("eve").get(room).refused(404, "room_not_found")
		r.as("eve").put(room+"/members/eve", "").refused(404, "room_not_found")
		ada := r.as("ada")
		ada.put("/v1/direct/bob", "").want(200)
		ada.put(room+"/members/eve", "").refused(409, "direct_room")
		ada.delete(room+"/members/ada").refused(409, "direct_room")
		ada.put(room+"/bans/bob", "").refused(409, "direct_room")
		ada.patch(room+"/members/bob", `{"role":"owner"}`).refused(409, "direct_room")
		ada.patch(room, `{"name":"us"}`).refused(403, "role_too_low")
		ada.patch(room, `{"archived":true}`).refused(403, "role_too_low")
	}
	if eu.text(room) != us.text(room) {
		t.Errorf("the regions differ:\n%s\n%s", eu.text(room), us.text(room))
	}
}

func (r *region) text(path string) string { return string(r.as("ada").get(path).want(200).body) }

// A member removed in one region can write in another until the removal has replicated, and not after.
func TestRemovedElsewhere(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	there := s.world.region(t, "us")
	replicate(s.region, there)
	s.as("ada").put(s.room+"/bans/bob", "").want(200)
	there.as("bob").post(s.room+"/messages", `{"text":"still here"}`).want(201)
	replicate(s.region, there)
	there.as("bob").post(s.room+"/messages", `{"text":"x"}`).refused(403, "banned")
	there.as("ada").get("/v1/rooms/"+events.DirectRoom("ada", "bob")).refused(404, "room_not_found")
}
