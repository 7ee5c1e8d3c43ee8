package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An operator sees what would be lost, erases, sees all regions acknowledge, and finds it nowhere;
// what is exported afterwards can be imported elsewhere, with the gaps it has.
func TestErase(t *testing.T) {
	p := startLocal(t)
	file := filepath.Join(t.TempDir(), "said.jsonl")
	said := `{"room":"engines","author":"ada","at":"2020-01-01T00:00:00Z","text":"uNfOrGeTtAbLe"}
{"room":"engines","author":"bob","at":"2020-01-01T00:00:01Z","text":"bobs"}
{"room":"engines","author":"ada","at":"2020-01-01T00:00:02Z","text":"uNfOrGeTtAbLe too"}
`
	if err := os.WriteFile(file, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("import", file)
	if out := p.must("erase", "ada", "-dry-run"); !strings.Contains(out, "written 2 messages") || !strings.Contains(out, "in 1 rooms") {
		t.Errorf("the dry run says %q", out)
	}
	if out := p.must("export", "all", "-messages"); strings.Count(out, "uNfOrGeTtAbLe") != 2 {
		t.Errorf("before: %s", out)
	}
	for range 2 { // again it shows how it is
		out := p.must("erase", "ada", "-yes")
		for _, region := range testRegions {
			if !strings.Contains(out, region+": the keys of ada are destroyed") {
				t.Errorf("%s is not among %q", region, out)
			}
		}
	}
	var e erasure
	if err := json.Unmarshal([]byte(p.must("erase", "ada", "-yes", "-json")), &e); err != nil || e.By != "operator" || len(e.Regions) != len(testRegions) || len(e.waiting()) != 0 {
		t.Errorf("as JSON: %+v, %v", e, err)
	}
	if out := p.must("export", "all", "-messages"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "bobs") {
		t.Errorf("messages: %s", out)
	}
	all := filepath.Join(t.TempDir(), "all.jsonl")
	p.must("export", "all", "-out", all)
	text, err := os.ReadFile(all)
	if err != nil || strings.Contains(string(text), "uNfOrGeTtAbLe") || strings.Count(string(text), `"text":null`) != 2 {
		t.Errorf("events: %s, %v", text, err)
	}
	other := startLocal(t)
	if got := importedOf(t, other.must("import", all, "-json")); got.Refused != 0 {
		t.Errorf("imported elsewhere: %+v", got)
	}
	again := filepath.Join(t.TempDir(), "all.jsonl")
	other.must("export", "all", "-out", again)
	if a, b := sortedLines(t, all), sortedLines(t, again); strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("exported again it is\n%s, it was\n%s", strings.Join(b, "\n"), strings.Join(a, "\n"))
	}
}
