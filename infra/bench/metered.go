package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/dynamoview"
)

const meteredRegion = "us-east-1"

// metered is one region on DynamoDB, in a place of its own, whose calls are counted: the functions
// of AWS without anything between them.
type metered struct {
	place      dynamolocal.Endpoint
	meter      *dynamolocal.Meter
	log        *tap
	logTable   string
	viewsTable string
	clock      *events.Clock
	api        http.Handler
	stream     *stream.Handler
	ring       *keys.Ring // what it asks of its table is not counted: a process asks once for each user
	key        ed25519.PrivateKey
}

func openMetered(ctx context.Context, place dynamolocal.Endpoint) (*metered, error) {
	place.Key = dynamolocal.NewKey()
	r := &metered{
		place: place, meter: &dynamolocal.Meter{},
		logTable: "events", viewsTable: "views", clock: events.NewClock(time.Now),
	}
	cfg := r.meter.Watch(r.place.Config(meteredRegion))
	if err := dynamolog.CreateTable(ctx, cfg, r.logTable); err != nil {
		return nil, err
	}
	r.log = &tap{Log: dynamolog.New(cfg, r.logTable)}
	var err error
	if r.ring, err = newRing(ctx, r.place); err != nil {
		return nil, err
	}
	if r.stream, err = r.streamInto(ctx, r.viewsTable); err != nil {
		return nil, err
	}
	return r, r.serve()
}

// newRing returns a ring of keys in a table of its own.
func newRing(ctx context.Context, place dynamolocal.Endpoint) (*keys.Ring, error) {
	const table = "keys"
	cfg := place.Config(meteredRegion)
	if err := dynamokeys.CreateTable(ctx, cfg, table); err != nil {
		return nil, err
	}
	root := make([]byte, 32)
	_, _ = rand.Read(root) // never fails
	wrapper, err := keys.NewRoot(root)
	return keys.NewRing(dynamokeys.New(cfg, table), wrapper, nil), err
}

// streamInto returns a stream function with views in a table of that name.
func (r *metered) streamInto(ctx context.Context, table string) (*stream.Handler, error) {
	cfg := r.meter.Watch(r.place.Config(meteredRegion))
	if err := dynamoview.CreateTable(ctx, cfg, table); err != nil {
		return nil, err
	}
	views := dynamoview.New(cfg, table)
	return &stream.Handler{
		Region: meteredRegion, Engine: projections.NewEngine(r.log, views, projections.All()...),
		Feed: projections.NewFeed(views), Views: views, Events: r.log, Bus: &countingBus{}, Keys: r.ring,
	}, nil
}

// serve wires the region's commands.
func (r *metered) serve() error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	r.key = private
	quiet := slog.New(slog.DiscardHandler)
	auth := api.NewAuth(api.AuthConfig{Issuer: "bench", Keys: func(*jwt.Token) (any, error) { return public, nil }})
	a := api.New(api.Options{Region: meteredRegion, Auth: auth, Logger: quiet})
	command.Register(a, command.Config{
		Region: meteredRegion, Log: r.log, Views: r.stream.Views, Clock: r.clock, Logger: quiet, Keys: r.ring,
		Engine: projections.NewEngine(r.log, r.stream.Views,
			projections.Rooms, projections.Members, projections.Users, projections.Inboxes),
	})
	r.api = a.Handler()
	return nil
}

// send sends a command as a user, with a body of JSON or none. It fails unless the command is
// accepted.
func (r *metered) send(ctx context.Context, method, path, user, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	if err != nil {
		return err
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "bench", "sub": user, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(r.key)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	got := answer{header: http.Header{}}
	r.api.ServeHTTP(&got, req)
	if got.status >= 300 {
		return fmt.Errorf("%s: status %d: %s", method, got.status, got.body.String())
	}
	return nil
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// said is an event in the making.
type said struct {
	actor   string
	stream  events.Stream
	payload events.Payload
	id      events.ID // the zero id: any
}

// given lets events happen that are not measured, and returns their ids.
func (r *metered) given(ctx context.Context, all []said) ([]events.ID, error) {
	records, ids := make([]stream.Record, len(all)), make([]events.ID, len(all))
	group, appending := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, s := range all {
		id, err := s.id, error(nil)
		if id == (events.ID{}) {
			id, err = r.clock.Mint(s.actor)
		}
		if err != nil {
			return nil, err
		}
		e, err := events.New(id, s.stream, s.actor, meteredRegion, s.payload)
		if err != nil {
			return nil, err
		}
		records[i], ids[i] = stream.Record{Event: e}, id
		group.Go(func() error {
			_, _, err := r.log.Log.Append(appending, e)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	_, err := r.stream.Handle(ctx, records)
	r.meter.Take()
	return ids, err
}

// used is what was used meanwhile.
type used struct{ log, views, read float64 }

// take returns what was used since it was last asked, the views being in a table of that name.
func (r *metered) take(viewsTable string) used {
	var u used
	for use, units := range r.meter.Take() {
		switch use.Table {
		case r.logTable:
			u.log += units.Write
		case viewsTable:
			u.views += units.Write
		}
		u.read += units.Read
	}
	return u
}

// and is the cost of commands and of what the stream function made of them.
func (u used) and(handled used) cost {
	return cost{u.log, u.views + handled.views, u.read, handled.read}
}

// tap remembers what was appended to a log, in the form in which the log's stream brings it.
type tap struct {
	events.Log
	mu       sync.Mutex
	appended []stream.Record
}

// Append implements [events.Log].
func (t *tap) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	stored, repeat, err := t.Log.Append(ctx, e)
	if err == nil && !repeat {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.appended = append(t.appended, stream.Record{Event: stored})
	}
	return stored, repeat, err
}

func (t *tap) take() []stream.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	records := t.appended
	t.appended = nil
	return records
}

// countingBus takes everything and counts it.
type countingBus struct{ taken int }

// Publish implements [stream.Bus].
func (b *countingBus) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	b.taken += len(entries)
	return make([]error, len(entries)), nil
}
