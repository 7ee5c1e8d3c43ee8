package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/events"
)

// TestConversation holds a conversation over three regions while one fails and one is isolated. At the
// end all regions answer the same.
func TestConversation(t *testing.T) { onEachStore(t, conversation) }

func conversation(t *testing.T, set settings) {
	s := serve(t, set)
	users := []*client{s.at(1, "ada"), s.at(2, "bob"), s.at(3, "eve")}
	room := users[0].create("Hello")
	for _, u := range users[1:] {
		u.join(room)
	}
	var said sync.WaitGroup
	posts := 0
	say := func(speakers ...*client) {
		for _, u := range speakers {
			said.Go(func() {
				for i := range 20 {
					u.post(room, fmt.Sprint("message ", i))
				}
			})
		}
		said.Wait()
		posts += 20 * len(speakers)
	}
	say(users...)

	s.state("two", stateFailing)
	if status, header, text := users[1].try("GET", "/v1/rooms/"+room, nil); status != 503 || header.Get("Retry-After") == "" || !strings.Contains(string(text), `"code":"region_failing"`) {
		t.Errorf("a failing region answers %d %v %s", status, header, text)
	}
	s.state("three", stateIsolated)
	say(users[0], users[2])
	before := len(users[2].history(room))
	users[0].post(room, "can you hear me?")
	posts++
	s.state("two", stateUp)
	if got := len(users[2].history(room)); got > before+20 { // its own stream may have been behind
		t.Errorf("the isolated region has heard %d messages", got-before)
	}
	question := users[1].post(room, "who was that?")
	users[1].must("PUT", "/v1/rooms/"+room+"/messages/"+question+"/reactions/👍", nil)
	posts++
	s.state("three", stateUp)
	history := s.agree(room, "ada", posts)
	if text := strings.Join(history, "\n"); !strings.Contains(text, "can you hear me?") || !strings.Contains(text, "eve") {
		t.Error("something that was said is missing")
	}
	if !eventually(10*time.Second, func() bool {
		return strings.Contains(strings.Join(users[2].history(room), "\n"), `{"👍":["bob"]}`)
	}) {
		t.Error("the reaction has not come through")
	}
}

// TestOneIDTwoContents: an author posts two contents under one id in two regions that are isolated from
// each other. All logs hold both, and all views show the same one.
func TestOneIDTwoContents(t *testing.T) { onEachStore(t, oneIDTwoContents) }

func oneIDTwoContents(t *testing.T, set settings) {
	s := serve(t, set)
	here, there := s.at(1, "ada"), s.at(2, "ada")
	room := here.create("Hello")
	there.soon("GET", "/v1/rooms/"+room, nil)
	s.state("one", stateIsolated)
	var ids []events.ID
	for i := range 20 {
		id := here.mint()
		parsed, err := events.ParseID("id", id)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, parsed)
		path := "/v1/rooms/" + room + "/messages/" + id
		first, second := here, there
		if i%2 == 1 {
			first, second = there, here
		}
		first.must("PUT", path, map[string]string{"text": "first"})
		second.must("PUT", path, map[string]string{"text": "second"})
	}
	s.state("one", stateUp)
	for _, r := range s.cluster.regions {
		if !eventually(20*time.Second, func() bool {
			for _, id := range ids {
				both, err := events.Find(t.Context(), r.now.Load().log, events.RoomStream(room), id, false)
				if err != nil || len(both) != 2 || events.Same(both[0], both[1]) {
					return false
				}
			}
			return true
		}) {
			t.Errorf("the log of %s lacks an event that was accepted", r.name)
		}
	}
	s.agree(room, "ada", len(ids))
}

// TestRestart: rooms, tokens and the bus survive a restart.
func TestRestart(t *testing.T) { onEachStore(t, restart) }

func restart(t *testing.T, set settings) {
	set.port = freePorts(t, 1+len(set.regions))
	s := serve(t, set)
	ada := s.at(1, "ada")
	room := ada.create("Hello")
	for i := range 50 {
		ada.post(room, fmt.Sprint("message ", i))
	}
	s.halt() // at once, before everything is replicated

	s = serve(t, set)
	if got := len(s.agree(room, "ada", 50)); got != 50 {
		t.Errorf("%d messages", got)
	}
	status, _, text := ada.try("GET", "/v1/rooms/"+room, nil)
	if status != 200 {
		t.Errorf("a token from before the restart: %d %s", status, text)
	}
	for _, r := range s.cluster.regions {
		if !eventually(10*time.Second, func() bool {
			p, err := r.now.Load().bus.read(0, 1000)
			posted := map[string]bool{}
			for _, e := range p.entries {
				if e.DetailType == "message.posted" {
					posted[string(e.Detail)] = true
				}
			}
			return err == nil && len(posted) == 50
		}) {
			t.Errorf("the bus of %s has not got all messages", r.name)
		}
	}
}

// freePorts finds so many free ports in a row and returns the first.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first, free := 20_000+rand.N(30_000), true
		for port := first; port < first+n && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				_ = l.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("there are no free ports")
	return 0
}

// TestNewRegion is filled by the others, also if its folder was deleted.
func TestNewRegion(t *testing.T) { onEachStore(t, newRegion) }

