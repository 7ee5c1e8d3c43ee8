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
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/keys/dynamokeys"
	"parley/events/pebbledb"
	"parley/projections/dynamoview"
	"parley/projections/pebbleview"
)

// dynamoPoll is the longest time between two reads of an idle change stream; an active one is read more
// often. Nine readers of three regions cost DynamoDB Local a tenth of a core; all lanes of a region share one.
const dynamoPoll = 150 * time.Millisecond

// logCheckpoint is the name of the checkpoint that holds the identity of the log of a region's views.
const logCheckpoint = "log"

// dynamoStorage keeps logs and views in tables of DynamoDB or a compatible server, and the archive of the
// bus in a folder.
type dynamoStorage struct {
	data     string
	cache    *pebble.Cache
	endpoint dynamolocal.Endpoint
	server   *dynamolocal.Server // nil if this process did not start it
	stop     context.CancelFunc  // ends keepServer
	kept     chan struct{}       // closed when keepServer has ended
}

// openDynamo connects to the endpoint that the settings name, or starts DynamoDB Local.
func openDynamo(ctx context.Context, s settings, cache *pebble.Cache, stdout io.Writer, log *slog.Logger) (storage, error) {
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
	if d.server, err = dynamolocal.Start(ctx, dynamolocal.Options{Data: d.tables()}); err != nil {
		cache.Unref()
		return nil, err
	}
	d.endpoint.URL = d.server.URL
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.kept = make(chan struct{})
	go d.keepServer(ctx, log)
	return d, nil
}

// tables is the folder of DynamoDB Local.
func (d *dynamoStorage) tables() string { return filepath.Join(d.data, "dynamodb") }

// keepServer starts DynamoDB Local again when it has ended by itself, at the same address, until ctx ends.
func (d *dynamoStorage) keepServer(ctx context.Context, log *slog.Logger) {
	defer close(d.kept)
	for tries := 0; ; {
		select {
		case <-d.server.Exited():
		case <-ctx.Done():
			return
		}
		log.ErrorContext(ctx, "DynamoDB Local has ended; it is started again", "output", d.server.Output())
		tries++
		if reopenBackoff.Wait(ctx, tries) != nil {
			return
		}
		server, err := dynamolocal.Start(ctx, dynamolocal.Options{Data: d.tables(), Port: d.server.Port})
		if err != nil {
			log.ErrorContext(ctx, "DynamoDB Local cannot be started again", "error", err)
			continue
		}
		d.server, tries = server, 0
	}
}

// close implements storage.
func (d *dynamoStorage) close() error {
	d.endpoint.Client.CloseIdleConnections()
	if d.server != nil {
		d.stop()
		<-d.kept
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
		return nil, fmt.Errorf("create the tables at %s: %w", d.endpoint.URL, err)
	}
	l, views := dynamolog.New(cfg, eventTable), dynamoview.New(cfg, viewTable)
	disk := pebbledb.NewDisk(nil)
	db, err := pebbleview.Open(filepath.Join(d.data, region, "bus"), pebbledb.Options{
		FS: disk, Cache: d.cache, Logger: log, Corrupt: func(err error) { disk.Fail(&damage{damagedViews, err}) },
	})
	if err != nil {
		return nil, damaged(damagedViews, err)
	}
	s := &store{
		log: l, views: views, keys: dynamokeys.New(cfg, keyTable), checkpoints: &syncedCheckpoints{newViewCheckpoints(views), db, disk},
		busDB: db, disk: disk, closers: []io.Closer{db},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.identity, err = l.Identity(ctx); err != nil {
		return nil, err
	}
	made, err := s.checkpoints.load(ctx, logCheckpoint)
	if err != nil {
		return nil, err
	}
	if made != "" && made != s.identity {
		return nil, fmt.Errorf("the views in table %s belong to another event table than %s: delete the table of views; it is rebuilt", viewTable, eventTable)
	}
	if err := s.checkpoints.save(ctx, logCheckpoint, s.identity); err != nil {
		return nil, err
	}
	s.follow = func() events.Replica {
		return dynamolog.NewChangeReader(cfg, eventTable, dynamolog.PollEvery(dynamoPoll))
	}
	shared := newSharedStream(s.follow)
	s.lane = func(events.Part) events.Replica { return shared.follow() }
	s.check = func(string) error { return nil } // the change stream rejects checkpoints of another stream
	return s, nil
}

// identity implements storage.
func (d *dynamoStorage) identity(string) string { return "" }

// probe implements storage.
func (d *dynamoStorage) probe(region string) error {
	return pebbledb.Probe(vfs.Default, filepath.Join(d.data, region))
}

// repair implements storage. Only the archive of the bus can be damaged here.
func (d *dynamoStorage) repair(_ context.Context, region string, _ damagedPart, _ *slog.Logger) error {
	return os.RemoveAll(filepath.Join(d.data, region, "bus"))
}

// syncedCheckpoints are checkpoints in another store than the bus: the bus is made durable before a
// checkpoint is saved.
type syncedCheckpoints struct {
	checkpoints
	bus  *pebble.DB
	disk *pebbledb.Disk // under the bus
}

// save implements checkpoints.
func (m *syncedCheckpoints) save(ctx context.Context, name, checkpoint string) error {
	batch := m.bus.NewBatch()
	if err := errors.Join(batch.LogData(nil, nil), batch.Commit(pebble.Sync), m.disk.Err()); err != nil {
		return fmt.Errorf("make the bus durable: %w", err)
	}
	return m.checkpoints.save(ctx, name, checkpoint)
}
