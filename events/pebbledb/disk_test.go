package pebbledb_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"parley/events"
	"parley/events/pebbledb"
)

// full is a disk that takes so many changes, and then none.
type full struct{ left atomic.Int64 }

func (*full) String() string { return "full" }

// MaybeError implements errorfs.Injector.
func (f *full) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || f.left.Add(-1) >= 0 {
		return nil
	}
	return syscall.ENOSPC
}

// TestFull fills the disk at every kind of change that a database makes: nothing panics or hangs, the database
// closes, and once there is space it has all that was durable.
func TestFull(t *testing.T) {
	t.Parallel()
	const batches = 400
	step := int64(1)
	for at := int64(0); at < 3000; at += step {
		files, disk := vfs.NewMem(), &full{}
		disk.left.Store(1 << 40)
		open := func(fs vfs.FS) (*pebble.DB, *pebbledb.Disk, error) {
			frozen := pebbledb.NewDisk(fs)
			db, err := pebbledb.Open("db", pebbledb.Options{FS: frozen, MemTable: 16 << 10}, nil)
			return db, frozen, err
		}
		db, frozen, err := open(errorfs.Wrap(files, disk))
		if err != nil {
			t.Fatal(err)
		}
		disk.left.Store(at)
		durable := -1
		for i := range batches {
			if err := db.Set(fmt.Appendf(nil, "%06d", i), make([]byte, 500), pebble.Sync); err != nil {
				t.Fatalf("after %d changes: %v", at, err)
			}
			if frozen.Err() == nil {
				durable = i
			}
		}
		if err := db.Close(); err != nil {
			t.Fatalf("after %d changes, close: %v", at, err)
		}
		failed := frozen.Err()
		if failed != nil && (!errors.Is(failed, syscall.ENOSPC) || !errors.Is(failed, events.ErrUnavailable)) {
			t.Errorf("after %d changes: %v", at, failed)
		}
		if failed != nil {
			if _, _, err := open(errorfs.Wrap(files, disk)); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("after %d changes, opened on a full disk: %v", at, err)
			}
		}
		if db, _, err = open(files); err != nil {
			t.Fatalf("after %d changes, opened again: %v", at, err)
		}
		for i := range durable + 1 {
			_, closer, err := db.Get(fmt.Appendf(nil, "%06d", i))
			if err != nil {
				t.Fatalf("after %d changes: batch %d of %d is lost: %v", at, i, durable, err)
			}
			_ = closer.Close()
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if failed == nil {
			return // it never got so far
		}
		step = 1 + at/12
	}
	t.Error("the disk was never large enough")
}

// TestFullUnderLoad fails while many write and tables are flushed and compacted.
func TestFullUnderLoad(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{20, 60, 200} {
		disk := &full{}
		disk.left.Store(1 << 40)
		frozen := pebbledb.NewDisk(errorfs.Wrap(vfs.NewMem(), disk))
		db, err := pebbledb.Open("db", pebbledb.Options{FS: frozen, MemTable: 16 << 10}, nil)
		if err != nil {
			t.Fatal(err)
		}
		disk.left.Store(at)
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for i := range 500 {
					if err := db.Set(fmt.Appendf(nil, "%d %06d", w, i), make([]byte, 300), pebble.NoSync); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		select {
		case <-frozen.Failed():
		default:
			t.Errorf("%d changes were enough", at)
		}
	}
}

// TestFrozen changes nothing on a frozen disk, in whatever way.
func TestFrozen(t *testing.T) {
	files := vfs.NewMem()
	disk := pebbledb.NewDisk(files)
	file, err := disk.Create("a", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write([]byte("before")); err != nil {
		t.Fatal(err)
	}
	disk.Fail(errors.New("the cause"))
	disk.Fail(errors.New("another"))
	if err := disk.Err(); !strings.Contains(err.Error(), "the cause") {
		t.Errorf("it is frozen because of %v", err)
	}
	_, writeErr := file.Write([]byte("after"))
	made, createErr := disk.Create("b", vfs.WriteCategoryUnspecified)
	if createErr != nil {
		t.Fatal(createErr)
	}
	_, lostErr := made.Write([]byte("lost"))
	_, reuseErr := disk.ReuseForWrite("a", "c", vfs.WriteCategoryUnspecified)
	for _, err := range []error{writeErr, file.Sync(), lostErr, made.Close(), reuseErr, disk.Rename("a", "d"), disk.Remove("a"), disk.RemoveAll("a"), disk.Link("a", "e")} {
		if err != nil {
			t.Errorf("a change fails: %v", err)
		}
	}
	names, err := files.List("")
	if err != nil || len(names) != 1 || names[0] != "a" {
		t.Errorf("there are %v, %v", names, err)
	}
	if info, err := files.Stat("a"); err != nil || info.Size() != int64(len("before")) {
		t.Errorf("the file is %v, %v", info, err)
	}
}
