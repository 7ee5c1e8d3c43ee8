package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/events"
	"parley/events/pebbledb"
	"parley/events/pebblelog"
)

// A region's folder can lose any part of itself. Nothing is lost with it that another region has, and the
// views have nothing that is not in the log. So each part is made again:
//
//	views, bus, checkpoints   damaged or missing: made again from the log
//	log                       missing: made anew, with another identity, and filled from the other regions
//	                          behind its views: it lost its end; likewise, but what it has is kept
//	                          damaged: what can be read is copied to a new one, the old one is set aside
//	keys                      damaged or missing: copied from the other regions, one by one
//
// A log with another identity makes all regions send each other everything they have, see
// [replicator.resume].

// damagedPart says what of a region's folder is damaged.
type damagedPart string

const (
	damagedLog   damagedPart = "log"
	damagedTail  damagedPart = "end of the log"
	damagedViews damagedPart = "views"
)

// damage is an error of a region's stores that [storage.repair] can end.
type damage struct {
	part damagedPart
	err  error
}

func (d *damage) Error() string {
	switch d.part {
	case damagedViews:
		return fmt.Sprintf("the views are damaged, and are made again from the log: %v", d.err)
	case damagedTail:
		return fmt.Sprintf("the log has lost its end: %v; it is filled again from another region once one is open; "+
			"if there is none, restore the folder log from a backup, or delete the folder views to go on with what is left", d.err)
	default:
		return fmt.Sprintf("the log is damaged: %v; it is filled again from another region once one is open; "+
			"if there is none, restore the folder log from a backup", d.err)
	}
}

func (d *damage) Unwrap() error { return d.err }

// damaged returns the error of a database that could not be opened.
func damaged(part damagedPart, err error) error {
	if errors.Is(err, pebbledb.ErrDamaged) {
		return &damage{part, err}
	}
	return err
}

// regionFolder is the folder of a region with the embedded store.
type regionFolder string

func (p *pebbleStorage) folder(region string) regionFolder {
	return regionFolder(filepath.Join(p.data, region))
}

func (f regionFolder) log() string   { return filepath.Join(string(f), "log") }
func (f regionFolder) views() string { return filepath.Join(string(f), "views") }
func (f regionFolder) keys() string  { return filepath.Join(string(f), "keys") }

// identity returns the identity of the log, "" if there is none.
func (f regionFolder) identity() string {
	text, err := os.ReadFile(filepath.Join(string(f), identityFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// forget removes what belongs to a log that is lost: its identity, and the views of it.
func (f regionFolder) forget() error {
	err := os.Remove(filepath.Join(string(f), identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, os.RemoveAll(f.views())); err != nil {
		return fmt.Errorf("remove what belongs to a lost log: %w", err)
	}
	return nil
}

// fillingFile says that a region's log is new, and not yet filled from the other regions.
const fillingFile = "FILLING"

// beginFill reports whether the region's log has to be filled: it is new, or was not filled to the end.
func (f regionFolder) beginFill() (bool, error) {
	name := filepath.Join(string(f), fillingFile)
	if f.identity() != "" {
		_, err := os.Stat(name)
		return err == nil, nil
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return false, fmt.Errorf("make the region's folder: %w", err)
	}
	return true, writeOnce(name, nil)
}

// endFill notes that the region's log is filled.
func (f regionFolder) endFill() error {
	err := os.Remove(filepath.Join(string(f), fillingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fill is what a region needs before it can answer: the events of the other regions in its log, and those in
// its views.
type fill struct {
	log bool         // the log is new
	end func() error // notes that the log is filled
	// reached returns a function that reports whether the checkpoint of a lane has reached the present head
	// of the log; nil if that is not known.
	reached func() func(checkpoint string) bool
}

// repair implements storage.
func (p *pebbleStorage) repair(ctx context.Context, region string, part damagedPart, log *slog.Logger) error {
	dir := p.folder(region)
	if part == damagedViews {
		if err := os.RemoveAll(dir.views()); err != nil {
			return fmt.Errorf("remove damaged views: %w", err)
		}
		return nil
	}
	if err := dir.forget(); err != nil || part == damagedTail {
		return err
	}
	aside := dir.log() + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Rename(dir.log(), aside); err != nil {
		return fmt.Errorf("set a damaged log aside: %w", err)
	}
	log.WarnContext(ctx, "a damaged log was set aside; delete it once the region is complete", "folder", aside)
	return p.salvage(ctx, aside, region, log)
}

// salvage copies what can be read of a log that was set aside to the region's new log: it may have events that
// no other region has.
func (p *pebbleStorage) salvage(ctx context.Context, aside, region string, log *slog.Logger) (err error) {
	l, err := pebblelog.Open(p.folder(region).log(), pebblelog.Options{FS: p.disk(region), Cache: p.cache, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	copied := 0
	lost, err := pebblelog.Salvage(ctx, aside, pebblelog.Options{FS: p.disk(region), Cache: p.cache}, func(batch []events.Record) error {
		copied += len(batch)
		return l.Replicate(ctx, batch)
	})
	log.WarnContext(ctx, "what can be read of the damaged log was copied", "events", copied, "unreadable", lost, "error", err)
	if l.Err() != nil {
		return l.Err()
	}
	return ctx.Err() // the rest comes from the other regions
}
