package functions_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/functions/api"
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

// Every operation refuses every bad token, before anything else is looked at.
func TestTokens(t *testing.T) {
	s := newStage(t, false)
	good := s.token("owner", "")
	claims := func(change func(jwt.MapClaims)) string {
		c := s.claims("owner")
		change(c)
		return s.sign(c)
	}
	other := newWorld(t)
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	header := func(alg string) string { return encode([]byte(`{"alg":"` + alg + `","typ":"JWT"}`)) }
	public, err := json.Marshal(s.key.Public())
	must(t, err)
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(header("HS256") + "." + parts[1]))
	tokens := map[string]string{
		"none": "", "garbage": "garbage", "dots": "..", "truncated": good[:len(good)-1], "unsigned": parts[0] + "." + parts[1] + ".",
		"alg none":      header("none") + "." + parts[1] + ".",
		"alg None":      header("None") + "." + parts[1] + "." + parts[2],
		"HS256":         header("HS256") + "." + parts[1] + "." + encode(mac.Sum(nil)),
		"other claims":  parts[0] + "." + encode([]byte(`{"iss":"`+issuer+`","sub":"admin","exp":9999999999}`)) + "." + parts[2],
		"other key":     other.sign(s.claims("owner")),
		"expired":       claims(func(c jwt.MapClaims) { c["exp"] = s.now().Add(-time.Second).Unix() }),
		"no expiry":     claims(func(c jwt.MapClaims) { delete(c, "exp") }),
		"not yet":       claims(func(c jwt.MapClaims) { c["nbf"] = s.now().Add(time.Minute).Unix() }),
		"other issuer":  claims(func(c jwt.MapClaims) { c["iss"] = "https://other.test" }),
		"no issuer":     claims(func(c jwt.MapClaims) { delete(c, "iss") }),
		"no subject":    claims(func(c jwt.MapClaims) { delete(c, "sub") }),
		"odd subject":   claims(func(c jwt.MapClaims) { c["sub"] = "a/b" }),
		"number":        claims(func(c jwt.MapClaims) { c["sub"] = 7 }),
		"long subject":  claims(func(c jwt.MapClaims) { c["sub"] = strings.Repeat("x", 65) }),
		"string expiry": claims(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }),
		"very long":     strings.Repeat("x", 100_000),
	}
	for name, token := range tokens {
		t.Run(name, func(t *testing.T) {
			c := s.as("owner")
			c.token = token
			for _, way := range ways {
				c.do(way.method, s.fill(way.path), "not even JSON").refused(401, "unauthenticated")
			}
			for _, way := range elsewhere {
				a := c.do(way.method, strings.NewReplacer("{mine}", "x", "{me}", "owner").Replace(way.path), way.body).refused(401, "unauthenticated")
				if a.header.Get("WWW-Authenticate") == "" {
					t.Error("WWW-Authenticate is missing")
				}
				if token != "" && strings.Contains(string(a.body), token) {
					t.Error("the token is quoted")
				}
			}
		})
	}
	for scheme, status := range map[string]int{"Bearer ": 200, "bearer ": 200, "BEARER  ": 200, "Basic ": 401, "": 401, "Bearer": 401} {
		c := s.as("owner")
		c.token = ""
		c.with("Authorization", scheme+good).get(s.room).want(status)
	}
}

// A token that is remembered ends when it expires, and stands for nobody but its user.
func TestRememberedTokens(t *testing.T) {
	s := newStage(t, true)
	c := s.claims("member")
	c["exp"] = s.now().Add(time.Minute).Unix()
	member := s.as("member")
	member.token = s.sign(c)
	stranger := s.as("stranger")
	for range 3 {
		member.get(s.room).want(200)
		stranger.get(s.room).want(404)
		for _, almost := range []string{member.token + "x", member.token[:len(member.token)-2], strings.ToUpper(member.token)} {
			b := *member
			b.token = almost
			b.get(s.room).want(401)
		}
	}
	s.pass(58 * time.Second)
	member.get(s.room).want(200)
	s.pass(2 * time.Second)
	member.get(s.room).refused(401, "unauthenticated")
	member.get(s.room).refused(401, "unauthenticated")
}

// The keys of a real issuer, over HTTP.
func TestJWKS(t *testing.T) {
	w := newWorld(t)
	x := base64.RawURLEncoding.EncodeToString(w.key[32:]) // the public half
	broken := false
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if broken {
			rw.WriteHeader(500)
			return
		}
		_, _ = rw.Write([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"one","x":"` + x + `"}]}`))
	}))
	t.Cleanup(server.Close)
	keys, err := api.JWKS(t.Context(), server.URL, slog.New(slog.DiscardHandler))
	must(t, err)
	auth := api.NewAuth(api.AuthConfig{Issuer: issuer, Audience: "parley", Keys: keys, Now: w.now})
	sign := func(kid string, change func(jwt.MapClaims)) string {
		claims := w.claims("ada")
		claims["aud"], claims["scope"] = []string{"other", "parley"}, "chat operator"
		change(claims)
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
		token.Header["kid"] = kid
		text, err := token.SignedString(w.key)
		must(t, err)
		return text
	}
	caller, err := auth.Verify(sign("one", func(jwt.MapClaims) {}))
	if err != nil || caller.User != "ada" || !caller.Operator() {
		t.Errorf("the caller is %v, %v", caller, err)
	}
	if caller, err := auth.Verify(sign("one", func(c jwt.MapClaims) { c["scope"] = "operators" })); err != nil || caller.Operator() {
		t.Errorf("the caller is %v, %v", caller, err)
	}
	for name, token := range map[string]string{
		"unknown key":    sign("two", func(jwt.MapClaims) {}),
		"other audience": sign("one", func(c jwt.MapClaims) { c["aud"] = "other" }),
		"no audience":    sign("one", func(c jwt.MapClaims) { delete(c, "aud") }),
	} {
		if caller, err := auth.Verify(token); err == nil {
			t.Errorf("%s: taken for %v", name, caller)
		}
	}
	broken = true
	if _, err := api.JWKS(t.Context(), server.URL, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an issuer that does not answer is taken")
	}
}

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
