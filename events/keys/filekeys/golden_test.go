package filekeys_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/events/goldentest"
	"parley/events/keys"
	"parley/events/keys/filekeys"
)

// The files of keys have the names and the content that they always had.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	s, err := filekeys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]keys.Keys{
		"ada": {Wrapped: []keys.Wrapped{{ID: keys.ID{1, 2, 0xff}, Bytes: []byte("wrapped \x00 one")}, {ID: keys.ID{2}, Bytes: []byte("two")}}},
		"Eve": {Erased: true},
	}
	for user, k := range want {
		for _, one := range k.Wrapped {
			err = s.Add(t.Context(), user, one)
		}
		if k.Erased {
			err = s.Erase(t.Context(), user)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var files []goldentest.Pair
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		files = append(files, goldentest.Pair{Key: []byte(path), Value: content})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	golden := goldentest.Open(t, "files").Check("files.jsonl", goldentest.Lines(t, files...))

	dir = t.TempDir()
	for _, file := range goldentest.ReadLines[goldentest.Pair](t, golden) {
		name := filepath.Join(dir, string(file.Key))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, file.Value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = filekeys.Open(dir); err != nil {
		t.Fatal(err)
	}
	for user, err := range s.Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[user], got); diff != "" {
			t.Errorf("golden keys of %s are read differently (-want +got):\n%s", user, diff)
		}
		delete(want, user)
	}
	if len(want) > 0 {
		t.Errorf("golden keys are not found: %v", want)
	}
}
