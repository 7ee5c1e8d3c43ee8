package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// In a worker of a test, the test binary plays the program.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args[1:], "-worker") {
		serveWorlds(os.Stdin, os.Stdout)
	}
	useOneProcessor()
	os.Exit(m.Run())
}

func newWorker(t *testing.T) *worker {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{binary: binary}
	t.Cleanup(w.close)
	return w
}

// A worker gives the results of a run in this process.
func TestWorker(t *testing.T) {
	w := newWorker(t)
	for seed := range uint64(3) {
		s := Generate(seed, 20)
		got, err := w.run(t.Context(), s, Options{Trace: true})
		if err != nil {
			t.Fatal(err)
		}
		want := Run(t, s, Options{Trace: true})
		if got.Hash != want.Hash || len(got.Trace) != len(want.Trace) || len(got.Trace) == 0 {
			t.Errorf("seed %d: the worker has %d lines and %x, this process %d and %x", seed, len(got.Trace), got.Hash, len(want.Trace), want.Hash)
		}
	}
	if w.worlds != 3 {
		t.Errorf("the process of the worker ran %d worlds", w.worlds)
	}
}

// script is a worker that does something else.
func script(t *testing.T, text string) *worker {
	name := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	w := &worker{binary: name}
	t.Cleanup(w.close)
	return w
}

// A world that takes its process with it is a failure like others, and the next one runs.
func TestWorkerDies(t *testing.T) {
	dies := script(t, "read x; echo '=== RUN   World' >&2; echo 'panic: index out of range' >&2; echo 'goroutine 7' >&2; exit 2\n")
	hangs := script(t, "read x; exec sleep 1000\n")
	hangs.limit = 100 * time.Millisecond
	for range 2 {
		for _, tt := range []struct {
			w           *worker
			check, text string
		}{
			{dies, checkFatal, "panic: index out of range\ngoroutine 7"},
			{hangs, checkHang, "the world did not end within 100ms"},
		} {
			r, err := tt.w.run(t.Context(), Generate(1, 1), Options{})
			if err != nil || r.Failure == nil || r.Failure.Check != tt.check || r.Failure.Text != tt.text {
				t.Errorf("want %s, got %+v, %v", tt.check, r.Failure, err)
			}
		}
	}
}

// A search that is interrupted ends, and is no failure of the world.
func TestWorkerInterrupted(t *testing.T) {
	w := script(t, "exec sleep 1000\n")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if r, err := w.run(ctx, Generate(1, 1), Options{}); !errors.Is(err, context.Canceled) || r.Failure != nil {
		t.Errorf("got %+v, %v", r.Failure, err)
	}
	if _, err := (&worker{binary: filepath.Join(t.TempDir(), "none")}).run(t.Context(), Generate(1, 1), Options{}); err == nil || !strings.Contains(err.Error(), "start a worker") {
		t.Errorf("without a program: %v", err)
	}
}
