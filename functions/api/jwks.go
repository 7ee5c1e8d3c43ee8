package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// fetchWithin bounds one fetch of a JWKS, and so how long a request waits for one.
	fetchWithin = 3 * time.Second
	// fetchPause is the least time between two fetches for tokens with an unknown key: an issuer is not
	// flooded by invented key ids.
	fetchPause = 5 * time.Second
	// refreshAfter is the age of the keys from which on they are fetched again in the background, and
	// refreshPause the least time between two tries.
	refreshAfter, refreshPause = 30 * time.Minute, time.Minute
	// trustFor is how long keys, and what was verified with them, are trusted without another try to
	// fetch them.
	trustFor = time.Hour
	// maxJWKS bounds a JWKS, in bytes.
	maxJWKS = 1 << 20
	// minRSA is the least length of an RSA key, in bits (RFC 7518, section 3.3).
	minRSA = 2048
)

// JWKS is the set of public keys with which an issuer signs tokens (RFC 7517). Make one with
// [NewJWKS] or [FixedJWKS]. Its methods are safe for concurrent use.
type JWKS struct {
	url    string // "" if the keys never change
	client *http.Client
	log    *slog.Logger

	mu       sync.Mutex
	keys     *keySet         // nil until they were fetched
	fetched  time.Time       // when keys were last fetched
	tried    time.Time       // when the last fetch began
	failed   bool            // the last fetch failed
	fetching chan struct{}   // closed when the fetch under way ends; nil if there is none
	ignored  map[string]bool // the keys whose faults are logged
}

// keySet is one state of a JWKS. It is not changed: what was verified with it is forgotten when another
// takes its place.
type keySet struct{ keys []publicKey }

// publicKey is a key as the issuer publishes it.
type publicKey struct {
	kid, alg string // "" if it has none
	key      crypto.PublicKey
}

// NewJWKS returns the keys published at a URL. They are fetched now, every half hour while tokens are
// verified, and at most every 5 seconds when a token names a key that is not among them. The first
// fetch is not waited for, and may fail: then a token leads to the next one. While the issuer cannot
// be reached, the keys that were fetched last stay valid. The client is [http.DefaultClient] if nil.
func NewJWKS(url string, client *http.Client, logger *slog.Logger) *JWKS {
	if client == nil {
		client = http.DefaultClient
	}
	j := &JWKS{url: url, client: client, log: logger, ignored: map[string]bool{}}
	j.refresh(0)
	return j
}

// FixedJWKS returns a set of one key, which never changes. Tokens name it by kid, or not at all.
func FixedJWKS(kid string, key crypto.PublicKey) *JWKS {
	return &JWKS{keys: &keySet{[]publicKey{{kid: kid, key: key}}}}
}

// clock is the wall clock: the monotonic one stands still while a Lambda function is frozen.
func clock() time.Time { return time.Now().Round(0) }

// current returns the keys, nil if none were fetched yet. It waits for a fetch only then, and if none
// was tried for so long that the keys are not to be trusted.
func (j *JWKS) current(ctx context.Context) *keySet {
	j.mu.Lock()
	keys, now := j.keys, clock()
	untried, age := now.Sub(j.tried), now.Sub(j.fetched)
	j.mu.Unlock()
	switch {
	case j.url == "":
		return keys
	case keys == nil || untried > trustFor:
		wait(ctx, j.refresh(fetchPause))
	case age > refreshAfter:
		j.refresh(refreshPause)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.keys
}

// errUnknownKey: a token is signed with a key that is not in the set.
var errUnknownKey = errors.New("its signing key is not in the JWKS of the issuer")

// errKeysMissing: whether the key of a token is in the JWKS cannot be said now. Test with errors.Is.
var errKeysMissing = errors.New("the JWKS of the issuer cannot be fetched now")

// verify checks a token's signature, and returns the keys it was checked with. If the key is not among
// them they are fetched again. The error is errUnknownKey, or errKeysMissing with the keys there are, or
// what is wrong with the signature.
func (j *JWKS) verify(ctx context.Context, t token) (*keySet, error) {
	keys := j.current(ctx)
	if keys == nil {
		return nil, errKeysMissing
	}
	err := keys.verify(t)
	if !errors.Is(err, errUnknownKey) || j.url == "" {
		return keys, err
	}
	if fetching := j.refresh(fetchPause); fetching == nil || !wait(ctx, fetching) {
		return keys, errKeysMissing // it was fetched a moment ago, or the request ends
	}
	j.mu.Lock()
	keys, failed := j.keys, j.failed
	j.mu.Unlock()
	if err = keys.verify(t); failed && errors.Is(err, errUnknownKey) {
		err = errKeysMissing
	}
	return keys, err
}

// wait waits for a fetch, if there is one, and reports whether it has ended before ctx.
func wait(ctx context.Context, fetching <-chan struct{}) bool {
	if fetching == nil {
		return true
	}
	select {
	case <-fetching:
		return true
	case <-ctx.Done():
		return false
	}
}

// refresh returns the fetch that is under way, or begins one unless the last began less than pause ago.
// What it returns is closed when the fetch ends, nil if there is none. Requests share a fetch, which
// goes on when they end.
func (j *JWKS) refresh(pause time.Duration) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fetching != nil {
		return j.fetching
	}
	now := clock()
	if now.Sub(j.tried) < pause {
		return nil
	}
	done := make(chan struct{})
	j.tried, j.fetching = now, done
	go func() {
		defer close(done)
		keys, ignored, err := j.fetch()
		j.mu.Lock()
		defer j.mu.Unlock()
		j.fetching, j.failed = nil, err != nil
		if err != nil {
			j.log.Error("cannot fetch the issuer's keys", "url", j.url, "error", err)
			return
		}
		for _, fault := range ignored {
			if !j.ignored[fault] {
				j.ignored[fault] = true
				j.log.Warn("a key of the issuer is ignored", "url", j.url, "fault", fault)
			}
		}
		if j.fetched = now; j.keys == nil || !slices.EqualFunc(keys, j.keys.keys, publicKey.equal) {
			j.keys = &keySet{keys}
		}
	}()
	return done
}

