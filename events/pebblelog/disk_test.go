package pebblelog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"parley/events"
)

// TestCancelledWhileCommitting holds the disk back until the context of the appender has ended.
func TestCancelledWhileCommitting(t *testing.T) {
	disk := &gate{}
	l := mustOpen(t, "log", Options{FS: errorfs.Wrap(vfs.NewMem(), disk)})
	e := newMessage(t, newRoom(t))
	ctx, cancel := context.WithCancel(t.Context())
	reached, open := disk.shut()
	result := make(chan error)
	go func() {
		_, _, err := l.Append(ctx, e)
		result <- err
	}()
	<-reached
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !errors.Is(err, events.ErrUnknownOutcome) {
		t.Errorf("append: %v", err)
	}

	// The event is in the database, but not durable: nobody gets to see it.
	if l.Head() != 0 {
		t.Error("the tail shows an event that is not durable")
	}
	short, done := context.WithCancel(t.Context())
	done()
	if err := l.tail.waitDurable(short, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a read did not wait for the disk: %v", err)
	}
	got := make(chan error)
	go func() {
		_, err := events.Get(t.Context(), l, e.Stream, e.ID)
		got <- err
	}()
	go func() {
		_, repeat, err := l.Append(t.Context(), e)
		if err == nil && !repeat {
			err = errors.New("not a repeat")
		}
		got <- err
	}()
	close(open)
	for range 2 {
		if err := <-got; err != nil && !errors.Is(err, events.ErrNotFound) {
			t.Errorf("get or append again: %v", err)
		}
	}
	if _, err := events.Get(t.Context(), l, e.Stream, e.ID); err != nil {
		t.Errorf("get: %v", err)
	}
	mustClose(t, l)
}

// gate is a disk that can be held back or broken as it syncs the write-ahead log.
type gate struct {
	mu      sync.Mutex
	reached chan struct{}
	open    chan struct{}
	broken  error
}

func (g *gate) String() string { return "gate" }

// shut holds the next sync back until open is closed; reached is closed when it gets there.
func (g *gate) shut() (reached, open chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reached, g.open = make(chan struct{}), make(chan struct{})
	return g.reached, g.open
}

// fail breaks every sync from now on, or mends the disk.
func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = err
}

func (g *gate) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
	default:
		return nil
	}
	if !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	g.mu.Lock()
	reached, open := g.reached, g.open
	g.reached = nil
	g.mu.Unlock()
	if reached != nil {
		close(reached)
		<-open
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.broken
}

// TestDiskFails: appends of a commit that fails have an unknown outcome, later ones are refused,
// nothing that was not made durable is shown, and what was is there when the log is opened again.
func TestDiskFails(t *testing.T) {
	files, disk := vfs.NewCrashableMem(), &gate{}
	l := mustOpen(t, "log", Options{FS: errorfs.Wrap(files, disk)})
	room := newRoom(t)
	good := newMessage(t, room)
	mustAppend(t, l, good)

	if err := l.Err(); err != nil {
		t.Errorf("a log that works takes no appends: %v", err)
	}
	disk.fail(errors.New("disk is gone"))
	lost := newMessage(t, room)
	if _, _, err := l.Append(t.Context(), lost); !errors.Is(err, events.ErrUnknownOutcome) {
		t.Errorf("append on a broken disk: %v", err)
	}
	disk.fail(nil)

	if _, _, err := l.Append(t.Context(), newMessage(t, room)); !errors.Is(err, ErrStopped) || errors.Is(err, events.ErrUnknownOutcome) {
		t.Errorf("append to a stopped log: %v", err)
	}
	if err := l.Err(); !errors.Is(err, ErrStopped) || !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("a stopped log says of itself: %v", err)
	}
	if _, err := events.Get(t.Context(), l, good.Stream, good.ID); err != nil {
		t.Errorf("get what was durable: %v", err)
	}
	if _, err := events.Get(t.Context(), l, lost.Stream, lost.ID); !errors.Is(err, ErrStopped) {
		t.Errorf("get an event that is not durable: %v", err)
	}
	records, err := l.Next(t.Context(), "0", 100, true)
	if err != nil || len(records) != 1 || records[0].Event.ID != good.ID {
		t.Errorf("tail: %d records, error %v", len(records), err)
	}
	if _, err := l.Next(t.Context(), "1", 100, true); !errors.Is(err, ErrStopped) {
		t.Errorf("tail at its end: %v", err)
	}

	for _, err := range l.Read(t.Context(), room, events.Range{}) {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("read a stream with an event that is not durable: %v", err)
		}
	}

	crashed := files.CrashClone(vfs.CrashCloneCfg{})
	_ = l.Close() // reports the write-ahead log that could not be synced
	l = mustOpen(t, "log", Options{FS: crashed})
	defer mustClose(t, l)
	mustAppend(t, l, good)
	mustAppend(t, l, lost)
	checkTail(t, l)
	if l.Head() != 2 {
		t.Errorf("head is %d, want 2", l.Head())
	}
}

