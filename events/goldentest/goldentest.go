// Package goldentest compares what Parley stores with golden files. A golden file is only ever
// added: it holds what a running system may have stored, which every later release must read.
package goldentest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "add the golden files that are missing; never changes one")

// Folder is a folder of golden files, all of which one test checks.
type Folder struct {
	t       *testing.T
	path    string
	checked map[string]bool
}

// Open returns the golden files in testdata/golden/<name>. When the test ends, a file that it has
// not checked fails it.
func Open(t *testing.T, name string) *Folder {
	t.Helper()
	f := &Folder{t, filepath.Join("testdata", "golden", name), map[string]bool{}}
	t.Cleanup(func() {
		files, err := os.ReadDir(f.path)
		if err != nil {
			t.Errorf("read the golden files: %v", err)
		}
		for _, file := range files {
			if !f.checked[file.Name()] && !t.Failed() {
				t.Errorf("%s is not checked: something that was once stored is no longer tested", filepath.Join(f.path, file.Name()))
			}
		}
	})
	return f
}

// Check compares a file with what is stored today, and returns the file.
func (f *Folder) Check(file string, today []byte) []byte {
	f.t.Helper()
	golden := f.Read(file, func() []byte { return today })
	if !bytes.Equal(golden, today) {
		f.t.Errorf("what is stored today differs from %s:\n%s", filepath.Join(f.path, file), difference(golden, today))
	}
	return golden
}

// Read returns a file whose content is another in every run, such as what is sealed under a random
// nonce: there is nothing to compare it with, but it must be read for good. Today makes a missing one.
func (f *Folder) Read(file string, today func() []byte) []byte {
	f.t.Helper()
	f.checked[file] = true
	path := filepath.Join(f.path, file)
	golden, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		golden = today()
		if err = os.MkdirAll(f.path, 0o755); err == nil {
			err = os.WriteFile(path, golden, 0o644)
		}
	}
	if err != nil {
		f.t.Fatalf("read a golden file (-update adds a new one): %v", err)
	}
	return golden
}

// difference returns the first line that differs.
func difference(golden, today []byte) []byte {
	was, is := bytes.Split(golden, []byte("\n")), bytes.Split(today, []byte("\n"))
	for i := range max(len(was), len(is)) {
		var a, b []byte
		if i < len(was) {
			a = was[i]
		}
		if i < len(is) {
			b = is[i]
		}
		if !bytes.Equal(a, b) {
			return bytes.Join([][]byte{append([]byte("golden: "), a...), append([]byte("today:  "), b...)}, []byte("\n"))
		}
	}
	return nil
}

// Lines encodes values as lines of JSON.
func Lines[T any](t testing.TB, values ...T) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, value := range values {
		if err := enc.Encode(value); err != nil {
			t.Fatalf("encode a golden line: %v", err)
		}
	}
	return b.Bytes()
}

// ReadLines undoes [Lines].
func ReadLines[T any](t testing.TB, text []byte) []T {
	t.Helper()
	var values []T
	for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
		var value T
		if err := dec.Decode(&value); err != nil {
			t.Fatalf("decode a golden line: %v", err)
		}
		values = append(values, value)
	}
	return values
}

// Pair is a key and a value of an embedded database, or the name of a file and its content, as a
// line of a golden file.
type Pair struct {
	Key   Bytes `json:"key"`
	Value Bytes `json:"value"`
}

// Bytes are encoded as text where they are printable, and in hexadecimal behind "hex:" where not.
type Bytes []byte

// MarshalText implements [encoding.TextMarshaler].
func (b Bytes) MarshalText() ([]byte, error) {
	printable := func(r rune) bool { return r == '\n' || strconv.IsPrint(r) }
	text := string(b)
	if !utf8.Valid(b) || strings.ContainsFunc(text, func(r rune) bool { return !printable(r) }) || strings.HasPrefix(text, "hex:") {
		text = "hex:" + hex.EncodeToString(b)
	}
	return []byte(text), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	if digits, is := bytes.CutPrefix(text, []byte("hex:")); is {
		*b, err = hex.DecodeString(string(digits))
		return err
	}
	*b = bytes.Clone(text)
	return nil
}
