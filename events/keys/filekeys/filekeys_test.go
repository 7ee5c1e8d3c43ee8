package filekeys_test

import (
	"os"
	"path/filepath"
	"testing"

	"parley/events/keys"
	"parley/events/keys/filekeys"
	"parley/events/keys/keystest"
)

func TestStore(t *testing.T) {
	dirs := map[keys.Store]string{}
	open := func(t *testing.T, dir string) keys.Store {
		t.Helper()
		s, err := filekeys.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		dirs[s] = dir
		return s
	}
	keystest.Run(t,
		func(t *testing.T) keys.Store { return open(t, filepath.Join(t.TempDir(), "keys")) },
		func(t *testing.T, s keys.Store) keys.Store { return open(t, dirs[s]) })
}

// A file that a crash left incomplete is not a key, and Erase removes it.
func TestHalfAFile(t *testing.T) {
	dir := t.TempDir()
	s, err := filekeys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), "ada", keys.Wrapped{ID: keys.ID{1}, Bytes: []byte("key")}); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
	if err != nil || len(made) != 1 {
		t.Fatalf("files: %v, %v", made, err)
	}
	left := filepath.Join(filepath.Dir(made[0]), ".new-123")
	if err := os.WriteFile(left, []byte("ke"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(t.Context(), "ada"); err != nil || len(got.Wrapped) != 1 {
		t.Fatalf("Load: %d keys, %v", len(got.Wrapped), err)
	}
	if err := s.Erase(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{made[0], left} {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", filepath.Base(name), err)
		}
	}
}

// Errors do not contain the path, which names the user.
func TestErrorsNameNobody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s, err := filekeys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	err = s.Add(t.Context(), "ada", keys.Wrapped{ID: keys.ID{1}})
	if err == nil || err.Error() != "add a key: not a directory" {
		t.Errorf("Add: %v", err)
	}
}
