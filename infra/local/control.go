package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
)

// control serves /local/*, which exists only on this machine: it issues tokens, breaks and repairs
// regions, and shows what is put on their buses.
type control struct {
	cluster  *cluster
	global   *global
	issuer   *issuer
	loopback bool            // only this machine can reach it
	closing  <-chan struct{} // closed when subscribers must be disconnected
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/local/token", methods{http.MethodPost: c.token})
	mux.Handle("/local/regions", methods{http.MethodGet: c.list})
	mux.Handle("/local/regions/{region}", methods{http.MethodGet: c.show, http.MethodPut: c.change})
	mux.Handle("/local/counts", methods{http.MethodGet: c.counts})
	mux.Handle("/local/metrics", methods{http.MethodGet: c.metrics})
	mux.Handle("/local/bus", methods{http.MethodGet: c.subscribe})
	mux.Handle("/local/.well-known/jwks.json", methods{http.MethodGet: c.keys})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, api.Fail(http.StatusNotFound, "no_such_path", "under /local there are token, regions, counts, metrics, bus and .well-known/jwks.json"))
	})
	return c.guard(mux)
}

// guard refuses other websites that a user of this machine may have open: a page must neither send
// commands here (cross-site requests), nor pose as this site by giving its own name this machine's
// address (DNS rebinding).
func (c *control) guard(next http.Handler) http.Handler {
	sites := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.loopback && !isLoopback(r.Host) {
			refuse(w, api.Fail(http.StatusForbidden, "wrong_host", "/local is served under the names localhost and 127.0.0.1 only; to serve others, start with another -addr"))
			return
		}
		if sites.Check(r) != nil {
			refuse(w, api.Fail(http.StatusForbidden, "cross_site", "other websites may not use /local; call it from the page or from a program"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback reports whether a host, with or without a port, is a loopback address or name.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// token answers POST /local/token.
func (c *control) token(w http.ResponseWriter, r *http.Request) {
	var in struct {
		User  string `json:"user"`
		Scope string `json:"scope"`
	}
	err := input(w, r, &in)
	if err == nil {
		err = events.ValidateUser("user", in.User)
	}
	if err == nil && in.Scope != "" && in.Scope != api.ScopeOperator {
		err = badField("scope", `must be "operator" or omitted`)
	}
	if err != nil {
		refuseInput(w, err)
		return
	}
	text, err := c.issuer.token(in.User, in.Scope, time.Now())
	if err != nil {
		refuse(w, api.Fail(http.StatusInternalServerError, "internal", err.Error()))
		return
	}
	answer(w, map[string]string{"token": text})
}

// keys answers GET /local/.well-known/jwks.json.
func (c *control) keys(w http.ResponseWriter, _ *http.Request) { answer(w, c.issuer.jwks()) }

// regionState is a region as /local/regions shows it.
type regionState struct {
	Region  string `json:"region"`
	State   string `json:"state"`   // what PUT /local/regions/{region} set
	Healthy bool   `json:"healthy"` // what the global endpoint found last
	URL     string `json:"url"`
	Closed  string `json:"closed,omitempty"` // why its stores are closed
}

func (c *control) state(r *region) regionState {
	s := regionState{Region: r.name, State: r.state.Load().(string), Healthy: c.global.health()[r.name], URL: r.url}
	if why := r.why(); why != nil {
		s.Closed = why.Error()
	}
	return s
}

// list answers GET /local/regions, in order of preference.
func (c *control) list(w http.ResponseWriter, _ *http.Request) {
	states := []regionState{}
	for _, r := range c.cluster.regions {
		states = append(states, c.state(r))
	}
	answer(w, map[string][]regionState{"regions": states})
}

// find returns the region that a request names. If there is none it answers 404 and returns nil.
func (c *control) find(w http.ResponseWriter, name string) *region {
	r := c.cluster.region(name)
	if r == nil {
		p := api.Fail(http.StatusNotFound, "no_such_region", "region must be one of "+c.names())
		p.Errors = []wire.FieldError{{Field: "region", Reason: "must be one of " + c.names()}}
		refuse(w, p)
	}
	return r
}

func (c *control) names() string {
	var names []string
	for _, r := range c.cluster.regions {
		names = append(names, r.name)
	}
	return strings.Join(names, ", ")
}

// show answers GET /local/regions/{region}.
func (c *control) show(w http.ResponseWriter, r *http.Request) {
	if region := c.find(w, r.PathValue("region")); region != nil {
		answer(w, c.state(region))
	}
}

// change answers PUT /local/regions/{region}. It answers when the change is in force and the global
// endpoint routes by it.
func (c *control) change(w http.ResponseWriter, r *http.Request) {
	region := c.find(w, r.PathValue("region"))
	if region == nil {
		return
	}
	var in struct {
		State string `json:"state"`
	}
	err := input(w, r, &in)
	if err == nil && in.State != stateUp && in.State != stateFailing && in.State != stateIsolated {
		err = badField("state", "must be up, failing or isolated")
	}
	if err != nil {
		refuseInput(w, err)
		return
	}
	c.cluster.setState(region, in.State)
	c.global.check(context.WithoutCancel(r.Context()))
	answer(w, c.state(region))
}

// metrics answers GET /local/metrics.
func (c *control) metrics(w http.ResponseWriter, r *http.Request) {
	c.cluster.metrics.handler().ServeHTTP(w, r)
}

// counts answers GET /local/counts: how many entries were ever put on each region's bus. The difference
// of two answers is the traffic in between.
func (c *control) counts(w http.ResponseWriter, _ *http.Request) {
	counts := map[string]uint64{}
	for _, r := range c.cluster.regions {
		if in, leave := r.enter(); in != nil {
			_, counts[r.name] = in.bus.head()
			leave()
		}
	}
	answer(w, map[string]map[string]uint64{"counts": counts})
}

// answer sends JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// refuse answers with a problem, as the API does.
func refuse(w http.ResponseWriter, p *wire.Problem) {
	out := p.Named(rand.Text())
	w.Header().Set("X-Request-Id", out.RequestID)
	maps.Copy(w.Header(), out.GetHeaders())
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(out.Status)
	_ = json.NewEncoder(w).Encode(out) // the client has gone
}

// badField makes an error that names a field of a request and what is allowed in it.
func badField(field, reason string) error { return &wire.FieldError{Field: field, Reason: reason} }

// refuseInput answers that something in the request is wrong.
func refuseInput(w http.ResponseWriter, err error) {
	p := api.ProblemOf(err, time.Now())
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		p = api.Fail(http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("the body may have %d bytes", maxControlBody))
	case len(p.Errors) == 0 || p.Errors[0].Field == "body":
		p = api.Fail(http.StatusBadRequest, "malformed_body", "the body must be one JSON object")
	}
	refuse(w, p)
}

// maxControlBody bounds the bodies of /local/*, in bytes.
const maxControlBody = 4 << 10

// input decodes the body of a request: one JSON object without unknown fields.
func input(w http.ResponseWriter, r *http.Request, v any) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		return err
	}
	return api.Unmarshal(text, v)
}

// methods answers a path by method.
type methods map[string]http.HandlerFunc

// ServeHTTP implements [http.Handler].
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler, ok := m[r.Method]; ok {
		handler(w, r)
		return
	}
	allowed := slices.Sorted(maps.Keys(m))
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	refuse(w, api.Fail(http.StatusMethodNotAllowed, "method_not_allowed", "use "+strings.Join(allowed, " or ")))
}

