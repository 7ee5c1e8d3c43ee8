package functions_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/functions/api"
)

// Every operation refuses every bad token, before anything else is looked at.
func TestTokens(t *testing.T) {
	t.Parallel()
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
		"not yet":       claims(func(c jwt.MapClaims) { c["nbf"] = s.now().Add(time.Hour).Unix() }),
		"other issuer":  claims(func(c jwt.MapClaims) { c["iss"] = "https://other.test" }),
		"no issuer":     claims(func(c jwt.MapClaims) { delete(c, "iss") }),
		"no subject":    claims(func(c jwt.MapClaims) { delete(c, "sub") }),
		"empty subject": claims(func(c jwt.MapClaims) { c["sub"] = "" }),
		"number":        claims(func(c jwt.MapClaims) { c["sub"] = 7 }),
		"long subject":  claims(func(c jwt.MapClaims) { c["sub"] = strings.Repeat("|", 41) }),
		"two subjects":  s.signText(`{"alg":"EdDSA"}`, `{"iss":"`+issuer+`","exp":9999999999,"sub":"owner","sub":"owner"}`),
		"crit":          s.signText(`{"alg":"EdDSA","crit":["x"],"x":1}`, `{"iss":"`+issuer+`","exp":9999999999,"sub":"owner"}`),
		"string expiry": claims(func(c jwt.MapClaims) { c["exp"] = "tomorrow" }),
		"very long":     strings.Repeat("x", 100_000),
	}
	for name, token := range tokens {
		t.Run(name, func(t *testing.T) {
			c := s.as("owner")
			c.token = token
			for _, op := range operations {
				a := c.do(op.method, s.fill("owner", op.path), "not even JSON").refused(401, "unauthenticated")
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

// A subject of any identity provider is a user of the API, by the id that escaping makes of it.
func TestSubjects(t *testing.T) {
	t.Parallel()
	s := newStage(t, true)
	for subject, user := range map[string]string{
		"auth0|5f7c8ec7c33c6c004bbafe82": "auth0~7C5f7c8ec7c33c6c004bbafe82", "ada@example.com": "ada~40example.com",
		"https://id.example/ada?x=1#y": "https~3A~2F~2Fid.example~2Fada~3Fx~3D1~23y", "a b\x00é": "a~20b~00~C3~A9", "..": "~2E~2E",
		strings.Repeat("|", 40): strings.Repeat("~7C", 40),
	} {
		c := s.as("owner")
		c.user, c.token = user, s.sign(s.claims(subject))
		c.get(s.room).want(404)
		s.as("owner").put(s.room+"/members/"+user, "").want(200)
		c.put(s.room+"/members/"+user, "").want(200)
		s.Sync()
		c.say(s.room, "hello from "+user)
		s.Sync()
		if got := s.as("owner").get(s.room + "/members/" + user).want(200).value("user"); got != user {
			t.Errorf("%q is the member %v, want %s", subject, got, user)
		}
	}
}

// A cached token is refused once it expires, and stands for its own user only.
func TestRememberedTokens(t *testing.T) {
	t.Parallel()
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

// A burst of 200, then 50 a second, for each user alone.
func TestRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rate = api.DefaultRate
	r := w.region(t, "eu")
	ada := r.as("ada")
	w.step.Store(0)
	post := func() *answer { return ada.post("/v1/rooms", `{"name":"x"}`) }
	wantHeaders := func(a *answer, remaining, reset string) {
		t.Helper()
		h := a.header
		if h.Get("X-RateLimit-Limit") != "200" || h.Get("X-RateLimit-Remaining") != remaining || h.Get("X-RateLimit-Reset") != reset {
			t.Errorf("the headers are %v", h)
		}
	}
	wantHeaders(post().want(201), "199", "1")
	for range 198 {
		post().want(201)
	}
	wantHeaders(post().want(201), "0", "4")
	refused := post().refused(429, "rate_limited")
	wantHeaders(refused, "0", "4")
	if refused.header.Get("Retry-After") != "1" || refused.value("retryable") != true {
		t.Errorf("%v %s", refused.header, refused.body)
	}
	r.as("bob").post("/v1/rooms", `{"name":"x"}`).want(201)
	for range 20 {
		if a := ada.get("/v1/rooms").want(200); a.header.Get("X-RateLimit-Limit") != "" {
			t.Fatal("a query counts as a command")
		}
	}
	w.pass(19 * time.Millisecond)
	post().refused(429, "rate_limited")
	w.pass(time.Millisecond)
	post().want(201)
	post().refused(429, "rate_limited")
	w.pass(time.Second)
	for range 50 {
		ada.post("/v1/rooms", "no JSON").refused(400, "malformed_body") // counts, too
	}
	post().refused(429, "rate_limited")
	w.pass(time.Hour)
	for range 200 {
		post().want(201)
	}
	post().refused(429, "rate_limited")
}
