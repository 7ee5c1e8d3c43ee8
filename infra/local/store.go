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

// store is where a region keeps what it knows.
type store struct {
	log      events.Log
	views    projections.Views
	keys     keys.Store // of users; replicated as the log is
	marks    marks
	identity string       // of the log: another one has nothing of what this one has
	busDB    *pebble.DB   // keeps what was put on the region's bus
	writable func() error // why the log takes no appends, see [health.Handler]; nil: it always does

	follow  func() replica          // the log for one follower of its stream, or a writer
	check   func(mark string) error // refuses a log that is not the one which was handled up to a mark
	closers []io.Closer
}

// close closes what is open, the last first. Nothing may work on the store any more.
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
	db, err := pebbleview.Open(filepath.Join(dir, "views"), pebbleview.Options{Cache: p.cache, Logger: log})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, db)
	if s.keys, err = filekeys.Open(filepath.Join(dir, "keys")); err != nil {
		return nil, err
	}
	s.log, s.views, s.marks, s.busDB = l, pebbleview.New(db, viewsPrefix), pebbleMarks{db}, db
	s.writable = l.Err
	s.follow = func() replica { return tail{l} }
	s.check = func(mark string) error { return checkPosition(l, mark) }
	return s, nil
}

// checkPosition refuses a log that is behind what was made of it: it was deleted or set back.
func checkPosition(l *pebblelog.Log, mark string) error {
	position, err := parsePosition(mark)
	if err != nil {
		return err
	}
	if head := l.Head(); position > head {
		return fmt.Errorf("its views have seen %d events, its log has only %d: delete the region's folder, the other regions will fill it again", position, head)
	}
	return nil
}

// close implements storage.
func (p *pebbleStorage) close() error {
	p.cache.Unref()
	return nil
}
