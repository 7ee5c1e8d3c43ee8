package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unforgettable is ada's text, which is erased.
const unforgettable = "uNfOrGeTtAbLe"

// TestErase erases a user while one region is isolated. After all regions have acknowledged it, the
// user's texts are in no region, view, feed, bus, replay, export, log line or file, also after a
// restart.
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
	if secrets := s.onBus(1, 6); secrets != 1+2+3+4+5+1 {
		t.Errorf("the bus delivered %d secrets", secrets)
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
		t.Errorf("the isolated region has erased the text: %s", text)
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
			t.Errorf("%s contains the text", strings.TrimPrefix(name, set.data))
		}
		return nil
	})
}

// forgotten checks that ada's texts are nowhere.
func (r *running) forgotten(room string) {
	r.t.Helper()
	for i := 1; i <= 3; i++ {
		if text := r.onPage(i, room); strings.Contains(text, unforgettable) || strings.Count(text, `"erased":true`) != 5 || strings.Count(text, `"bobs"`) != 5 {
			r.t.Errorf("the page of region %d is %s", i, text)
		}
		if secrets := r.onBus(i, 0); secrets != 0 {
			r.t.Errorf("the bus of region %d still delivers %d secrets", i, secrets)
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

// onBus counts the secrets that a bus delivers from its beginning, including replays. It waits until at
// least so many entries contain one.
func (r *running) onBus(i, entries int) (secrets int) {
	r.t.Helper()
	b := r.cluster.regions[i-1].now.Load().bus
	eventually(10*time.Second, func() bool {
		secrets = 0
		after, matched := uint64(0), 0
		for {
			p, err := b.read(after, ssePage)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, e := range p.entries {
				if after = e.number; !wants([]string{"message.*", "user.*", "again/*"}, e.DetailType) {
					continue
				}
				got, err := b.envelope(r.t.Context(), "x", e)
				if err != nil {
					r.t.Fatal(err)
				}
				n := strings.Count(string(got.Detail), unforgettable)
				secrets += n
				matched += min(n, 1)
			}
			if len(p.entries) == 0 {
				return matched >= entries
			}
		}
	})
	return secrets
}

// acknowledged returns the names of the regions that have destroyed a user's keys.
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

// TestKeysCatchUp: a key that is created in an isolated region is replicated when the isolation ends,
// also if the process is restarted before.
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

// TestDamagedKey: a key file that is damaged or missing takes nothing down, and is replaced by another region's
// copy, at a start and while the region runs.
func TestDamagedKey(t *testing.T) {
	set := testSettings(t.TempDir())
	set.port = freePorts(t, 1+len(set.regions))
	s := serve(t, set)
	ada, bob := s.at(1, "ada"), s.at(2, "bob")
	room := ada.create("Hello")
	bob.join(room)
	ada.post(room, unforgettable)
	bob.post(room, "bobs")
	s.agree(room, "bob", 2)
	folder := filepath.Join(set.data, "one", "keys")
	damages := map[string]func(name string) error{
		"empty": func(name string) error { return os.WriteFile(name, nil, 0o600) },
		"flipped": func(name string) error {
			return os.WriteFile(name, []byte("not a key that was ever wrapped by a root key"), 0o600)
		},
		"gone": os.Remove,
	}
	said := 2
	for _, restarts := range []bool{true, false} {
		for what, damage := range damages {
			damaged := 0
			if restarts {
				s.halt()
			}
			must(t, filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
				if err == nil && strings.Contains(name, hex.EncodeToString([]byte("ada"))) && !entry.IsDir() {
					damaged++
					return damage(name)
				}
				return err
			}))
			if damaged == 0 {
				t.Fatal("no key files of ada")
			}
			if restarts {
				s = serve(t, set)
			} else { // what it caches of its stores goes
				in := s.cluster.region("one").now.Load()
				in.disk.Fail(errors.New("the test closes the region"))
				<-in.ctx.Done()
			}
			if !eventually(20*time.Second, func() bool {
				status, _, text := s.at(1, "bob").try("GET", "/v1/rooms/"+room+"/messages", nil)
				if status != 503 && (status != 200 || !strings.Contains(string(text), `"bobs"`)) {
					t.Fatalf("%s: the page is %d %s", what, status, text)
				}
				return strings.Contains(string(text), unforgettable)
			}) {
				t.Errorf("%s: the damaged key is not replaced", what)
			}
			s.at(1, "ada").post(room, "again")
			said++
			s.agree(room, "bob", said)
		}
	}
}

// TestDeletedOnBus: the archive of a bus does not deliver the texts of messages that were deleted since.
func TestDeletedOnBus(t *testing.T) {
	s := serve(t, testSettings(t.TempDir()))
	ada := s.at(1, "ada")
	room := ada.create("Hello")
	id := ada.post(room, unforgettable)
	path := "/v1/rooms/" + room + "/messages/" + id
	ada.must("PATCH", path, map[string]string{"text": unforgettable + "!"})
	if secrets := s.onBus(1, 2); secrets != 2 {
		t.Fatalf("the bus delivered %d secrets", secrets)
	}
	ada.must("DELETE", path, nil)
	for i := range s.cluster.regions {
		if !eventually(20*time.Second, func() bool { return s.onBus(i+1, 0) == 0 }) {
			t.Errorf("the bus of region %d still delivers the text", i+1)
		}
	}
	p, err := s.cluster.regions[0].now.Load().bus.read(0, ssePage)
	must(t, err)
	marked := 0
	for _, e := range p.entries {
		got, err := s.cluster.regions[0].now.Load().bus.envelope(t.Context(), "x", e)
		must(t, err)
		if strings.Contains(string(got.Detail), `"deleted":true,"published_by":"one"}`) {
			marked++
		}
	}
	if marked != 2 {
		t.Errorf("%d entries are marked as deleted, want 2", marked)
	}
}

// TestRootKey: with another root key no message could be decrypted, so the program does not start.
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
