package functions_test

import (
	"testing"

	"parley/events"
)

// Roles in a room, in the order of a life.
func TestRoles(t *testing.T) {
	s := newStage(t, false)
	owner, admin, member := s.as("owner"), s.as("admin"), s.as("member")
	in := func(user string) string { return s.room + "/members/" + user }

	member.put(in("x"), "").refused(403, "role_too_low")
	admin.put(in("x"), `{"role":"admin"}`).refused(403, "role_too_low")
	s.as("stranger").put(in("stranger"), `{"role":"owner"}`).refused(403, "not_a_member")
	s.as("stranger").put(in("x"), "").refused(403, "not_a_member")
	admin.put(in("x"), `{"role":"member"}`).want(200)
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
	for name, way := range ways {
		want := 409
		switch name {
		case "setRead", "removeMember", "banUser", "unbanUser":
			continue // one may still read and go, or be made to go
		case "editMessage":
			want = 409
		}
		if way.method == "GET" {
			want = 200
		}
		if a := s.ask("admin", way.method, way.path, way.body).want(want); want == 409 && a.code() != "room_archived" {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	s.as("newcomer").put(in("newcomer"), "").refused(409, "room_archived")
	s.ask("other", "PUT", "{room}/read", `{"up_to":"{message}"}`).want(200)
	s.as("other").delete(in("other")).want(200)
	admin.patch(s.room, `{"archived":false}`).want(200)
	member.post(s.room+"/messages", `{"text":"x"}`).want(201)
}

// Both users open their direct room in two regions at the same time: it is one room.
func TestDirectRooms(t *testing.T) {
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

// Whoever is removed in one region may write in another until that hears of it, and not after.
func TestRemovedElsewhere(t *testing.T) {
	s := newScene(t)
	there := s.world.region(t, "us")
	replicate(s.region, there)
	s.as("ada").put(s.room+"/bans/bob", "").want(200)
	there.as("bob").post(s.room+"/messages", `{"text":"still here"}`).want(201)
	replicate(s.region, there)
	there.as("bob").post(s.room+"/messages", `{"text":"x"}`).refused(403, "banned")
	there.as("ada").get("/v1/rooms/"+events.DirectRoom("ada", "bob")).refused(404, "room_not_found")
}
