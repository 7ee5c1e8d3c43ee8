// Package functions_test holds conversations with whole regions: the real API over the real log,
// engine, feed and stream function, as clients and subscribers meet them.
package functions_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/golang-jwt/jwt/v5"

	"parley/events"
	"parley/events/keys"
	"parley/events/keys/keystest"
	"parley/events/logtest"
	"parley/events/pebblelog"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/live"
	"parley/functions/query"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/viewtest"
)

const issuer = "https://issuer.test"

// world is what regions have in common: the time, and an issuer of tokens.
type world struct {
	t    testing.TB
	ns   atomic.Int64 // the time
	step atomic.Int64 // what each look at it adds, so that ids are in the order of what is done
	key  ed25519.PrivateKey
	rate api.Rate

	clock  *events.Clock // of the clients
	tokens sync.Map
}

func newWorld(t testing.TB) *world {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	w := &world{t: t, key: key}
	w.ns.Store(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	w.step.Store(int64(time.Millisecond))
	w.clock = events.NewClock(w.now)
	return w
}

func (w *world) now() time.Time { return time.Unix(0, w.ns.Add(w.step.Load())).UTC() }

func (w *world) pass(d time.Duration) { w.ns.Add(int64(d)) }

// mint is what a client's library does to make an id.
func (w *world) mint(user string, causes ...events.ID) events.ID {
	w.t.Helper()
	id, err := w.clock.Mint(user, causes...)
	must(w.t, err)
	return id
}

// mintAt makes an id of another time than now.
func (w *world) mintAt(user string, at time.Time) events.ID {
	w.t.Helper()
	id, err := events.NewClock(func() time.Time { return at }).Mint(user)
	must(w.t, err)
	return id
}

// claims are those of a good token.
func (w *world) claims(user string) jwt.MapClaims {
	return jwt.MapClaims{"iss": issuer, "sub": user, "exp": w.now().Add(1000 * time.Hour).Unix()}
}

func (w *world) sign(claims jwt.MapClaims) string {
	w.t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(w.key)
	must(w.t, err)
	return token
}

func (w *world) token(user, scope string) string {
	if token, ok := w.tokens.Load(user + " " + scope); ok {
		return token.(string)
	}
	claims := w.claims(user)
	claims["scope"] = scope
	token := w.sign(claims)
	w.tokens.Store(user+" "+scope, token)
	return token
}

// region is one region of a world, on nothing but memory. It hears of another only by [replicate].
type region struct {
	*world
	t       testing.TB
	name    string
	store   *pebblelog.Log
	log     *logtest.Faults   // over store
	views   *viewtest.Faults  // over a model
	model   projections.Views // under views
	keys    *keystest.Model
	ring    *keys.Ring
	clock   *events.Clock
	api     *api.API
	handler http.Handler
	stream  *stream.Handler
	live    *live.Handler
	sockets *sockets
	bus     *bus
	doc     *document
	synced  uint64 // position in the log up to which the stream has been handled
	racing  bool   // several clients at once: what one request did to the log cannot be told
}

func newRegion(t testing.TB) *region {
	t.Helper()
	return newWorld(t).region(t, "eu")
}

func (w *world) region(t testing.TB, name string) *region {
	t.Helper()
	store, err := pebblelog.Open("log", pebblelog.Options{FS: vfs.NewMem(), Now: w.now})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	model := viewtest.NewModel()
	r := &region{
		world: w, t: t, name: name, store: store, log: &logtest.Faults{Log: store},
		views: &viewtest.Faults{Views: model}, model: model, clock: events.NewClock(w.now), bus: &bus{},
		keys: keystest.NewModel(),
	}
	root, err := keys.NewRoot(make([]byte, 32))
	must(t, err)
	r.ring = keys.NewRing(r.keys, root, nil)
	logger := slog.New(slog.DiscardHandler)
	engine := projections.NewEngine(r.log, r.views, projections.All()...)
	auth := api.NewAuth(api.AuthConfig{Issuer: issuer, Now: w.now, Keys: func(*jwt.Token) (any, error) { return w.key.Public(), nil }})
	r.api = api.New(api.Options{Region: name, Auth: auth, Rate: w.rate, Logger: logger, Now: w.now})
	command.Register(r.api, command.Config{Region: name, Log: r.log, Views: r.views, Clock: r.clock, Engine: engine, Logger: logger, Keys: r.ring})
	cursors, err := api.NewCursors(make([]byte, 32))
	must(t, err)
	query.Register(r.api, query.Config{Region: name, Log: r.log, Views: r.views, Cursors: cursors, Keys: r.ring})
	r.handler = r.api.Handler()
	feed := projections.NewFeed(r.views)
	feed.Now = w.now
	r.sockets = newSockets()
	r.live = &live.Handler{
		Region: name, Auth: auth, API: r.handler, Log: r.log, Views: r.views, Cursors: cursors, Keys: r.ring,
		Connections: live.NewMemory(), Sockets: r.sockets, Now: w.now, Logger: logger,
	}
	r.stream = &stream.Handler{Region: name, Engine: engine, Feed: feed, Views: r.views, Bus: r.bus, Log: logger, Push: r.live.Push, Events: r.log, Now: w.now, Keys: r.ring}
	r.doc = readDocument(t, r.api, w.rate.PerSecond > 0)
	return r
}

// Sync handles everything that has been appended since, as the log's stream would bring it.
func (r *region) Sync() {
	r.t.Helper()
	for r.synced < r.store.Head() {
		records := r.records(r.synced)
		done, err := r.stream.Handle(context.Background(), records)
		if err != nil || done != len(records) {
			r.t.Fatalf("stream: %d of %d records handled: %v", done, len(records), err)
		}
		r.synced += uint64(done)
	}
}

// records are the next arrivals, as records of the log's stream.
func (r *region) records(after uint64) []stream.Record {
	r.t.Helper()
	tail, err := r.store.Tail(context.Background(), after, 100)
	must(r.t, err)
	records := make([]stream.Record, len(tail))
	for i, a := range tail {
		records[i] = stream.Record{Event: a.Event, Replaced: a.Modified, Sequence: strconv.FormatUint(a.Position, 10)}
	}
	return records
}

// replicate brings all that was accepted in one region to another, as a global table does, and
// has its stream handle it.
func replicate(from, to *region) {
	to.t.Helper()
	replicateKeys(from, to)
	replicateEvents(from, to)
}

// replicateKeys copies keys, and destroys them, as their table does.
func replicateKeys(from, to *region) {
	to.t.Helper()
	ctx := context.Background()
	for user, err := range from.keys.Users(ctx) {
		must(to.t, err)
		got, err := from.keys.Load(ctx, user)
		must(to.t, err)
		if got.Erased {
			must(to.t, to.keys.Erase(ctx, user))
		}
		for _, key := range got.Wrapped {
			if err := to.keys.Add(ctx, user, key); !errors.Is(err, keys.ErrErased) {
				must(to.t, err)
			}
		}
	}
}

func replicateEvents(from, to *region) {
	to.t.Helper()
	for after := uint64(0); after < from.store.Head(); {
		tail, err := from.store.Tail(context.Background(), after, 1000)
		must(to.t, err)
		must(to.t, to.store.Replicate(context.Background(), tail))
		after += uint64(len(tail))
	}
	to.Sync()
}

// count is how many events a stream holds.
func (r *region) count(s events.Stream) int {
	r.t.Helper()
	n := 0
	for _, err := range r.store.Read(context.Background(), s, events.Range{}) {
		must(r.t, err)
		n++
	}
	return n
}

// bus keeps what is put on it.
type bus struct {
	mu      sync.Mutex
	entries []stream.Entry
	answer  func(call int, entries []stream.Entry) ([]error, error) // nil: all are taken
	calls   int
}

func (b *bus) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	size := 0
	for _, e := range entries {
		size += len(e.Source) + len(e.DetailType) + len(e.Detail) + 14
	}
	if len(entries) == 0 || len(entries) > stream.MaxEntries || size > stream.MaxCallBytes {
		return nil, errors.New("a call beyond the limits of the bus")
	}
	refused := make([]error, len(entries))
	if b.answer != nil {
		var err error
		if refused, err = b.answer(b.calls, entries); err != nil {
			return nil, err
		}
	}
	for i, e := range entries {
		if refused[i] == nil {
			b.entries = append(b.entries, e)
		}
	}
	return refused, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
