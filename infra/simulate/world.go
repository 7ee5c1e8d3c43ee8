package main

import (
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/live"
	"parley/functions/stream"
)

// Options say how a schedule is run.
type Options struct {
	Trace  bool   // keep the lines of the trace
	Ports  bool   // and of each call of a port
	Plant  string // the name of a planted bug; "" is none
	Stores string // what logs, views and keys are stored in: memory (or ""), pebble
}

// Result is what became of a run.
type Result struct {
	// Hash is that of the trace: the same for the same schedule, in every process.
	Hash    uint64
	Failure *Failure // nil if every promise was kept
	// Kinds and Faults count the steps taken and the faults that occurred, by name.
	Kinds, Faults map[string]int
	Trace         []Line // empty unless [Options.Trace] is set
}

// Run runs a schedule in a world of its own. It does not fail t because of a promise that was not kept.
func Run(t *testing.T, s Schedule, o Options) (result Result) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, o)
		defer w.close()
		go func() {
			defer w.scheduler.end()
			w.run()
		}()
		w.scheduler.run()
		w.trace.next(0)
		result = Result{Hash: w.trace.hash, Failure: w.failure, Kinds: w.kinds, Faults: w.trace.faults, Trace: w.trace.lines}
	})
	return result
}

// world is everything in a run: regions, the network between them, users and their clients.
type world struct {
	t        *testing.T
	schedule Schedule
	options  Options
	plant    plant
	trace    *trace
	kinds    map[string]int

	marks   events.Marks
	root    keys.Wrapper
	cursors *api.Cursors

	regions   []*region
	cut       map[[2]int]bool // links, from and to
	scheduler scheduler
	together  bool // several steps are taken at the same time

	users     []string
	rooms     []*room
	messages  []*message
	commands  []*command
	followers []*follower
	listeners []*listener
	first     map[place]time.Time // when a region handled an event first
	erased    map[string]bool     // users whose erasure was asked for

	settling bool
	mu       sync.Mutex
	failure  *Failure
	closers  []func() error
}

// place is an event in a region.
type place struct {
	region int
	key    events.Key
}

var (
	userNames   = []string{"ada", "bob", "eve", "dan", "fay", "gil", "hal", "ida", "jon", "kim", "leo", "mia", "ned", "oda", "pia", "quy", "ron", "sue", "tom", "una"}
	regionNames = []string{"eu", "us", "ap", "sa", "af"}
)

const operator = "operator"

