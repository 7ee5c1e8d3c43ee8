package pebbleview

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

// ErrInUse says that another process, or another part of this one, has the database open. Test
// for it with errors.Is.
var ErrInUse = errors.New("database is in use")

// Options are the settings of a database that holds views. The zero value is ready to use.
type Options struct {
	// Cache holds blocks read from disk; several databases may share one. By default the
	// database has 32 MB of its own. It must have room for the Bloom filters, 1.25 MB for a
	// million views, beside the blocks in use: with less, each Save reads them from disk again.
	Cache *pebble.Cache
	// MemTable is the size in bytes up to which writes gather in memory; there may be four of
	// them for a while. It also bounds how many superseded versions of a view a query can meet.
	// By default 2 MB: it is used again and again, and what was never touched before costs most.
	MemTable uint64
	// Logger receives what goes wrong in the background; by default nothing does.
	Logger *slog.Logger
	// FS is the file system; by default the machine's.
	FS vfs.FS
}

// Open opens the database in dir, or makes one. The error wraps [ErrInUse] if it is open
// elsewhere. A database that can no longer write its log panics: it could not keep the order
// that the package promises.
func Open(dir string, o Options) (*pebble.DB, error) {
	options := o.pebble()
	dir, err := makeDir(dir, options.FS)
	if err != nil {
		return nil, fmt.Errorf("make the folder of the view database: %w", err)
	}
	lock, err := lockDir(dir, options.FS)
	if err != nil {
		return nil, fmt.Errorf("lock the view database: %w", err)
	}
	defer lock.Close() // the database holds it from here on
	options.Lock = lock
	db, err := pebble.Open(dir, options)
	if err != nil {
		return nil, fmt.Errorf("open the view database: %w", err)
	}
	return db, nil
}

// makeDir makes a folder and returns its one true name: within a process the lock goes by name.
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

// lockDir tells a lock that another holds from a file that cannot be made.
func lockDir(dir string, files vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, files)
	var path *fs.PathError
	if err != nil && !errors.As(err, &path) {
		return nil, fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return lock, err
}

func (o Options) pebble() *pebble.Options {
	options := &pebble.Options{
		Cache:                       o.Cache,
		CacheSize:                   32 << 20, // where Cache is nil
		MemTableSize:                2 << 20,
		MemTableStopWritesThreshold: 4,
		// Every flush holds some of each kind of view, so that merging its tables downwards writes
		// nearly all that is there anew. It is done when 16 overlap (half of the number: Pebble
		// counts double), and not already when 2 do. Reads pass by them with Bloom filters.
		L0CompactionThreshold: 32,
		L0StopWritesThreshold: 64,
		// Saves are not fsynced one by one: let the log go to disk as it grows, so that the
		// fsync at its end does not hold up writers.
		WALBytesPerSync: 1 << 20,
		FS:              vfs.Default,
		Logger:          logger{slog.New(slog.DiscardHandler)},
		// Raised by hand only, for there is no way back. With the sync chunks it brings, the end
		// of a log that was cut off is told from a damaged one.
		FormatMajorVersion: pebble.FormatTableFormatV6,
	}
	// The usual one looks for work ten times a second: three idle regions would take 1% of a core.
	// This one starts what waits when another compaction ends, which is the only thing it can wait
	// for while the number that may run at a time is fixed.
	options.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	// Most Saves begin with a look for a view that is not there yet: a Bloom filter of 10 bits a
	// key answers that without reading a block. The other levels inherit it.
	options.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	if o.MemTable > 0 {
		options.MemTableSize = o.MemTable
	}
	if o.Logger != nil {
		options.Logger = logger{o.Logger}
	}
	if o.FS != nil {
		options.FS = o.FS
	}
	return options
}

// logger passes on Pebble's errors and keeps quiet about its daily work.
type logger struct{ log *slog.Logger }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("view database", "error", fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble calls it when what it holds in memory is no longer what it
// wrote.
func (logger) Fatalf(format string, args ...any) {
	panic("view database: " + fmt.Sprintf(format, args...))
}
