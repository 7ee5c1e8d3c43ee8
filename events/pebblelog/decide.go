package pebblelog

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/pebblelog/window"
)

// decider says what becomes of each write of a commit, given what the log and the commit so far
// hold, and adds to the commit what is to be written.
type decider struct {
	commit *commit
	head   uint64            // the last position given out
	it     *pebble.Iterator  // over the log before the commit
	values map[string][]byte // by key, what the commit writes
	new    *window.Windows   // tells, of streams that grow, which keys are new

	positionKey, arrival []byte // memory to be used again
}

// decide decides all writes of the commit. One iterator serves all lookups: nearly all ids are
// new, and its filters, unlike those of a Get, save the way to the disk on every level.
func (d *decider) decide(db *pebble.DB) {
	var err error
	if d.it, err = db.NewIter(&pebble.IterOptions{UseL6Filters: true}); err == nil {
		defer func() { _ = d.it.Close() }() // its error has been met in a lookup
	}
	clear(d.values)
	if err == nil {
		err = d.track()
	}
	for _, r := range d.commit.requests {
		for _, w := range r.writes {
			if w.err = err; err == nil {
				w.err = d.write(w)
			}
		}
	}
}

func (d *decider) write(w *write) error {
	current, err := d.current(w)
	switch {
	case err != nil:
		return fmt.Errorf("look for the event: %w", err)
	case current == nil:
		return d.arrive(w, false)
	case w.replica:
		return d.merge(w, current)
	}
	stored, _, err := decode(w.key, current)
	if err != nil {
		return err
	}
	if !events.Same(stored, w.event) {
		return events.ErrConflict
	}
	w.stored, w.repeat = stored, true
	return nil
}

// track begins to track the streams that were found to grow, before anything of this commit is
// written to them.
func (d *decider) track() error {
	for _, stream := range d.new.Due() {
		_, upper := bounds(events.Stream(stream), events.Range{})
		floor := ""
		if d.it.SeekLT(upper) {
			floor = string(d.it.Key()) // it may be of the stream before: that is below all of this one's
		}
		if err := d.it.Error(); err != nil {
			return err
		}
		d.new.Track(stream, floor)
	}
	return nil
}

// current is the value of a key in the commit or in the log before it, or nil. It is valid until
// the next lookup.
func (d *decider) current(w *write) ([]byte, error) {
	key := w.key
	if d.new.Absent(string(w.event.Stream), string(key)) {
		return nil, nil
	}
	if value := d.values[string(key)]; value != nil {
		return value, nil
	}
	if !d.it.SeekPrefixGE(key) {
		d.new.Missed(string(w.event.Stream))
		return nil, d.it.Error()
	}
	return d.it.ValueAndErr()
}

// arrive adds an event to the commit, at the next position.
func (d *decider) arrive(w *write, modified bool) error {
	position := d.head + 1
	setPosition(w.value, position)
	if err := d.set(w); err != nil {
		return err
	}
	d.positionKey = appendPositionKey(d.positionKey[:0], position)
	d.arrival = appendArrival(d.arrival[:0], w.key, modified)
	if err := d.commit.batch.Set(d.positionKey, d.arrival, nil); err != nil {
		return err
	}
	d.head = position
	d.commit.records = append(d.commit.records, Record{position, w.event, unixNano(w.at), modified})
	w.stored = w.event
	return nil
}

func (d *decider) set(w *write) error {
	key := string(w.key)
	d.values[key] = w.value
	d.new.Add(string(w.event.Stream), key)
	return d.commit.batch.Set(w.key, w.value, nil)
}

// merge decides between what another region has accepted and what is there.
func (d *decider) merge(w *write, current []byte) error {
	theirs, err := splitEntry(w.value)
	if err != nil {
		return err
	}
	ours, err := splitEntry(current)
	switch {
	case err != nil: // damaged: any content is better
		return d.arrive(w, true)
	case theirs.compare(ours) <= 0:
		return nil
	case theirs.sameForm(ours): // a later At, for merges to come; nothing that a follower sees
		setPosition(w.value, ours.position)
		return d.set(w)
	default:
		return d.arrive(w, true)
	}
}