func newWorld(t *testing.T, s Schedule, o Options) *world {
	w := &world{
		t: t, schedule: s, options: o, plant: planted(o.Plant), kinds: map[string]int{}, marks: events.NewMarks(nil),
		trace:     &trace{began: time.Now(), keep: o.Trace, ports: o.Ports, faults: map[string]int{}, nth: map[uint64]int{}},
		scheduler: scheduler{seed: s.Seed, wake: make(chan struct{}, 1)},
		cut:       map[[2]int]bool{}, first: map[place]time.Time{}, erased: map[string]bool{},
	}
	var err error
	if w.root, err = keys.NewRoot(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if w.cursors, err = api.NewCursors(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	w.begin(Step{N: -1})
	w.users = userNames[:s.Users]
	for i, name := range regionNames[:s.Regions] {
		w.regions = append(w.regions, newRegion(w, i, name))
	}
	return w
}

func (w *world) close() {
	for _, r := range w.regions {
		for _, p := range slices.Concat(r.workers, r.servers) {
			p.end()
		}
	}
	for _, closeStore := range w.closers {
		if err := closeStore(); err != nil {
			w.fail("close", "cannot close a store: %v", err)
		}
	}
}

// begin begins a step: what is random in it follows from the seed and its N.
func (w *world) begin(s Step) {
	w.trace.next(s.N)
	cryptotest.SetGlobalRandom(w.t, mix(w.schedule.Seed, uint64(s.N)))
}

// faultsOf is how many of a thousand calls of ports fail in a step. In most steps none do, so that something
// happens.
func (w *world) faultsOf(s Step) int {
	if s.Calm || s.N < 0 || mix(w.schedule.Seed, uint64(s.N), 1)%4 != 0 {
		return 0
	}
	return w.schedule.Faults * 4
}

// fail notes that a promise was not kept. The first one counts.
func (w *world) fail(check, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = &Failure{Step: w.trace.step, Check: check, Text: fmt.Sprintf(format, args...)}
		w.trace.note("world", "check", "", "%s: %s", check, w.failure.Text)
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure != nil
}

// run takes all steps, lets the world settle, and checks.
func (w *world) run() {
	w.populate()
	for steps := w.schedule.Steps; len(steps) > 0 && !w.failed(); {
		n := 1
		if w.schedule.Interleaved {
			n = min(1+int(mix(w.schedule.Seed, uint64(steps[0].N), 2)%4), len(steps))
		}
		w.take(steps[:n])
		steps = steps[n:]
	}
	if w.failed() {
		return
	}
	w.settle()
	if !w.failed() {
		w.check()
	}
}

// take takes steps, more than one of them at the same time.
func (w *world) take(steps []Step) {
	s := steps[0]
	w.begin(s)
	for _, r := range w.regions {
		r.revive()
	}
	// Ids of different milliseconds, and now and then a pause in which something arrives.
	pause := time.Duration(1+mix(w.schedule.Seed, uint64(s.N), 3)%300) * time.Millisecond
	if pause%8 == 0 {
		pause *= 10
	}
	time.Sleep(pause)
	for _, s := range steps {
		w.kinds[s.Kind]++
		w.trace.note("world", "step", "", "%s", s.Kind)
	}
	if len(steps) == 1 {
		kindOf(s.Kind).do(w, s)
		return
	}
	w.together = true
	var left sync.WaitGroup
	for i, s := range steps {
		left.Go(func() {
			w.scheduler.park(uint64(i))
			kindOf(s.Kind).do(w, s)
		})
	}
	left.Wait()
	w.together = false
}

// scheduler lets the goroutines of a world proceed one at a time, in an order that the seed decides: each from one
// call of a port to the next. So it does not matter how the goroutines are run in fact.
type scheduler struct {
	seed    uint64
	mu      sync.Mutex
	waiting []turn
	over    bool
	wake    chan struct{} // holds one after a goroutine was parked, or the world is over
}

// turn is a goroutine that waits.
type turn struct {
	key   uint64
	comes chan struct{}
}

// park waits until it is the turn of the calling goroutine. The key must tell its call from those of others.
func (d *scheduler) park(key uint64) {
	t := turn{key, make(chan struct{})}
	d.mu.Lock()
	d.waiting = append(d.waiting, t)
	d.mu.Unlock()
	d.signal()
	<-t.comes
}

func (d *scheduler) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// end ends the scheduler.
func (d *scheduler) end() {
	d.mu.Lock()
	d.over = true
	d.mu.Unlock()
	d.signal()
}

// run gives turns until the end: whenever all goroutines wait, to one of those that are parked. If none is, time
// passes.
func (d *scheduler) run() {
	for n := uint64(0); ; {
		synctest.Wait()
		d.mu.Lock()
		if d.over && len(d.waiting) == 0 {
			d.mu.Unlock()
			return
		}
		if len(d.waiting) == 0 {
			d.mu.Unlock()
			<-d.wake
			continue
		}
		i := 0
		if len(d.waiting) > 1 {
			slices.SortFunc(d.waiting, func(a, b turn) int { return cmp.Compare(a.key, b.key) })
			i = int(mix(d.seed, d.waiting[0].key, n) % uint64(len(d.waiting)))
		}
		next := d.waiting[i]
		d.waiting = slices.Delete(d.waiting, i, i+1)
		d.mu.Unlock()
		n++
		close(next.comes)
	}
}

// isCut reports whether nothing passes from one region to another.
func (w *world) isCut(from, to *region) bool { return w.cut[[2]int{from.index, to.index}] }

// handled notes that a region has handled a record.
func (w *world) handled(r *region, record events.Record) {
	at := place{r.index, record.Event.Key()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, again := w.first[at]; !again {
		w.first[at] = time.Now()
	}
}

// settle heals everything and lets the world come to rest.
func (w *world) settle() {
	w.settling = true
	clear(w.cut)
	for _, r := range w.regions {
		r.failing = false
		for _, s := range r.shards {
			s.stuck, s.failures = false, 0
		}
	}
	for round := range 40 {
		w.begin(Step{N: -2 - round})
		if round == 0 { // heartbeats may have been trimmed: later ones take their place
			for _, r := range w.regions {
				w.beat(Step{N: -2}, r)
			}
		}
		time.Sleep(45 * time.Second) // caches of keys expire
		moved := w.progress(Step{N: -2 - round}, true)
		moved = w.finishJobs(Step{N: -2 - round}) || moved
		moved = moved || round < 5 && w.retryParked(Step{N: -2 - round})
		if !moved || w.failed() {
			return
		}
	}
	w.fail("settle", "the world does not come to rest: events cause events without end")
}

// progress lets every region receive what has come, or everything, and handle it. It reports whether there was
// anything.
func (w *world) progress(s Step, everything bool) (moved bool) {
	for _, r := range w.regions {
		r.revive()
		moved = r.receive(everything) || moved
		for _, shard := range r.shards {
			for tries := 0; tries < 3 || everything && tries < 100; tries++ {
				if !r.handle(s, shard, 100) {
					break
				}
				moved = true
				r.revive()
			}
		}
	}
	return moved
}

// planted returns the sockets of a region with a planted bug, if it is one of theirs.
func (w *world) planted(next live.Sockets) live.Sockets {
	if w.plant.sockets != nil {
		return w.plant.sockets(next)
	}
	return next
}

func (w *world) plantedBus(next stream.Bus) stream.Bus {
	if w.plant.bus != nil {
		return w.plant.bus(next)
	}
	return next
}

const issuer = "https://issuer.test"

// issuerKey signs the tokens of all worlds.
var issuerKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// auth verifies tokens, in all worlds: what it caches follows from the token alone.
var auth = sync.OnceValue(func() *api.Auth {
	return api.NewAuth(api.AuthConfig{Issuer: issuer, Keys: api.FixedJWKS("", issuerKey.Public())})
})

var tokens sync.Map // by user

// tokenOf returns a token of a user that never expires.
func tokenOf(user string) string {
	if token, ok := tokens.Load(user); ok {
		return token.(string)
	}
	claims := jwt.MapClaims{"iss": issuer, "sub": user, "exp": time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).Unix()}
	if user == operator {
		claims["scope"] = "operator"
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(issuerKey)
	if err != nil {
		panic(err) // the key is of the right kind
	}
	tokens.Store(user, token)
	return token
}

// short names an event in a few characters.
func short(e events.Event) string {
	id := e.ID.String()
	return id[6:10] + id[22:] + e.Ref().String()[len(id):][:3]
}

// keyIn names the event in a detail of the bus, as a client does.
func keyIn(detail json.RawMessage) (eventName, error) {
	var e struct {
		ID     events.ID
		Stream events.Stream
		Type   string
	}
	if err := json.Unmarshal(detail, &e); err != nil {
		return eventName{}, fmt.Errorf("a detail on the bus is no JSON: %w", err)
	}
	return eventName{e.Stream, e.ID, e.Type}, nil
}
