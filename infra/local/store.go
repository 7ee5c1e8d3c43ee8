package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

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
	open(ctx context.Context, region string, log *slog.Logger) (*store, error)
	// close is called after all stores are closed.
	close() error
}

// store holds the open stores of a region.
type store struct {
	log         events.Log
	views       projections.Views
	keys        keys.Store // of users; replicated as the log is
	checkpoints checkpoints
	identity    string       // of the log; another log has another identity
	busDB       *pebble.DB   // holds the archive of the region's bus
	writable    func() error // why the log takes no appends, see [health.Handler]; nil: it always does

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
func openStorage(ctx context.Context, s settings, stdout io.Writer) (storage, error) {
	cache := pebble.NewCache(cacheBytes)
	if s.store == storePebble {
		return &pebbleStorage{s.data, cache}, nil
	}
	return openDynamo(ctx, s, cache, stdout)
}

// cacheBytes is the size of the cache of blocks that all databases share.
const cacheBytes = 64 << 20

// pebbleStorage keeps each region in a folder of its own.
type pebbleStorage struct {
	data  string
	cache *pebble.Cache
}

// open implements storage.
func (p *pebbleStorage) open(_ context.Context, region string, log *slog.Logger) (_ *store, err error) {
	dir := filepath.Join(p.data, region)
	s := &store{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.identity, err = identity(dir); err != nil {
		return nil, err
	}
	l, err := pebblelog.Open(filepath.Join(dir, "log"), pebblelog.Options{Cache: p.cache, Logger: log})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, l)
	db, err := pebbleview.Open(filepath.Join(dir, "views"), pebbledb.Options{Cache: p.cache, Logger: log})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, db)
	if s.keys, err = filekeys.Open(filepath.Join(dir, "keys")); err != nil {
		return nil, err
	}
	s.log, s.views, s.checkpoints, s.busDB = l, pebbleview.New(db, viewsPrefix), pebbleCheckpoints{db}, db
	s.writable = l.Err
	s.follow = func() events.Replica { return l }
	s.lane = func(part events.Part) events.Replica { return l.Lane(part) }
	s.check = func(checkpoint string) error { return checkPosition(l, checkpoint) }
	return s, nil
}

// checkPosition fails if the log is behind its views: it was deleted or restored from a backup.
func checkPosition(l *pebblelog.Log, checkpoint string) error {
	position, err := pebblelog.ParsePosition(checkpoint)
	if err != nil {
		return err
	}
	if head := l.Head(); position > head {
		return fmt.Errorf("its views contain %d events, its log only %d: delete the region's folder; the other regions replicate it again", position, head)
	}
	return nil
}

// close implements storage.
func (p *pebbleStorage) close() error {
	p.cache.Unref()
	return nil
}