func newRegion(t *testing.T, set settings) {
	set.regions = []string{"one", "two"}
	s := serve(t, set)
	ada, bob := s.at(1, "ada"), s.at(2, "bob")
	room := ada.create("Hello")
	bob.join(room)
	for range 30 {
		ada.post(room, "here")
		bob.post(room, "there")
	}
	s.agree(room, "ada", 60)
	s.halt()
	set.regions = []string{"two", "three"}
	s = serve(t, set)
	s.agree(room, "ada", 60)
	s.halt()
	if set.store != storePebble {
		return
	}
	if err := os.RemoveAll(filepath.Join(set.data, "two")); err != nil {
		t.Fatal(err)
	}
	set.regions = []string{"one", "two", "three"}
	s = serve(t, set)
	s.agree(room, "ada", 60)
	s.halt()
	if err := os.RemoveAll(filepath.Join(set.data, "two", "log")); err != nil {
		t.Fatal(err)
	}
	s = serve(t, set) // the views are of a log that is lost
	s.agree(room, "ada", 60)
}

// TestFailover: requests go to the first healthy region, and back.
func TestFailover(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(0, "ada")
	answers := func(want string) {
		t.Helper()
		status, header, text := ada.try("GET", "/v1/rooms", nil)
		if status != 200 || header.Get("Parley-Region") != want {
			t.Errorf("answers %d from %q, want %q: %s", status, header.Get("Parley-Region"), want, text)
		}
	}
	answers("one")
	s.state("one", stateFailing)
	answers("two")
	s.state("two", stateFailing)
	answers("three")
	s.state("three", stateIsolated) // it still answers
	answers("three")
	s.state("three", stateFailing)
	status, header, text := ada.try("GET", "/v1/rooms", nil)
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(string(text), `"code":"no_healthy_region"`) {
		t.Errorf("with no healthy region: %d %v %s", status, header, text)
	}
	s.state("two", stateUp)
	answers("two")
	s.state("one", stateUp)
	answers("one")

	var list struct{ Regions []regionState }
	_, _, text = ada.try("GET", "/local/regions", nil)
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	want := []regionState{
		{Region: "one", State: stateUp, Healthy: true, URL: s.url(1)},
		{Region: "two", State: stateUp, Healthy: true, URL: s.url(2)},
		{Region: "three", State: stateFailing, URL: s.url(3)},
	}
	if !slices.Equal(list.Regions, want) {
		t.Errorf("got  %v\nwant %v", list.Regions, want)
	}
}

// TestRegionBreaksOff finds out by a request that a region is gone, without waiting for the next
// check in turn.
func TestRegionBreaksOff(t *testing.T) {
	t.Parallel()
	s := serve(t, testSettings(t.TempDir()))
	if err := s.servers[0].Close(); err != nil {
		t.Fatal(err)
	}
	ada := s.at(0, "ada")
	var codes []string
	eventually(10*time.Second, func() bool {
		status, _, text := ada.try("GET", "/v1/rooms", nil)
		var p struct{ Code string }
		_ = json.Unmarshal(text, &p)
		codes = append(codes, p.Code)
		return status == http.StatusOK
	})
	if last := codes[len(codes)-1]; last != "" {
		t.Errorf("answers %v", codes)
	}
	for _, code := range codes[:len(codes)-1] {
		if code != "region_unreachable" {
			t.Errorf("answers %v", codes)
		}
	}
}

// TestWelcome runs the commands of the start-up text as printed.
func TestWelcome(t *testing.T) {
	for _, program := range []string{"sh", "curl", "cut"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("there is no " + program)
		}
	}
	t.Run("three regions", func(t *testing.T) {
		// The answer to the post, two readings, and the bus of the last region.
		welcome(t, "one,two,three", 4, "Parley-Region: two", `"state":"failing"`, `"state":"up","healthy":true`, "event: message.posted", "event: room.created")
	})
	t.Run("one region", func(t *testing.T) {
		welcome(t, "one", 3, "503 Service Unavailable", "no_healthy_region", `"state":"up","healthy":true`, "event: message.posted")
	})
}

// welcome runs the start-up text of some regions. The output must hold some texts, and the message so
// many times.
func welcome(t *testing.T, regions string, shown int, holds ...string) {
	set := testSettings(t.TempDir())
	set.regions = strings.Split(regions, ",")
	s := serve(t, set)
	if first, _, _ := strings.Cut(s.welcome(), "\n"); !strings.Contains(first, "Open "+s.url(0)+" in two browser windows") {
		t.Errorf("the first line does not name the page: %s", first)
	}
	var script strings.Builder
	for line := range strings.Lines(s.welcome()) {
		command, ok := strings.CutPrefix(line, "  ")
		if !ok || strings.HasPrefix(command, "http://") {
			continue
		}
		// The bus is an endless stream: one second of it is enough here.
		fmt.Fprintln(&script, strings.Replace(strings.TrimSpace(command), "curl -sN", "curl -sN --max-time 1", 1))
	}
	out, err := exec.Command("sh", "-c", script.String()).CombinedOutput()
	if status := 0; err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			status = exit.ExitCode()
		}
		if status != 28 { // of curl: the time was up
			t.Errorf("%v", err)
		}
	}
	for _, want := range holds {
		if !strings.Contains(string(out), want) {
			t.Errorf("there is no %s", want)
		}
	}
	if got := strings.Count(string(out), "Is anyone there?"); got != shown {
		t.Errorf("the message is shown %d times, want %d", got, shown)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	plain := s.at(0, "ada")
	if status, header, text := plain.try("GET", "/", nil); status != 200 || string(text) != s.welcome() || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("GET / answers %d %s", status, text)
	}
	if status, _, text := plain.try("GET", "/openapi.json", nil); status != 200 || !strings.Contains(string(text), "/v1/rooms") {
		t.Errorf("GET /openapi.json answers %d", status)
	}
}
