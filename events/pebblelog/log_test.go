package pebblelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"parley/events"
	"parley/events/logtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		appendUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

func TestContract(t *testing.T) {
	logtest.Run(t, logtest.Driver{Open: func(t testing.TB, dir string) events.Log {
		return mustOpen(t, dir, Options{})
	}})
}

func mustOpen(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// openTemp opens a log for the length of a test.
func openTemp(t testing.TB, o Options) *Log {
	t.Helper()
	l := mustOpen(t, t.TempDir(), o)
	t.Cleanup(func() { mustClose(t, l) })
	return l
}

var clock = events.NewClock(time.Now)

// fatal is the part of a test that helpers need: of [testing.T] and of rapid's.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newID(t fatal) events.ID {
	t.Helper()
	id, err := clock.Mint("ada")
	if err != nil {
		t.Fatalf("mint an id: %v", err)
	}
	return id
}

func newRoom(t fatal) events.Stream { return events.RoomStream(newID(t).String()) }

func message(t fatal, room events.Stream, id events.ID, region, text string) events.Event {
	t.Helper()
	e, err := events.New(id, room, "ada", region, events.MessagePosted{Text: events.Content(text)})
	if err != nil {
		t.Fatalf("make a message: %v", err)
	}
	return e
}

func newMessage(t fatal, room events.Stream) events.Event {
	t.Helper()
	return message(t, room, newID(t), "here", "hello")
}

func mustAppend(t fatal, l *Log, e events.Event) {
	t.Helper()
	if _, _, err := l.Append(context.Background(), e); err != nil {
		t.Fatalf("append: %v", err)
	}
}

func TestOpenTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "down")
	l := mustOpen(t, dir, Options{})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, dir + "/.", link} {
		if _, err := Open(name, Options{}); !errors.Is(err, ErrInUse) {
			t.Errorf("open a second time: %v", err)
		}
	}
	mustClose(t, l)
	mustClose(t, mustOpen(t, link, Options{}))
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("open a file: %v", err)
	}

	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, Options{}))
	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifest: %v", err)
	}
	if err := os.WriteFile(manifests[0], []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lock is given back
		if _, err := Open(dir, Options{}); err == nil || errors.Is(err, ErrInUse) {
			t.Errorf("open a damaged directory: %v", err)
		}
	}
}

func TestClosed(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	e := newMessage(t, newRoom(t))
	mustAppend(t, l, e)
	waiting := make(chan error)
	go func() {
		_, err := l.Tail(context.Background(), 1, 1)
		waiting <- err
	}()
	mustClose(t, l)
	mustClose(t, l)

	_, _, appendErr := l.Append(t.Context(), e)
	_, getErr := l.Get(t.Context(), e.Stream, e.ID)
	_, tailErr := l.Tail(t.Context(), 0, 1)
	var readErr error
	for _, err := range l.Read(t.Context(), e.Stream, events.Range{}) {
		readErr = err
	}
	for name, err := range map[string]error{
		"append": appendErr, "get": getErr, "read": readErr, "tail": tailErr, "tail that waits": <-waiting,
		"replicate": l.Replicate(t.Context(), []Record{{Event: e, At: time.Now()}}),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

// TestCloseUnderLoad: what was acknowledged is there, what was refused is not, and nothing hangs.
func TestCloseUnderLoad(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	room := newRoom(t)
	var mu sync.Mutex
	acknowledged := map[events.ID]bool{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for {
				e := newMessage(t, room)
				_, _, err := l.Append(context.Background(), e)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				acknowledged[e.ID] = true
				mu.Unlock()
			}
		})
	}
	if _, err := l.Tail(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	group.Wait()

	l = mustOpen(t, dir, Options{})
	defer mustClose(t, l)
	if got := readIDs(t, l, room); len(got) != len(acknowledged) {
		t.Errorf("%d events are there, %d were acknowledged", len(got), len(acknowledged))
	}
	checkTail(t, l)
}

func readIDs(t fatal, l *Log, stream events.Stream) []events.ID {
	t.Helper()
	var ids []events.ID
	for e, err := range l.Read(context.Background(), stream, events.Range{}) {
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

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
	if err := l.tail.settle(short, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a read did not wait for the disk: %v", err)
	}
	got := make(chan error)
	go func() {
		_, err := l.Get(t.Context(), e.Stream, e.ID)
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
	if _, err := l.Get(t.Context(), e.Stream, e.ID); err != nil {
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

	disk.fail(errors.New("disk is gone"))
	lost := newMessage(t, room)
	var mu sync.Mutex
	unknown := 0
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			e := lost
			if i > 0 {
				e = newMessage(t, room)
			}
			_, _, err := l.Append(t.Context(), e)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, events.ErrUnknownOutcome):
				unknown++
			case !errors.Is(err, ErrStopped):
				t.Errorf("append on a broken disk: %v", err)
			}
		})
	}
	group.Wait()
	if unknown == 0 {
		t.Error("no append had an unknown outcome")
	}
	disk.fail(nil)

	if _, _, err := l.Append(t.Context(), newMessage(t, room)); !errors.Is(err, ErrStopped) || errors.Is(err, events.ErrUnknownOutcome) {
		t.Errorf("append to a stopped log: %v", err)
	}
	if _, err := l.Get(t.Context(), good.Stream, good.ID); err != nil {
		t.Errorf("get what was durable: %v", err)
	}
	if _, err := l.Get(t.Context(), lost.Stream, lost.ID); err == nil {
		t.Error("an event that is not durable is shown")
	}
	records, err := l.Tail(t.Context(), 0, 100)
	if err != nil || len(records) != 1 || records[0].Event.ID != good.ID {
		t.Errorf("tail: %d records, error %v", len(records), err)
	}
	if _, err := l.Tail(t.Context(), 1, 100); !errors.Is(err, ErrStopped) {
		t.Errorf("tail at its end: %v", err)
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

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	l := logger{slog.New(slog.NewTextHandler(&out, nil))}
	l.Infof("chatter")
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
	l.Errorf("trouble %d", 1)
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "the end 2") {
			t.Errorf("fatal error panics with %v", p)
		}
		if !strings.Contains(out.String(), "trouble 1") || !strings.Contains(out.String(), "the end 2") {
			t.Errorf("logged %s", out.String())
		}
	}()
	l.Fatalf("the end %d", 2)
}

func TestSharedCache(t *testing.T) {
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	for range 3 {
		l := openTemp(t, Options{Cache: cache})
		e := newMessage(t, newRoom(t))
		mustAppend(t, l, e)
		if _, err := l.Get(t.Context(), e.Stream, e.ID); err != nil {
			t.Error(err)
		}
	}
}
