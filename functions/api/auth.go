package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"parley/events"
	"parley/functions/wire"
)

// ScopeOperator is the scope of tokens for the operators' part of the API.
const ScopeOperator = "operator"

// verifiedTokens is how many verified tokens are cached.
const verifiedTokens = 10_000

// Caller is who sent a request, by a verified token.
type Caller struct {
	User   string
	Scopes []string
}

// Operator reports whether the caller has the operators' scope.
func (c Caller) Operator() bool { return slices.Contains(c.Scopes, ScopeOperator) }

// Auth verifies bearer tokens: JWTs of one issuer, signed with a key of its JWKS. A verified token is
// cached until it expires or the keys change, for an hour at most, so that the signature is checked once
// per token, not once per request.
type Auth struct {
	AuthConfig
	verified *lru.Cache[[sha256.Size]byte, verified] // by the digest of the token
}

type verified struct {
	caller  Caller
	expires time.Time
	until   time.Time // when it is verified again
	keys    *keySet   // by which it was verified
}

// retryKeys is after how many seconds the keys may have been fetched again.
const retryKeys = int(fetchPause / time.Second)

// DefaultLeeway is the leeway of tokens unless it is configured.
const DefaultLeeway = time.Minute

// AuthConfig says whose tokens are accepted.
type AuthConfig struct {
	Issuer   string // the claim iss must be this
	Audience string // the claim aud must contain this; "" accepts any
	Keys     *JWKS  // has the key a token is signed with
	// Leeway is how far the issuer's clock may be ahead: nbf and iat may lie in the future by so much. For
	// exp there is none: the issuer decides when a token ends, and the client gets a new one.
	Leeway time.Duration
	Now    func() time.Time // time.Now if nil
}

// NewAuth returns a verifier of tokens.
func NewAuth(c AuthConfig) *Auth {
	if c.Now == nil {
		c.Now = time.Now
	}
	cache, err := lru.New[[sha256.Size]byte, verified](verifiedTokens)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Auth{c, cache}
}

// Verify returns the caller that a token speaks for, and when the token expires. The error is a
// [wire.Problem]: with status 401, retryable if the token may be signed with a key that is too new to be
// known, or with status 503 if no key of the issuer could be fetched yet.
func (a *Auth) Verify(ctx context.Context, text string) (Caller, time.Time, error) {
	now, id := a.Now(), sha256.Sum256([]byte(text))
	if v, ok := a.verified.Get(id); ok && now.Before(v.until) && v.keys == a.Keys.current(ctx) {
		return v.caller, v.expires, nil
	}
	a.verified.Remove(id)
	t, err := readToken(text)
	if err == nil {
		err = a.check(t.claims, now)
	}
	if err != nil {
		return Caller{}, time.Time{}, badToken(err)
	}
	keys, err := a.Keys.verify(ctx, t)
	switch {
	case err == nil:
	case keys == nil:
		return Caller{}, time.Time{}, &wire.Problem{
			Status: http.StatusServiceUnavailable, Code: "issuer_unavailable", Retryable: true, RetryAfter: retryKeys,
			Detail: "the keys of the token issuer cannot be fetched, so no token can be verified; retry with backoff or in another region",
		}
	case errors.Is(err, errKeysMissing):
		p := badToken(errUnknownKey)
		p.Detail = "bearer token is signed with a key that is not known yet; retry in a few seconds with the same token"
		p.Retryable, p.RetryAfter = true, retryKeys
		return Caller{}, time.Time{}, p
	case errors.Is(err, errUnknownKey):
		return Caller{}, time.Time{}, badToken(err)
	default:
		return Caller{}, time.Time{}, badToken(errors.New("its signature is wrong"))
	}
	caller := Caller{User: events.EscapeUser(t.subject), Scopes: t.scopes}
	until := now.Add(trustFor)
	if t.expires.Before(until) {
		until = t.expires
	}
	a.verified.Add(id, verified{caller, t.expires, until, keys})
	return caller, t.expires, nil
}

// check returns what is wrong with the claims of a token.
func (a *Auth) check(c claims, now time.Time) error {
	latest := now.Add(a.Leeway)
	switch {
	case c.issuer != a.Issuer:
		return errors.New("its claim iss is not the configured issuer")
	case a.Audience != "" && !slices.Contains(c.audience, a.Audience):
		return errors.New("its claim aud does not have the configured audience")
	case c.expires.IsZero():
		return errors.New("its claim exp is missing")
	case !now.Before(c.expires):
		return errors.New("it has expired")
	case c.notBefore.After(latest) || c.issued.After(latest):
		return errors.New("it is not valid yet: its claim nbf or iat is in the future")
	case events.ValidateUser("sub", events.EscapeUser(c.subject)) != nil:
		return fmt.Errorf("the user id for its claim sub must have 1 to %d characters", events.MaxUserChars)
	}
	return nil
}

func badToken(err error) *wire.Problem {
	return unauthenticated("bearer token is not accepted: " + err.Error() + "; get a new one from the configured issuer")
}

func unauthenticated(detail string) *wire.Problem {
	return Fail(http.StatusUnauthorized, "unauthenticated", detail)
}

type callerKey struct{}

// CallerOf returns who sent the request that ctx belongs to.
func CallerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}

// WithCaller returns a context of a request that the caller has sent.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// authenticate is the middleware of every operation.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		a.refuse(ctx, unauthenticated("no bearer token; send the header Authorization: Bearer <token>"))
		return
	}
	caller, _, err := a.options.Auth.Verify(ctx.Context(), strings.TrimSpace(token))
	if err != nil {
		a.refuse(ctx, ProblemOf(err, a.options.Now()))
		return
	}
	next(huma.WithValue(ctx, callerKey{}, caller))
}

// operatorOnly is the middleware of the operators' operations. It runs before anything else looks at
// the request.
func (a *API) operatorOnly(ctx huma.Context, next func(huma.Context)) {
	if !CallerOf(ctx.Context()).Operator() {
		a.refuse(ctx, Fail(http.StatusForbidden, "operator_only", "this operation is for operators; use a token with the scope "+ScopeOperator))
		return
	}
	next(ctx)
}
