package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
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

// once sends a request to one endpoint, and again if the token was refused. The error is a
// [Problem] unless ctx ended or there was no token.
func (c *Client) once(ctx context.Context, at *endpoint, r request) (answer, error) {
	refused := ""
	for {
		token, err := c.token.get(ctx, refused)
		if err != nil {
			return answer{}, fmt.Errorf("get a token: %w", err)
		}
		a, err := c.try(ctx, at, r, token)
		if refused != "" || !unauthenticated(err) {
			return a, err
		}
		refused = token
	}
}

func unauthenticated(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == http.StatusUnauthorized
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
		c.dropIdle() // the name may lead elsewhere by now
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
		return answer{}, err // it broke off
	case got.StatusCode < 200 || got.StatusCode > 299:
		return answer{}, problemOf(got.StatusCode, got.Header, text)
	default:
		return answer{got.Header.Get("Parley-Region"), text}, nil
	}
}

// dropIdle closes connections that nobody uses, if they are the client's own.
func (c *Client) dropIdle() {
	if c.options.HTTP == nil {
		c.http.CloseIdleConnections()
	}
}

// isWell asks an endpoint for its health.
func (c *Client) isWell(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	_, err := c.exchange(ctx, url, request{method: http.MethodGet, path: "/health"}, "")
	return err == nil
}

// How long "there is no such thing here" may mean "not here yet": it may have happened in another
// region.
const (
	notYetCommand = 30 * time.Second
	notYetQuery   = 3 * time.Second
)

// retry sends a request until there is an answer, ctx ends, or a problem is final; the final one is
// the error. The request may be changed by final.
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
		pause := backoff(tries, firstPause/4, longestPause/2)
		if !p.regional() {
			pause = max(pause, p.after) // another region need not be waited for
		}
		if err := c.endpoints.pause(ctx, pause); err != nil {
			return a, errors.Join(err, p)
		}
	}
}

// visit is a region's telling the handler. What the handler loads meanwhile must be as new as what
// it is told, so it should come from the same region.
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

// endpoint is where to send a request for the first or a later time: during a visit first to where
// that is.
func (c *Client) endpoint(ctx context.Context, tries int) *endpoint {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok && tries == 1 {
		return v.at
	}
	return c.endpoints.current()
}
