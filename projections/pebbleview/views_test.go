package pebbleview

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"parley/events/pebbledb"
	"parley/projections"
	"parley/projections/viewtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is an open database with views.
type store struct {
	*Views
	db *pebble.DB
}

func (s *store) Close() error { return s.db.Close() }

// open opens a database that the test closes.
func open(t testing.TB, dir string, o pebbledb.Options) *store {
	t.Helper()
	db, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return &store{New(db, 'v', '/'), db}
}

// openStore opens a new database for the length of the test.
func openStore(t testing.TB, o pebbledb.Options) *store {
	t.Helper()
	s := open(t, t.TempDir(), o)
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func driver(o pebbledb.Options) viewtest.Driver {
	return viewtest.Driver{Open: func(t testing.TB, dir string) projections.Views { return open(t, dir, o) }}
}

func TestViews(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, driver(pebbledb.Options{}))
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	viewtest.RunRebuild(t, driver(pebbledb.Options{}))
}

// The smallest memtables make the suite go through flushes and compactions.
func TestViewsOnDisk(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, driver(pebbledb.Options{MemTable: 64 << 10}))
}

// Two sets of views in one database, and what others keep there, stay apart.
func TestPrefix(t *testing.T) {
	t.Parallel()
	s := openStore(t, pebbledb.Options{})
	a, b := New(s.db, 1), New(s.db, 2)
	for _, other := range []string{"\x00", "\x01", "\x02", "\x03", "\x01\x02"} {
		if err := s.db.Set([]byte(other), []byte("not a view"), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	key := projections.Key{Partition: "p", Sort: "s"}
	for version, v := range []*Views{a, b, a} {
		view := projections.View{Key: key, Version: int64(version / 2), Body: []byte{'0' + byte(version)}}
		if err := v.Save(t.Context(), view); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"2", "1"} {
		got, err := []*Views{a, b}[i].Query(t.Context(), "p", projections.Range{Limit: 10})
		if err != nil || len(got) != 1 || string(got[0].Body) != want {
			t.Errorf("views %d: got %v, error %v; want one with body %s", i, got, err, want)
		}
	}
}

func TestDamagedValue(t *testing.T) {
	t.Parallel()
	s := openStore(t, pebbledb.Options{})
	key := projections.Key{Partition: "timeline/secret-room", Sort: "secret-id"}
	if err := s.db.Set(appendKey(nil, s.prefix, key), []byte{0x80}, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	_, errGet := s.Get(t.Context(), key)
	_, errQuery := s.Query(t.Context(), key.Partition, projections.Range{Limit: 1})
	errSave := s.Save(t.Context(), projections.View{Key: key})
	const want = "read a view of timeline: stored value is damaged"
	for _, err := range []error{errGet, errQuery, errSave} {
		if !errors.Is(err, errDamaged) || err.Error() != want {
			t.Errorf("got error %q, want %q", err, want)
		}
	}
}

func TestKindHidesNames(t *testing.T) {
	t.Parallel()
	for partition, want := range map[string]string{"member/of/ada": "member", "ada": "unknown kind", "": "unknown kind"} {
		if got := kind(partition); got != want {
			t.Errorf("%q: got %q, want %q", partition, got, want)
		}
	}
}

func TestOpenInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, pebbledb.Options{})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, link} {
		if _, err := Open(name, pebbledb.Options{}); !errors.Is(err, pebbledb.ErrInUse) {
			t.Errorf("got error %v, want %v", err, pebbledb.ErrInUse)
		}
	}
	closeStore(t, s)
	closeStore(t, open(t, dir, pebbledb.Options{})) // the lock went with the database
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	files := vfs.NewMem()
	if _, err := files.Create("file", vfs.WriteCategoryUnspecified); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("file/below", pebbledb.Options{FS: files}); err == nil || errors.Is(err, pebbledb.ErrInUse) {
		t.Errorf("got error %v, want one that is not %v", err, pebbledb.ErrInUse)
	}
}
