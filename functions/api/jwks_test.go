package api

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/functions/wire"
)

type jwk = map[string]any

// issuer plays an identity provider, as a server and as a transport to one.
type issuer struct {
	mu    sync.Mutex
	keys  []any
	fails bool
	delay time.Duration // until it answers
	asked int           // how often its keys were fetched
	logs  bytes.Buffer
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) publish(keys ...any) { i.set(func() { i.keys = keys }) }

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked++
	delay := i.delay
	i.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fails {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(jwk{"keys": i.keys})
}

// RoundTrip implements [http.RoundTripper], where a test decides what the time is.
func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// auth verifies the issuer's tokens, with its keys fetched from url, or through RoundTrip if it is "".
func (i *issuer) auth(url string) *Auth {
	client := http.DefaultClient
	if url == "" {
		url, client = "http://issuer.test/jwks", &http.Client{Transport: i}
	}
	keys := NewJWKS(url, client, slog.New(slog.NewTextHandler(&i.logs, nil)))
	return NewAuth(AuthConfig{Issuer: "https://issuer.test", Audience: "parley", Keys: keys, Leeway: DefaultLeeway})
}

// pair is a key that signs, and its JWK.
type pair struct {
	method jwt.SigningMethod
	key    crypto.Signer
	jwk    jwk
}

var b64 = base64.RawURLEncoding.EncodeToString

