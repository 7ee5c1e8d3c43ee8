package pebblelog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/goleak"

	"parley/events"
	"parley/events/logtest"
	"parley/events/pebbledb"
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

var clock = events.NewClock(time.Now, events.NewMarks(nil))

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
	e, err := events.New(id, room, "ada", region, events.MessagePosted{Text: events.Plain(text)})
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
		if _, err := Open(name, Options{}); !errors.Is(err, pebbledb.ErrInUse) {
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
	if _, err := Open(file, Options{}); err == nil || errors.Is(err, pebbledb.ErrInUse) {
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
		if _, err := Open(dir, Options{}); err == nil || errors.Is(err, pebbledb.ErrInUse) {
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
		_, err := l.Next(context.Background(), "1", 1, true)
		waiting <- err
	}()
	mustClose(t, l)
	mustClose(t, l)

	_, _, appendErr := l.Append(t.Context(), e)
	_, getErr := events.Get(t.Context(), l, e.Stream, e.ID)
	_, tailErr := l.Next(t.Context(), "0", 1, true)
	var readErr error
	for _, err := range l.Read(t.Context(), e.Stream, events.Range{}) {
		readErr = err
	}
	var scanErr error
	for _, err := range l.Scan(t.Context(), events.Part{Of: 1}, events.Key{}) {
		scanErr = err
	}
	for name, err := range map[string]error{
		"append": appendErr, "get": getErr, "read": readErr, "scan": scanErr, "tail": tailErr, "tail that waits": <-waiting,
		"replicate": l.Replicate(t.Context(), []events.Record{{Event: e, At: time.Now()}}),
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
	if _, err := l.Next(t.Context(), "0", 1, true); err != nil {
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

func TestSharedCache(t *testing.T) {
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	for range 3 {
		l := openTemp(t, Options{Cache: cache})
		e := newMessage(t, newRoom(t))
		mustAppend(t, l, e)
		if _, err := events.Get(t.Context(), l, e.Stream, e.ID); err != nil {
			t.Error(err)
		}
	}
}
