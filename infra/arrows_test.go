package infra

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// flow is the order of the top-level folders: each may import what stands left of it.
var flow = []string{"events", "projections", "functions", "infra"}

// TestArrows holds every import in the tree against the architecture: data flows one way, and
// only the drivers and the wiring know a vendor.
func TestArrows(t *testing.T) {
	seen := 0
	for file, imports := range imports(t) {
		dir := path.Dir(file)
		for _, imported := range imports {
			seen++
			if why := wrong(dir, imported); why != "" {
				t.Errorf("%s imports %s: %s", file, imported, why)
			}
		}
	}
	if seen < 100 {
		t.Fatalf("only %d imports were found: the test looks in the wrong place", seen)
	}
}

// TestArrowsCatch shows that the rules refuse what they are there to refuse.
func TestArrowsCatch(t *testing.T) {
	const pebble, aws = "github.com/cockroachdb/pebble/v2", "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	for _, tt := range []struct{ dir, imported string }{
		{"events", "parley/projections"},
		{"projections", "parley/functions/api"},
		{"functions/query", "parley/infra/local"},
		{"functions/query", "parley/functions/command"},
		{"functions/query/driver", "parley/functions/command"},
		{"functions/query", "parley/functions/query/driver"},
		{"functions/queryall", "parley/functions/query"},
		{"events", pebble},
		{"projections", pebble + "/vfs"},
		{"functions/stream", pebble},
		{"infra/lambda", "parley/events/pebblelog"},
		{"infra/lambda", pebble},
		{"projections", aws},
		{"functions/stream", aws},
		{"infra/local", "parley/infra/bench"},
	} {
		if wrong(tt.dir, tt.imported) == "" {
			t.Errorf("%s may import %s", tt.dir, tt.imported)
		}
	}
}

// wrong says why a package may not import another, "" if it may.
func wrong(dir, imported string) string {
	base := path.Base(dir)
	switch {
	case strings.HasPrefix(imported, "github.com/cockroachdb/pebble"):
		if !strings.HasPrefix(base, "pebble") && dir != "infra/local" && dir != "infra/bench" {
			return "only pebblelog, pebbleview, infra/local and the comparison in infra/bench know Pebble"
		}
	case strings.HasPrefix(imported, "github.com/aws/"):
		if !strings.HasPrefix(base, "dynamo") && !strings.HasPrefix(dir, "infra/lambda") {
			return "only the drivers on DynamoDB, whose names begin so, and infra/lambda know AWS"
		}
	case strings.HasPrefix(imported, "parley/"):
		return wrongWithin(dir, strings.TrimPrefix(imported, "parley/"))
	}
	return ""
}

// shared are the packages in functions that its functions have in common.
var shared = []string{"functions/api"}

func wrongWithin(dir, imported string) string {
	from, to := slices.Index(flow, top(dir)), slices.Index(flow, top(imported))
	switch {
	case to > from:
		return "data flows events -> projections -> functions -> infra"
	case dir == "infra/lambda" && strings.HasPrefix(path.Base(imported), "pebble"):
		return "the Lambda binary never links Pebble"
	case strings.HasPrefix(dir, imported+"/"):
		return "" // what belongs to a function knows it: the drivers of its contracts, and their suite
	case top(dir) == "functions" && top(imported) == "functions" && !slices.Contains(shared, imported):
		return "functions do not know each other"
	case top(dir) == "infra" && top(imported) == "infra" && !strings.HasPrefix(imported, dir):
		return "programs do not know each other"
	}
	return ""
}

func top(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// imports reads the imports of every file of the module, tests aside: a test may look anywhere.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", name)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(rel)] = append(found[filepath.ToSlash(rel)], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