func (j *JWKS) fetch() (keys []publicKey, ignored []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, nil, err
	}
	response, err := j.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, nil, errors.New("it answers " + response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxJWKS+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(text) > maxJWKS:
		return nil, nil, fmt.Errorf("it has more than %d bytes", maxJWKS)
	}
	return readKeys(text)
}

// readKeys reads the keys of a JWKS that verify signatures. Each is judged by itself: ignored says
// what is wrong with those that cannot be used. It is an error if none is left.
func readKeys(text []byte) (keys []publicKey, ignored []string, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, nil, fmt.Errorf("it is not a JWKS: %w", err)
	}
	for i, raw := range set.Keys {
		switch key, err := readKey(raw); {
		case err != nil:
			ignored = append(ignored, fmt.Sprintf("key %d (kid %q): %v", i+1, key.kid, err))
		case key.key != nil:
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, nil, fmt.Errorf("none of its %d keys verifies signatures: %s", len(set.Keys), strings.Join(ignored, "; "))
	}
	return keys, ignored, nil
}

// readKey reads one key. It is nil, without an error, if it is for encryption. The certificates of a key, x5c
// and x5t, are not looked at: the key is trusted because of where it was fetched.
func readKey(raw []byte) (publicKey, error) {
	var k struct {
		Kty, Kid, Use, Alg, Crv, N, E, X, Y string
		KeyOps                              []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &k); err != nil {
		return publicKey{kid: k.Kid}, errors.New("it is not a JSON object with the fields of a key")
	}
	out := publicKey{kid: k.Kid, alg: k.Alg}
	if k.Use != "" && k.Use != "sig" || k.KeyOps != nil && !slices.Contains(k.KeyOps, "verify") {
		return out, nil
	}
	var err error
	switch k.Kty {
	case "RSA":
		out.key, err = readRSA(k.N, k.E)
	case "EC":
		out.key, err = readEC(k.Crv, k.X, k.Y)
	case "OKP":
		x := unbase64(k.X)
		if out.key = ed25519.PublicKey(x); k.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize {
			err = fmt.Errorf("it is not an Ed25519 key of %d bytes", ed25519.PublicKeySize)
		}
	default:
		err = fmt.Errorf("kty %q is not RSA, EC or OKP", k.Kty)
	}
	return out, err
}

func readRSA(n, e string) (*rsa.PublicKey, error) {
	modulus, exponent := new(big.Int).SetBytes(unbase64(n)), new(big.Int).SetBytes(unbase64(e))
	if modulus.BitLen() < minRSA || exponent.BitLen() < 2 || exponent.BitLen() > 31 || exponent.Bit(0) == 0 {
		return nil, fmt.Errorf("it is not an RSA key of %d bits or more", minRSA)
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func readEC(crv, x, y string) (*ecdsa.PublicKey, error) {
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[crv]
	if curve == nil {
		return nil, fmt.Errorf("crv %q is not P-256, P-384 or P-521", crv)
	}
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, unbase64(x), unbase64(y)))
}

// unbase64 decodes base64url, with padding or not; nil if it is not.
func unbase64(text string) []byte {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return data
}

func (k publicKey) equal(other publicKey) bool {
	same, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return k.kid == other.kid && k.alg == other.alg && ok && same.Equal(other.key)
}

// fits reports whether a token may be signed with the key. A token without a kid may be signed with
// any.
func (k publicKey) fits(t token) bool {
	if t.kid != "" && t.kid != k.kid || k.alg != "" && k.alg != t.method.Alg() {
		return false
	}
	switch m := t.method.(type) {
	case *jwt.SigningMethodEd25519:
		_, ok := k.key.(ed25519.PublicKey)
		return ok
	case *jwt.SigningMethodECDSA:
		key, ok := k.key.(*ecdsa.PublicKey)
		return ok && key.Curve.Params().BitSize == m.CurveBits
	default:
		_, ok := k.key.(*rsa.PublicKey)
		return ok
	}
}

// verify checks a token's signature. A token without a kid that no key has signed has an unknown key.
func (s *keySet) verify(t token) error {
	err := errUnknownKey
	for _, k := range s.keys {
		if !k.fits(t) {
			continue
		}
		failed := t.method.Verify(t.signed, t.signature, k.key)
		if failed == nil {
			return nil
		}
		if t.kid != "" {
			err = failed
		}
	}
	return err
}
