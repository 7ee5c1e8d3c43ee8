package pebblelog

import (
	"context"
	"fmt"
)

// Replicate takes what other regions have accepted, as a replica of a global table does: no
// condition is checked, the last writer wins. For each event:
//   - not there yet: it is stored, with its Region and At.
//   - there in the very same stored form: nothing changes, but for a later At.
//   - there in another form, and be it only of another region: the last writer stays, by At, then
//     Region, then content. If it is the new one it replaces the other and arrives in the tail
//     as Modified; if not it is dropped.
//
// So all logs that were given the same records, in any order and any number of times, end up
// equal byte for byte. It returns once all is durable. After an error some of the records may
// be stored; replicating them again is always safe. Position and Modified are not read.
func (l *Log) Replicate(ctx context.Context, records []Record) error {
	if err := l.replicate(ctx, records); err != nil {
		return fmt.Errorf("replicate events: %w", err)
	}
	return nil
}

// maxRequest bounds the writes of one request, and so the size of a commit's batch.
const maxRequest = 128

func (l *Log) replicate(ctx context.Context, records []Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var writes []*write
	var requests []*request
	for _, r := range records {
		w, err := newWrite(r.Event, r.At)
		if err != nil {
			return err
		}
		w.replica = true
		writes = append(writes, w)
	}
	for n := min(len(writes), maxRequest); n > 0; n = min(len(writes), maxRequest) {
		requests = append(requests, newRequest(writes[:n]))
		writes = writes[n:]
	}
	if err := l.queue.put(requests...); err != nil {
		return err
	}
	for _, r := range requests {
		if err := r.wait(ctx); err != nil {
			return err
		}
		for _, w := range r.writes {
			if w.err != nil {
				return w.err
			}
		}
	}
	return nil
}
