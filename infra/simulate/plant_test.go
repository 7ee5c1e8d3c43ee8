package main

import (
	"bytes"
	"cmp"
	"go/parser"
	"go/token"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestPlantsApply holds that every bug still fits the source: one that no longer does would be no bug.
func TestPlantsApply(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			if names[p.name] {
				t.Fatal("another bug has this name")
			}
			names[p.name] = true
			if !bytes.Contains(readme, []byte("| `"+p.name+"` | "+p.about+" |")) {
				t.Error("README.md does not say how many seeds it takes: run TestPlants with -sim.plants " + p.name)
			}
			ports := 0
			for _, planted := range []bool{p.log != nil, p.views != nil, p.keys != nil, p.bus != nil, p.connections != nil, p.sockets != nil, p.handle != nil} {
				if planted {
					ports++
				}
			}
			if p.file == "" {
				if ports != 1 {
					t.Errorf("it is in %d ports", ports)
				}
				return
			}
			if ports != 0 {
				t.Errorf("it is in the source, and in %d ports", ports)
			}
			text, err := p.change("../..")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.ParseFile(token.NewFileSet(), p.file, text, 0); err != nil {
				t.Error(err)
			}
		})
	}
	if len(names) < 15 {
		t.Errorf("there are %d bugs", len(names))
	}
}

// mostSeeds is how many seeds may be run until a planted bug is found.
const mostSeeds = 20_000

// TestPlants holds that the simulator finds planted bugs: those that are named, or all, and logs how many seeds
// it takes. By default it is a sample of those in ports. A bug in the source takes a build.
func TestPlants(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs many worlds in other processes")
	}
	names := strings.Split(*samplePlants, ",")
	for _, p := range plants {
		if *samplePlants != "all" && !slices.Contains(names, p.name) {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			o := options{first: 1, last: mostSeeds, steps: 100, workers: 2, enough: 1, plant: p.name}
			binary, done, err := o.binary(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			h := &hunt{options: o, binary: binary, out: io.Discard}
			if err := h.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(h.failures) == 0 {
				t.Fatalf("it is not found with %d seeds", h.done)
			}
			found := slices.MinFunc(h.failures, func(a, b found) int { return cmp.Compare(a.seed, b.seed) })
			if f := Run(t, Generate(found.seed, o.steps), Options{}).Failure; f != nil {
				t.Fatalf("without the bug, seed %d fails too: %s: %s", found.seed, f.Check, f.Text)
			}
			where := "port"
			if p.file != "" {
				where = "`" + p.file + "`"
			}
			t.Logf("| `%s` | %s | %s | %d | `%s` |", p.name, p.about, where, found.seed, found.failure.Check)
		})
	}
}
