package infra

import (
	"go/ast"
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
		{"functions/command", "parley/functions/live"},
		{"functions/query", "parley/functions/operate"},
		{"functions/stream", "parley/functions/live"},
		{"functions/stream", "parley/functions"},
		{"functions/live", "parley/functions/operate"},
		{"functions/wire", "parley/functions/api"},
		{"functions/wire", "github.com/danielgtaylor/huma/v2"},
		{"functions/live/client", "github.com/danielgtaylor/huma/v2"},
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
			return "only pebblelog, pebbledb, pebbleview, infra/local and the comparison in infra/bench know Pebble"
		}
	case strings.HasPrefix(imported, "github.com/aws/"):
		if !strings.HasPrefix(base, "dynamo") && !strings.HasPrefix(dir, "infra/lambda") {
			return "only the drivers on DynamoDB, whose names begin so, and infra/lambda know AWS"
		}
	case strings.HasPrefix(imported, "github.com/danielgtaylor/huma"):
		if dir != "functions/api" && dir != "functions/operate" {
			return "only the API knows its framework"
		}
	case strings.HasPrefix(imported, "parley/"):
		return wrongWithin(dir, strings.TrimPrefix(imported, "parley/"))
	}
	return ""
}

// mayImport says which functions a function may import, itself and the drivers of its contracts
// aside. All may import the wire structs. Only what clients and operators ask for goes through others: it
// gives commands, asks queries, and publishes; nothing that these do depends on it. The package that
// puts all functions together may import every one.
var mayImport = map[string][]string{
	"functions/wire":        {},
	"functions/api":         {"functions/wire"},
	"functions/command":     {"functions/wire", "functions/api"},
	"functions/query":       {"functions/wire", "functions/api"},
	"functions/stream":      {"functions/wire"},
	"functions/health":      {"functions/wire"},
	"functions/operate":     {"functions/wire", "functions/api", "functions/command", "functions/query", "functions/stream"},
	"functions/live":        {"functions/wire", "functions/api", "functions/command", "functions/query", "functions/stream"},
	"functions/live/client": {"functions/wire"},
}

func wrongWithin(dir, imported string) string {
	from, to := slices.Index(flow, top(dir)), slices.Index(flow, top(imported))
	switch {
	case to > from:
		return "data flows events -> projections -> functions -> infra"
	case dir == "infra/lambda" && strings.HasPrefix(path.Base(imported), "pebble"):
		return "the Lambda binary never links Pebble"
	case imported == "functions" && top(dir) == "functions":
		return "what puts the functions together is none of theirs"
	case dir == "functions":
		return ""
	case strings.HasPrefix(dir, imported+"/"):
		return "" // what belongs to a function knows it: the drivers of its contracts, and their suite
	case top(dir) == "functions" && top(imported) == "functions" && !slices.Contains(mayImport[dir], imported):
		return "this is no arrow between functions, see mayImport"
	case top(dir) == "infra" && top(imported) == "infra" && !strings.HasPrefix(imported, dir):
		return "programs do not know each other"
	}
	return ""
}

func top(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// made are what only functions/region.go, and the package itself, may call or fill in: the functions
// of a region, and what they are registered with.
var made = map[string][]string{
	"functions/api":     {"New"},
	"functions/command": {"Register", "Config"},
	"functions/query":   {"Register", "Config"},
	"functions/live":    {"Handler", "Describe"},
	"functions/stream":  {"Handler"},
	"functions/health":  {"Handler"},
	"functions/operate": {"Register", "Config", "NewRunner", "Rebuild", "Drop", "Replay"},
}

// TestOneWiring holds that a region's functions are put together in one place, tests included.
func TestOneWiring(t *testing.T) {
	const wiring = "functions/region.go"
	found := 0
	walk(t, func(name string) bool { return true }, func(name string, file *ast.File) {
		for _, what := range makes(file) {
			pkg := what[:strings.LastIndex(what, ".")]
			if name == wiring {
				found++
			} else if dir := path.Dir(name); dir != pkg && !strings.HasPrefix(dir, pkg+"/") {
				t.Errorf("%s makes %s: only %s does", name, what, wiring)
			}
		}
	})
	if found < len(made) {
		t.Errorf("%s makes %d functions: the test looks in the wrong place", wiring, found)
	}
}

// TestOneWiringCatches shows that the rule sees what it is there to refuse.
func TestOneWiringCatches(t *testing.T) {
	for text, want := range map[string]int{
		`import s "parley/functions/stream"; var _ = &s.Handler{}`:                                1,
		`import "parley/functions/command"; func f() { command.Register(nil, command.Config{}) }`: 2,
		`import "parley/functions/stream"; var _ stream.Handler`:                                  0,
		`import "net/http"; var _ = http.Handler(nil)`:                                            0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := makes(file); len(got) != want {
			t.Errorf("%s makes %v", text, got)
		}
	}
}

// makes lists what a file calls or fills in of what is [made], as "functions/stream.Handler".
func makes(file *ast.File) (all []string) {
	packages := map[string]string{} // by the name they have in the file
	for _, spec := range file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value) // it was parsed
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		packages[name] = strings.TrimPrefix(imported, "parley/")
	}
	ast.Inspect(file, func(n ast.Node) bool {
		var of ast.Expr
		switch n := n.(type) {
		case *ast.CompositeLit:
			of = n.Type
		case *ast.CallExpr:
			of = n.Fun
		}
		if s, is := of.(*ast.SelectorExpr); is {
			if x, is := s.X.(*ast.Ident); is && slices.Contains(made[packages[x.Name]], s.Sel.Name) {
				all = append(all, packages[x.Name]+"."+s.Sel.Name)
			}
		}
		return true
	})
	return all
}

// imports reads the imports of every file of the module, tests aside: a test may look anywhere.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	walk(t, func(name string) bool { return !strings.HasSuffix(name, "_test.go") }, func(name string, file *ast.File) {
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			found[name] = append(found[name], imported)
		}
	})
	return found
}

// walk parses the Go files of the module that are wanted; their names have slashes and begin at its top.
func walk(t *testing.T, wants func(name string) bool, do func(name string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || !wants(name) {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", name)
		if err == nil {
			do(filepath.ToSlash(rel), file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
