package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/keys/dynamokeys"
	"parley/functions/stream"
	"parley/projections/dynamoview"
	"parley/projections/pebbleview"
)

// dynamoPoll is how long an idle stream is left alone between two looks at it, at most; one that
// something was in just now is looked at sooner. Three regions have nine followers, which take
// DynamoDB Local a tenth of a core.
const dynamoPoll = 150 * time.Millisecond

// logMark is the name under which a region's views remember which log they were made from.
const logMark = "log"

// dynamoStorage keeps logs and views in tables of DynamoDB or whatever speaks its protocol, and
// what stands for EventBridge's archive in a folder.
type dynamoStorage struct {
	data     string
	cache    *pebble.Cache
	endpoint dynamolocal.Endpoint
	server   *dynamolocal.Server // nil if it runs by itself
}

// openDynamo connects to the endpoint that the settings name, or starts DynamoDB Local.
func openDynamo(ctx context.Context, s settings, cache *pebble.Cache, stdout io.Writer) (storage, error) {
	d := &dynamoStorage{data: s.data, cache: cache, endpoint: dynamolocal.Endpoint{
		URL: s.endpoint, Key: s.key, Client: dynamolocal.NewClient(),
	}}
	if url := os.Getenv(dynamolocal.Variable); d.endpoint.URL == "" && strings.HasPrefix(url, "http") {
		d.endpoint.URL = url
	}
	if d.endpoint.URL != "" {
		return d, nil
	}
	fmt.Fprintln(stdout, "Starting DynamoDB Local. Its licence is for people with an AWS account:\nhttps://aws.amazon.com/dynamodblocallicense/")
	var err error
	if d.server, err = dynamolocal.Start(ctx, dynamolocal.Options{Data: filepath.Join(s.data, "dynamodb")}); err != nil {
		cache.Unref()
		return nil, err
	}
	d.endpoint.URL = d.server.URL
	return d, nil
}

// close implements storage.
func (d *dynamoStorage) close() error {
	d.endpoint.Client.CloseIdleConnections()
	if d.server != nil {
		d.server.Close()
	}
	d.cache.Unref()
	return nil
}

// open implements storage.
func (d *dynamoStorage) open(ctx context.Context, region string, log *slog.Logger) (_ *store, err error) {
	cfg := d.endpoint.Config(region)
	eventTable, viewTable, keyTable := "parley-"+region+"-events", "parley-"+region+"-views", "parley-"+region+"-keys"
	err = errors.Join(dynamolog.CreateTable(ctx, cfg, eventTable), dynamoview.CreateTable(ctx, cfg, viewTable), dynamokeys.CreateTable(ctx, cfg, keyTable))
	if err != nil {
		return nil, fmt.Errorf("make the tables at %s: %w", d.endpoint.URL, err)
	}
	l, views := dynamolog.New(cfg, eventTable), dynamoview.New(cfg, viewTable)
	db, err := pebbleview.Open(filepath.Join(d.data, region, "bus"), pebbleview.Options{Cache: d.cache, Logger: log})
	if err != nil {
		return nil, err
	}
	s := &store{log: l, views: views, keys: dynamokeys.New(cfg, keyTable), marks: &syncedMarks{newViewMarks(views), db}, busDB: db, closers: []io.Closer{db}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.identity, err = l.Identity(ctx); err != nil {
		return nil, err
	}
	made, err := s.marks.load(ctx, logMark)
	if err != nil {
		return nil, err
	}
	if made != "" && made != s.identity {
		return nil, fmt.Errorf("the views in table %s were made from another event table than %s: delete the table of views, it will be made again", viewTable, eventTable)
	}
	if err := s.marks.save(ctx, logMark, s.identity); err != nil {
		return nil, err
	}
	s.follow = func() replica {
		return &follower{log: l, stream: dynamolog.NewStream(cfg, eventTable, dynamolog.StreamPoll(dynamoPoll))}
	}
	s.check = func(string) error { return nil } // the stream recognises its checkpoints
	return s, nil
}

// syncedMarks are marks that outlive a crash, where the bus does not by itself: before a mark is
// saved the bus is made durable.
type syncedMarks struct {
	marks
	bus *pebble.DB
}

// save implements marks.
func (m *syncedMarks) save(ctx context.Context, name, mark string) error {
	batch := m.bus.NewBatch()
	if err := errors.Join(batch.LogData(nil, nil), m.bus.ApplyNoSyncWait(batch, pebble.Sync), batch.SyncWait(), batch.Close()); err != nil {
		return fmt.Errorf("make the bus durable: %w", err)
	}
	return m.marks.save(ctx, name, mark)
}

// follower is the [replica] of a region whose log is in DynamoDB: a sequence is a checkpoint of
// its stream.
type follower struct {
	log    *dynamolog.Log
	stream *dynamolog.Stream

	ahead chan reading // the read under way; nil: there is none
	read  time.Time    // when the last read came back: what comes in the next was not there then
}

// reading is what a read of the stream brought.
type reading struct {
	changes []dynamolog.Change
	err     error
}

// Next implements source. Asked not to wait, it reads on in the background, for the next call:
// that call must go on behind what the last one returned.
func (f *follower) Next(ctx context.Context, after string, limit int, wait bool) (records, error) {
	if f.ahead == nil {
		ahead := make(chan reading, 1)
		go func() {
			changes, err := f.stream.Next(ctx, after, limit)
			ahead <- reading{changes, err}
		}()
		f.ahead = ahead
	}
	var got reading
	if wait {
		got = <-f.ahead
	} else {
		select {
		case got = <-f.ahead:
		default:
			return records{}, nil
		}
	}
	f.ahead = nil
	if trimmed, ok := errors.AsType[*dynamolog.TrimmedError](got.err); ok {
		return records{}, &trimmedError{trimmed.Resume}
	}
	if got.err != nil {
		return records{}, got.err
	}
	return f.records(got.changes), nil
}

// records returns changes as records. When an item was written the stream tells too coarsely
// (DynamoDB Local to the minute), and an id only says when its client minted it: that is kept
// within the time since the last read.
func (f *follower) records(changes []dynamolog.Change) records {
	now := time.Now()
	r := records{make([]stream.Record, len(changes)), make([]time.Time, len(changes))}
	for i, c := range changes {
		r.list[i] = stream.Record{Event: c.Event, Replaced: c.Replaced, Err: c.Err, Raw: c.Raw, Sequence: c.Sequence}
		r.at[i] = c.Event.ID.Timestamp()
		if r.at[i].Before(f.read) {
			r.at[i] = f.read
		}
		if r.at[i].After(now) {
			r.at[i] = now
		}
	}
	f.read = now
	return r
}

// All implements replica. The stream goes on from its beginning, up to a day ago: most of what
// it tells first is known.
func (f *follower) All(ctx context.Context, do func([]accepted) error) (string, error) {
	const page = 1000
	batch := make([]accepted, 0, page)
	for e, err := range f.log.Scan(ctx, events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			return "", err
		}
		if batch = append(batch, accepted{event: e}); len(batch) < page {
			continue
		}
		if err := do(batch); err != nil {
			return "", err
		}
		batch = make([]accepted, 0, page)
	}
	if len(batch) == 0 {
		return "", nil
	}
	return "", do(batch)
}

// Replicate implements replica.
func (f *follower) Replicate(ctx context.Context, batch []accepted) error {
	list := make([]events.Event, len(batch))
	for i, a := range batch {
		list[i] = a.event
	}
	return f.log.Replicate(ctx, list)
}
