package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
)

// process is a server under test.
type process struct {
	cmd *exec.Cmd
	url string // the first that it prints
}

var printedURL = regexp.MustCompile(`http://[0-9.:]+`)

// start starts a program that serves, and waits until it prints where.
func start(ctx context.Context, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	in := bufio.NewReader(out)
	for p.url == "" {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s ended before it served", program), p.cmd.Wait())
		}
		p.url = printedURL.FindString(line)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }() // until the process ends
	return p, nil
}

// stop stops the process as Ctrl-C would, and waits.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait()
}

// startLocal starts infra/local with some regions on a data folder, and connects to it.
func (b *bench) startLocal(ctx context.Context, data string, regions int, args ...string) (*process, *client, error) {
	names := strings.Join([]string{"us-east-1", "eu-west-1", "ap-southeast-2"}[:regions], ",")
	p, err := start(ctx, b.local, append([]string{"-addr", "127.0.0.1:0", "-data", data, "-regions", names, "-rate", "0"}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	c, err := dial(ctx, p.url)
	if err != nil {
		p.stop()
		return nil, nil, err
	}
	return p, c, nil
}

// startBare starts the bare handler.
func (b *bench) startBare(ctx context.Context, dir string) (*process, error) {
	return start(ctx, b.self, "-bare", "127.0.0.1:0", "-dir", dir)
}

// cpu returns the CPU time that the process has used; 0 where it cannot be read (only Linux has it).
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// proc(5): after the name in parentheses, utime and stime are fields 12 and 13, in ticks of 10 ms.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// onDynamoDB starts DynamoDB Local for a function.
func onDynamoDB(ctx context.Context, do func(dynamolocal.Endpoint) error) error {
	server, err := dynamolocal.Start(ctx, dynamolocal.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	client := dynamolocal.NewClient()
	defer client.CloseIdleConnections()
	return do(dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey(), Client: client})
}

// client calls the API of a running Parley, and the controls of infra/local.
type client struct {
	global  string
	regions []region

	mu     sync.Mutex
	tokens map[string]string // by user
}

type region struct {
	Name string `json:"region"`
	URL  string `json:"url"`
}

var httpClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

// dial finds the regions behind a global endpoint.
func dial(ctx context.Context, global string) (*client, error) {
	c := &client{global: global, tokens: map[string]string{}}
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

// do sends a request as a user, "" for none. It decodes the body of a 2xx answer into out unless that
// is nil.
func (c *client) do(ctx context.Context, method, url, user string, body, out any) (status int, err error) {
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
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
	res, err := httpClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	if text, err = io.ReadAll(res.Body); err != nil || out == nil || res.StatusCode >= 300 {
		return res.StatusCode, err
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
	if status, err := c.do(ctx, "POST", c.global+"/local/token", "", map[string]string{"user": user}, &got); err != nil || got.Token == "" {
		return "", fmt.Errorf("get a token: status %d: %w", status, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[user] = got.Token
	return got.Token, nil
}

// must sends a request until it succeeds, for a minute: a new room or member takes a moment to reach
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

// forEach calls f with the numbers below n, up to limit calls at the same time, until one fails.
func forEach(ctx context.Context, n, limit int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// appendEvents appends n events, a millisecond apart from start on. Make returns an event with its id.
func appendEvents(ctx context.Context, log events.Log, n int, start time.Time, actor func(i int) string, make func(i int, id events.ID) (events.Stream, events.Payload)) error {
	clock := events.NewClock(func() time.Time { return start }, events.NewMarks(nil))
	group, appending := errgroup.WithContext(ctx)
	group.SetLimit(256)
	for i := range n {
		start = start.Add(time.Millisecond)
		id, err := clock.Mint(actor(i))
		if err != nil {
			return err
		}
		stream, payload := make(i, id)
		e, err := events.New(id, stream, actor(i), "us-east-1", payload)
		if err != nil {
			return err
		}
		group.Go(func() error {
			_, _, err := log.Append(appending, e)
			return err
		})
	}
	return group.Wait()
}

// poll calls done at intervals until it returns true or an error, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if err := events.Sleep(ctx, every); err != nil {
			return err
		}
	}
}
