package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faultyDisk is the disk of a region, of which one folder can fail.
type faultyDisk struct {
	mu     sync.Mutex
	folder string        // "log" or "views"; "" while the disk is well
	err    error         // of every change of the folder
	reads  bool          // reads fail, too
	slow   chan struct{} // changes wait until it is closed
}

func (*faultyDisk) String() string { return "faulty disk" }

// MaybeError implements [errorfs.Injector].
func (d *faultyDisk) MaybeError(op errorfs.Op) error {
	d.mu.Lock()
	folder, err, reads, slow := d.folder, d.err, d.reads, d.slow
	d.mu.Unlock()
	if folder == "" || !strings.Contains(op.Path, "/"+folder+"/") && filepath.Base(op.Path) != ".probe" {
		return nil
	}
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		if reads {
			return err
		}
		return nil
	}
	if slow != nil {
		<-slow
	}
	return err
}

// set makes the disk fail, or work again if folder is "".
func (d *faultyDisk) set(folder string, err error, reads bool, slow chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.folder, d.err, d.reads, d.slow = folder, err, reads, slow
}

// faultWorld is three regions, of which the first has a faulty disk. One user writes in the first region, one
// in the second.
type faultWorld struct {
	*running
	t    *testing.T
	set  settings
	disk *faultyDisk
	ada  *client // of the first region
	bob  *client // of the second
	room string
	said int // messages
}

func newFaultWorld(t *testing.T) *faultWorld {
	w := &faultWorld{t: t, set: testSettings(t.TempDir()), disk: &faultyDisk{}}
	w.set.port = freePorts(t, 1+len(w.set.regions))
	w.set.files = func(region string) vfs.FS {
		if region == "one" {
			return errorfs.Wrap(vfs.Default, w.disk)
		}
		return vfs.Default
	}
	w.running = serve(t, w.set)
	w.ada, w.bob = w.at(1, "ada"), w.at(2, "bob")
	w.room = w.ada.create("Faults")
	w.bob.join(w.room)
	w.ada.mint() // asks for the mark while the region is well
	w.bob.mint()
	return w
}

// talk posts a message in each region. The second region, which has no fault, accepts it at once. The first one
// accepts it or answers 503; it is sent again until it is accepted, after heal.
func (w *faultWorld) talk(name string, heal func()) {
	w.t.Helper()
	path, text := "/v1/rooms/"+w.room+"/messages/"+w.ada.mint(), map[string]string{"text": name}
	answered := make(chan int, 1)
	go func() {
		status, _, _ := w.ada.try("PUT", path, text)
		answered <- status
	}()
	for range 3 { // enough to find that the first region does not hold up the others
		if status, _, body := w.bob.try("PUT", "/v1/rooms/"+w.room+"/messages/"+w.bob.mint(), text); status != http.StatusCreated {
			w.t.Errorf("%s: a region without a fault answers %d %s", name, status, body)
		}
	}
	for _, reader := range []*client{w.ada, w.bob} {
		if status, _, body := reader.try("GET", "/v1/rooms/"+w.room+"/messages", nil); status != 200 && (reader == w.bob || status != 503 && status != 404 && status != 0) {
			w.t.Errorf("%s: a page is answered with %d %s", name, status, body)
		}
	}
	heal()
	if status := <-answered; status/100 != 2 && status != http.StatusServiceUnavailable {
		w.t.Errorf("%s: the region with the fault answers %d", name, status)
	}
	w.ada.soon("PUT", path, text)
	w.said += 4
	w.well(name)
	if w.agree(w.room, "ada", w.said); w.t.Failed() {
		w.t.Fatalf("%s", name)
	}
}

// well waits until all regions are healthy.
func (w *faultWorld) well(name string) {
	w.t.Helper()
	for i := range w.set.regions {
		if !eventually(time.Minute, func() bool { status, _, _ := w.at(1+i, "ada").try("GET", "/health", nil); return status == 200 }) {
			_, _, text := w.at(1+i, "ada").try("GET", "/health", nil)
			w.t.Fatalf("%s: region %d stays down: %s", name, 1+i, text)
		}
	}
}

