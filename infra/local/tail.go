package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"parley/events/pebblelog"
	"parley/functions/stream"
)

// tail is the [source] of a region whose log is a pebblelog: a sequence is a position.
type tail struct{ log *pebblelog.Log }

// Next implements source. An arrival that cannot be read is a record without an event, to be
// parked.
func (t tail) Next(ctx context.Context, after string, limit int) (records, error) {
	position, err := parsePosition(after)
	if err != nil {
		return records{}, err
	}
	got, err := t.log.Tail(ctx, position, limit)
	var damaged *pebblelog.DamagedError
	if errors.As(err, &damaged) {
		return records{[]stream.Record{{Err: err, Sequence: formatPosition(damaged.Position)}}, time.Now()}, nil
	}
	if err != nil {
		return records{}, err
	}
	list := make([]stream.Record, len(got))
	for i, r := range got {
		list[i] = stream.Record{Event: r.Event, Replaced: r.Modified, Sequence: formatPosition(r.Position)}
	}
	return records{list, got[0].At}, nil
}

func formatPosition(position uint64) string { return strconv.FormatUint(position, 10) }

// parsePosition reads what formatPosition wrote; "" is the beginning.
func parsePosition(sequence string) (uint64, error) {
	if sequence == "" {
		return 0, nil
	}
	position, err := strconv.ParseUint(sequence, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("sequence is not a position in the log: %w", err)
	}
	return position, nil
}
