package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The same binary is the same object, whenever and wherever it is zipped.
func TestZip(t *testing.T) {
	binary := bytes.Repeat([]byte("a binary, "), 10_000)
	first, err := zipBootstrap(binary)
	if err != nil {
		t.Fatal(err)
	}
	again, err := zipBootstrap(bytes.Clone(binary))
	if err != nil || !bytes.Equal(first, again) {
		t.Error("zipped again it is another", err)
	}
	other, err := zipBootstrap(append(binary, '!'))
	if err != nil || codeKey(other) == codeKey(first) {
		t.Error("another binary has the same key", err)
	}
	r, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil || len(r.File) != 1 {
		t.Fatal(err)
	}
	f := r.File[0]
	if f.Name != "bootstrap" || f.Mode() != 0o755 || f.Method != zip.Deflate {
		t.Errorf("%s %v", f.Name, f.Mode())
	}
	content, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(content); err != nil || !bytes.Equal(text, binary) {
		t.Error("it is not what was zipped", err)
	}
}

// module makes a module with one program.
func module(t *testing.T, program string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module parley\n\ngo 1.26\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The same code is the same object, in whatever folder it is built.
func TestBuild(t *testing.T) {
	const program = "package main\n\nfunc main() { println(\"hello\") }\n"
	var keys []string
	for range 2 {
		c, err := build(t.Context(), module(t, program), ".", t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(c.file); err != nil {
			t.Error(err)
		}
		keys = append(keys, c.key)
	}
	if keys[0] != keys[1] || !strings.HasPrefix(keys[0], "parley/") || !strings.HasSuffix(keys[0], ".zip") {
		t.Errorf("the keys are %q", keys)
	}
	if _, err := build(t.Context(), module(t, "package main\n\nfunc main() { nonsense }\n"), ".", t.TempDir()); err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("what does not compile: %v", err)
	}
}
