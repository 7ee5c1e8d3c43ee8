package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// maxBinary is what a cold start may have to load.
const maxBinary = 15 << 20

func TestBinaryIsSmall(t *testing.T) {
	for _, arch := range []string{"arm64", "amd64"} {
		path, err := build(arch)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MiB", arch, float64(info.Size())/(1<<20))
		if info.Size() >= maxBinary {
			t.Errorf("the binary for %s has %d bytes", arch, info.Size())
		}
	}
}

// What belongs to one machine or to tests is not in the binary.
func TestBinaryLinks(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(text))
	if len(deps) < 100 {
		t.Fatalf("there are only %d packages", len(deps))
	}
	for _, dep := range deps {
		if strings.Contains(dep, "pebble") || strings.HasPrefix(dep, "testing") || strings.Contains(dep, "dynamolocal") {
			t.Errorf("%s is linked", dep)
		}
	}
}
