package pebblelog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	cacheBytes    = 32 << 20
	memTableBytes = 2 << 20 // used again and again: memory that was never touched costs most
	memTables     = 4
	indexBytes    = 256 << 10 // so large that a table's index is one block and a lookup reads one less
	bitsPerKey    = 10        // of the bloom filters: 1% of the lookups of a new id still read a block
	mergeAt       = 16        // tables that overlap
)

// Open opens the log in dir, which is made if it is not there. The error wraps [ErrInUse] if
// the directory is open already.
func Open(dir string, o Options) (*Log, error) {
	l, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, o Options) (*Log, error) {
	dir, err := prepareDir(dir, &o)
	if err != nil {
		return nil, err
	}
	l := &Log{now: o.Now}
	if o.Cache == nil {
		l.cache = pebble.NewCache(cacheBytes)
		o.Cache = l.cache
	}
	if l.lock, err = lock(dir, o.FS); err != nil {
		l.release()
		return nil, err
	}
	if l.db, err = pebble.Open(dir, l.pebbleOptions(o)); err != nil {
		return nil, errors.Join(err, l.release())
	}
	head, err := lastPosition(l.db)
	if err != nil {
		return nil, errors.Join(err, l.db.Close(), l.release())
	}
	l.tail.init(head)
	l.queue.init()
	l.commits.Go(func() { l.commitAll(head) })
	return l, nil
}

// prepareDir fills in the defaults and makes the directory. It returns the one true name of the
// directory: the lock goes by name within a process.
func prepareDir(dir string, o *Options) (string, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS != nil {
		return dir, o.FS.MkdirAll(dir, 0o700)
	}
	o.FS = vfs.Default
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

func lock(dir string, files vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, files)
	var path *fs.PathError
	if err != nil && !errors.As(err, &path) { // the lock file is there, but held
		return nil, fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return lock, err
}

func (l *Log) pebbleOptions(o Options) *pebble.Options {
	log := logger{o.Logger}
	po := &pebble.Options{
		FS:           o.FS,
		Cache:        o.Cache,
		Lock:         l.lock,
		Logger:       log,
		MemTableSize: memTableBytes,
		// While one is being written out there must be room for what comes.
		MemTableStopWritesThreshold: memTables,
		FormatMajorVersion:          pebble.FormatTableFormatV6, // raised by hand: there is no way back
		// Every flush holds events of all streams, so that merging its tables downwards writes nearly
		// all that is there anew: it is done seldom. Reads pass by them with bloom filters.
		L0CompactionThreshold: 2 * mergeAt, // Pebble counts double
		L0StopWritesThreshold: 4 * mergeAt,
	}
	// The usual one looks for work ten times a second: three idle regions would take 1% of a core.
	// This one starts what waits when another compaction ends, which is the only thing it can wait
	// for while the number that may run at a time is fixed.
	po.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	// By default a corrupt block ends the process. The read that meets it fails, that is enough.
	po.EventListener = &pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) { log.Errorf("%s", info) },
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(bitsPerKey)
		po.Levels[i].FilterType = pebble.TableFilter
		po.Levels[i].IndexBlockSize = indexBytes
	}
	return po
}

// lastPosition is the greatest position in the database. Positions are written in their order
// into one write-ahead log, so whatever a crash left is dense up to it.
func lastPosition(db *pebble.DB) (position uint64, err error) {
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{positionKind},
		UpperBound: []byte{positionKind + 1},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return 0, it.Error()
	}
	position, ok := splitPositionKey(it.Key())
	if !ok {
		return 0, errDamaged
	}
	return position, nil
}

// Close waits for the appends under way and closes the log. After it every method returns
// [ErrClosed]; followers that wait are woken with it. Closing again does nothing.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.queue.close(ErrClosed)
		l.commits.Wait()
		l.tail.fail(ErrClosed)

		l.reading.Lock()
		defer l.reading.Unlock()
		l.closed = true
		if err := errors.Join(l.db.Close(), l.release()); err != nil {
			l.closeErr = fmt.Errorf("close log: %w", err)
		}
	})
	return l.closeErr
}

// release lets go of what the log holds beside the database.
func (l *Log) release() error {
	if l.cache != nil {
		l.cache.Unref()
	}
	if l.lock != nil {
		return l.lock.Close()
	}
	return nil
}

// logger passes on what is wrong and leaves out the rest.
type logger struct{ log *slog.Logger }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf ends the process, by a panic: Pebble expects that it does not return.
func (l logger) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	panic("pebble: " + fmt.Sprintf(format, args...))
}
