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

// tail is the [source] and [replica] of a region whose log is a pebblelog: a sequence is a position.
type tail struct{ log *pebblelog.Log }

// Next implements source. An arrival that cannot be read is a record without an event, to be
// parked.
func (t tail) Next(ctx context.Context, after string, limit int, wait bool) (records, error) {
	position, err := parsePosition(after)
	if err != nil {
		return records{}, err
	}
	if !wait && t.log.Head() <= position {
		return records{}, nil
	}
	got, err := t.log.Tail(ctx, position, limit)
	var damaged *pebblelog.DamagedError
	if errors.As(err, &damaged) {
		r := stream.Record{Err: err, Sequence: formatPosition(damaged.Position)}
		return records{[]stream.Record{r}, []time.Time{time.Now()}}, nil
	}
	if err != nil {
		return records{}, err
	}
	list, at := make([]stream.Record, len(got)), make([]time.Time, len(got))
	for i, r := range got {
		list[i] = stream.Record{Event: r.Event, Replaced: r.Modified, Sequence: formatPosition(r.Position)}
		at[i] = r.At
	}
	return records{list, at}, nil
}

// All implements replica.
func (t tail) All(ctx context.Context, f func([]accepted) error) (string, error) {
	head := t.log.Head()
	for after := ""; after != formatPosition(head) && head > 0; {
		got, err := t.Next(ctx, after, flowBatch, false)
		if err != nil {
			return "", err
		}
		var batch []accepted
		for i, r := range got.list {
			if after = r.Sequence; r.Err == nil {
				batch = append(batch, accepted{r.Event, got.at[i]})
			}
			if after == formatPosition(head) {
				break
			}
		}
		if err := f(batch); err != nil {
			return "", err
		}
	}
	return formatPosition(head), nil
}

// Replicate implements replica.
func (t tail) Replicate(ctx context.Context, batch []accepted) error {
	list := make([]pebblelog.Record, len(batch))
	for i, a := range batch {
		list[i] = pebblelog.Record{Event: a.event, At: a.at}
	}
	return t.log.Replicate(ctx, list)
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
