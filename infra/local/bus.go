package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"parley/events/keys"
	"parley/functions/stream"
)

// bus plays a region's EventBridge bus, with an archive: what was put on it can be read again
// from any point on, up to so many entries ago.
//
// Each entry gets a number that is greater than all before. Entries are written without fsync,
// so a crash may take back the last of them, whose events then come again from the stream. To
// make sure that a number some subscriber has seen is never given to another entry, the numbers
// leap at every start.
type bus struct {
	db   *pebble.DB
	keys *keys.Ring // opens what is delivered
	keep uint64     // entries in the archive

	mu      sync.Mutex
	id      busID         // random: from it come the ids of all entries
	last    uint64        // the number given last
	count   uint64        // how many were ever put on the bus
	trimmed uint64        // the greatest number that is no longer in the archive
	oldest  uint64        // the count of the oldest entry that still is
	changed chan struct{} // closed and made anew when there is more; nil while nobody waits
}

const (
	// leap is more than the entries that a crash can take back.
	leap = 1_000_000
	// trimEvery is how many entries are trimmed at once, and so how many more than keep there
	// may be.
	trimEvery = 1000
)

// The limits of one entry, those of PutEvents.
const (
	maxSource     = 255 // bytes; a longer one would not fit the archive
	maxDetailType = 128 // bytes
)

// The errors of a refused entry or call.
var (
	errTooManyEntries = fmt.Errorf("a call may hold 1 to %d entries", stream.MaxEntries)
	errCallTooLarge   = fmt.Errorf("a call may hold %d bytes", stream.MaxCallBytes)
	errIncomplete     = fmt.Errorf("an entry needs a source, a detail, and a detail type of at most %d characters", maxDetailType)
)

var _ stream.Bus = (*bus)(nil)

// openBus opens the bus whose archive is in db and keeps so many entries, sealed as in the log.
func openBus(db *pebble.DB, ring *keys.Ring, keep int) (*bus, error) {
	b := &bus{db: db, keys: ring, keep: uint64(keep)}
	if err := b.open(); err != nil {
		return nil, fmt.Errorf("open the bus: %w", err)
	}
	return b, nil
}

func (b *bus) open() (err error) {
	state, err := b.state()
	if err != nil {
		return err
	}
	if b.id, b.trimmed, err = splitState(state); err != nil {
		return err
	}
	it, err := b.entries(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b.last = b.trimmed
	if it.First() {
		e, err := readEntry(it)
		if err != nil {
			return err
		}
		b.oldest = e.count
	}
	if it.Last() {
		e, err := readEntry(it)
		if err != nil {
			return err
		}
		b.last, b.count = e.number, e.count
	}
	b.last += leap
	return it.Error()
}

// state reads what the bus knows of itself, and makes it at the first start.
func (b *bus) state() ([]byte, error) {
	value, done, err := b.db.Get(busStateKey)
	if errors.Is(err, pebble.ErrNotFound) {
		state := busState(newBusID(), 0)
		return state, b.db.Set(busStateKey, state, pebble.NoSync)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = done.Close() }()
	return append([]byte(nil), value...), nil
}

// Publish implements [stream.Bus] with the limits of PutEvents.
func (b *bus) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	if len(entries) == 0 || len(entries) > stream.MaxEntries {
		return nil, errTooManyEntries
	}
	size := 0
	for _, e := range entries {
		size += len(e.Source) + len(e.DetailType) + len(e.Detail) + 14 // of its time
	}
	if size > stream.MaxCallBytes {
		return nil, errCallTooLarge
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	refused, err := b.append(entries, size)
	if err != nil {
		return nil, fmt.Errorf("put entries on the bus: %w", err)
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return refused, nil
}

func (b *bus) append(entries []stream.Entry, size int) (refused []error, err error) {
	refused = make([]error, len(entries))
	batch := b.db.NewBatchWithSize(size + len(entries)*64)
	defer func() { _ = batch.Close() }()
	last, count := b.last, b.count
	for i, e := range entries {
		if !complete(e) {
			refused[i] = errIncomplete
			continue
		}
		last, count = last+1, count+1
		if err := putEntry(batch, last, count, e); err != nil {
			return nil, err
		}
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return nil, err
	}
	if b.oldest == 0 {
		b.oldest = 1
	}
	b.last, b.count = last, count
	return refused, b.trim()
}

// putEntry adds an entry to the batch, copying it only once.
func putEntry(batch *pebble.Batch, number, count uint64, e stream.Entry) error {
	set := batch.SetDeferred(entryKeySize, entrySize(e))
	appendEntryKey(set.Key[:0], number)
	appendEntry(set.Value[:0], count, e)
	return set.Finish()
}

func complete(e stream.Entry) bool {
	return e.Source != "" && len(e.Source) <= maxSource &&
		e.DetailType != "" && len(e.DetailType) <= maxDetailType && len(e.Detail) > 0
}

// trim deletes the oldest entries once there are enough of them to be worth it.
func (b *bus) trim() (err error) {
	if b.count+1-b.oldest < b.keep+trimEvery {
		return nil
	}
	it, err := b.entries(b.trimmed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	trimmed, oldest := b.trimmed, b.oldest
	for ok := it.First(); ok; ok = it.Next() {
		e, err := readEntry(it)
		if err != nil {
			return err
		}
		if oldest = e.count; oldest+b.keep > b.count {
			break
		}
		trimmed = e.number
	}
	batch := b.db.NewBatch()
	defer func() { _ = batch.Close() }()
	if err := batch.DeleteRange(entryKey(0), entryKey(trimmed+1), nil); err != nil {
		return err
	}
	if err := batch.Set(busStateKey, busState(b.id, trimmed), nil); err != nil {
		return err
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	b.trimmed, b.oldest = trimmed, oldest
	return nil
}

// page is a part of the archive.
type page struct {
	entries []busEntry
	from    uint64          // the number after which it begins
	reset   bool            // that is not what was asked for: entries in between are gone
	more    <-chan struct{} // closed when there is more than when this was read
}

// read returns the entries after a number, at most limit, those that are there.
func (b *bus) read(after uint64, limit int) (p page, err error) {
	it, p, err := b.look(after)
	if err != nil {
		return page{}, fmt.Errorf("read the bus: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && len(p.entries) < limit; ok = it.Next() {
		e, err := readEntry(it)
		if err != nil {
			return page{}, fmt.Errorf("read the bus: %w", err)
		}
		p.entries = append(p.entries, e)
	}
	return p, it.Error()
}

// look opens the archive after a number, as it is now.
func (b *bus) look(after uint64) (*pebble.Iterator, page, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	p := page{from: after, more: b.changed}
	if after < b.trimmed || after > b.last {
		p.from, p.reset = b.trimmed, true
	}
	it, err := b.entries(p.from)
	return it, p, err
}

// head is the number given last.
func (b *bus) head() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
