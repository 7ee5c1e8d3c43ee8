package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/functions/wire"
)

// maxAnswer bounds an answer, in bytes: a page of 200 messages of 20,000 bytes, all of them escaped.
const maxAnswer = 32 << 20

// request is one request to the API.
type request struct {
	method, path string
	key          string        // Idempotency-Key, if not ""
	body         any           // nil: none
	wait         time.Duration // that the server may take beyond the usual
}

// answer is what a region answered.
type answer struct {
	region string
	body   []byte
}

// once sends a request to one endpoint, and again with a new token if the token was refused. The
// error is a [Problem] unless ctx ended or there was no token.
func (c *Client) once(ctx context.Context, at *endpoint, r request) (answer, error) {
	return withToken(ctx, c.token, func(token string) (answer, error) { return c.try(ctx, at, r, token) })
}

// withToken calls f with the cached token and, if that is refused, once more with a new one.
func withToken[T any](ctx context.Context, t *tokens, f func(token string) (T, error)) (out T, err error) {
	refused := ""
	for {
		token, err := t.get(ctx, refused)
		if err != nil {
			return out, fmt.Errorf("get a token: %w", err)
		}
		out, err = f(token)
		if refused != "" || !unauthenticated(err) {
			return out, err
		}
		refused = token
	}
}

// unauthenticated reports whether a token was refused for good. A retryable 401 is of a region that does not
// know the issuer's newest key yet.
func unauthenticated(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == http.StatusUnauthorized && !p.Retryable
}

func (c *Client) try(ctx context.Context, at *endpoint, r request, token string) (answer, error) {
	limit, cancel := context.WithTimeout(ctx, c.options.Timeout+r.wait)
	defer cancel()
	a, err := c.exchange(limit, at.url, r, token)
	if err == nil {
		c.endpoints.works(at)
		return a, nil
	}
	if ctx.Err() != nil {
		return a, ctx.Err()
	}
	p := asProblem(err)
	if p.regional() {
		c.endpoints.failed(at)
		c.dropIdle() // the host name may resolve to another address by now
	}
	return a, p
}

func (c *Client) exchange(ctx context.Context, url string, r request, token string) (answer, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, err
		}
		body = bytes.NewReader(text)
	}
	q, err := http.NewRequestWithContext(ctx, r.method, url+r.path, body)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	if r.body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		q.Header.Set("Idempotency-Key", r.key)
	}
	got, err := c.http.Do(q)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = got.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	switch {
	case err != nil:
		return answer{}, err // the connection broke
	case got.StatusCode < 200 || got.StatusCode > 299:
		return answer{}, problemOf(got.StatusCode, got.Header, text)
	default:
		return answer{got.Header.Get("Parley-Region"), text}, nil
	}
}

// dropIdle closes idle connections, if they are the client's own.
func (c *Client) dropIdle() {
	if c.options.HTTP == nil {
		c.http.CloseIdleConnections()
	}
}

// isWell probes the health of an endpoint.
func (c *Client) isWell(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	_, err := c.exchange(ctx, url, request{method: http.MethodGet, path: "/health"}, "")
	return err == nil
}

// How long a retryable 404 is retried: what it misses may not be replicated to this region yet.
const (
	notYetCommand = 30 * time.Second
	notYetQuery   = 3 * time.Second
)

// retry sends a request until there is an answer, ctx ends, or a problem is final, which is the error.
// Final may change the request.
func (c *Client) retry(ctx context.Context, r *request, final func(*Problem) bool) (answer, error) {
	for tries := 1; ; tries++ {
		a, err := c.once(ctx, c.endpoint(ctx, tries), *r)
		if err == nil || ctx.Err() != nil {
			return a, err
		}
		p := asProblem(err)
		if final(p) {
			return a, p
		}
		pause := requestBackoff.Delay(tries)
		if !p.regional() {
			pause = max(pause, p.retryAfter) // another region need not be waited for
		}
		if err := c.endpoints.pause(ctx, pause); err != nil {
			return a, errors.Join(err, p)
		}
	}
}

// visit is a time in which one region delivers to the handler. What the handler loads meanwhile must
// not be older than what is delivered, so it should come from the same region.
type visit struct {
	at      *endpoint
	region  string
	ctx     context.Context // of the handler, with the visit in it
	strayed atomic.Bool     // an answer came from another region
}

type visitKey struct{}

func (r *run) visit(at *endpoint, region string) *visit {
	v := &visit{at: at, region: region}
	v.ctx = context.WithValue(r.ctx, visitKey{}, v)
	return v
}

// note notes which region answered.
func note(ctx context.Context, region string) {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok && region != v.region {
		v.strayed.Store(true)
	}
}

// endpoint is where to send an attempt at a request: during a visit the first goes to its region.
func (c *Client) endpoint(ctx context.Context, tries int) *endpoint {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok && tries == 1 {
		return v.at
	}
	return c.endpoints.current()
}

// Problem is an answer that is an error, or no answer at all: then Status is 0 and Code "no_answer".
type Problem struct {
	wire.Problem
	retryAfter time.Duration // that the server asks for
	cause      error         // why there was no answer
}

// Error implements error.
func (p *Problem) Error() string {
	if p.cause != nil {
		return fmt.Sprintf("%s: %v", p.Code, p.cause)
	}
	return p.Code + ": " + p.Detail
}

// Unwrap returns why there was no answer; nil if there was one.
func (p *Problem) Unwrap() error { return p.cause }

// noAnswer is the problem of a request that was not answered.
func noAnswer(cause error) *Problem {
	return &Problem{Problem: wire.Problem{Code: "no_answer", Retryable: true}, cause: cause}
}

// problemOf decodes an answer that is an error. A proxy or API Gateway in front of a region answers
// in another form: then only the status is used.
func problemOf(status int, header http.Header, body []byte) *Problem {
	p := &Problem{}
	if json.Unmarshal(body, &p.Problem) != nil || p.Code == "" {
		*p = Problem{Problem: wire.Problem{Code: "http_" + strconv.Itoa(status), Detail: http.StatusText(status)}}
		p.Retryable = status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	p.Status = status
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		p.retryAfter = time.Duration(min(seconds, 60)) * time.Second
	}
	return p
}

// unsure reports whether the command may have been stored in spite of the problem.
func (p *Problem) unsure() bool {
	var broken *net.OpError
	if p.Status == 0 && errors.As(p.cause, &broken) && broken.Op == "dial" {
		return false // it was not sent
	}
	return p.Status == 0 || p.Status >= 500
}

// regional reports whether another region should be tried.
func (p *Problem) regional() bool {
	return (p.Status == 0 || p.Status >= 500) && p.Code != "throttled"
}

// asProblem finds the problem in an error, or makes one of it.
func asProblem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return noAnswer(err)
}

// IsProblem reports whether an error is a [Problem] with the code.
func IsProblem(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code == code
}

// UnsureError says that a command may or may not have been stored. To find out, retry it under its
// id within a day: it happens once.
type UnsureError struct {
	ID  events.ID // that the command was sent under
	Err error     // what the last attempt came to
}

// Error implements error.
func (e *UnsureError) Error() string {
	return "the command may or may not have happened: " + e.Err.Error()
}

// Unwrap returns what the last attempt came to.
func (e *UnsureError) Unwrap() error { return e.Err }

// The backoff of endpoints and turns that fail in a row, and of the attempts at one request.
var (
	turnBackoff    = events.Backoff{First: 200 * time.Millisecond, Max: 15 * time.Second}
	requestBackoff = events.Backoff{First: 50 * time.Millisecond, Max: 7500 * time.Millisecond}
)
