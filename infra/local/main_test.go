package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCommandLine refuses what it does not know, and says what is allowed.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args string
		want string // in the error
	}{
		{"now", `"now"`},
		{"-port 1", "-port is not a flag; the flags are -addr -beats -contacts -data "},
		{"-addr 8080", "-addr"},
		{"-addr localhost:x", "-addr"},
		{"-addr localhost:65533", "-addr"},
		{"-regions a,,b", "-regions"},
		{"-regions a,a", "twice"},
		{"-regions a/b", "-regions"},
		{"-regions a,b,c,d,e,f,g,h,i,j", "-regions"},
		{"-store sqlite", "dynamodb"},
		{"-endpoint http://127.0.0.1:8000", "-store dynamodb"},
		{"-store dynamodb -endpoint 127.0.0.1:8000", "URL"},
		{"-lag 3", "150ms"},
		{"-lag -1s", "-lag"},
		{"-lag 2m", "-lag"},
		{"-rate -1", "-rate"},
		{"-rate many", "-rate"},
		{"-shards 0", "-shards"},
		{"-shards 17", "-shards"},
		{"-log loud", "debug"},
	}
	for _, test := range tests {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(test.args), &out, &errs)
		if code != exitUsage || out.Len() > 0 || !strings.Contains(errs.String(), test.want) {
			t.Errorf("%s: exits with %d and %q", test.args, code, errs.String())
		}
	}
	s, err := parse(strings.Fields("-addr :9000 -data x -regions here -lag 2s -rate 0 -shards 16 -log info"))
	if err != nil || s.port != 9000 || s.host != "" || s.data != "x" || len(s.regions) != 1 || s.lag != 2*time.Second || s.rate != 0 || s.shards != 16 {
		t.Errorf("settings are %+v, %v", s, err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, test := range []struct{ arg, begins string }{
		{"version", "parley "},
		{"-version", "parley "},
		{"--version", "parley "},
		{"help", "Parley on this machine"},
		{"-h", "Parley on this machine"},
		{"-help", "Parley on this machine"},
	} {
		var errs bytes.Buffer
		out.Reset()
		if code := run(t.Context(), []string{test.arg}, &out, &errs); code != 0 || errs.Len() > 0 || !strings.HasPrefix(out.String(), test.begins) {
			t.Errorf("%s exits with %d and prints %.40q and %q", test.arg, code, out.String(), errs.String())
		}
	}
	for _, flag := range []string{"-addr", "-data", "-regions", "-lag", "-rate", "-shards", "-store", "-endpoint", "-log"} {
		if !strings.Contains(out.String(), "\n  "+flag+" ") {
			t.Errorf("-help does not explain %s", flag)
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 100 {
			t.Errorf("this line is too long for a terminal: %s", line)
		}
	}
}

// TestRun starts, says so, and stops.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	welcome := &onFirstWrite{Buffer: &out, do: cancel}
	args := []string{"-addr", "127.0.0.1:0", "-data", t.TempDir()}
	if code := run(ctx, args, welcome, &errs); code != 0 || errs.Len() > 0 {
		t.Errorf("exits with %d and %q", code, errs.String())
	}
	if !strings.Contains(out.String(), "Parley is running") {
		t.Errorf("says %s", out.String())
	}
}

type onFirstWrite struct {
	*bytes.Buffer
	do func()
}

// Write implements [io.Writer].
func (w *onFirstWrite) Write(p []byte) (int, error) {
	w.do()
	return w.Buffer.Write(p)
}

// TestCannotStart says why, and how to help it.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, testSettings(data))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	foreign, newer := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(foreign, "thesis.txt"), nil, 0o600),
		os.WriteFile(filepath.Join(newer, versionFile), []byte("parley local 3\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string][]string{
		"another parley is using " + data + "; stop it, or start this one on other data and other ports": {"-addr", "127.0.0.1:0", "-data", data},
		"for the global endpoint, is in use":           {"-addr", taken.Addr().String(), "-data", t.TempDir()},
		"was not made by parley":                       {"-addr", "127.0.0.1:0", "-data", foreign},
		"a later release has used it (parley local 3)": {"-addr", "127.0.0.1:0", "-data", newer},
		"listen on -addr":                              {"-addr", "nowhere.invalid:0", "-data", t.TempDir()},
	}
	for want, args := range tests {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != exitFailed || out.Len() > 0 || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exits with %d and %q, want %q", args, code, errs.String(), want)
		}
	}
	files, err := os.ReadDir(foreign)
	if err != nil || len(files) != 1 {
		t.Errorf("the foreign folder now holds %d files, %v", len(files), err)
	}
	s.at(1, "ada").create("still well")
}
