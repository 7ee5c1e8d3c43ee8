// Package pebbledb is shared by the drivers on Pebble: it opens, locks and tunes a database, and logs
// its background errors. Package window beside it answers which keys are new.
package pebbledb

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrInUse: the directory is open in this process or in another. Test for it with errors.Is.
var ErrInUse = errors.New("database is in use")

// Options are the settings of a database. The zero value is ready to use.
type Options struct {
	// FS is the file system; by default the machine's.
	FS vfs.FS
	// Cache holds blocks read from disk; several databases may share one. By default the database
	// has 32 MB of its own. Pebble reserves the memory of memtables (256 KB at rest, up to 8 MB under
	// load) from the cache, so that a much smaller one has no room for blocks under load. It must also
	// hold the Bloom filters in use, 1.25 MB for a million keys.
	Cache *pebble.Cache
	// MemTable is the size in bytes of a memtable; there may be four of them for a while. By default 2
	// MB: memtables are reused, and memory that was never touched costs most.
	MemTable uint64
	// Logger receives errors in the background; by default they are dropped.
	Logger *slog.Logger
}

// Open opens the database in dir, which it creates if it does not exist. The error wraps [ErrInUse] if
// the database is open elsewhere. Tune, unless it is nil, changes Pebble's options first.
//
// If Pebble cannot write its log or manifest it panics, because its memory then differs from what the
// next Open would read.
func Open(dir string, o Options, tune func(*pebble.Options)) (*pebble.DB, error) {
	options := o.pebble()
	if tune != nil {
		tune(options)
	}
	dir, err := makeDir(dir, options.FS)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(dir, options.FS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // the database holds it from here on
	options.Lock = lock
	return pebble.Open(dir, options)
}

func (o Options) pebble() *pebble.Options {
	log := NewLogger(o.Logger)
	options := &pebble.Options{
		FS:           vfs.Default,
		Cache:        o.Cache,
		CacheSize:    32 << 20, // where Cache is nil
		Logger:       log,
		MemTableSize: 2 << 20,
		// While a memtable is flushed there must be room for new writes.
		MemTableStopWritesThreshold: 4,
		// Every flush holds keys of all kinds, so a compaction of its tables rewrites nearly everything.
		// It starts when 16 tables overlap (half of the number: Pebble counts double), not when 2 do.
		// Bloom filters let reads skip them.
		L0CompactionThreshold: 32,
		L0StopWritesThreshold: 64,
		// Only raised by hand, because a database cannot return to an older format. Its sync chunks
		// distinguish a log that was cut off from a damaged one.
		FormatMajorVersion: pebble.FormatTableFormatV6,
	}
	if o.FS != nil {
		options.FS = o.FS
	}
	if o.MemTable > 0 {
		options.MemTableSize = o.MemTable
	}
	// The default scheduler looks for work ten times a second: three idle regions would take 1% of a
	// core. This one starts a waiting compaction when another ends, which suffices while the number of
	// concurrent compactions is fixed.
	options.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	// Most reads are for an absent key: a filter of 10 bits a key answers 99% of them without reading a
	// block. The other levels inherit it.
	options.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	return options
}

// makeDir creates a directory and returns its canonical name: within a process the lock is by name.
func makeDir(dir string, files vfs.FS) (string, error) {
	if err := files.MkdirAll(dir, 0o700); err != nil || files != vfs.Default {
		return dir, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// lockDir locks a directory. It distinguishes a lock held elsewhere from a file that cannot be created.
func lockDir(dir string, files vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, files)
	var path *fs.PathError
	if err != nil && !errors.As(err, &path) {
		return nil, fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return lock, err
}

// NewLogger returns a logger for Pebble that passes on errors and drops the rest; nil drops all.
func NewLogger(log *slog.Logger) pebble.Logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return logger{log}
}

type logger struct{ log *slog.Logger }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf panics: Pebble expects that it does not return.
func (l logger) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	panic("pebble: " + fmt.Sprintf(format, args...))
}
