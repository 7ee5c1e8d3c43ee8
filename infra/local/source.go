package main

import (
	"context"
	"time"

	"parley/functions/stream"
)

// source is the stream of a region's log.
type source interface {
	// Next returns the records that come after a sequence, in their order, at most limit. The
	// sequence "" is the beginning. If there are none it returns none, or, told to wait, waits for
	// the first until ctx ends.
	Next(ctx context.Context, after string, limit int, wait bool) (records, error)
}

// records is one read of a source.
type records struct {
	list []stream.Record
	at   []time.Time // when each was accepted, by whichever region, as far as that is known
}

// trimmedError says that a source no longer has what comes after a sequence: it keeps things for
// a time only. What it still has comes after resume.
type trimmedError struct{ resume string }

func (e *trimmedError) Error() string { return "the stream no longer has what comes next" }