// TestDiskFailsUnderLoad breaks the disk under many appenders: each of them gets an error, and what was
// acknowledged before is what a crash leaves, and more at most of what has an unknown outcome.
func TestDiskFailsUnderLoad(t *testing.T) {
	files, disk := vfs.NewCrashableMem(), &gate{}
	l := mustOpen(t, "log", Options{FS: errorfs.Wrap(files, disk)})
	room := newRoom(t)
	var mu sync.Mutex
	outcome := map[events.ID]error{}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for {
				e := newMessage(t, room)
				_, _, err := l.Append(t.Context(), e)
				mu.Lock()
				outcome[e.ID] = err
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	for head := uint64(0); head < 200; head = l.Head() {
		if _, err := l.Next(t.Context(), formatPosition(head), 1, true); err != nil {
			t.Fatal(err)
		}
	}
	disk.fail(errors.New("disk is gone"))
	group.Wait()
	head := l.Head()
	_ = l.Close()

	l = mustOpen(t, "log", Options{FS: files.CrashClone(vfs.CrashCloneCfg{})})
	defer mustClose(t, l)
	there := map[events.ID]bool{}
	for _, id := range readIDs(t, l, room) {
		there[id] = true
		if err := outcome[id]; err != nil && !errors.Is(err, events.ErrUnknownOutcome) {
			t.Errorf("an event is there whose append said: %v", err)
		}
	}
	for id, err := range outcome {
		if err == nil && !there[id] {
			t.Error("an acknowledged event is gone")
		}
		if err != nil && !errors.Is(err, events.ErrUnknownOutcome) && !errors.Is(err, ErrStopped) {
			t.Errorf("append on a broken disk: %v", err)
		}
	}
	if l.Head() < head {
		t.Errorf("head was %d and is %d", head, l.Head())
	}
	checkTail(t, l)
}

// TestCorruptBlock damages a block on the disk: reads that need it fail, the process lives on, and
// other blocks are still read.
func TestCorruptBlock(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	room, other := newRoom(t), newRoom(t) // sorts after
	for range 200 {
		mustAppend(t, l, newMessage(t, room))
	}
	whole := newMessage(t, other)
	mustAppend(t, l, whole)
	if err := l.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)

	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables, error %v", len(tables), err)
	}
	file, err := os.OpenFile(tables[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("garbage"), 100); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	l = mustOpen(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	var last error
	for _, err := range l.Read(t.Context(), room, events.Range{}) {
		last = err
	}
	if !pebble.IsCorruptionError(last) {
		t.Errorf("read of a corrupt block: %v", last)
	}
	if _, err := events.Get(t.Context(), l, other, whole.ID); err != nil {
		t.Errorf("get from another block: %v", err)
	}
	mustClose(t, l)
	if !strings.Contains(out.String(), "corrupt") {
		t.Errorf("nothing was logged but %q", out.String())
	}
}

// TestSalvage reads everything of a damaged log that does not need what is damaged.
func TestSalvage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	room := newRoom(t)
	const n = 2000
	want := map[events.ID]bool{}
	for i := range n {
		e := newMessage(t, room)
		want[e.ID] = true
		if mustAppend(t, l, e); i%500 == 499 {
			if err := l.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustClose(t, l)
	salvage := func() (found map[events.ID]bool, lost int) {
		t.Helper()
		found = map[events.ID]bool{}
		lost, err := Salvage(t.Context(), dir, Options{}, func(batch []events.Record) error {
			for _, r := range batch {
				if !want[r.Event.ID] || found[r.Event.ID] {
					t.Errorf("%s was not appended, or comes again", r.Event.ID)
				}
				found[r.Event.ID] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found, lost
	}
	if found, lost := salvage(); len(found) != n || lost != 0 {
		t.Errorf("of a whole log %d of %d events are found, %d lost", len(found), n, lost)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%d tables, error %v", len(tables), err)
	}
	file, err := os.OpenFile(tables[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt([]byte("garbage"), 5000)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	found, lost := salvage()
	if len(found) < n/2 || lost == 0 || len(found)+lost != n {
		t.Errorf("of a damaged log %d of %d events are found, %d lost", len(found), n, lost)
	}
	l = mustOpen(t, dir, Options{}) // it was not changed
	mustClose(t, l)
}