// settled checks what the faults have left: nothing is parked, and the views of all regions are what their logs say.
func (w *faultWorld) settled() {
	w.t.Helper()
	w.quick()
	for i, region := range w.set.regions {
		op := newOperator(w.t, w.url(0), w.url(1+i))
		if parked := op.must("GET", "/v1/ops/parked", nil)["parked"].([]any); len(parked) > 0 {
			w.t.Errorf("%s has parked %v", region, parked)
		}
		if result := op.done(op.start(map[string]any{"kind": "audit"})); result["differ"] != 0.0 {
			w.t.Errorf("the audit of %s: %v", region, result)
		}
	}
}

func (w *faultWorld) folder(name string) string { return filepath.Join(w.set.data, "one", name) }

// flip damages all files of a folder.
func (w *faultWorld) flip(folder string) {
	w.t.Helper()
	err := filepath.WalkDir(w.folder(folder), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".sst", ".log", ""}, filepath.Ext(path)) && !strings.Contains(path, "MANIFEST") || d.Name() == "LOCK" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := len(content) / 3; i < len(content); i += 97 {
			content[i] ^= 0x55
		}
		return os.WriteFile(path, content, 0o600)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// fault begins a fault of a folder of the first region, and returns what ends it.
func (w *faultWorld) fault(kind, folder string) (heal func()) {
	well := func() { w.disk.set("", nil, false, nil) }
	if folder == "keys" && kind != "gone" && kind != "flipped" { // its files are not Pebble's
		dir := w.folder(folder)
		must(w.t, errors.Join(os.Rename(dir, dir+".well"), os.WriteFile(dir, nil, 0o600)))
		return func() { must(w.t, errors.Join(os.Remove(dir), os.Rename(dir+".well", dir))) }
	}
	switch kind {
	case "full":
		w.disk.set(folder, syscall.ENOSPC, false, nil)
	case "read-only":
		w.disk.set(folder, syscall.EROFS, false, nil)
	case "away":
		w.disk.set(folder, syscall.EIO, true, nil)
	case "slow":
		open := make(chan struct{})
		w.disk.set(folder, nil, false, open)
		return func() { well(); close(open) }
	case "gone":
		if err := os.RemoveAll(w.folder(folder)); err != nil {
			w.t.Fatal(err)
		}
	case "flipped":
		w.flip(folder)
	}
	return well
}

// reopen makes the first region find what happened to its files, as a crash of it would.
func (w *faultWorld) reopen() {
	in := w.cluster.region("one").now.Load()
	in.disk.Fail(errors.New("the test restarts the region"))
	<-in.ctx.Done()
}

var (
	faultKinds = []string{"full", "read-only", "away", "slow", "gone", "flipped"}
	// The bus and the checkpoints are in the database of the views.
	faultFolders = []string{"log", "views", "keys"}
)

// TestFaultsRunning lets each store of a running region fail in each way. The other regions notice nothing, the
// region never answers what is not true, and continues by itself once the fault is over.
func TestFaultsRunning(t *testing.T) {
	t.Parallel()
	for _, folder := range faultFolders {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			w := newFaultWorld(t)
			for _, kind := range faultKinds {
				name := fmt.Sprint(folder, " ", kind, ", running")
				heal := w.fault(kind, folder)
				if kind == "gone" || kind == "flipped" || folder == "keys" {
					w.reopen() // to find it, or to forget what is cached
				}
				w.talk(name, heal)
			}
			w.settled()
		})
	}
}

// TestFaultsStarting lets each store of a region fail in each way before the start. The other regions start.
func TestFaultsStarting(t *testing.T) {
	t.Parallel()
	for _, folder := range faultFolders {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			w := newFaultWorld(t)
			for _, kind := range faultKinds {
				if kind == "slow" && folder != "keys" {
					continue // the start waits for the disk
				}
				w.talk("before", func() {})
				w.halt()
				heal := w.fault(kind, folder)
				w.running = serve(t, w.set)
				w.talk(fmt.Sprint(folder, " ", kind, ", starting"), heal)
			}
			w.settled()
		})
	}
}

