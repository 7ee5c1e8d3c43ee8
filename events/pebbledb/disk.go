package pebbledb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
)

// Disk is a file system that fails as a power failure does. The first change that fails, because the disk
// is full, read-only, gone or broken, freezes it: from then on no change reaches the disk, and every
// change seems to succeed. So a database never sees the failure, which it could only answer with a panic.
// It runs on in memory until it is closed, and what is on the disk is what a crash would have left: Open
// recovers from it once the disk works again.
//
// Because changes seem to succeed, nothing is durable unless [Disk.Err] returns nil after the sync.
//
// Several databases that belong together may share a Disk. Make one with [NewDisk].
type Disk struct {
	vfs.FS
	failed chan struct{} // closed once err is set

	mu  sync.RWMutex
	err error
}

// NewDisk returns a Disk on a file system, the machine's if it is nil.
func NewDisk(files vfs.FS) *Disk {
	if files == nil {
		files = vfs.Default
	}
	return &Disk{FS: files, failed: make(chan struct{})}
}

// diskOf returns the file system as a Disk.
func diskOf(files vfs.FS) *Disk {
	if d, is := files.(*Disk); is {
		return d
	}
	return NewDisk(files)
}

// Err returns why the disk is frozen, nil if it is not. The error wraps [events.ErrUnavailable].
func (d *Disk) Err() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.err
}

// Failed returns a channel that is closed when the disk is frozen.
func (d *Disk) Failed() <-chan struct{} { return d.failed }

// Fail freezes the disk for a reason of the caller's. The first reason counts.
func (d *Disk) Fail(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = events.Unavailable(fmt.Errorf("the disk has failed: %w", why))
		close(d.failed)
	}
}

// change makes a change, unless the disk is frozen. It reports whether the change was made.
func (d *Disk) change(make func() error) bool {
	if d.Err() != nil {
		return false
	}
	if err := make(); err != nil {
		d.Fail(err)
		return false
	}
	return true
}

// create opens a file that may be written. On a frozen disk it is one that discards what is written.
func (d *Disk) create(name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	if !d.change(func() (err error) { file, err = open(); return err }) {
		return &discard{name: filepath.Base(name)}, nil
	}
	return &diskFile{file, d}, nil
}

// Create implements [vfs.FS].
func (d *Disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.create(name, func() (vfs.File, error) { return d.FS.Create(name, category) })
}

// OpenReadWrite implements [vfs.FS].
func (d *Disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	return d.create(name, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, category, options...) })
}

// ReuseForWrite implements [vfs.FS].
func (d *Disk) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.create(to, func() (vfs.File, error) { return d.FS.ReuseForWrite(from, to, category) })
}

// OpenDir implements [vfs.FS].
func (d *Disk) OpenDir(name string) (vfs.File, error) {
	return d.create(name, func() (vfs.File, error) { return d.FS.OpenDir(name) })
}

// Link implements [vfs.FS].
func (d *Disk) Link(from, to string) error {
	d.change(func() error { return d.FS.Link(from, to) })
	return nil
}

// Rename implements [vfs.FS].
func (d *Disk) Rename(from, to string) error {
	d.change(func() error { return d.FS.Rename(from, to) })
	return nil
}

// Remove implements [vfs.FS]. That a file cannot be removed freezes nothing: it is removed by the next
// start.
func (d *Disk) Remove(name string) error {
	if d.Err() != nil {
		return nil
	}
	return d.FS.Remove(name)
}

// RemoveAll implements [vfs.FS], see [Disk.Remove].
func (d *Disk) RemoveAll(name string) error {
	if d.Err() != nil {
		return nil
	}
	return d.FS.RemoveAll(name)
}

// Unwrap implements [vfs.FS].
func (d *Disk) Unwrap() vfs.FS { return d.FS }

// diskFile is a file of a disk that may be written.
type diskFile struct {
	vfs.File
	disk *Disk
}

// Write implements [io.Writer].
func (f *diskFile) Write(p []byte) (int, error) {
	f.disk.change(func() error { _, err := f.File.Write(p); return err })
	return len(p), nil
}

// WriteAt implements [io.WriterAt].
func (f *diskFile) WriteAt(p []byte, at int64) (int, error) {
	f.disk.change(func() error { _, err := f.File.WriteAt(p, at); return err })
	return len(p), nil
}

// Sync implements [vfs.File].
func (f *diskFile) Sync() error {
	f.disk.change(f.File.Sync)
	return nil
}

// SyncData implements [vfs.File].
func (f *diskFile) SyncData() error {
	f.disk.change(f.File.SyncData)
	return nil
}

// SyncTo implements [vfs.File].
func (f *diskFile) SyncTo(length int64) (full bool, err error) {
	f.disk.change(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

// Close implements [io.Closer].
func (f *diskFile) Close() error {
	if err := f.File.Close(); err != nil { // an error of a write that was not synced
		f.disk.Fail(err)
	}
	return nil
}

// discard is a file that was opened on a frozen disk.
type discard struct {
	name string
	mu   sync.Mutex
	size int64
}

// Write implements [io.Writer].
func (f *discard) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size += int64(len(p))
	return len(p), nil
}

// WriteAt implements [io.WriterAt].
func (f *discard) WriteAt(p []byte, _ int64) (int, error) { return f.Write(p) }

// The other methods of [vfs.File].

func (*discard) Close() error                      { return nil }
func (*discard) Read([]byte) (int, error)          { return 0, io.EOF }
func (*discard) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (*discard) Preallocate(_, _ int64) error      { return nil }
func (*discard) Sync() error                       { return nil }
func (*discard) SyncTo(int64) (bool, error)        { return false, nil }
func (*discard) SyncData() error                   { return nil }
func (*discard) Prefetch(_, _ int64) error         { return nil }
func (*discard) Fd() uintptr                       { return vfs.InvalidFd }
func (f *discard) Stat() (vfs.FileInfo, error)     { return f, nil }
func (f *discard) Name() string                    { return f.name }
func (*discard) Mode() os.FileMode                 { return 0o600 }
func (*discard) ModTime() time.Time                { return time.Time{} }
func (*discard) IsDir() bool                       { return false }
func (*discard) Sys() any                          { return nil }
func (*discard) DeviceID() vfs.DeviceID            { return vfs.DeviceID{} }
func (f *discard) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// probeBytes is more than a database writes to be opened.
const probeBytes = 8 << 20

// Probe returns nil if a disk takes changes in a folder and has some space. It writes a file and removes it.
func Probe(files vfs.FS, dir string) (err error) {
	files = diskOf(files).FS // which returns errors
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := files.PathJoin(dir, ".probe")
	file, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Remove(name)) }()
	_, err = file.Write(make([]byte, probeBytes))
	return errors.Join(err, file.Sync(), file.Close())
}
