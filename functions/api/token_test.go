package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// raw signs a header and a payload as they are written.
func (p pair) raw(t testing.TB, header, payload string) string {
	t.Helper()
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	signature, err := p.method.Sign(signed, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

// fixed verifies tokens of one key, at a time.
func fixed(p pair, now time.Time) *Auth {
	return NewAuth(AuthConfig{
		Issuer: "https://issuer.test", Audience: "parley", Keys: FixedJWKS("one", p.key.Public()),
		Leeway: DefaultLeeway, Now: func() time.Time { return now },
	})
}

// Tokens as identity providers write them, and as those write them who want to be somebody else.
func TestClaims(t *testing.T) {
	t.Parallel()
	p, now := newKey(t, "one"), time.Unix(1_800_000_000, 0)
	a := fixed(p, now)
	const header = `{"alg":"EdDSA","kid":"one"}`
	const base = `"iss":"https://issuer.test","aud":"parley","sub":"ada","exp":1800000100`
	for _, c := range []struct{ fields, scopes string }{ // good ones
		{``, ``},
		{`"scope":"openid operator"`, `openid operator`},
		{`"scope":["openid","operator"]`, `openid operator`},
		{`"scope":["openid profile","operator"]`, `openid profile operator`},
		{`"scp":"chat operator"`, `chat operator`},
		{`"scp":["chat","operator"]`, `chat operator`},
		{`"scope":"openid","scp":["operator"]`, `openid operator`},
		{`"scope":null,"nbf":null`, ``},
		{`"scope":7,"scp":{"operator":true}`, ``},
		{`"scope":["operator",7]`, ``},
		{`"Scope":"operator","SCOPE":"operator","ſcope":"operator","scope ":"operator"`, ``},
		{`"Sub":"bob","ſub":"bob","SUB":"bob"`, ``},
		{`"EXP":1,"Nbf":1900000000,"IAT":"x","Iss":"evil","AUD":[]`, ``},
		{`"nbf":1800000059`, ``},
		{`"nbf":1800000060,"iat":1800000060`, ``},
		{`"iat":1800000001.5`, ``},
		{`"iat":-1e400,"nbf":1e3`, ``},
		{`"sub2":{"sub":"bob","sub":"bob"},"email":"\u00e9\ud83d\ude00"`, ``},
	} {
		payload := "{" + base + "}"
		if c.fields != "" {
			payload = "{" + base + "," + c.fields + "}"
		}
		caller, _, err := a.Verify(t.Context(), p.raw(t, header, payload))
		if err != nil || caller.User != "ada" || strings.Join(caller.Scopes, " ") != c.scopes {
			t.Errorf("%s gives %+v, %v", payload, caller, err)
		}
	}
	for field, values := range map[string][]string{ // of base; one by another value
		`"aud":"parley"`:              {`"aud":["x","parley"]`},
		`"exp":1800000100`:            {`"exp":1800000000.5`, `"exp":9999999999999`, `"exp":1e300`, `"exp":1e400`},
		`"iss":"https://issuer.test"`: {`"iss":"https:\/\/issuer.test"`},
	} {
		for _, value := range values {
			_, expires, err := a.Verify(t.Context(), p.raw(t, header, "{"+strings.Replace(base, field, value, 1)+"}"))
			if err != nil || expires.UnixNano() < now.UnixNano() || expires.Year() > 2242 {
				t.Errorf("%s is good until %s, %v", value, expires, err)
			}
		}
	}
	bad := map[string]string{
		"sub twice":          `{` + base + `,"sub":"bob"}`,
		"sub twice, escaped": `{` + base + `,"\u0073ub":"bob"}`,
		"exp twice":          `{` + base + `,"exp":1900000000}`,
		"any claim twice":    `{` + base + `,"x":1,"x":1}`,
		"nbf ahead":          `{` + base + `,"nbf":1800000061}`,
		"iat ahead":          `{` + base + `,"iat":1800000061}`,
		"nbf is text":        `{` + base + `,"nbf":"1700000000"}`,
		"lone surrogate":     `{` + base + `,"x":"\ud800"}`,
		"not UTF-8":          "{" + base + ",\"x\":\"\xff\"}",
		"more behind":        `{` + base + `} {}`,
		"a list":             `[{` + base + `}]`,
		"null":               `null`,
		"nothing":            ``,
	}
	for field, values := range map[string][]string{
		`"exp":1800000100`:            {`"exp":1800000000`, `"exp":"1800000100"`, `"exp":null`, `"exp":true`, `"exp":-1`, `"Exp":1800000100`, `"exp":[1800000100]`},
		`"sub":"ada"`:                 {`"sub":""`, `"sub":null`, `"sub":7`, `"sub":["ada"]`, `"sub":"` + strings.Repeat("x", 121) + `"`, `"SUB":"ada"`},
		`"iss":"https://issuer.test"`: {`"iss":"https://issuer.test/"`, `"iss":["https://issuer.test"]`, `"iss":null`},
		`"aud":"parley"`:              {`"aud":"Parley"`, `"aud":[]`, `"aud":{}`, `"aud":["parley",7]`, `"aud":null`},
	} {
		for _, value := range values {
			bad[value] = "{" + strings.Replace(base, field, value, 1) + "}"
		}
	}
	for name, payload := range bad {
		a.wants(t, p.raw(t, header, payload), "401", name)
	}
	for name, header := range map[string]string{
		"crit":        `{"alg":"EdDSA","kid":"one","crit":["x"],"x":1}`,
		"crit, empty": `{"alg":"EdDSA","kid":"one","crit":[]}`,
		"b64":         `{"alg":"EdDSA","kid":"one","b64":false,"crit":["b64"]}`,
		"kid twice":   `{"alg":"EdDSA","kid":"one","kid":"one"}`,
		"kid 1":       `{"alg":"EdDSA","kid":1}`,
		"other kid":   `{"alg":"EdDSA","kid":"two"}`,
		"no alg":      `{"kid":"one"}`,
		"alg none":    `{"alg":"none","kid":"one"}`,
		"HS256":       `{"alg":"HS256","kid":"one"}`,
		"ES256":       `{"alg":"ES256","kid":"one"}`,
		"no object":   `7`,
	} {
		a.wants(t, p.raw(t, header, "{"+base+"}"), "401", name)
	}
}

// A token has one spelling: no other is a place of its own in the cache.
func TestSpellings(t *testing.T) {
	t.Parallel()
	p := newKey(t, "one")
	a := fixed(p, time.Now())
	text := p.token(t)
	a.wants(t, text, "200", "as it was signed")
	others := []string{text + "\n", text + "=", "\r" + text, strings.ReplaceAll(text, ".", ".\n"), text + ".", text + " "}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for _, c := range alphabet {
		others = append(others, text[:len(text)-1]+string(c))
	}
	for _, other := range others {
		if other != text {
			a.wants(t, other, "401", fmt.Sprintf("…%q", other[len(other)-4:]))
		}
	}
	if n := a.verified.Len(); n != 1 {
		t.Errorf("%d tokens are cached", n)
	}
}

// FuzzToken reads any text as a token: what is read is what every other decoder reads.
func FuzzToken(f *testing.F) {
	p := newKey(f, "one")
	f.Add(p.token(f))
	for _, payload := range []string{`{"sub":"a","SUB":"b"}`, `{"exp":1e9,"aud":["x"],"scope":["a","b"],"scp":"c"}`, `{"sub":"\ud83d\ude00"}`} {
		f.Add(p.raw(f, `{"alg":"RS256"}`, payload))
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readToken(text)
		if err != nil {
			return
		}
		parts := strings.Split(text, ".")
		if len(parts) != 3 || b64(got.signature) != parts[2] || got.signed != parts[0]+"."+parts[1] {
			t.Fatalf("%q is read as %+v", text, got)
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		var fields map[string]any
		if err != nil || json.Unmarshal(payload, &fields) != nil {
			t.Fatalf("the payload %q is read", payload)
		}
		subject, _ := fields["sub"].(string)
		if got.subject != subject || !utf8.ValidString(subject) {
			t.Fatalf("%q is of %q", payload, got.subject)
		}
		if slices.Contains(got.scopes, "") || got.expires.UnixNano() < 0 && !got.expires.IsZero() {
			t.Fatalf("%q is read as %+v", payload, got)
		}
	})
}
