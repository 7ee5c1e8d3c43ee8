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
	// FS is the file system; by default the machine's. Unless it is a [Disk] already, the database has a
	// Disk of its own on it.
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
	// Corrupt is called when a read finds a damaged or missing table, perhaps often; may be nil. The read
	// fails, and so does each later one of that part.
	Corrupt func(error)
}

// ErrDamaged: a file of the database is damaged or missing. Test for it with errors.Is.
var ErrDamaged = errors.New("database is damaged")

// Open opens the database in dir, which it creates if it does not exist. The error wraps [ErrInUse] if
// the database is open elsewhere, and [ErrDamaged] if it cannot be read. Tune, unless it is nil, changes
// Pebble's options first.
//
// When a write fails later, the database's [Disk] freezes: it must be closed and opened again.
func Open(dir string, o Options, tune func(*pebble.Options)) (*pebble.DB, error) {
	disk := diskOf(o.FS)
	options := o.pebble(disk)
	if tune != nil {
		tune(options)
	}
	dir, err := makeDir(dir, disk.FS)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(dir, disk.FS)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // the database holds it from here on
	options.Lock = lock
	db, err := pebble.Open(dir, options)
	if failed := disk.Err(); failed != nil {
		if err == nil {
			_ = db.Close() // everything it changes is discarded
		}
		return nil, failed
	}
	if err != nil && isDamage(err) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return db, err
}

// isDamage reports whether Pebble found what it does not understand, or misses a file.
func isDamage(err error) bool { return pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) }

// Exists reports whether there is a database in dir.
func Exists(dir string, files vfs.FS) (bool, error) {
	desc, err := pebble.Peek(dir, diskOf(files).FS)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a database: %w", err)
	}
	return desc.Exists, nil
}

func (o Options) pebble(disk *Disk) *pebble.Options {
	log := NewLogger(o.Logger)
	options := &pebble.Options{
		FS:           disk,
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
	// By default a damaged block ends the process. The read that meets it fails; that is enough. What is
	// reported about a frozen disk is of no interest: the database is about to be closed.
	options.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			if disk.Err() == nil {
				log.Errorf("background error: %s", err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if disk.Err() != nil {
				return
			}
			if log.Errorf("%s", info); o.Corrupt != nil {
				o.Corrupt(fmt.Errorf("%w: %w", ErrDamaged, info.Details))
			}
		},
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
