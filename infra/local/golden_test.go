package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"parley/events/goldentest"
	"parley/events/pebbledb"
	"parley/projections/pebbleview"
	"parley/projections/viewtest"
)

// rowsOf returns the rows of a database whose keys begin with a byte.
func rowsOf(t *testing.T, db *pebble.DB, prefix byte) (rows []goldentest.Pair) {
	t.Helper()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		t.Fatal(err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		rows = append(rows, goldentest.Pair{Key: append([]byte(nil), it.Key()...), Value: append([]byte(nil), it.Value()...)})
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// openRows opens a database in memory that holds rows.
func openRows(t *testing.T, rows ...goldentest.Pair) *pebble.DB {
	t.Helper()
	db, err := pebble.Open("golden", &pebble.Options{FS: vfs.NewMem(), Logger: noLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, row := range rows {
		if err := db.Set(row.Key, row.Value, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// The archive of a bus is what it always was, and what was archived is delivered as it was.
func TestGoldenArchive(t *testing.T) {
	state := goldentest.Pair{Key: []byte("b\x00"), Value: []byte("\x01" + "16 random bytes\xff" + "\x00\x00\x00\x00\x00\x00\x00\x03")}
	db := openRows(t, state)
	b, err := openBus(db, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, 1, 3)
	folder := goldentest.Open(t, "archive")
	var rows, began []goldentest.Pair
	for _, row := range rowsOf(t, db, 'b') {
		if string(row.Key) == string(busBeganKey) {
			began = append(began, row)
		} else {
			rows = append(rows, row)
		}
	}
	folder.Check("began.jsonl", goldentest.Lines(t, began...))
	golden := goldentest.ReadLines[goldentest.Pair](t, folder.Check("rows.jsonl", goldentest.Lines(t, rows...)))

	db = openRows(t, golden...)
	if b, err = openBus(db, nil, 100); err != nil {
		t.Fatal(err)
	}
	s := subscribe(t, b, "&after=3", "")
	var delivered []goldentest.Pair
	for range 3 {
		e := s.next()
		delivered = append(delivered, goldentest.Pair{Key: []byte(e.event + " " + e.id), Value: []byte(e.data)})
	}
	folder.Check("delivered.jsonl", goldentest.Lines(t, delivered...))
}

// What a region remembers is in the data folder where it always was, under the names it always had.
func TestGoldenDataFolder(t *testing.T) {
	set := testSettings(t.TempDir())
	set.regions = []string{"one", "two"}
	r := serve(t, set)
	ada := r.at(1, "ada")
	room := ada.create("golden")
	ada.post(room, "hello")
	r.agree(room, "ada", 1)
	r.halt()
	db, err := pebbleview.Open(filepath.Join(set.data, "one", "views"), pebbledb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var marks []goldentest.Pair
	for _, row := range rowsOf(t, db, 'm') {
		if string(row.Key) == "m"+lanesCheckpoint {
			marks = append(marks, row)
			continue
		}
		row.Value = regexp.MustCompile(`[A-Z2-7]{26}|[0-9]+`).ReplaceAllFunc(row.Value, func(b []byte) []byte {
			if len(b) == 26 {
				return []byte("IDENTITY")
			}
			return []byte("1")
		})
		row.Value = bytes.ReplaceAll(row.Value, []byte(`"sequence":""`), []byte(`"sequence":"1","number":"1"`)) // nothing has reached the lane yet
		marks = append(marks, row)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	folder := goldentest.Open(t, "data")
	folder.Read("marks.jsonl", func() []byte { return nil })       // of a former release, see [TestGoldenMarks]
	folder.Read("checkpoints.jsonl", func() []byte { return nil }) // of a former release, see [TestFormerCheckpoint]
	folder.Check("lanes.jsonl", goldentest.Lines(t, marks...))
	var files []goldentest.Pair
	err = fs.WalkDir(os.DirFS(set.data), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if strings.HasSuffix(path, "/log") || strings.HasSuffix(path, "/views") || strings.HasSuffix(path, "/keys") {
				files = append(files, goldentest.Pair{Key: []byte(path), Value: []byte("folder")})
				return fs.SkipDir
			}
			return nil
		}
		content, err := os.ReadFile(filepath.Join(set.data, path))
		for _, secret := range []string{`^parley local 2 pebble [0-9]+\n$`, `^[0-9a-f]{64}\n$`, `^[A-Z2-7]{26}\n$`, `(?s)-----BEGIN PRIVATE KEY-----\n.*-----END PRIVATE KEY-----\n`} {
			if regexp.MustCompile(secret).Match(content) {
				content = []byte(secret)
			}
		}
		files = append(files, goldentest.Pair{Key: []byte(path), Value: content})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	folder.Read("files.jsonl", func() []byte { return nil }) // of a former release, see [TestDowngrade]
	folder.Check("folder.jsonl", goldentest.Lines(t, files...))
}

// What a flow keeps of how far it has come is read as what it was, on both stores: of a former release,
// in flow.jsonl and views.jsonl, as a checkpoint without logs.
func TestGoldenMarks(t *testing.T) {
	folder := goldentest.Open(t, "marks")
	check := func(golden []byte, want replicatorCheckpoint) {
		t.Helper()
		var got replicatorCheckpoint
		if err := json.Unmarshal(golden, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a golden checkpoint is decoded differently (-want +got):\n%s", diff)
		}
	}
	want := replicatorCheckpoint{Sequence: "7", Logs: map[string]string{"one": "ONE", "two": "TWO"}}
	golden := folder.Check("logs.jsonl", goldentest.Lines(t, want))
	check(golden, want)
	former := folder.Read("flow.jsonl", func() []byte { return nil })
	check(former, replicatorCheckpoint{Sequence: "7"})
	views := viewtest.NewModel()
	if err := newViewCheckpoints(views).save(t.Context(), "replicate/two", string(bytes.TrimSpace(former))); err != nil {
		t.Fatal(err)
	}
	folder.Check("views.jsonl", goldentest.Lines(t, viewtest.Dump(t, views, "")...))
}
