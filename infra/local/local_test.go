package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
)

// asProgram names the variable that makes the test binary be the program.
const asProgram = "PARLEY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"),
		// DynamoDB Local ends with the process.
		goleak.IgnoreAnyFunction("parley/events/dynamolocal.start.func1"), goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2"))
}

// testSettings are those of three regions close together, on ports that are free.
func testSettings(data string) settings {
	s, err := parse([]string{"-addr", "127.0.0.1:0", "-data", data, "-regions", "one,two,three", "-lag", "4ms", "-rate", "0"})
	if err != nil {
		panic(err)
	}
	return s
}

// onEachStore runs a test on the embedded store, and on DynamoDB where that was asked for and the
// run is not a short one. What only DynamoDB has, tests of its own see to, in a short run too.
func onEachStore(t *testing.T, test func(t *testing.T, set settings)) {
	t.Parallel()
	t.Run(storePebble, func(t *testing.T) { t.Parallel(); test(t, testSettings(t.TempDir())) })
	t.Run(storeDynamo, func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("-short: on the embedded store alone")
		}
		place := dynamotest.Open(t)
		set := testSettings(t.TempDir())
		set.store, set.endpoint, set.key = storeDynamo, place.URL, place.Key
		test(t, set)
	})
}

// running is a server under test.
type running struct {
	*server
	t      *testing.T
	closed bool
	unlock func()
}

// serve starts a server and stops it at the end of the test.
func serve(t *testing.T, s settings) *running {
	t.Helper()
	srv, unlock, err := open(t.Context(), s, quiet, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{server: srv, t: t, unlock: unlock}
	t.Cleanup(r.halt)
	return r
}

// stopsWithin bounds the time in which a server or a client stops. It is far longer than they take, and far
// shorter than the timeout of the test binary, which would not say what did not stop.
const stopsWithin = time.Minute

func (r *running) halt() {
	r.t.Helper()
	if r.closed {
		return
	}
	r.closed = true
	defer r.unlock()
	ended := make(chan error, 1)
	go func() { ended <- r.server.close() }()
	select {
	case err := <-ended:
		if err != nil {
			r.t.Error(err)
		}
	case <-time.After(stopsWithin):
		r.t.Fatalf("the server does not stop:\n%s", goroutines())
	}
}

// goroutines returns what the goroutines of this process do.
func goroutines() string {
	var text bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&text, 1) // a buffer takes everything
	return text.String()
}

// at returns a user's client at an address: 0 is the global endpoint, then come the regions.
func (r *running) at(i int, user string) *client {
	return newClient(r.t, r.url(0), r.url(i), user)
}

// state breaks or repairs a region.
func (r *running) state(region, state string) {
	r.t.Helper()
	r.at(0, "operator").must("PUT", "/local/regions/"+region, map[string]string{"state": state})
}

// client speaks to one address on behalf of a user.
type client struct {
	t     testing.TB
	url   string
	token string
	clock *events.Clock
	user  string
}

func newClient(t testing.TB, global, url, user string) *client {
	t.Helper()
	c := &client{t: t, url: global, user: user}
	mark := sync.OnceValue(func() events.Mark { // a region that fails need not be asked before an id is minted
		text, _ := (&client{t: t, url: global, token: c.token}).must("GET", "/v1/me", nil)["mark"].(string)
		mark, err := events.ParseMark("mark", text)
		if err != nil {
			t.Fatal(err)
		}
		return mark
	})
	c.clock = events.NewClock(time.Now, func(string) events.Mark { return mark() })
	c.token, _ = c.must("POST", "/local/token", map[string]string{"user": user})["token"].(string)
	c.url = url
	return c
}

// http is without keep-alive: connections must not outlive their server.
var plainHTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// try sends a request and returns the status, 0 if there was no answer, and the answer.
func (c *client) try(method, path string, body any) (int, http.Header, []byte) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, c.url+path, in)
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token)
	response, err := plainHTTP.Do(r)
	if err != nil {
		return 0, nil, []byte(err.Error())
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, []byte(err.Error())
	}
	return response.StatusCode, response.Header, text
}

// must sends a request that succeeds.
func (c *client) must(method, path string, body any) map[string]any {
	c.t.Helper()
	status, _, text := c.try(method, path, body)
	if status < 200 || status > 299 {
		c.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	answer := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			c.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return answer
}

// mint mints an id of the user.
func (c *client) mint() string {
	id, err := c.clock.Mint(c.user)
	if err != nil {
		panic(err)
	}
	return id.String()
}

// create makes a room.
func (c *client) create(name string) (room string) {
	c.t.Helper()
	room, _ = c.must("POST", "/v1/rooms", map[string]string{"name": name})["id"].(string)
	return room
}

// join becomes a member, as soon as this region knows of the room.
func (c *client) join(room string) {
	c.t.Helper()
	c.soon("PUT", "/v1/rooms/"+room+"/members/"+c.user, nil)
}

// soon sends a request until it succeeds.
func (c *client) soon(method, path string, body any) {
	c.t.Helper()
	var status int
	var text []byte
	if !eventually(time.Minute, func() bool {
		status, _, text = c.try(method, path, body)
		return status/100 == 2
	}) {
		c.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// post posts a message and returns its id.
func (c *client) post(room, text string) (id string) {
	c.t.Helper()
	id, _ = c.must("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": text})["id"].(string)
	return id
}

// history reads all messages of a room, oldest first, page by page, each as its JSON.
func (c *client) history(room string) (messages []string) {
	c.t.Helper()
	for query := "?limit=200"; ; {
		status, _, text := c.try("GET", "/v1/rooms/"+room+"/messages"+query, nil)
		if status == http.StatusNotFound || status == http.StatusServiceUnavailable {
			return nil // the room has not reached the region yet, or the region is being filled
		}
		var page struct {
			Messages []json.RawMessage
			Before   *string
		}
		if err := json.Unmarshal(text, &page); status != 200 || err != nil {
			c.t.Fatalf("list messages: %d %s", status, text)
		}
		var older []string
		for _, m := range page.Messages {
			older = append(older, string(m))
		}
		messages = append(older, messages...)
		if page.Before == nil {
			return messages
		}
		query = "?limit=200&before=" + *page.Before
	}
}

// agree waits until all regions answer with the same so many messages, and returns them.
func (r *running) agree(room, user string, count int) []string {
	r.t.Helper()
	var clients []*client
	for i := range r.cluster.regions {
		clients = append(clients, r.at(1+i, user))
	}
	return agree(r.t, clients, room, count)
}

func agree(t testing.TB, clients []*client, room string, count int) []string {
	t.Helper()
	var histories [][]string
	if !eventually(30*time.Second, func() bool {
		histories = nil
		for _, c := range clients {
			histories = append(histories, c.history(room))
		}
		for _, h := range histories {
			if len(h) != count || fmt.Sprint(h) != fmt.Sprint(histories[0]) {
				return false
			}
		}
		return true
	}) {
		for i, h := range histories {
			t.Logf("region %d has %d messages: %.2000s", i+1, len(h), fmt.Sprint(h))
		}
		t.Fatalf("the regions do not agree on %d messages", count)
	}
	return histories[0]
}