func newKey(t testing.TB, kid string) pair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair{jwt.SigningMethodEdDSA, private, jwk{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": b64(public)}}
}

func newRSA(t testing.TB, kid string, bits int) pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return pair{jwt.SigningMethodRS256, key, jwk{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": b64(key.N.Bytes()), "e": "AQAB"}}
}

func newEC(t testing.TB, kid, crv string, curve elliptic.Curve, method jwt.SigningMethod) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := len(point) / 2
	return pair{method, key, jwk{"kty": "EC", "crv": crv, "kid": kid, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}}
}

// token signs a token of ada, with other claims or header fields.
func (p pair) token(t testing.TB, change ...func(header, claims jwk)) string {
	t.Helper()
	claims := jwt.MapClaims{"iss": "https://issuer.test", "aud": "parley", "sub": "ada", "exp": time.Now().Add(10 * time.Hour).Unix(), "jti": rand.Text()}
	token := jwt.NewWithClaims(p.method, claims)
	if kid, ok := p.jwk["kid"]; ok {
		token.Header["kid"] = kid
	}
	for _, c := range change {
		c(token.Header, claims)
	}
	text, err := token.SignedString(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// with returns a JWK with other fields; nil takes one away.
func (p pair) with(fields jwk) jwk {
	out := jwk{}
	for _, from := range []jwk{p.jwk, fields} {
		for name, value := range from {
			if out[name] = value; value == nil {
				delete(out, name)
			}
		}
	}
	return out
}

// verify returns the status and whether to retry: 200 if the token is ada's.
func (a *Auth) verify(t testing.TB, text string) string {
	t.Helper()
	caller, _, err := a.Verify(t.Context(), text)
	var p *wire.Problem
	switch {
	case err == nil && caller.User == "ada":
		return "200"
	case errors.As(err, &p) && p.Retryable:
		return fmt.Sprintf("%d retry", p.Status)
	case errors.As(err, &p):
		return fmt.Sprint(p.Status)
	default:
		return fmt.Sprintf("%v, %v", caller, err)
	}
}

func (a *Auth) wants(t testing.TB, text, want, when string) {
	t.Helper()
	if got := a.verify(t, text); got != want {
		t.Errorf("%s: %s, want %s", when, got, want)
	}
}

// Keys as identity providers publish them: one that is not understood, or for something else, harms no
// other, and is trusted for nothing.
func TestKeyForms(t *testing.T) {
	t.Parallel()
	good, other := newRSA(t, "good", 2048), newRSA(t, "other", 2048)
	weak := newRSA(t, "weak", 1024)
	ec := newEC(t, "ec", "P-256", elliptic.P256(), jwt.SigningMethodES256)
	ec3 := newEC(t, "ec3", "P-384", elliptic.P384(), jwt.SigningMethodES384)
	ec5 := newEC(t, "ec5", "P-521", elliptic.P521(), jwt.SigningMethodES512)
	ed, bare := newKey(t, "ed"), newKey(t, "")
	delete(bare.jwk, "kid")
	zeros := b64(make([]byte, 57))
	for name, c := range map[string]struct {
		keys []any
		good []pair
		bad  []pair
	}{
		"of every kind":         {[]any{good.jwk, ec.jwk, ec3.jwk, ec5.jwk, ed.jwk}, []pair{good, ec, ec3, ec5, ed}, []pair{other}},
		"for encryption":        {[]any{other.with(jwk{"use": "enc", "alg": "RSA-OAEP"}), good.jwk}, []pair{good}, []pair{other}},
		"enc for the same alg":  {[]any{other.with(jwk{"use": "enc"}), good.jwk}, []pair{good}, []pair{other}},
		"key_ops":               {[]any{other.with(jwk{"key_ops": []string{"encrypt"}}), good.with(jwk{"key_ops": []string{"verify"}})}, []pair{good}, []pair{other}},
		"Ed448":                 {[]any{jwk{"kty": "OKP", "crv": "Ed448", "kid": "x", "x": zeros, "alg": "EdDSA"}, good.jwk}, []pair{good}, nil},
		"X25519":                {[]any{jwk{"kty": "OKP", "crv": "X25519", "kid": "x", "x": zeros[:43]}, good.jwk}, []pair{good}, nil},
		"post-quantum":          {[]any{jwk{"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": zeros}, good.jwk}, []pair{good}, nil},
		"secp256k1":             {[]any{jwk{"kty": "EC", "crv": "secp256k1", "kid": "k", "x": zeros, "y": zeros}, good.jwk}, []pair{good}, nil},
		"no point of the curve": {[]any{ec.with(jwk{"x": ec3.jwk["x"]}), ec3.with(jwk{"y": "AQAB"}), good.jwk}, []pair{good}, []pair{ec, ec3}},
		"without numbers":       {[]any{good.jwk, jwk{"kty": "RSA", "kid": "broken"}}, []pair{good}, nil},
		"too short":             {[]any{good.jwk, weak.jwk}, []pair{good}, []pair{weak}},
		"a shared secret":       {[]any{good.jwk, jwk{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}}, []pair{good}, nil},
		"no object at all":      {[]any{nil, 7, "x", []int{1}, jwk{"kid": 5}, jwk{"kty": "RSA", "n": []int{}}, good.jwk}, []pair{good}, nil},
		"x5t of bytes":          {[]any{good.with(jwk{"x5c": []string{"MIIB"}, "x5t": b64([]byte("01234567890123456789"))})}, []pair{good}, nil},
		"x5t of hex digits":     {[]any{good.with(jwk{"x5c": []string{"no"}, "x5t": b64([]byte(strings.Repeat("0f", 20)))})}, []pair{good}, nil},
		"x5t that is no text":   {[]any{good.with(jwk{"x5t": 7, "x5c": "no", "x5u": false})}, []pair{good}, nil},
		"more fields":           {[]any{good.with(jwk{"issuer": "x", "nbf": 1, "exp": 99999999999})}, []pair{good}, nil},
		"without alg and use":   {[]any{good.with(jwk{"alg": nil, "use": nil})}, []pair{good}, nil},
		"of another alg":        {[]any{good.with(jwk{"alg": "RS512"}), ed.jwk}, []pair{ed}, []pair{good}},
		"n with a leading zero": {[]any{good.with(jwk{"n": b64(append([]byte{0}, good.key.(*rsa.PrivateKey).N.Bytes()...))})}, []pair{good}, nil},
		"n with padding":        {[]any{good.with(jwk{"n": base64.URLEncoding.EncodeToString(good.key.(*rsa.PrivateKey).N.Bytes())})}, []pair{good}, nil},
		"one kid twice":         {[]any{other.with(jwk{"kid": "good"}), good.jwk}, []pair{good}, []pair{other}},
		"no kid":                {[]any{good.jwk, bare.jwk, ed.jwk}, []pair{bare, good, ed}, []pair{other}},
	} {
		t.Run(name, func(t *testing.T) {
			i := &issuer{keys: c.keys}
			server := httptest.NewServer(i)
			defer server.Close()
			a := i.auth(server.URL)
			for _, p := range c.good {
				a.wants(t, p.token(t), "200", fmt.Sprint(p.jwk["kid"]))
			}
			for _, p := range c.bad {
				if got := a.verify(t, p.token(t)); !strings.HasPrefix(got, "401") {
					t.Errorf("a token signed with %v: %s", p.jwk["kid"], got)
				}
			}
		})
	}
}

// A new key of an issuer that is 30 ms away verifies tokens at once, over HTTP.
func TestRotation(t *testing.T) {
	t.Parallel()
	one, two := newKey(t, "one"), newKey(t, "two")
	i := &issuer{delay: 30 * time.Millisecond}
	i.publish(one.jwk)
	server := httptest.NewServer(i)
	defer server.Close()
	a := i.auth(server.URL)
	a.wants(t, one.token(t), "200", "before")
	a.Keys.mu.Lock()
	a.Keys.tried = a.Keys.tried.Add(-fetchPause) // a while ago
	a.Keys.mu.Unlock()
	i.publish(one.jwk, two.jwk)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { a.wants(t, two.token(t), "200", "the new key") })
		all.Go(func() { a.wants(t, one.token(t), "200", "the old key") })
	}
	all.Wait()
	if i.asked != 2 {
		t.Errorf("the keys were fetched %d times", i.asked)
	}
}

// Keys over time: when they are fetched, who waits, and how failures are answered.
func TestKeysOverTime(t *testing.T) {
	one, two, evil := newKey(t, "one"), newKey(t, "two"), newKey(t, "evil")
	run := func(name string, f func(t *testing.T, i *issuer)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, &issuer{keys: []any{one.jwk}, delay: 30 * time.Millisecond}) })
		})
	}
	run("a new key within seconds", func(t *testing.T, i *issuer) {
		a := i.auth("")
		a.wants(t, one.token(t), "200", "at first")
		i.publish(one.jwk, two.jwk)
		a.wants(t, two.token(t), "401 retry", "at once")
		time.Sleep(fetchPause)
		a.wants(t, two.token(t), "200", "after the pause")
	})
	run("invented keys neither flood the issuer nor hold others", func(t *testing.T, i *issuer) {
		a := i.auth("")
		a.wants(t, one.token(t), "200", "at first")
		i.set(func() { i.delay = time.Hour })
		var all sync.WaitGroup
		for range 60 {
			time.Sleep(time.Second)
			for range 20 {
				all.Go(func() { a.wants(t, evil.token(t), "401 retry", "an invented key") })
			}
			begun := time.Now()
			a.wants(t, one.token(t), "200", "meanwhile")
			if held := time.Since(begun); held > 0 {
				t.Errorf("a good token is held for %s", held)
			}
		}
		begun := time.Now()
		all.Wait()
		if i.asked > 13 || time.Since(begun) > fetchWithin {
			t.Errorf("the keys were fetched %d times, and requests held for %s", i.asked, time.Since(begun))
		}
		i.set(func() { i.delay = 0 })
		time.Sleep(fetchPause)
		a.wants(t, evil.token(t), "401", "when the issuer answers")
	})
	run("an issuer that is down at the start", func(t *testing.T, i *issuer) {
		i.fails = true
		a := i.auth("")
		for range 10 {
			a.wants(t, one.token(t), "503 retry", "while it is down")
			a.wants(t, "garbage", "401", "what is no token")
		}
		if i.asked != 1 {
			t.Errorf("the keys were fetched %d times", i.asked)
		}
		i.set(func() { i.fails = false })
		time.Sleep(fetchPause)
		a.wants(t, one.token(t), "200", "when it is up")
	})
	run("an issuer that is down for long", func(t *testing.T, i *issuer) {
		a := i.auth("")
		token := one.token(t, func(_, c jwk) { c["exp"] = time.Now().Add(1000 * time.Hour).Unix() })
		a.wants(t, token, "200", "at first")
		i.set(func() { i.fails = true })
		for range 24 * 6 {
			time.Sleep(10 * time.Minute)
			a.wants(t, token, "200", "while it is down")
		}
		a.wants(t, two.token(t), "401 retry", "a key that may be new")
		if i.asked > 24*6+2 {
			t.Errorf("the keys were fetched %d times", i.asked)
		}
		i.set(func() { i.fails, i.keys = false, []any{two.jwk} })
		time.Sleep(10 * time.Minute)
		a.wants(t, token, "200", "while they are fetched")
		time.Sleep(time.Minute)
		a.wants(t, token, "401", "once the key is gone")
	})
	run("a verified token is forgotten with its key", func(t *testing.T, i *issuer) {
		a := i.auth("")
		token := one.token(t)
		a.wants(t, token, "200", "at first")
		i.publish(two.jwk)
		for range 59 { // requests come all the time
			time.Sleep(time.Minute)
			_ = a.verify(t, token)
		}
		a.wants(t, token, "401 retry", "within the hour")
	})
	run("also by a process that was frozen", func(t *testing.T, i *issuer) {
		a := i.auth("")
		token := one.token(t)
		a.wants(t, token, "200", "at first")
		i.publish(two.jwk)
		time.Sleep(3 * time.Hour)
		a.wants(t, token, "401 retry", "when it goes on")
		time.Sleep(fetchPause)
		a.wants(t, token, "401", "when the keys were fetched for it")
	})
	run("a key that is ignored is logged once", func(t *testing.T, i *issuer) {
		i.publish(jwk{"kty": "RSA", "kid": "broken"}, one.jwk, two.with(jwk{"use": "enc"}))
		a := i.auth("")
		for range 5 {
			a.wants(t, one.token(t), "200", "beside it")
			time.Sleep(time.Hour)
		}
		if log := i.logs.String(); i.asked < 4 || strings.Count(log, "\n") != 1 || !strings.Contains(log, "broken") {
			t.Errorf("after %d fetches the log is %s", i.asked, log)
		}
	})
	run("a set without any key is a failure", func(t *testing.T, i *issuer) {
		a := i.auth("")
		a.wants(t, one.token(t), "200", "at first")
		i.publish()
		time.Sleep(2 * time.Hour)
		a.wants(t, one.token(t), "200", "the keys before it")
	})
}

// Whatever one key of a set is, another is read.
func FuzzKeys(f *testing.F) {
	good := newKey(f, "good")
	for _, key := range []jwk{good.jwk, newRSA(f, "r", 2048).jwk, newEC(f, "e", "P-256", elliptic.P256(), jwt.SigningMethodES256).jwk, {"kty": "oct", "x5t": 1, "key_ops": []int{}}} {
		text, err := json.Marshal(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`null`))
	text, err := json.Marshal(good.jwk)
	if err != nil {
		f.Fatal(err)
	}
	token, err := readToken(good.token(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		_, _, _ = readKeys(key) // as the whole text
		if !json.Valid(key) {
			t.Skip()
		}
		keys, _, err := readKeys([]byte(`{"keys":[` + string(key) + `,` + string(text) + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := (&keySet{keys}).verify(token); err != nil {
			t.Fatal(err)
		}
	})
}
