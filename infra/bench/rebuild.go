package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/pebbledb"
	"parley/events/pebblelog"
	"parley/projections"
	"parley/projections/dynamoview"
	"parley/projections/pebbleview"
)

// rebuild compares a rebuild of all views with a bare scan of the log that decodes every event, in as
// many parts: on the embedded stores and on DynamoDB Local.
func (b *bench) rebuild(ctx context.Context) (err error) {
	log, err := pebblelog.Open(filepath.Join(b.dir, "rebuild", "log"), pebblelog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	db, err := pebbleview.Open(filepath.Join(b.dir, "rebuild", "views"), pebbledb.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := b.rebuildOn(ctx, "embedded", log, pebbleview.New(db, 'v'), b.rows/5, 2); err != nil {
		return err
	}
	return onDynamoDB(ctx, func(place dynamolocal.Endpoint) error {
		cfg := place.Config("us-east-1")
		if err := errors.Join(dynamolog.CreateTable(ctx, cfg, "events"), dynamoview.CreateTable(ctx, cfg, "views")); err != nil {
			return err
		}
		return b.rebuildOn(ctx, "DynamoDB Local", dynamolog.New(cfg, "events"), dynamoview.New(cfg, "views"), b.rows/50, 4)
	})
}

// rebuildOn fills a log with n events and measures scans, rebuilds and audits in turns.
func (b *bench) rebuildOn(ctx context.Context, name string, log events.Log, views projections.Views, n, parts int) error {
	if err := appendActivity(ctx, log, n); err != nil {
		return err
	}
	rebuilder := projections.NewRebuilder(log, views, projections.NewGenerations(views))
	rebuilder.Grace, rebuilder.Confirm, rebuilder.Parts = 0, 0, parts
	var scans, folds, wholes, audits []float64
	for round := range b.rounds + 1 {
		build, err := projections.NewRebuild(fmt.Sprint("rebuild ", round))
		if err != nil {
			return err
		}
		audit, err := projections.NewAudit(fmt.Sprint("audit ", round), false)
		if err != nil {
			return err
		}
		scan, err := scanRate(ctx, log, parts)
		if err != nil {
			return err
		}
		fold, whole, err := buildRate(ctx, rebuilder, build)
		if err != nil {
			return err
		}
		if build.Events() < int64(n) || round > 0 && build.Compared.Differ > 0 {
			return fmt.Errorf("the rebuild folded %d events of %d, and %d views differ", build.Events(), n, build.Compared.Differ)
		}
		if err := dropPrevious(ctx, rebuilder); err != nil {
			return err
		}
		_, audited, err := buildRate(ctx, rebuilder, audit)
		if err != nil {
			return err
		}
		if round > 0 { // the first has no views to compare with
			scans, folds, wholes, audits = append(scans, scan), append(folds, fold), append(wholes, whole), append(audits, audited)
		}
	}
	limit := median(scans)
	b.printf("   %s, %d events, %d parts side by side; events/s\n", name, n, parts)
	b.printf("     bare scan, decoding        %8.0f\n", limit)
	for _, line := range []struct {
		what  string
		rates []float64
	}{{"rebuild of all views (aim 0.5)", folds}, {"with comparing them", wholes}, {"audit: build, compare, drop", audits}} {
		b.printf("     %-30s %8.0f, %.2f of it\n", line.what, median(line.rates), median(line.rates)/limit)
	}
	return nil
}

// buildRate takes a rebuild to its end and returns the events a second of its fold, and of all.
func buildRate(ctx context.Context, rebuilder *projections.Rebuilder, b *projections.Rebuild) (fold, whole float64, err error) {
	start := time.Now()
	var folding time.Duration
	for b.Phase != projections.Done {
		phase, at := b.Phase, time.Now()
		if err := rebuilder.Step(ctx, b); err != nil {
			return 0, 0, err
		}
		if phase == projections.Fold {
			folding += time.Since(at)
		}
	}
	n := float64(b.Events())
	return n / folding.Seconds(), n / time.Since(start).Seconds(), nil
}

// dropPrevious drops the previous generations of all projections.
func dropPrevious(ctx context.Context, rebuilder *projections.Rebuilder) error {
	var names []string
	for _, p := range projections.All() {
		names = append(names, p.Name())
	}
	d, err := projections.NewDrop(names...)
	for err == nil && d.Phase != projections.Done {
		err = rebuilder.StepDrop(ctx, d)
	}
	return err
}

// scanRate returns how many events a second the parts of a log yield side by side.
func scanRate(ctx context.Context, log events.Log, parts int) (float64, error) {
	counts := make([]int, parts)
	start := time.Now()
	err := forEach(ctx, parts, parts, func(ctx context.Context, i int) error {
		for _, err := range log.Scan(ctx, events.Part{Index: i, Of: parts}, events.Key{}) {
			if err != nil {
				return err
			}
			counts[i]++
		}
		return nil
	})
	n := 0
	for _, count := range counts {
		n += count
	}
	return float64(n) / time.Since(start).Seconds(), err
}

// appendActivity appends n events to a log in the proportions of usual conversations: of 20 events 13 are
// messages, 2 replies in a thread, 3 reactions, one an edit and one a read marker. They are spread over
// 200 rooms, half of them in the first.
func appendActivity(ctx context.Context, log events.Log, n int) error {
	rooms, last := make([]events.Stream, 200), make([]events.ID, 200)
	author := func(i int) string { return user(i % 50) }
	return appendEvents(ctx, log, n, time.Now().Add(-24*time.Hour), author, func(i int, id events.ID) (events.Stream, events.Payload) {
		at := (i / 2 % len(rooms)) * (i % 2)
		stream, target := rooms[at], last[at]
		var payload events.Payload = events.MessagePosted{Text: events.Plain(text)}
		switch kind := i / 2 % 20; {
		case stream == "":
			stream, payload = events.RoomStream(id.String()), events.RoomCreated{Name: "a room"}
			rooms[at] = stream
		case target == (events.ID{}):
			last[at] = id
		case kind < 2:
			payload = events.MessagePosted{Text: events.Plain(text), Thread: &target}
		case kind < 5:
			payload = events.ReactionAdded{Message: target, Emoji: ":tada:"}
		case kind == 5:
			payload = events.MessageEdited{Message: target, Text: events.Plain(text)}
		case kind == 6:
			payload, stream = events.RoomRead{Room: stream.Name(), UpTo: target}, events.UserStream(author(i))
		default:
			last[at] = id
		}
		return stream, payload
	})
}
