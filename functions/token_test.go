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
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/functions/api"
)

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
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
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
	broken.Store(true)
	if _, err := api.JWKS(t.Context(), server.URL, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an issuer that does not answer is taken")
	}
}
