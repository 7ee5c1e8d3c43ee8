package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/functions/wire"

	"parley/events"
)

// session is what a command works with.
type session struct {
	*Global
	ctx      context.Context
	out, err io.Writer
	terminal bool // err is a terminal: progress may be shown
	client   *http.Client
	token    string

	addresses []address

	mu    sync.Mutex
	found []*region // by regions
}

// address is a URL of the command line, with the name of the region if it was given.
type address struct{ name, url string }

// region is a region and how to reach it.
type region struct {
	*session
	name string // "" until the region has answered
	url  string
}

func newSession(ctx context.Context, g *Global, stdout, stderr io.Writer) (*session, error) {
	s := &session{Global: g, ctx: ctx, out: stdout, err: stderr, client: &http.Client{Timeout: 60 * time.Second}, token: g.Token}
	if f, is := stderr.(*os.File); is && !g.JSON {
		info, err := f.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	for _, text := range g.URL {
		at := address{url: strings.TrimRight(text, "/")}
		if name, rest, named := strings.Cut(at.url, "="); named && events.ValidateRegion("-url", name) == nil {
			at = address{name, rest}
		}
		if u, err := url.Parse(at.url); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, usage("-url must be a URL like http://127.0.0.1:8080, or NAME=URL, not %q", text)
		}
		s.addresses = append(s.addresses, at)
	}
	if err := events.ValidateUser("-as", g.As); err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

// regions returns the regions to work with. The first call finds them, and gets a token from
// infra/local if none is given.
func (s *session) regions() ([]*region, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found != nil {
		return s.found, nil
	}
	var found []*region
	for _, at := range s.addresses {
		local, err := s.localRegions(at.url)
		if err != nil && len(s.addresses) == 1 {
			return nil, err
		}
		if local == nil { // that of a region, which may not answer: the others do not need it
			local = []*region{{session: s, name: at.name, url: at.url}}
		}
		found = append(found, local...)
	}
	if s.token == "" {
		return nil, errors.New(`no token: pass a token with the scope "operator" with -token or in PARLEY_TOKEN`)
	}
	if len(s.Region) > 0 {
		var err error
		if found, err = s.selectRegions(found); err != nil {
			return nil, err
		}
	}
	s.found = found
	return found, nil
}

// localRegions returns the regions of infra/local if it runs at a URL of this machine, and gets a
// token from it. It returns nil if the URL is that of a region.
func (s *session) localRegions(url string) ([]*region, error) {
	if !isLoopback(url) {
		return nil, nil
	}
	var list struct {
		Regions []struct{ Region, URL string } `json:"regions"`
	}
	if err := s.do(s.ctx, request{method: "GET", url: url + "/local/regions", into: &list, attempts: 1}); err != nil {
		if isUnreachable(err) {
			return nil, fmt.Errorf("nothing answers at %s: start infra/local, or pass the URL of a region with -url: %w", url, err)
		}
		return nil, nil
	}
	if s.token == "" {
		var answer struct{ Token string }
		body := map[string]string{"user": s.As, "scope": "operator"}
		if err := s.do(s.ctx, request{method: "POST", url: url + "/local/token", body: body, into: &answer, attempts: 3}); err != nil {
			return nil, fmt.Errorf("get a token from infra/local: %w", err)
		}
		s.token = answer.Token
	}
	var regions []*region
	for _, r := range list.Regions {
		regions = append(regions, &region{s, r.Region, r.URL})
	}
	return regions, nil
}

// selectRegions returns the regions that -region names. One that does not answer is passed over if its name is
// not known: it may be none of them.
func (s *session) selectRegions(all []*region) (selected []*region, err error) {
	var names []string
	var silent error
	for _, r := range all {
		if r.name == "" {
			if _, err := r.status(); err != nil {
				silent = errors.Join(silent, fmt.Errorf("get the name of the region at %s: %w", r.url, err))
				continue
			}
		}
		names = append(names, r.name)
		if slices.Contains(s.Region, r.name) {
			selected = append(selected, r)
		}
	}
	for _, name := range s.Region {
		switch {
		case slices.Contains(names, name):
		case silent != nil:
			return nil, fmt.Errorf("no region that answers is called %s: %w\nTo name a region that does not answer: -url %s=URL", name, silent, name)
		default:
			return nil, usage("unknown region %s; the regions are %s", name, strings.Join(names, ", "))
		}
	}
	return selected, nil
}

// anyRegion returns the first region that answers.
func (s *session) anyRegion() (*region, error) {
	regions, err := s.regions()
	if err != nil {
		return nil, err
	}
	for _, r := range regions {
		if _, err = r.status(); err == nil {
			return r, nil
		}
	}
	return nil, err
}

// title returns what to call a region in output.
func (r *region) title() string { return cmp.Or(r.name, r.url) }

// status gets the status of a region, and learns its name.
func (r *region) status() (*wire.Status, error) {
	var answer wire.Status
	err := r.do(r.ctx, request{method: "GET", url: r.url + "/v1/ops/status", into: &answer, attempts: 3})
	r.name = cmp.Or(r.name, answer.Region)
	return &answer, err
}

// get gets what is at a path below /v1/ops. Params are pairs of name and value; "" is left out.
func (r *region) get(path string, into any, params ...string) error {
	values := url.Values{}
	for pair := range slices.Chunk(params, 2) {
		if pair[1] != "" {
			values.Set(pair[0], pair[1])
		}
	}
	to := r.url + "/v1/ops/" + path
	if len(values) > 0 {
		to += "?" + values.Encode()
	}
	return r.do(r.ctx, request{method: "GET", url: to, into: into})
}

// marks gets the marks of users.
func (r *region) marks(users []string) (map[string][]byte, error) {
	var answer wire.Marks
	if err := r.send("POST", "marks", wire.MarksOf{Users: users}, &answer); err != nil {
		return nil, fmt.Errorf("%s: get the marks of users: %w", r.title(), err)
	}
	marks := make(map[string][]byte, len(users))
	for _, user := range users {
		mark, err := events.ParseMark("mark", answer.Marks[user])
		if err != nil {
			return nil, fmt.Errorf("%s: get the marks of users: %w", r.title(), err)
		}
		marks[user] = mark[:]
	}
	return marks, nil
}

// mint mints an id of a user.
func (r *region) mint(user string) (events.ID, error) {
	marks, err := r.marks([]string{user})
	if err != nil {
		return events.ID{}, err
	}
	return events.NewClock(time.Now, func(string) events.Mark { return events.Mark(marks[user]) }).Mint(user)
}

// send sends an idempotent command to a path below /v1/ops.
func (r *region) send(method, path string, body, into any) error {
	return r.do(r.ctx, request{method: method, url: r.url + "/v1/ops/" + path, body: body, into: into})
}

// maxPage is the most items that a page of events, digests or the log may have.
const maxPage = 1000

// pages yields the items after a key, "" is the first, of a list which the API returns in pages of at
// most size. It yields at most limit items; 0 is all. split takes a page apart.
func pages[P, T any](r *region, path, after string, size, limit int, split func(P) (items []T, after *string), params ...string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for n := 0; ; {
			if limit > 0 {
				size = min(size, limit-n)
			}
			var page P
			err := r.get(path, &page, slices.Concat(params, []string{"after", after, "limit", strconv.Itoa(size)})...)
			if err != nil {
				yield(*new(T), fmt.Errorf("%s: read %s: %w", r.title(), path, err))
				return
			}
			items, next := split(page)
			for _, item := range items {
				if n++; !yield(item, nil) {
					return
				}
			}
			if next == nil || limit > 0 && n >= limit {
				return
			}
			after = *next
		}
	}
}

