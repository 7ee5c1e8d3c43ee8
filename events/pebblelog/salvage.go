package pebblelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/pebbledb"
)

const (
	// salvageBatch is how many records are handed over at once.
	salvageBatch = 512
	// salvageGap is how many positions in a row must be absent at the end of a log. In front of it a lost
	// table may have left a gap.
	salvageGap = 1 << 14
)

// Salvage reads what is still readable of a damaged log and calls do with it, in order. The log in dir is not
// changed, and must not be open. Lost counts the positions that could not be read. The error wraps
// [pebbledb.ErrDamaged] if nothing can be read because the database does not open.
func Salvage(ctx context.Context, dir string, o Options, do func([]events.Record) error) (lost int, err error) {
	db, err := pebbledb.Open(dir, pebbledb.Options{FS: o.FS, Cache: o.Cache}, func(p *pebble.Options) { p.ReadOnly = true })
	if err != nil {
		return 0, fmt.Errorf("salvage the log in %s: %w", dir, err)
	}
	defer func() {
		if err = errors.Join(err, db.Close()); err != nil {
			err = fmt.Errorf("salvage the log in %s: %w", dir, err)
		}
	}()
	l := &Log{db: db}
	var batch []events.Record
	gap := 0
	for position := uint64(1); gap < salvageGap; position++ {
		if err := ctx.Err(); err != nil {
			return lost, err
		}
		r, err := l.salvage(position)
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			gap++
			continue
		case err != nil:
			lost++
		default:
			batch = append(batch, r)
		}
		lost += gap
		if gap = 0; len(batch) == salvageBatch {
			if err := do(batch); err != nil {
				return lost, err
			}
			batch = nil
		}
	}
	if len(batch) == 0 {
		return lost, nil
	}
	return lost, do(batch)
}

// salvage reads the record at a position on its own: a block that is damaged hides only what is in it.
func (l *Log) salvage(position uint64) (events.Record, error) {
	value, closer, err := l.db.Get(positionKey(position))
	if err != nil {
		return events.Record{}, err
	}
	r, _, err := l.readRecord(events.Part{}, newRow(positionKey(position), value), position)
	if err = errors.Join(err, closer.Close()); err == nil {
		err = r.Err
	}
	if e := r.Event; err == nil && e.Digest != (events.Digest{}) && e.WithDigest().Digest != e.Digest {
		err = errDamaged // the other regions' copy must not find its place taken
	}
	return r, err
}