// issuer plays the identity provider: it issues a token for any user, to anyone.
type issuer struct {
	url string // the claim iss
	key ed25519.PrivateKey
	kid string // names the key in tokens and in the JWKS
}

const (
	keyFile   = "token.key"
	audience  = "parley"
	tokenLife = 24 * time.Hour
)

// openIssuer reads the key in the data folder; the first start makes it. Tokens outlive a restart.
func openIssuer(data string) (*issuer, error) {
	name := filepath.Join(data, keyFile)
	_, fresh, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w", err)
	}
	if err := writeOnce(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the key for tokens: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged; delete it to have a new one made: %w", name, err)
	}
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return &issuer{key: key, kid: base64.RawURLEncoding.EncodeToString(sum[:8])}, nil
}

func parseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not in PEM form")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("not an Ed25519 key")
	}
	return private, nil
}

// token makes a token for a user, valid for [tokenLife].
func (i *issuer) token(user, scope string, now time.Time) (string, error) {
	claims := jwt.MapClaims{
		"iss": i.url, "aud": audience, "sub": events.UnescapeUser(user), "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
	}
	if scope != "" {
		claims["scope"] = scope
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = i.kid
	text, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text, nil
}

// jwks is the set of keys (RFC 8037) by which others can verify the tokens.
func (i *issuer) jwks() map[string][]map[string]string {
	return map[string][]map[string]string{"keys": {{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": i.kid,
		"x": base64.RawURLEncoding.EncodeToString(i.key.Public().(ed25519.PublicKey)),
	}}}
}

// cursorKey is the key of the cursors that clients hold. It is derived from the token key, so that
// cursors outlive a restart too.
func (i *issuer) cursorKey() []byte {
	return i.secret("parley cursors ")
}

// marks are those of all users in all regions.
func (i *issuer) marks() events.Marks { return events.NewMarks(i.secret("parley marks ")) }

// secret is derived from the token key, another one for each label.
func (i *issuer) secret(label string) []byte {
	sum := sha256.Sum256(append([]byte(label), i.key.Seed()...))
	return sum[:]
}
