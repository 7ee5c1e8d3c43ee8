package keys_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"parley/events"
	"parley/events/goldentest"
	"parley/events/keys"
	"parley/events/keys/filekeys"
)

// What was sealed with a user's key, and the key wrapped with the root key, opens for good; and the
// same command is still sealed to the same bytes.
func TestGoldenSealed(t *testing.T) {
	folder, dir := goldentest.Open(t, "sealed"), t.TempDir()
	store, err := filekeys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ring := keys.NewRing(store, root(t, 7), nil)
	given := []events.Event{
		goldenEvent(t, room, 1, events.MessagePosted{Text: events.Plain("hello <world> 👩‍🚀")}),
		goldenEvent(t, events.UserStream("ada"), 2, events.UserProfileSet{Name: events.Plain("Ada"), About: events.Plain("counts")}),
	}
	// The one key of the golden file takes the place of the key that this run would make.
	files := folder.Read("key.jsonl", func() []byte {
		seal(t, ring, given[0])
		return goldentest.Lines(t, filesIn(t, dir)...)
	})
	for _, file := range goldentest.ReadLines[goldentest.Pair](t, files) {
		name := filepath.Join(dir, filepath.FromSlash(string(file.Key)))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, file.Value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var sealed []goldentest.Pair
	for _, e := range given {
		sealed = append(sealed, goldentest.Pair{Key: []byte(e.ID.String()), Value: goldentest.Bytes(seal(t, ring, e).Data)})
	}
	for i, line := range goldentest.ReadLines[goldentest.Pair](t, folder.Check("sealed.jsonl", goldentest.Lines(t, sealed...))) {
		form := events.Encode(seal(t, ring, given[i]))
		form.Data = string(line.Value)
		stored, err := events.Decode(form)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := ring.OpenEvent(t.Context(), stored)
		if err != nil || !events.Same(opened, given[i]) {
			t.Errorf("golden content opens as %s, error %v", opened.Data, err)
		}
	}
}

// goldenEvent is an event whose id is the same in every release.
func goldenEvent(t *testing.T, stream events.Stream, n byte, p events.Payload) events.Event {
	t.Helper()
	id := events.ID{0x01, 0x95, 0x79, 0xcf, 0xc7, 0x58, 0x0a, 'p', 'a', 'r', 'l', 'e', 'y', 0x0d, 0x0e, n}
	e, err := events.New(id, stream, "ada", "eu-central-1", p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func filesIn(t *testing.T, dir string) (files []goldentest.Pair) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		files = append(files, goldentest.Pair{Key: []byte(path), Value: bytes.Clone(content)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
