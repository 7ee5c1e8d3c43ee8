package main

import (
	"context"
	"slices"
	"sync"

	"parley/events"
)

// The records that a sharedStream keeps are bounded by both. When there are more, only half as many are
// kept.
const (
	recentRecords = 4096
	recentBytes   = 8 << 20 // of data
)

// sharedStream lets several followers of a change stream share one reader, so that lanes which are close
// to the end of the stream cost no more reads than one. The reader is used by whichever follower has
// come to the end of what was read. A follower that is somewhere else reads on its own, until it has
// reached the others: it holds up nobody, and nothing is kept for it.
type sharedStream struct {
	open func() events.Replica // makes another reader

	mu      sync.Mutex
	reader  events.Follower
	reading bool            // a follower uses the reader
	start   string          // the checkpoint before recent
	recent  []events.Record // the last records that the reader returned
	bytes   int             // of their data
	read    chan struct{}   // closed and replaced when a follower has used the reader
}

func newSharedStream(open func() events.Replica) *sharedStream {
	return &sharedStream{open: open, reader: open(), read: make(chan struct{})}
}

// follow returns a new follower.
func (s *sharedStream) follow() events.Replica { return &sharedFollower{s.open(), s} }

// sharedFollower is a follower with a reader of its own, for when it is not where the others are.
type sharedFollower struct {
	events.Replica
	shared *sharedStream
}

// Next implements [events.Follower].
func (f *sharedFollower) Next(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	s := f.shared
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		records, end, found := s.after(checkpoint)
		reading, read := s.reading, s.read
		s.reading = s.reading || found && end
		s.mu.Unlock()
		switch {
		case len(records) > 0:
			return slices.Clone(records[:min(max(limit, 1), len(records))]), nil
		case found && !reading:
			records, err := s.readOn(ctx, checkpoint, limit, wait)
			if err != nil || len(records) > 0 || !wait {
				return records, err
			}
			continue
		case !found:
			records, err := f.Replica.Next(ctx, checkpoint, limit, false)
			if err != nil || len(records) > 0 {
				return records, err
			}
			if s.moveTo(checkpoint) { // this is the end of the stream
				continue
			}
		}
		if !wait {
			return nil, nil
		}
		select {
		case <-read:
		case <-ctx.Done():
		}
	}
}

// after returns the recent records after a checkpoint, if it is one of theirs; end reports that there are
// none. s.mu must be held.
func (s *sharedStream) after(checkpoint string) (records []events.Record, end, found bool) {
	for i := len(s.recent); i > 0; i-- {
		if s.recent[i-1].Sequence == checkpoint {
			return s.recent[i:], i == len(s.recent), true
		}
	}
	if s.start == checkpoint {
		return s.recent, len(s.recent) == 0, true
	}
	return nil, false, false
}

// readOn reads what follows the recent records, and adds it to them. s.reading must be set by the caller.
func (s *sharedStream) readOn(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	records, err := s.reader.Next(ctx, checkpoint, limit, wait)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = append(s.recent, records...)
	for _, r := range records {
		s.bytes += len(r.Event.Data)
	}
	if len(s.recent) > recentRecords || s.bytes > recentBytes {
		drop := 0
		for ; len(s.recent)-drop > recentRecords/2 || s.bytes > recentBytes/2; drop++ {
			s.bytes -= len(s.recent[drop].Event.Data)
		}
		s.start = s.recent[drop-1].Sequence
		s.recent = slices.Clone(s.recent[drop:])
	}
	s.reading = false
	close(s.read)
	s.read = make(chan struct{})
	return records, err
}

// moveTo makes the reader continue after a checkpoint, and forgets the recent records. It reports whether
// it did: not while a follower uses the reader.
func (s *sharedStream) moveTo(checkpoint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		return false
	}
	s.start, s.recent, s.bytes = checkpoint, nil, 0
	return true
}
