package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unforgettable is what ada says, to be forgotten.
const unforgettable = "uNfOrGeTtAbLe"

// TestErase erases a user while one region is cut off. When all have heard of it nothing gives back
// what she said: no region, view, feed, bus, replay, export, log line nor file; after a restart, too.
func TestErase(t *testing.T) { onEachStore(t, erase) }

func erase(t *testing.T, set settings) {
	s := serve(t, set)
	ada, bob, op := s.at(1, "ada"), s.at(2, "bob"), s.operator(1)
	room := ada.create("Hello")
	bob.join(room)
	for i := range 5 {
		ada.post(room, strings.Repeat(unforgettable, i+1))
		bob.post(room, "bobs")
	}
	ada.must("PUT", "/v1/users/ada", map[string]string{"name": unforgettable})
	s.agree(room, "bob", 10)
	if told := s.onBus(1, 6); told != 1+2+3+4+5+1 {
		t.Errorf("the bus told %d secrets", told)
	}
	if text := s.onPage(3, room); strings.Count(text, unforgettable) != 15 {
		t.Errorf("the page is %s", text)
	}

	s.state("three", stateIsolated)
	op.must("POST", "/v1/ops/users/ada/erase", nil)
	if !eventually(20*time.Second, func() bool { return op.acknowledged("ada") == "one two" }) {
		t.Fatalf("acknowledged by %q", op.acknowledged("ada"))
	}
	if text := s.onPage(3, room); !strings.Contains(text, unforgettable) {
		t.Errorf("a region that cannot know has forgotten: %s", text)
	}
	s.state("three", stateUp)
	if !eventually(20*time.Second, func() bool { return op.acknowledged("ada") == "one three two" }) {
		t.Fatalf("acknowledged by %q", op.acknowledged("ada"))
	}
	s.forgotten(room)
	if status, _, text := ada.try("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": "again"}); status != 403 {
		t.Errorf("the erased user posts: %d %s", status, text)
	}
	op.done(op.start(map[string]any{"kind": "replay", "to": "again", "rate": 10000}))
	op.done(op.start(map[string]any{"kind": "audit"}))
	s.forgotten(room)
	s.halt()

	s = serve(t, set)
	s.forgotten(room)
	s.halt()
	_ = filepath.WalkDir(set.data, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte(unforgettable)) {
			t.Errorf("%s holds it", strings.TrimPrefix(name, set.data))
		}
		return nil
	})
}

// forgotten looks for what ada said everywhere.
func (r *running) forgotten(room string) {
	r.t.Helper()
	for i := 1; i <= 3; i++ {
		if text := r.onPage(i, room); strings.Contains(text, unforgettable) || strings.Count(text, `"erased":true`) != 5 || strings.Count(text, `"bobs"`) != 5 {
			r.t.Errorf("the page of region %d is %s", i, text)
		}
		if told := r.onBus(i, 0); told != 0 {
			r.t.Errorf("the bus of region %d still tells %d secrets", i, told)
		}
		for _, path := range []string{"/v1/ops/log?limit=1000", "/v1/ops/parked", "/v1/ops/jobs", "/v1/ops/events?stream=user/ada"} {
			status, _, text := r.operator(i).try("GET", path, nil)
			if status != 200 || strings.Contains(string(text), unforgettable) {
				r.t.Errorf("%s of region %d: %d %s", path, i, status, text)
			}
		}
		if _, _, text := r.at(i, "bob").try("GET", "/v1/users/ada", nil); !strings.Contains(string(text), `"erased":true`) {
			r.t.Errorf("the profile in region %d is %s", i, text)
		}
	}
}

func (r *running) onPage(i int, room string) string {
	r.t.Helper()
	_, _, text := r.at(i, "bob").try("GET", "/v1/rooms/"+room+"/messages", nil)
	return string(text)
}

// onBus counts the secrets that a bus tells a subscriber who begins at its beginning, replays too;
// it waits until at least so many entries tell one.
func (r *running) onBus(i, entries int) (secrets int) {
	r.t.Helper()
	b := r.cluster.regions[i-1].bus
	eventually(10*time.Second, func() bool {
		s := &subscription{region: "x", bus: b, types: []string{"message.*", "user.*", "again/*"}}
		secrets, s.after = 0, 0
		told := 0
		for {
			p, err := b.read(s.after, ssePage)
			if err != nil {
				r.t.Fatal(err)
			}
			text, err := s.format(r.t.Context(), p)
			if err != nil {
				r.t.Fatal(err)
			}
			for entry := range strings.SplitSeq(string(text), "\n\n") {
				n := strings.Count(entry, unforgettable)
				secrets += n
				told += min(n, 1)
			}
			if len(p.entries) == 0 {
				return told >= entries
			}
		}
	})
	return secrets
}

// acknowledged names the regions that have destroyed a user's keys.
func (c *client) acknowledged(user string) string {
	c.t.Helper()
	var erasure struct {
		Regions []struct {
			Region       string
			Acknowledged bool
		}
	}
	status, _, text := c.try("GET", "/v1/ops/users/"+user+"/erasure", nil)
	if status != 200 || json.Unmarshal(text, &erasure) != nil {
		return ""
	}
	var names []string
	for _, r := range erasure.Regions {
		if r.Acknowledged {
			names = append(names, r.Region)
		}
	}
	return strings.Join(names, " ")
}

// TestKeysCatchUp: a user who first speaks in a region that is cut off is understood elsewhere as
// soon as it is not, also if it was stopped and started in between.
func TestKeysCatchUp(t *testing.T) { onEachStore(t, keysCatchUp) }

func keysCatchUp(t *testing.T, set settings) {
	s := serve(t, set)
	room := s.at(1, "ada").create("Hello")
	s.agree(room, "ada", 0)
	s.state("one", stateIsolated)
	s.at(1, "ada").post(room, "from afar")
	s.halt()
	s = serve(t, set)
	s.agree(room, "ada", 1)
}

// TestRootKey: with another root key nobody could read anything, so it does not start.
func TestRootKey(t *testing.T) {
	set := testSettings(t.TempDir())
	s := serve(t, set)
	room := s.at(1, "ada").create("Hello")
	s.at(1, "ada").post(room, "hello")
	s.halt()
	root := filepath.Join(set.data, rootFile)
	good, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "x", strings.Repeat("0", 64)} {
		if bad == "" {
			err = os.Remove(root)
		} else {
			err = os.WriteFile(root, []byte(bad), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := open(t.Context(), set, quiet, os.Stdout); err == nil || !strings.Contains(err.Error(), rootFile) {
			t.Errorf("root key %q: %v", bad, err)
		}
	}
	if err := os.WriteFile(root, good, 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, set)
}
