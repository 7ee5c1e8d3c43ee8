package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"parley/events"
)

// session is what a command works with.
type session struct {
	*Global
	ctx      context.Context
	out      io.Writer
	err      io.Writer
	terminal bool // err is one: progress may be shown
	client   *http.Client
	token    string

	mu      sync.Mutex
	regions []*region
}

// region is one region as it can be reached.
type region struct {
	*session
	name string // "" until it has said it
	url  string
}

func newSession(ctx context.Context, g *Global, stdout, stderr io.Writer) (*session, error) {
	s := &session{Global: g, ctx: ctx, out: stdout, err: stderr, client: &http.Client{Timeout: 60 * time.Second}, token: g.Token}
	if f, is := stderr.(*os.File); is && !g.JSON {
		info, err := f.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	for i, text := range g.URL {
		g.URL[i] = strings.TrimRight(text, "/")
		if !isURL(text) {
			return nil, usage("-url must be a URL like http://127.0.0.1:8080, not %q", text)
		}
	}
	if err := events.ValidateUser("-as", g.As); err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

// find finds the regions, and a token where infra/local gives one.
func (s *session) find() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.regions != nil {
		return nil
	}
	var found []*region
	for _, url := range s.URL {
		local, err := s.local(url)
		if err != nil {
			return err
		}
		if local == nil {
			local = []*region{{session: s, url: url}}
		}
		found = append(found, local...)
	}
	if s.token == "" {
		return fmt.Errorf("no token: give one whose scope holds operator with -token, or in PARLEY_TOKEN")
	}
	s.regions = found
	return s.choose()
}

// local asks whether infra/local is at a URL: then it names its regions and hands out a token.
func (s *session) local(url string) ([]*region, error) {
	if !isLoopback(url) {
		return nil, nil
	}
	var list struct {
		Regions []struct{ Region, URL string } `json:"regions"`
	}
	ask := request{method: "GET", url: url + "/local/regions", into: &list, tries: 1}
	if err := s.do(ask); err != nil {
		if unreachable(err) {
			return nil, fmt.Errorf("nothing answers at %s: start infra/local, or name a region with -url: %w", url, err)
		}
		return nil, nil // a region, not infra/local
	}
	if s.token == "" {
		var answer struct{ Token string }
		body := map[string]string{"user": s.As, "scope": "operator"}
		if err := s.do(request{method: "POST", url: url + "/local/token", body: body, into: &answer, tries: 3}); err != nil {
			return nil, fmt.Errorf("get a token of infra/local: %w", err)
		}
		s.token = answer.Token
	}
	var regions []*region
	for _, r := range list.Regions {
		regions = append(regions, &region{s, r.Region, r.URL})
	}
	return regions, nil
}

// choose keeps the regions that -region names.
func (s *session) choose() error {
	if len(s.Region) == 0 {
		return nil
	}
	var names []string
	var chosen []*region
	for _, r := range s.regions {
		if r.name == "" {
			if _, err := r.status(); err != nil {
				return fmt.Errorf("ask %s for its name: %w", r.url, err)
			}
		}
		names = append(names, r.name)
		if slices.Contains(s.Region, r.name) {
			chosen = append(chosen, r)
		}
	}
	for _, name := range s.Region {
		if !slices.Contains(names, name) {
			return usage("there is no region %s; there are %s", name, strings.Join(names, ", "))
		}
	}
	s.regions = chosen
	return nil
}

// all returns the regions that are meant.
func (s *session) all() ([]*region, error) {
	if err := s.find(); err != nil {
		return nil, err
	}
	return s.regions, nil
}

// one returns the first of the regions that answers.
func (s *session) one() (*region, error) {
	regions, err := s.all()
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

// named returns the region of a name.
func (s *session) named(name string) (*region, error) {
	s.Region = []string{name}
	regions, err := s.all()
	if err != nil {
		return nil, err
	}
	return regions[0], nil
}

// title is what a region is called in what is shown.
func (r *region) title() string {
	if r.name != "" {
		return r.name
	}
	return r.url
}

// json prints a result as JSON, on a line of its own.
func (s *session) json(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say prints a line for people, unless results are JSON.
func (s *session) say(format string, args ...any) {
	if !s.JSON {
		fmt.Fprintf(s.out, format+"\n", args...)
	}
}