// request is one request to a region. It must be idempotent if attempts is not 1.
type request struct {
	method   string
	url      string
	body     any    // encoded as JSON; nil is none
	key      string // the Idempotency-Key
	into     any    // where to decode the answer; nil ignores it
	attempts int    // 0 is defaultAttempts
}

// defaultAttempts take about seven seconds if nothing answers.
const defaultAttempts = 6

// do sends a request, with retries, and decodes the answer.
func (s *session) do(ctx context.Context, r request) error {
	backoff := events.Backoff{First: 300 * time.Millisecond, Max: 7 * time.Second}
	for attempt := 1; ; attempt++ {
		err := s.doOnce(ctx, r)
		p, answered := errors.AsType[*problem](err)
		retryable := !answered || p.Status == http.StatusTooManyRequests || p.Status >= http.StatusInternalServerError
		if err == nil || !retryable || attempt >= cmp.Or(r.attempts, defaultAttempts) || ctx.Err() != nil {
			return err
		}
		wait := backoff.Delay(attempt)
		if answered {
			wait = max(wait, min(p.retryAfter, 5*time.Second))
		}
		if err := events.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (s *session) doOnce(ctx context.Context, r request) error {
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
		return fmt.Errorf("decode the answer to %s %s: %w", r.method, req.URL.Path, err)
	}
	return nil
}

// problem is an answer that is an error.
type problem struct {
	wire.Problem
	retryAfter time.Duration
}

func (p *problem) Error() string {
	text := cmp.Or(p.Detail, "the answer has status "+strconv.Itoa(p.Status))
	switch {
	case p.Status == http.StatusUnauthorized:
		text += "; pass another token with -token or in PARLEY_TOKEN"
	case p.Code != "":
		text += " (" + p.Code + ")"
	}
	return text
}

func problemOf(res *http.Response) error {
	p := &problem{}
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(text, &p.Problem) != nil {
		p.Detail = http.StatusText(res.StatusCode)
	}
	p.Status = res.StatusCode
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		p.retryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// hasCode reports whether an error is an answer with this code.
func hasCode(err error, code string) bool {
	p, is := errors.AsType[*problem](err)
	return is && p.Code == code
}

// isUnreachable reports whether an error means that nothing answered.
func isUnreachable(err error) bool {
	_, answered := errors.AsType[*problem](err)
	return err != nil && !answered
}

// tokenUser returns the user of a token, "" if it does not say.
func tokenUser(token string) string {
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

// isLoopback reports whether a URL points to this machine.
func isLoopback(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
