package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// child is the program in a process of its own, on data that outlives it.
type child struct {
	t    testing.TB
	args []string
	cmd  *exec.Cmd

	mu   sync.RWMutex
	urls []string // of the global endpoint, then of the regions
	runs int
}

// start starts the process and reads where it serves from its start-up text.
func (c *child) start() {
	c.t.Helper()
	c.cmd = exec.Command(os.Args[0], c.args...)
	c.cmd.Env = append(os.Environ(), asProgram+"=1")
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	var urls []string
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), "Ctrl-C stops it"); {
		if url, _, ok := strings.Cut(strings.TrimSpace(lines.Text()), "   "); ok && strings.HasPrefix(url, "http://") {
			urls = append(urls, url)
		}
	}
	if len(urls) != 4 {
		c.t.Fatalf("the process serves %d addresses", len(urls))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urls = urls
	c.runs++
}

// kill ends the process at once, as a loss of power would end it.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *child) at() (urls []string, run int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.urls, c.runs
}

// writer posts messages under ids of its own until each is acknowledged.
type writer struct {
	child *child
	user  string
	to    int // the address
	clock *events.Clock
	run   int
	api   *client
}

// until sends a request until it succeeds, over any number of deaths of the process. The ports
// change with every start, and with them the issuer of the tokens.
func (w *writer) until(stop <-chan struct{}, method, path string, body any) bool {
	for again := time.Duration(0); ; again = 20 * time.Millisecond {
		select {
		case <-stop:
			return false
		case <-time.After(again):
		}
		urls, run := w.child.at()
		if w.run != run {
			w.api = &client{url: urls[0]}
			status, _, text := w.api.try("POST", "/local/token", map[string]string{"user": w.user})
			var in struct{ Token string }
			if status != 200 || json.Unmarshal(text, &in) != nil {
				continue
			}
			w.api = &client{url: urls[w.to], token: in.Token}
			w.run = run
		}
		status, _, text := w.api.try(method, path, body)
		switch {
		case status/100 == 2:
			return true
		case status == 409 || status == 422 || status == 400:
			w.child.t.Errorf("%s: %d %s", method, status, text)
			return false
		}
	}
}

// TestKill kills the process under load, again and again. Every message that was acknowledged is
// in every region, once, and in the same order in all regions.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it starts processes")
	}
	t.Parallel()
	t.Run(storePebble, func(t *testing.T) { t.Parallel(); testKill(t, 4, 400) })
	t.Run(storeDynamo, func(t *testing.T) {
		t.Parallel()
		// The tables live on, as they do on AWS when a function is killed.
		server := dynamotest.Start(t, dynamolocal.Options{})
		testKill(t, 2, 100, "-store", storeDynamo, "-endpoint", server.URL)
	})
}

// testKill kills the process so many times, after so many messages each.
func testKill(t *testing.T, kills, between int64, args ...string) {
	const writers = 16
	c := &child{t: t, args: append([]string{"-addr", "127.0.0.1:0", "-data", t.TempDir(), "-rate", "0", "-lag", "20ms"}, args...)}
	c.start()
	defer func() { c.kill() }()
	urls, _ := c.at()
	room := newClient(t, urls[0], urls[1], "ada").create("Hello")
	rebuild := c.operator().start(map[string]any{"kind": "rebuild"})

	var acknowledged atomic.Int64
	wake := make(chan struct{}, 1)
	stop := make(chan struct{})
	texts := make([]map[string]string, writers) // by id, what was acknowledged
	var work sync.WaitGroup
	for i := range writers {
		texts[i] = map[string]string{}
		w := &writer{child: c, user: fmt.Sprint("user", i), to: i % 4, clock: newClient(t, urls[0], urls[0], fmt.Sprint("user", i)).clock}
		w.clock.Mark(w.user) // asked for now: later the process is being killed
		work.Go(func() {
			if !w.until(stop, "PUT", "/v1/rooms/"+room+"/members/"+w.user, nil) {
				return
			}
			for n := 0; ; n++ {
				id, err := w.clock.Mint(w.user)
				if err != nil {
					t.Error(err)
					return
				}
				text := fmt.Sprint(w.user, " says ", n)
				if !w.until(stop, "PUT", "/v1/rooms/"+room+"/messages/"+id.String(), map[string]string{"text": text}) {
					return
				}
				texts[i][id.String()] = text
				if acknowledged.Add(1)%between == 0 {
					select {
					case wake <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	await := func() {
		select {
		case <-wake:
		case <-time.After(30 * time.Second):
			t.Error("nothing is acknowledged any more")
		}
	}
	for range kills {
		await()
		c.kill()
		c.start()
	}
	await()
	close(stop)
	work.Wait()
	c.kill()
	c.start()
	checkAll(t, c, room, texts)
	// The rebuild of all views, that was killed again and again, comes to its end, which may be before
	// the last message; and the views are right, those of all messages.
	op := c.operator()
	if result := op.done(rebuild); result["differ"] != 0.0 || result["events"].(float64) == 0 {
		t.Errorf("the rebuild: %v", result)
	}
	if result := op.done(op.start(map[string]any{"kind": "audit"})); result["differ"] != 0.0 || result["events"].(float64) < float64(acknowledged.Load()) {
		t.Errorf("the audit: %v", result)
	}
}

// operator is one of the first region.
func (c *child) operator() *client {
	urls, _ := c.at()
	return newOperator(c.t, urls[0], urls[1])
}

// checkAll compares the messages in the regions with the acknowledged ones. Each writer may have one
// more: the last, whose answer it did not wait for.
func checkAll(t *testing.T, c *child, room string, texts []map[string]string) {
	t.Helper()
	urls, _ := c.at()
	var clients []*client
	for _, url := range urls[1:] {
		clients = append(clients, newClient(t, urls[0], url, "ada"))
	}
	count, total := 0, 0
	for _, of := range texts {
		total += len(of)
	}
	if !eventually(30*time.Second, func() bool { // until the number stands still and is enough
		least, most := 1<<30, 0
		for _, c := range clients {
			n := len(c.history(room))
			least, most = min(least, n), max(most, n)
		}
		count = most
		return least == most && most >= total
	}) {
		t.Fatalf("%d messages were acknowledged, at most %d are there", total, count)
	}
	found := map[string]string{}
	last := ""
	for _, text := range agree(t, clients, room, count) {
		var m struct{ ID, Text string }
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		if m.ID <= last {
			t.Errorf("%s comes after %s", m.ID, last)
		}
		found[m.ID], last = m.Text, m.ID
	}
	for _, of := range texts {
		for id, text := range of {
			if found[id] != text {
				t.Errorf("%s was acknowledged and is lost or changed", id)
			}
		}
	}
	for _, region := range strings.Split(defaultRegions, ",") {
		checkBus(t, urls[0], region, texts)
	}
	if extra := len(found) - total; extra > len(texts) {
		t.Errorf("%d messages more are there than were sent", extra)
	}
	t.Logf("%d messages acknowledged, %d there", total, len(found))
}

// checkBus reads a region's bus from its beginning until every acknowledged message was on it.
func checkBus(t *testing.T, url, region string, texts []map[string]string) {
	t.Helper()
	missing := map[string]bool{}
	for _, of := range texts {
		for id := range of {
			missing[id] = true
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/local/bus?region="+region+"&type=message.posted&after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := plainHTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); len(missing) > 0 && lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct{ Detail struct{ ID string } }
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		delete(missing, e.Detail.ID)
	}
	if len(missing) > 0 {
		t.Errorf("%d acknowledged messages were never on the bus of %s", len(missing), region)
	}
}
