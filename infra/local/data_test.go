package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStoredForms: a change that adds a stored form raises the version of the data folder.
func TestStoredForms(t *testing.T) {
	t.Parallel()
	found := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(filepath.ToSlash(path), "/testdata/golden/") {
			found++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != storedForms {
		t.Errorf("there are %d golden files: set storedForms in data.go to %d, so that earlier releases refuse a folder with these forms", found, found)
	}
}

// TestDowngrade refuses a folder that a later release has used, and marks one of an earlier release before
// anything is written to it.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ version, refused string }{
		{"parley local 1", ""},
		{"parley local 2 pebble 1", ""},
		{dataVersion{layout, storePebble, storedForms}.String(), ""},
		{dataVersion{layout, storePebble, storedForms + 1}.String(), "a later release has used it"},
		{dataVersion{layout + 1, storePebble, 0}.String(), "a later release has used it"},
		{"parley local 1 dynamodb", "-store dynamodb"},
		{dataVersion{layout, storeDynamo, storedForms}.String(), "-store dynamodb"},
		{dataVersion{layout, storeDynamo, storedForms + 1}.String(), "a later release has used it"},
		{"parley local", "was not written by parley"},
		{"parley local x", "was not written by parley"},
		{"parley local 2 pebble many", "was not written by parley"},
		{"something else", "was not written by parley"},
	} {
		set := testSettings(t.TempDir())
		name := filepath.Join(set.data, versionFile)
		if err := os.WriteFile(name, []byte(test.version+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		srv, unlock, err := open(t.Context(), set, quiet, io.Discard)
		if err == nil {
			err = errors.Join(srv.close())
			unlock()
		} else if test.refused != "" && strings.Contains(err.Error(), test.refused) {
			err = nil
		}
		if err != nil || (srv == nil) != (test.refused != "") {
			t.Errorf("%s: started: %v, %v", test.version, srv != nil, err)
		}
		want := dataVersion{layout, storePebble, storedForms}.String()
		if test.refused != "" {
			want = test.version
		}
		if text, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s has become %q, %v", test.version, text, err)
		}
	}
}

// TestEarlierRelease: what earlier releases do with a folder of this one, which is to compare VERSION with theirs.
func TestEarlierRelease(t *testing.T) {
	t.Parallel()
	for _, theirs := range []string{"parley local 1\n", "parley local 1 dynamodb\n"} {
		for _, store := range []string{storePebble, storeDynamo} {
			ours := dataVersion{layout, store, storedForms}.String() + "\n"
			if ours == theirs || !strings.HasPrefix(ours, "parley local ") {
				t.Errorf("they would take %q", ours)
			}
		}
	}
}
