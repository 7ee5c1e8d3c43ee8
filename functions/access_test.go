package functions_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stage is a room with one user of each kind; the users are called by what they are.
func newStage(t testing.TB, private bool) *scene {
	t.Helper()
	r := newRegion(t)
	owner := r.as("owner")
	body := map[bool]string{true: `{"name":"Hidden","private":true}`, false: `{"name":"Open"}`}[private]
	s := &scene{region: r, room: owner.room(body)}
	for _, user := range []string{"admin", "member", "removed", "banned", "other"} {
		role := map[bool]string{true: `{"role":"admin"}`}[user == "admin"]
		owner.put(s.room+"/members/"+user, role).want(200)
	}
	owner.delete(s.room + "/members/removed").want(200)
	owner.put(s.room+"/bans/banned", "").want(200)
	s.message = owner.say(s.room, secret)
	r.Sync()
	return s
}

// ways is how every operation that is about a room is asked in a stage, and what each kind of
// user gets: member, admin, owner.
var ways = map[string]struct {
	method, path, body    string
	member, admin, owner_ int
}{
	"getRoom":        {"GET", "{room}", "", 200, 200, 200},
	"listMembers":    {"GET", "{room}/members", "", 200, 200, 200},
	"getMember":      {"GET", "{room}/members/admin", "", 200, 200, 200},
	"listMessages":   {"GET", "{room}/messages", "", 200, 200, 200},
	"getMessage":     {"GET", "{room}/messages/{message}", "", 200, 200, 200},
	"listReplies":    {"GET", "{room}/messages/{message}/replies", "", 200, 200, 200},
	"postMessage":    {"POST", "{room}/messages", `{"text":"x"}`, 201, 201, 201},
	"putMessage":     {"PUT", "{room}/messages/{mine}", `{"text":"x"}`, 201, 201, 201},
	"editMessage":    {"PATCH", "{room}/messages/{message}", `{"text":"x"}`, 403, 403, 200}, // the owner wrote it
	"deleteMessage":  {"DELETE", "{room}/messages/{message}", "", 403, 200, 200},
	"addReaction":    {"PUT", "{room}/messages/{message}/reactions/👍", "", 200, 200, 200},
	"removeReaction": {"DELETE", "{room}/messages/{message}/reactions/👍", "", 200, 200, 200},
	"pinMessage":     {"PUT", "{room}/messages/{message}/pin", "", 200, 200, 200},
	"unpinMessage":   {"DELETE", "{room}/messages/{message}/pin", "", 200, 200, 200},
	"changeRoom":     {"PATCH", "{room}", `{"topic":"x"}`, 403, 200, 200},
	"putMember":      {"PUT", "{room}/members/new", "", 403, 200, 200},
	"changeRole":     {"PATCH", "{room}/members/other", `{"role":"admin"}`, 403, 403, 200},
	"removeMember":   {"DELETE", "{room}/members/other", "", 403, 200, 200},
	"banUser":        {"PUT", "{room}/bans/other", "", 403, 200, 200},
	"unbanUser":      {"DELETE", "{room}/bans/banned", "", 403, 200, 200},
	"setRead":        {"PUT", "{room}/read", `{"up_to":"{message}"}`, 200, 200, 200},
}

// elsewhere are the operations that are about no room that is there.
var elsewhere = map[string]struct{ method, path, body string }{
	"listRooms":  {"GET", "/v1/rooms", ""},
	"sync":       {"GET", "/v1/sync", ""},
	"createRoom": {"POST", "/v1/rooms", `{"name":"x"}`},
	"putRoom":    {"PUT", "/v1/rooms/{mine}", `{"name":"x"}`},
	"openDirect": {"PUT", "/v1/direct/zoe", ""},
	"getUser":    {"GET", "/v1/users/owner", ""},
	"setProfile": {"PUT", "/v1/users/{me}", `{"name":"x"}`},
}

func (s *scene) ask(user, method, path, body string) *answer {
	s.t.Helper()
	fill := strings.NewReplacer("{room}", s.room, "{message}", s.message.String(), "{mine}", s.mint(user).String(), "{me}", user)
	return s.as(user).do(method, fill.Replace(path), fill.Replace(body))
}

// Every operation, as every kind of user, in a public and in a private room.
func TestWhoMayDoWhat(t *testing.T) {
	for _, operations := range newRegion(t).doc.Paths {
		for _, op := range operations {
			if _, ok := elsewhere[op.OperationID]; ok {
				continue
			}
			way, ok := ways[op.OperationID]
			if !ok {
				t.Fatalf("no way to ask %s", op.OperationID)
			}
			t.Run(op.OperationID, func(t *testing.T) {
				query := way.method == "GET"
				outsider := map[bool]int{true: 200, false: 403}[query]
				for user, want := range map[string]struct{ public, private int }{
					"stranger": {outsider, 404}, "removed": {outsider, 404}, "banned": {403, 404},
					"member": {way.member, way.member}, "admin": {way.admin, way.admin}, "owner": {way.owner_, way.owner_},
				} {
					newStage(t, false).ask(user, way.method, way.path, way.body).want(want.public)
					newStage(t, true).ask(user, way.method, way.path, way.body).want(want.private)
				}
			})
		}
	}
}

// To whoever is no member a private room is like one that is not there, whatever is asked of it.
func TestPrivateRoomIsInvisible(t *testing.T) {
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
	for _, way := range ways {
		questions = append(questions, question{way.method, way.path, way.body})
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
				fill := strings.NewReplacer("{room}", "/v1/rooms/"+room, "{message}", m, "{mine}", s.mint(user).String())
				return shown(s.as(user).do(q.method, fill.Replace(q.path), fill.Replace(q.body)).refused(404, "room_not_found"))
			}
			if diff := cmp.Diff(ask(there), ask(not)); diff != "" {
				t.Errorf("%s %s tells %s the one from the other:\n%s", q.method, q.path, user, diff)
			}
		}
	}
	// Nor is anything told through another room, or one's own lists.
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
	s := newStage(t, false)
	s.as("owner").patch(s.room, `{"private":true}`).want(200)
	s.as("stranger").get(s.room).refused(404, "room_not_found")
	s.as("stranger").put(s.room+"/members/stranger", "").refused(404, "room_not_found")
	s.as("member").get(s.room).want(200)
	s.as("owner").patch(s.room, `{"private":false}`).want(200)
	s.as("stranger").get(s.room).want(200)
}
