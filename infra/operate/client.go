package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// request is one thing asked of a region.
type request struct {
	method string
	url    string
	body   any // JSON, nil is none
	key    string
	into   any
	tries  int // 0 is the usual; what is asked must be safe to be asked again
}

// usualTries take about ten seconds if nothing answers.
const usualTries = 6

// problem is an answer that says no.
type problem struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail"`
	Retryable bool   `json:"retryable"`
	after     time.Duration
}

func (p *problem) Error() string {
	text := p.Detail
	if text == "" {
		text = "it answered " + strconv.Itoa(p.Status)
	}
	switch {
	case p.Status == http.StatusUnauthorized:
		text += "; give another with -token, or in PARLEY_TOKEN"
	case p.Code != "":
		text += " (" + p.Code + ")"
	}
	return text
}

// isCode reports whether an error is an answer with a code.
func isCode(err error, code string) bool {
	var p *problem
	return errors.As(err, &p) && p.Code == code
}

// unreachable reports whether there was no answer at all.
func unreachable(err error) bool {
	var p *problem
	return err != nil && !errors.As(err, &p)
}

// do asks, again where it may help, and decodes the answer.
func (s *session) do(r request) error { return s.doIn(s.ctx, r) }

func (s *session) doIn(ctx context.Context, r request) error {
	tries := r.tries
	if tries == 0 {
		tries = usualTries
	}
	for try := 1; ; try++ {
		err := s.once(ctx, r)
		var p *problem
		refused := errors.As(err, &p) && !worthAgain(p)
		if err == nil || refused || try >= tries || ctx.Err() != nil {
			return err
		}
		pause := min(5*time.Second, 100*time.Millisecond<<min(try, 10))
		if p != nil {
			pause = max(pause, min(p.after, 5*time.Second))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// worthAgain reports whether an answer may be another one soon.
func worthAgain(p *problem) bool {
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (s *session) once(ctx context.Context, r request) error {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("encode a request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= 300 {
		return problemOf(res)
	}
	if r.into == nil {
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}
	if err := json.NewDecoder(res.Body).Decode(r.into); err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", r.method, req.URL.Path, err)
	}
	return nil
}

func problemOf(res *http.Response) error {
	p := &problem{Status: res.StatusCode}
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(text, p) != nil {
		p.Detail = http.StatusText(res.StatusCode)
	}
	p.Status = res.StatusCode
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		p.after = time.Duration(seconds) * time.Second
	}
	return p
}

// get asks a region for what is at a path under /v1/ops, with parameters in pairs; "" is left out.
func (r *region) get(path string, into any, params ...string) error {
	values := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		if params[i+1] != "" {
			values.Set(params[i], params[i+1])
		}
	}
	to := r.url + "/v1/ops/" + path
	if len(values) > 0 {
		to += "?" + values.Encode()
	}
	return r.do(request{method: "GET", url: to, into: into})
}

// send sends a region a command that may be sent again.
func (r *region) send(method, path string, body, into any) error {
	return r.do(request{method: method, url: r.url + "/v1/ops/" + path, body: body, into: into})
}

// subject is whom a token speaks for, "" if it does not say.
func subject(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Sub string `json:"sub"`
	}
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return ""
	}
	return claims.Sub
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// isLoopback reports whether a URL leads to this machine.
func isLoopback(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
