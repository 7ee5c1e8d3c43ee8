// Package functions_test holds conversations with whole regions: the real API over the real log,
// engine, feed and stream function, as clients and subscribers meet them.
package functions_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	mathrand "math/rand/v2"
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
	"parley/functions"
	"parley/functions/api"
	"parley/functions/live"
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
	rate int // commands a second of each user; 0: no limit

	quota  *api.Quota // of all regions
	single bool       // each region is a single process

	contacts int // users that each may newly invite in an hour; 0: no limit

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
	w.clock = events.NewClock(w.now, events.NewMarks(nil))
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
	id, err := events.NewClock(func() time.Time { return at }, events.NewMarks(nil)).Mint(user)
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

// signText signs a header and claims as they are written.
func (w *world) signText(header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(w.key, []byte(text)))
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

// region is one region of a world, on nothing but memory. It receives events of another only by [replicate].
type region struct {
	*world
	t         testing.TB
	name      string
	store     *pebblelog.Log
	log       *logtest.Faults   // over store
	views     *viewtest.Faults  // over a model
	model     projections.Views // under views
	keys      *keystest.Model
	ring      *keys.Ring
	clock     *events.Clock
	functions *functions.Region
	api       *api.API
	handler   http.Handler
	stream    *stream.Handler   // one of the instances
	instances []*stream.Handler // of the stream function, each with caches of its own
	random    *mathrand.Rand    // picks the instances
	live      *live.Handler
	sockets   *sockets
	bus       *bus
	doc       *document
	synced    uint64       // position in the log up to which the stream has been handled
	reads     atomic.Int64 // the views and events that were read
	racing    bool         // several clients at once: what one request did to the log is not known
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
		views: &viewtest.Faults{Views: model}, model: model, clock: events.NewClock(w.now, events.NewMarks(nil)), bus: &bus{},
		keys: keystest.NewModel(), sockets: newSockets(),
	}
	root, err := keys.NewRoot(make([]byte, 32))
	must(t, err)
	r.ring = keys.NewRing(r.keys, root, nil)
	cursors, err := api.NewCursors(make([]byte, 32))
	must(t, err)
	if w.quota == nil {
		w.quota = api.NewQuota(w.rate)
	}
	r.functions = functions.New(functions.Parts{
		Region: name, Log: countedLog{r.log, &r.reads}, Views: countedViews{r.views, &r.reads}, Clock: r.clock, Now: w.now, Keys: r.ring,
		Auth:    api.NewAuth(api.AuthConfig{Issuer: issuer, Now: w.now, Keys: api.FixedJWKS("", w.key.Public()), Leeway: api.DefaultLeeway}),
		Cursors: cursors, Quota: w.quota, Contacts: w.contacts, Connections: live.NewMemory(), Sockets: r.sockets, Bus: r.bus, HealthTimeout: time.Second, SingleProcess: w.single,
	})
	r.functions.Generations.Fresh = time.Hour // read now: no test that counts accesses sees it
	_, err = r.functions.Generations.List(context.Background())
	must(t, err)
	r.api, r.live, r.stream = r.functions.API(), r.functions.Live(), r.functions.Stream()
	r.instances = []*stream.Handler{r.stream, r.functions.NewStream(), r.functions.NewStream()}
	r.random = mathrand.New(mathrand.NewPCG(1, 2))
	r.handler = r.api.Handler()
	r.doc = readDocument(t, r.api, w.rate > 0)
	return r
}

// lanes is how many lanes Sync splits the change stream into.
const lanes = 4

// Sync handles everything that has been appended since, as the log's stream would bring it: lane by lane,
// each batch on any instance of the stream function.
func (r *region) Sync() {
	r.t.Helper()
	for r.synced < r.store.Head() {
		records := r.records(r.synced)
		for _, lane := range r.random.Perm(lanes) {
			var own []events.Record
			for _, record := range records {
				if (events.Part{Index: lane, Of: lanes}).Holds(record.Event.Stream) {
					own = append(own, record)
				}
			}
			if len(own) == 0 {
				continue
			}
			instance := r.instances[r.random.IntN(len(r.instances))]
			instance.BusOpens = r.stream.BusOpens
			done, err := instance.Handle(context.Background(), own)
			if err != nil || done != len(own) {
				r.t.Fatalf("stream: %d of %d records handled: %v", done, len(own), err)
			}
		}
		r.synced += uint64(len(records))
	}
}

// records returns the next records of the log's change stream.
func (r *region) records(after uint64) []events.Record {
	r.t.Helper()
	records, err := r.store.Next(context.Background(), strconv.FormatUint(after, 10), 100, true)
	must(r.t, err)
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
	_, err := from.store.Snapshot(context.Background(), func(records []events.Record) error {
		return to.store.Replicate(context.Background(), records)
	})
	must(to.t, err)
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
