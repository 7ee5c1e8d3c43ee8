package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"parley/events"
)

func get(t *testing.T, method, target string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for name := range header {
		r.Header.Set(name, header.Get(name))
	}
	w := httptest.NewRecorder()
	Handler("http://127.0.0.1:8081").ServeHTTP(w, r)
	return w.Result()
}

// files lists the page's files with their contents.
func files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(site, "site", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := site.ReadFile(name)
		found[strings.TrimPrefix(name, "site/")] = string(text)
		return err
	})
	if err != nil || len(found) < 10 {
		t.Fatal(len(found), err)
	}
	return found
}

// TestHandler serves every file with its type and with the headers that keep the page to itself.
func TestHandler(t *testing.T) {
	for name := range files(t) {
		target := "/" + strings.TrimSuffix(name, "index.html")
		response := get(t, http.MethodGet, target, nil)
		h := response.Header
		if response.StatusCode != http.StatusOK || h.Get("Content-Type") != types[path.Ext(name)] || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", target, response.StatusCode, h)
		}
		for _, want := range []string{
			"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'",
			"connect-src 'self' http://127.0.0.1:8081 ws://127.0.0.1:8081;",
		} {
			if !strings.Contains(h.Get("Content-Security-Policy"), want) {
				t.Errorf("%s: the policy lacks %s", target, want)
			}
		}
		if again := get(t, http.MethodGet, target, http.Header{"If-None-Match": {h.Get("Etag")}}); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s asked for again: %d", target, again.StatusCode)
		}
	}
	for target, status := range map[string]int{"/page/": 404, "/page/nothing.js": 404, "/site/index.html": 404, "/page/../../web.go": 404, "/page": 404} {
		if response := get(t, http.MethodGet, target, nil); response.StatusCode != status {
			t.Errorf("GET %s: %d", target, response.StatusCode)
		}
	}
	if response := get(t, http.MethodPost, "/", nil); response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") == "" {
		t.Errorf("POST /: %d", response.StatusCode)
	}
}

// TestOneOrigin: no file contains an address of another origin, so nothing is loaded from or sent to one.
func TestOneOrigin(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z0-9.-]+|url\(|@import`)
	for name, text := range files(t) {
		for _, found := range elsewhere.FindAllString(text, -1) {
			if found != "http://www.w3.org" && found != "http://127.0.0.1" { // names of things, and advice to people
				t.Errorf("%s refers to %s", name, found)
			}
		}
	}
}

// TestTextStaysText finds no way in which text could become markup or script.
func TestTextStaysText(t *testing.T) {
	ways := regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|\beval\(|new Function|setTimeout\(['"]`)
	inline := regexp.MustCompile(`(?i)<style|<script>|\sstyle=|\son[a-z]+=|setAttribute\('style'`)
	for name, text := range files(t) {
		if found := ways.FindString(text); found != "" {
			t.Errorf("%s uses %s", name, found)
		}
		if found := inline.FindString(text); found != "" && path.Ext(name) != ".css" {
			t.Errorf("%s has %q inline", name, found)
		}
	}
}

// node returns the program, or skips the test.
func node(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	return program
}

// TestModules runs the tests of the modules that need no browser.
func TestModules(t *testing.T) {
	tests, err := fs.Glob(os.DirFS("."), "tests/*.test.js")
	if err != nil || len(tests) == 0 {
		t.Fatal(tests, err)
	}
	out, err := exec.CommandContext(t.Context(), node(t), append([]string{"--test"}, tests...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestIDs are those that the servers take: in the form of the log, with their author's mark.
func TestIDs(t *testing.T) {
	marks := events.NewMarks([]byte("a secret"))
	script := "import { Minter } from './site/page/ids.js'\n"
	for _, user := range []string{"ada", "zoe-moller", "A.b_c-9"} {
		script += fmt.Sprintf("{ const minter = new Minter('%s'); for (let i = 0; i < 100; i++) console.log('%s', minter.mint()) }\n", marks(user), user)
	}
	before := ulid.Now()
	out, err := exec.CommandContext(t.Context(), node(t), "--input-type=module", "--eval", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines {
		user, text, _ := strings.Cut(line, " ")
		id, err := events.ParseID("id", text)
		if err != nil || id.String() != text || !marks.Owns(user, id) || id.Time()+1 < before || id.Time() > ulid.Now()+1000 {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) != 300 {
		t.Errorf("%d ids", len(lines))
	}
}