// TestOnlyCopy keeps what no other region has when a log is damaged: what is readable is copied to the new log, and
// the other regions get it.
func TestOnlyCopy(t *testing.T) {
	t.Parallel()
	w := newFaultWorld(t)
	w.talk("before", func() {})
	w.state("one", stateIsolated)
	const alone = 600
	for range alone {
		w.ada.must("PUT", "/v1/rooms/"+w.room+"/messages/"+w.ada.mint(), map[string]string{"text": strings.Repeat("only here ", 30)})
	}
	w.halt()
	w.running = serve(t, w.set) // writes a table
	w.state("one", stateIsolated)
	w.halt()
	tables, err := filepath.Glob(filepath.Join(w.folder("log"), "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	for _, name := range tables {
		content, err := os.ReadFile(name)
		must(t, err)
		content[len(content)/2] ^= 0x55
		must(t, os.WriteFile(name, content, 0o600))
	}
	w.running = serve(t, w.set)
	two := w.at(2, "bob")
	count := 0
	if !eventually(time.Minute, func() bool {
		_, _, _ = w.at(1, "ada").try("GET", "/v1/rooms/"+w.room+"/messages?limit=200", nil) // finds the damage
		was := count
		count = len(two.history(w.room)) - w.said
		return count > alone/2 && count == was
	}) {
		t.Errorf("of %d messages that one region alone had, %d are left", alone, count)
	}
	t.Logf("of %d messages that one region alone had, %d are left", alone, count)
	w.well("damaged")
}

// TestOneRegion: the log of a single region is never set aside; the program says what to do.
func TestOneRegion(t *testing.T) {
	t.Parallel()
	set := testSettings(t.TempDir())
	set.regions = []string{"one"}
	w := &faultWorld{t: t, set: set, running: serve(t, set)}
	room := w.at(1, "ada").create("Alone")
	w.at(1, "ada").post(room, "hello")
	w.halt()
	views, err := os.ReadDir(w.folder("views"))
	if err != nil || len(views) == 0 {
		t.Fatal(err)
	}
	w.flip("views")
	w.running = serve(t, set)
	w.well("damaged views")
	w.agree(room, "ada", 1)
	w.halt()
	w.flip("log")
	if _, _, err := open(t.Context(), set, quiet, io.Discard); err == nil || !strings.Contains(err.Error(), "restore the folder log from a backup") {
		t.Errorf("a damaged log: %v", err)
	}
	if _, err := os.Stat(w.folder("log")); err != nil {
		t.Error(err)
	}
}

// TestNoRegionOpens ends in words if no region can be opened, and names each.
func TestNoRegionOpens(t *testing.T) {
	t.Parallel()
	set := testSettings(t.TempDir())
	set.files = func(string) vfs.FS { return errorfs.Wrap(vfs.Default, errorfs.ErrInjected.If(errorfs.Writes)) }
	_, _, err := open(t.Context(), set, quiet, io.Discard)
	for _, region := range set.regions {
		if err == nil || !strings.Contains(err.Error(), "open region "+region) {
			t.Errorf("%s: %v", region, err)
		}
	}
}

// TestAllDisksFull answers 503 everywhere while all disks are full, and continues without a restart.
func TestAllDisksFull(t *testing.T) {
	t.Parallel()
	disk, set := &faultyDisk{}, testSettings(t.TempDir())
	set.files = func(string) vfs.FS { return errorfs.Wrap(vfs.Default, disk) }
	s := serve(t, set)
	ada := s.at(0, "ada")
	room := ada.create("Full")
	ada.mint()
	for i := range set.regions { // any may answer, until it is closed
		s.at(1+i, "ada").soon("GET", "/v1/rooms/"+room, nil)
	}
	disk.set("log", syscall.ENOSPC, false, nil)
	path := "/v1/rooms/" + room + "/messages/" + ada.mint()
	if !eventually(time.Minute, func() bool {
		status, _, text := ada.try("PUT", path, map[string]string{"text": "hello"})
		if status != 503 {
			t.Fatalf("%d %s", status, text)
		}
		return strings.Contains(string(text), "no_healthy_region")
	}) {
		t.Error("a region counts as healthy")
	}
	for _, region := range set.regions {
		if closed, _ := ada.must("GET", "/local/regions/"+region, nil)["closed"].(string); !strings.Contains(closed, "no space left") {
			t.Errorf("%s is closed because of %q", region, closed)
		}
		if text := s.welcome(); !strings.Contains(text, "WARNING: "+region+" is closed") {
			t.Errorf("the start-up text says nothing of %s", region)
		}
	}
	disk.set("", nil, false, nil)
	ada.soon("PUT", path, map[string]string{"text": "hello"})
	s.agree(room, "ada", 1)
}
