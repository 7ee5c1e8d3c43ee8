package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// client talks to a running Parley: to its regions, and to what belongs to running it here.
type client struct {
	global  string
	regions []region
	http    *http.Client

	mu     sync.Mutex
	tokens map[string]string // by user
}

type region struct {
	Name string `json:"region"`
	URL  string `json:"url"`
}

// dial finds the regions behind a global endpoint.
func dial(ctx context.Context, global string) (*client, error) {
	c := &client{
		global: global,
		http: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		},
		tokens: map[string]string{},
	}
	var got struct {
		Regions []region `json:"regions"`
	}
	status, err := c.do(ctx, "GET", global+"/local/regions", "", nil, &got)
	if err != nil {
		return nil, fmt.Errorf("no Parley at %s (start one with go run ./infra/local -rate 0): %w", global, err)
	}
	if status != http.StatusOK || len(got.Regions) == 0 {
		return nil, fmt.Errorf("%s/local/regions answered %d and no regions", global, status)
	}
	c.regions = got.Regions
	return c, nil
}

// do sends a request as a user, "" for none, and decodes a JSON answer into out if that is given.
func (c *client) do(ctx context.Context, method, url, user string, body, out any) (int, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if user != "" {
		token, err := c.token(ctx, user)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if out == nil || res.StatusCode >= 300 {
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(text, out)
}

// token returns a bearer token of a user.
func (c *client) token(ctx context.Context, user string) (string, error) {
	c.mu.Lock()
	token := c.tokens[user]
	c.mu.Unlock()
	if token != "" {
		return token, nil
	}
	var got struct {
		Token string `json:"token"`
	}
	status, err := c.do(ctx, "POST", c.global+"/local/token", "", map[string]string{"user": user}, &got)
	if err != nil {
		return "", err
	}
	if got.Token == "" {
		return "", fmt.Errorf("no token for a user: status %d", status)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[user] = got.Token
	return got.Token, nil
}

// must sends a request until it succeeds, for a minute: what is new takes a moment to reach
// other regions.
func (c *client) must(ctx context.Context, method, url, user string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	last := 0
	err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
		status, err := c.do(ctx, method, url, user, body, out)
		last = status
		return err == nil && status < 300, nil
	})
	if err != nil {
		return fmt.Errorf("%s %s: last status %d: %w", method, url, last, err)
	}
	return nil
}

// set breaks or mends a region.
func (c *client) set(ctx context.Context, region, state string) error {
	return c.must(ctx, "PUT", c.global+"/local/regions/"+region, "", map[string]string{"state": state}, nil)
}
