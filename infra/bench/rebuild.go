package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/pebblelog"
	"parley/projections"
	"parley/projections/dynamoview"
	"parley/projections/pebbleview"
)

// compareRebuild holds a rebuild of all views against a bare scan of the log that decodes every
// event, in as many parts: on the embedded stores and on DynamoDB Local.
func compareRebuild(ctx context.Context, o options, bin *binaries, out io.Writer) error {
	if err := rebuildEmbedded(ctx, o, filepath.Join(bin.dir, "rebuild"), out); err != nil {
		return err
	}
	return rebuildDynamo(ctx, o, out)
}

func rebuildEmbedded(ctx context.Context, o options, dir string, out io.Writer) (err error) {
	log, err := pebblelog.Open(filepath.Join(dir, "log"), pebblelog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = closing(log, err) }()
	db, err := pebbleview.Open(filepath.Join(dir, "views"), pebbleview.Options{})
	if err != nil {
		return err
	}
	defer func() { err = closing(db, err) }()
	return rebuildOn(ctx, "embedded", log, pebbleview.New(db, 'v'), o.rows/5, 2, o.rounds, out)
}

func rebuildDynamo(ctx context.Context, o options, out io.Writer) error {
	server, err := dynamolocal.Start(ctx, dynamolocal.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	client := dynamolocal.NewClient()
	defer client.CloseIdleConnections()
	cfg := dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey(), Client: client}.Config("us-east-1")
	if err := dynamolog.CreateTable(ctx, cfg, "events"); err != nil {
		return err
	}
	if err := dynamoview.CreateTable(ctx, cfg, "views"); err != nil {
		return err
	}
	return rebuildOn(ctx, "DynamoDB Local", dynamolog.New(cfg, "events"), dynamoview.New(cfg, "views"), o.rows/50, 4, o.rounds, out)
}

// rebuildOn fills a log with n events and takes the rates of scans and rebuilds in turns.
func rebuildOn(ctx context.Context, name string, log events.Log, views projections.Views, n, parts, rounds int, out io.Writer) error {
	if err := talk(ctx, log, n); err != nil {
		return err
	}
	gens := projections.NewGenerations(views)
	rebuilder := projections.NewRebuilder(log, views, gens)
	rebuilder.Grace, rebuilder.Settle, rebuilder.Parts = 0, 0, parts
	var scans, folds, wholes, audits []float64
	first, err := projections.NewRebuild("first") // beside which the others are built
	if err == nil {
		_, _, err = stepThrough(ctx, rebuilder, first)
	}
	if err == nil {
		err = dropPrevious(ctx, rebuilder)
	}
	if err != nil {
		return err
	}
	for round := range rounds {
		rate, err := scanRate(ctx, log, parts)
		if err != nil {
			return err
		}
		scans = append(scans, rate)
		b, err := projections.NewRebuild(fmt.Sprint("rebuild ", round))
		if err != nil {
			return err
		}
		fold, whole, err := stepThrough(ctx, rebuilder, b)
		if err != nil {
			return err
		}
		if b.Events() < int64(n) || b.Compared.Differ > 0 {
			return fmt.Errorf("the rebuild folded %d events of %d, and %d views differ", b.Events(), n, b.Compared.Differ)
		}
		folds, wholes = append(folds, fold), append(wholes, whole)
		if err := dropPrevious(ctx, rebuilder); err != nil {
			return err
		}
		if b, err = projections.NewAudit(fmt.Sprint("audit ", round), false); err != nil {
			return err
		}
		if _, whole, err = stepThrough(ctx, rebuilder, b); err != nil {
			return err
		}
		audits = append(audits, whole)
	}
	scan := median(scans)
	fmt.Fprintf(out, "   %s, %d events, %d parts side by side; events/s\n", name, n, parts)
	fmt.Fprintf(out, "     bare scan, decoding        %8.0f\n", scan)
	fmt.Fprintf(out, "     rebuild of all views       %8.0f, %.2f of it (aim 0.5)\n", median(folds), median(folds)/scan)
	fmt.Fprintf(out, "     and comparing them         %8.0f, %.2f of it\n", median(wholes), median(wholes)/scan)
	fmt.Fprintf(out, "     audit of all views         %8.0f, %.2f of it: build, compare, drop\n", median(audits), median(audits)/scan)
	return nil
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

// stepThrough takes a rebuild to its end and returns the events a second of its fold, and of all.
func stepThrough(ctx context.Context, rebuilder *projections.Rebuilder, b *projections.Rebuild) (fold, whole float64, err error) {
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

// scanRate is how many events a second the parts of a log bring, side by side.
func scanRate(ctx context.Context, log events.Log, parts int) (float64, error) {
	counts := make([]int, parts)
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range parts {
		group.Go(func() error {
			for _, err := range log.Scan(ctx, events.Part{Index: i, Of: parts}, events.Key{}) {
				if err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	err := group.Wait()
	n := 0
	for _, count := range counts {
		n += count
	}
	return float64(n) / time.Since(start).Seconds(), err
}

// talkRooms is over how many rooms the events of a rebuild are spread; half are in the first.
const talkRooms = 200

// talk appends n events to a log, in the proportions of usual talk: of 20 events 13 are messages, 2
// replies in a thread, 3 reactions, one an edit and one a read marker.
func talk(ctx context.Context, log events.Log, n int) error {
	tick := time.Now().Add(-24 * time.Hour)
	clock := events.NewClock(func() time.Time { return tick })
	rooms := make([]events.Stream, talkRooms)
	last := make([]events.ID, talkRooms)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(256)
	put := func(stream events.Stream, actor string, p events.Payload) (events.ID, error) {
		tick = tick.Add(time.Millisecond)
		id, err := clock.Mint(actor)
		if err != nil {
			return id, err
		}
		if room, ok := p.(events.RoomCreated); ok && room.Name != "" {
			stream = events.RoomStream(id.String())
		}
		e, err := events.New(id, stream, actor, "us-east-1", p)
		if err != nil {
			return id, err
		}
		group.Go(func() error {
			_, _, err := log.Append(ctx, e)
			return err
		})
		return id, nil
	}
	for i := range n {
		at := (i / 2 % talkRooms) * (i % 2) // every other event is in the first
		actor := user(i % 50)
		var payload events.Payload = events.MessagePosted{Text: events.Plain(text)}
		stream, mine := rooms[at], last[at]
		switch kind := i / 2 % 20; {
		case stream == "":
			payload = events.RoomCreated{Name: "a room"}
		case mine == (events.ID{}):
		case kind < 2:
			payload = events.MessagePosted{Text: events.Plain(text), Thread: &mine}
		case kind < 5:
			payload = events.ReactionAdded{Message: mine, Emoji: ":tada:"}
		case kind == 5:
			payload = events.MessageEdited{Message: mine, Text: events.Plain(text)}
		case kind == 6:
			payload, stream = events.RoomRead{Room: stream.Name(), UpTo: mine}, events.UserStream(actor)
		}
		id, err := put(stream, actor, payload)
		if err != nil {
			return err
		}
		switch p := payload.(type) {
		case events.RoomCreated:
			rooms[at] = events.RoomStream(id.String())
		case events.MessagePosted:
			if p.Thread == nil {
				last[at] = id
			}
		}
	}
	return group.Wait()
}
