package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	sampleSeeds  = flag.Int("sim.seeds", 100, "how many seeds TestSeeds runs")
	samplePlants = flag.String("sim.plants", "log-forgets,views-last-writer-wins,erasure-lost,bus-forgets,checkpoint-ahead", "the planted bugs that TestPlants looks for, or all")
)

// TestKept runs the schedules that once failed: none of them may fail again.
func TestKept(t *testing.T) {
	files, err := filepath.Glob("testdata/schedules/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := DecodeSchedule(text)
			if err != nil {
				t.Fatal(err)
			}
			if s.Note == "" {
				t.Error("it has no note that says what it found")
			}
			if f := Run(t, s, Options{}).Failure; f != nil {
				t.Errorf("%s, in step %d: %s", f.Check, f.Step, f.Text)
			}
		})
	}
}

// TestSeeds runs the worlds of some seeds, some of them twice: the same schedule has the same trace.
func TestSeeds(t *testing.T) {
	seeds := *sampleSeeds
	if testing.Short() {
		seeds = min(seeds, 10)
	}
	for seed := range uint64(seeds) {
		s := Generate(seed, 100)
		r := Run(t, s, Options{})
		if r.Failure != nil {
			t.Errorf("seed %d: %s, in step %d: %s", seed, r.Failure.Check, r.Failure.Step, r.Failure.Text)
		}
		if again := uint64(0); seed%10 == 0 {
			if again = Run(t, s, Options{}).Hash; again != r.Hash {
				t.Errorf("seed %d: two runs have the traces %x and %x", seed, r.Hash, again)
			}
		}
	}
}

// simulate runs the program, and returns what it printed.
func simulate(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), args, &out, &errs)
	return out.String(), errs.String(), err
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-seeds x", "-seeds must be a seed or first-last, such as 1-1000"},
		{"-seeds 5-4", "-seeds must be a seed or first-last"},
		{"-seeds 1-", "-seeds must be a seed or first-last"},
		{"-seed -1", "-seed must be an integer from 0"},
		{"-seed 1 -replay x", "-seed and -replay exclude each other"},
		{"-steps 0", "-steps must be from 1 to 100000"},
		{"-j 0", "-j and -failures must be at least 1"},
		{"-failures 0", "-j and -failures must be at least 1"},
		{"-plant none", `there is no bug with the name "none"`},
		{"-v", "-v and -picture need -seed or -replay"},
		{"-picture x.html", "-v and -picture need -seed or -replay"},
		{"1-5", `nothing may follow the flags, but "1-5" does`},
		{"-fast", "flag provided but not defined: -fast"},
	} {
		_, stderr, err := simulate(t, strings.Fields(tt.args)...)
		if !errors.Is(err, errUsage) || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %v, %s", tt.args, err, stderr)
		}
	}
	for args, want := range map[string]string{"help": "go run ./infra/simulate", "version": "simulate devel", "-plant list": "checkpoint-ahead"} {
		if stdout, _, err := simulate(t, strings.Fields(args)...); err != nil || !strings.Contains(stdout, want) {
			t.Errorf("%s: %v, %s", args, err, stdout)
		}
	}
	if _, stderr, err := simulate(t, "-help"); err != nil || !strings.Contains(stderr, "-failures") {
		t.Errorf("-help: %v", err)
	}
}

// Seeds that pass are counted, with what they did.
func TestSimulate(t *testing.T) {
	stdout, _, err := simulate(t, "-seeds", "1-4", "-steps", "30", "-j", "1")
	if err != nil || !strings.Contains(stdout, "4 worlds of 30 steps") || !strings.Contains(stdout, "no check failed") {
		t.Fatalf("%v\n%s", err, stdout)
	}
	for _, k := range kinds {
		if !strings.Contains(stdout, k.name) {
			t.Errorf("%s is not in the table of steps:\n%s", k.name, stdout)
		}
	}
	file := filepath.Join(t.TempDir(), "seed.json")
	if err := os.WriteFile(file, Generate(3, 10).Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "seed.html")
	stdout, _, err = simulate(t, "-replay", file, "-v", "-picture", page)
	if err != nil || !strings.Contains(stdout, "no check failed; the trace has the hash") || !strings.Contains(stdout, "\nstep 9: ") {
		t.Errorf("%v\n%s", err, stdout)
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("</svg>")) {
		t.Errorf("the picture: %v, %d bytes", err, len(text))
	}
	if _, _, err := simulate(t, "-replay", filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"-seeds", "1-1000000"}, new(bytes.Buffer), new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A seed that fails is shrunk, written, and fails again when it is replayed as printed.
func TestSimulateFails(t *testing.T) {
	dir := t.TempDir()
	stdout, _, err := simulate(t, "-plant", "log-forgets", "-failures", "1", "-j", "1", "-tries", "300", "-out", dir)
	if !errors.Is(err, errFound) {
		t.Fatalf("%v\n%s", err, stdout)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	if len(files) != 1 || !strings.Contains(stdout, "go run ./infra/simulate -replay "+files[0]+" -v -plant log-forgets") {
		t.Fatalf("%v are written, and this is printed:\n%s", files, stdout)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeSchedule(text)
	if err != nil || len(s.Steps) > 20 {
		t.Errorf("%v, %d steps are left", err, len(s.Steps))
	}
	page, err := os.ReadFile(strings.TrimSuffix(files[0], ".json") + ".html")
	if err != nil || !strings.Contains(string(page), "the check ") {
		t.Errorf("the picture: %v", err)
	}
	if stdout, _, err = simulate(t, "-replay", files[0], "-v", "-plant", "log-forgets"); !errors.Is(err, errFound) || !strings.Contains(stdout, "the check ") {
		t.Errorf("replayed: %v\n%s", err, stdout)
	}
	if stdout, _, err = simulate(t, "-replay", files[0]); err != nil {
		t.Errorf("without the bug: %v\n%s", err, stdout)
	}
}
