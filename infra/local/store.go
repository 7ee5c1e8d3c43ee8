package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
	"parley/events/keys"
	"parley/events/keys/filekeys"
	"parley/events/pebbledb"
	"parley/events/pebblelog"
	"parley/projections"
	"parley/projections/pebbleview"
)

// The stores that -store names.
const (
	storePebble = "pebble"
	storeDynamo = "dynamodb"
)

// storage opens the stores of all regions. No other part of the program knows which it is.
type storage interface {
	// open opens the stores of a region. Its error is a [damage] if repair can help.
	open(ctx context.Context, region string, log *slog.Logger) (*store, error)
	// identity returns the identity of a region's log without opening it, "" if that is not known.
	identity(region string) string
	// probe returns why nothing can be written for a region.
	probe(region string) error
	// repair removes what is damaged of a region that is not open, so that it can be opened and filled
	// again.
	repair(ctx context.Context, region string, part damagedPart, log *slog.Logger) error
	// close is called after all stores are closed.
	close() error
}

// store holds the open stores of a region.
type store struct {
	log         events.Log
	views       projections.Views
	keys        keys.Store // of users; replicated as the log is
	checkpoints checkpoints
	identity    string         // of the log; another log has another identity
	busDB       *pebble.DB     // holds the archive of the region's bus
	disk        *pebbledb.Disk // of all databases of the region
	fill        fill           // how far the region is from complete
	writable    func() error   // why the log takes no appends, see [health.Handler]; nil: it always does

	follow  func() events.Replica            // the log for one follower of its stream, or a writer
	lane    func(events.Part) events.Replica // the log for a follower that needs the records of some streams
	check   func(checkpoint string) error    // fails if the log does not contain a checkpoint
	closers []io.Closer
}

// close closes what is open, in reverse order. The store must not be in use.
func (s *store) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i].Close())
	}
	return errors.Join(errs...)
}

// openStorage opens the storage that the settings ask for.
func openStorage(ctx context.Context, s settings, stdout io.Writer, log *slog.Logger) (storage, error) {
	cache := pebble.NewCache(cacheBytes)
	if s.store == storePebble {
		return &pebbleStorage{data: s.data, cache: cache, files: s.files, alone: len(s.regions) == 1}, nil
	}
	return openDynamo(ctx, s, cache, stdout, log)
}

// cacheBytes is the size of the cache of blocks that all databases share.
const cacheBytes = 64 << 20

// pebbleStorage keeps each region in a folder of its own.
type pebbleStorage struct {
	data  string
	cache *pebble.Cache
	files func(region string) vfs.FS // the file system of a region's databases; nil: the machine's
	alone bool                       // there is one region: none can be filled from others
}

func (p *pebbleStorage) disk(region string) *pebbledb.Disk {
	if p.files == nil {
		return pebbledb.NewDisk(vfs.Default)
	}
	return pebbledb.NewDisk(p.files(region))
}

// open implements storage.
func (p *pebbleStorage) open(_ context.Context, region string, log *slog.Logger) (_ *store, err error) {
	dir := p.folder(region)
	s := &store{disk: p.disk(region)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	there, err := pebbledb.Exists(dir.log(), s.disk)
	if err != nil {
		return nil, err
	}
	if !there { // whatever else is left belongs to a log that is lost
		if err := dir.forget(); err != nil {
			return nil, err
		}
	}
	if s.fill.log, err = dir.beginFill(); err != nil {
		return nil, err
	}
	s.fill.end = dir.endFill
	if s.identity, err = identity(string(dir)); err != nil {
		return nil, err
	}
	options := pebblelog.Options{FS: s.disk, Cache: p.cache, Logger: log}
	if !p.alone { // otherwise the log serves what can still be read
		options.Corrupt = func(err error) { s.disk.Fail(&damage{damagedLog, err}) }
	}
	l, err := pebblelog.Open(dir.log(), options)
	if err != nil {
		return nil, damaged(damagedLog, err)
	}
	s.closers = append(s.closers, l)
	db, err := pebbleview.Open(dir.views(), pebbledb.Options{
		FS: s.disk, Cache: p.cache, Logger: log, Corrupt: func(err error) { s.disk.Fail(&damage{damagedViews, err}) },
	})
	if err != nil {
		return nil, damaged(damagedViews, err)
	}
	s.closers = append(s.closers, db)
	if s.keys, err = filekeys.Open(dir.keys()); err != nil {
		return nil, err
	}
	s.log, s.views, s.checkpoints, s.busDB = l, pebbleview.New(db, viewsPrefix), pebbleCheckpoints{db}, db
	s.writable = l.Err
	s.follow = func() events.Replica { return l }
	s.lane = func(part events.Part) events.Replica { return l.Lane(part) }
	s.check = func(checkpoint string) error { return checkPosition(l, checkpoint) }
	s.fill.reached = func() func(string) bool {
		head := l.Head()
		return func(checkpoint string) bool {
			position, err := pebblelog.ParsePosition(checkpoint)
			return err == nil && position >= head
		}
	}
	return s, nil
}

// checkPosition fails if the log is behind its views: it lost its end, or was restored from a backup.
func checkPosition(l *pebblelog.Log, checkpoint string) error {
	position, err := pebblelog.ParsePosition(checkpoint)
	if err != nil {
		return err
	}
	if head := l.Head(); position > head {
		return &damage{damagedTail, fmt.Errorf("the views contain %d events, the log only %d", position, head)}
	}
	return nil
}

// identity implements storage.
func (p *pebbleStorage) identity(region string) string {
	dir := p.folder(region)
	if there, err := pebbledb.Exists(dir.log(), p.disk(region)); err != nil || !there {
		return ""
	}
	return dir.identity()
}

// probe implements storage.
func (p *pebbleStorage) probe(region string) error {
	return pebbledb.Probe(p.disk(region), string(p.folder(region)))
}

// close implements storage.
func (p *pebbleStorage) close() error {
	p.cache.Unref()
	return nil
}
