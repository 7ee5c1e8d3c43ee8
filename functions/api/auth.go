package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/danielgtaylor/huma/v2"
	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"parley/events"
)

// ScopeOperator opens the operators' part of the API.
const ScopeOperator = "operator"

// verifiedTokens bounds how many tokens are remembered as verified.
const verifiedTokens = 10_000

// Caller is who sent a request, by a verified token.
type Caller struct {
	User   string
	Scopes []string
}

// Operator reports whether the caller has the operators' scope.
func (c Caller) Operator() bool { return slices.Contains(c.Scopes, ScopeOperator) }

// Auth judges bearer tokens: JWTs of one issuer, signed with a key of its JWKS. A token that was
// verified is remembered until it expires, so that signatures cost once per token, not once per
// request.
type Auth struct {
	parser   *jwt.Parser
	keys     jwt.Keyfunc
	now      func() time.Time
	verified *lru.Cache[string, verified]
}

type verified struct {
	caller  Caller
	expires time.Time
}

// AuthConfig says whose tokens are taken.
type AuthConfig struct {
	Issuer   string           // the claim iss must be this
	Audience string           // the claim aud must hold this; "" takes any
	Keys     jwt.Keyfunc      // finds the key a token is signed with, see [JWKS]
	Now      func() time.Time // time.Now if nil
}

// JWKS returns the keys published at a URL, fetched now, once an hour until ctx ends, and when a
// token names a key that is not among them. It fails if they cannot be fetched now.
func JWKS(ctx context.Context, url string, logger *slog.Logger) (jwt.Keyfunc, error) {
	lenient := false
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{url}, keyfunc.Override{
		NoErrorReturnFirstHTTPReq: &lenient,
		HTTPTimeout:               5 * time.Second,
		// Tokens with made-up keys must neither flood the issuer nor make anyone wait.
		RefreshUnknownKID: rate.NewLimiter(rate.Every(10*time.Second), 1),
		RateLimitWaitMax:  time.Millisecond,
		RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
			return func(ctx context.Context, err error) {
				logger.ErrorContext(ctx, "the issuer's keys cannot be fetched again", "error", err)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("fetch the JWKS of the issuer: %w", err)
	}
	return keys.Keyfunc, nil
}

// NewAuth returns a judge of tokens. Only signatures by public keys are taken: a shared secret
// could be held by whoever can verify.
func NewAuth(c AuthConfig) *Auth {
	if c.Now == nil {
		c.Now = time.Now
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
		jwt.WithExpirationRequired(),
		jwt.WithIssuer(c.Issuer),
		jwt.WithTimeFunc(c.Now),
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	cache, err := lru.New[string, verified](verifiedTokens)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Auth{jwt.NewParser(options...), c.Keys, c.Now, cache}
}

// claims is what is read from a token.
type claims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"` // words with spaces between, as in RFC 8693
}

// Verify returns the caller that a token speaks for, or a [Problem] with status 401.
func (a *Auth) Verify(token string) (Caller, error) {
	caller, _, err := a.VerifyUntil(token)
	return caller, err
}

// VerifyUntil is Verify, and says when the token expires.
func (a *Auth) VerifyUntil(token string) (Caller, time.Time, error) {
	if v, ok := a.verified.Get(token); ok {
		if a.now().Before(v.expires) {
			return v.caller, v.expires, nil
		}
		a.verified.Remove(token)
	}
	var c claims
	if _, err := a.parser.ParseWithClaims(token, &c, a.keys); err != nil {
		return Caller{}, time.Time{}, unauthenticated("the bearer token is not valid here: it must be signed by the configured issuer and not be expired")
	}
	if err := events.ValidateUser("sub", c.Subject); err != nil {
		return Caller{}, time.Time{}, unauthenticated("the token's claim " + err.Error())
	}
	caller := Caller{User: c.Subject, Scopes: strings.Fields(c.Scope)}
	a.verified.Add(token, verified{caller, c.ExpiresAt.Time})
	return caller, c.ExpiresAt.Time, nil
}

func unauthenticated(detail string) *Problem {
	return Fail(http.StatusUnauthorized, "unauthenticated", detail)
}

type callerKey struct{}

// CallerOf returns who sent the request that ctx belongs to.
func CallerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}

// authenticate is the middleware of every operation.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		a.refuse(ctx, unauthenticated("send the header Authorization: Bearer <token>"))
		return
	}
	caller, err := a.options.Auth.Verify(strings.TrimSpace(token))
	if err != nil {
		a.refuse(ctx, ProblemOf(err, a.options.Now()))
		return
	}
	next(huma.WithValue(ctx, callerKey{}, caller))
}

// operatorOnly is the middleware of the operators' operations. It stands before all that looks at
// the request.
func (a *API) operatorOnly(ctx huma.Context, next func(huma.Context)) {
	if !CallerOf(ctx.Context()).Operator() {
		a.refuse(ctx, Fail(http.StatusForbidden, "operator_only", "this takes a token with the scope "+ScopeOperator))
		return
	}
	next(ctx)
}
