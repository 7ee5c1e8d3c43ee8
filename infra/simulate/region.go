package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions"
	"parley/functions/live"
	"parley/functions/stream"
)

// region is one region: what is stored there, its change stream, and the processes that run its functions.
type region struct {
	world *world
	name  string
	index int

	stores
	connections live.Connections
	sockets     *sockets
	bus         *bus
	clock       *events.Clock

	mu      sync.Mutex
	skew    time.Duration // of the region's clocks
	shards  []*shard      // of the change stream
	records int           // in all shards
	number  int           // of the last of them; it may go back
	coming  []transit     // from other regions

	workers   []*process // they handle the change stream, do jobs and append heartbeats
	servers   []*process // they serve requests and sockets
	failing   bool       // it answers no requests
	jobs      []*opsJob
	rebuilds  int                // of feeds, that were begun
	raw       int                // records that were no events
	lost      bool               // some shard was trimmed, once
	gone      map[eventName]bool // what was trimmed of streams without a feed: nobody recovers it
	projected map[eventName]bool // what the stream function has put into views and feeds
}

// shard is a part of a change stream, and how far it is handled.
type shard struct {
	index    int
	waiting  []events.Record
	failures int  // of the batch at its beginning, in a row
	stuck    bool // nothing is handled
	busy     bool // a batch is being handled
	trimmed  bool // records are gone that were not handled
}

// transit is something on its way to a region.
type transit struct {
	from  *region
	at    time.Time // when it arrives, unless the link is cut
	event *events.Event
	user  string // whose keys have changed; "" if it is an event
}

// process runs some functions of a region. Nothing that it has in memory survives a crash.
type process struct {
	region *region
	name   string
	serves bool // requests and sockets
	dead   atomic.Bool
	busy   bool            // with a call
	ctx    context.Context // ends with the process
	end    context.CancelFunc
	f      *functions.Region
	stream *stream.Handler
}

func newRegion(w *world, index int, name string) *region {
	r := &region{world: w, index: index, name: name, stores: w.open(name), sockets: newSockets(), projected: map[eventName]bool{}, gone: map[eventName]bool{}}
	r.bus = newBus(r)
	r.connections = live.NewMemory()
	if w.plant.connections != nil {
		r.connections = w.plant.connections(r.connections)
	}
	r.clock = events.NewClock(r.now, w.marks)
	r.skew = time.Duration(mix(w.schedule.Seed, hashOf("skew", name))%4000) * time.Millisecond
	for i := range w.schedule.Shards {
		r.shards = append(r.shards, &shard{index: i})
	}
	for i := range w.schedule.Processes {
		r.workers = append(r.workers, r.start(name+"/"+strconv.Itoa(i), false))
	}
	for i := range 1 + mix(w.schedule.Seed, hashOf("servers", name))%2 {
		r.servers = append(r.servers, r.start(name+"/api"+strconv.Itoa(int(i)), true))
	}
	return r
}

// now is the time by the clocks of the region.
func (r *region) now() time.Time { return time.Now().Add(r.skew) }

// start starts a process, with nothing in memory.
func (r *region) start(name string, serves bool) *process {
	w := r.world
	p := &process{region: r, name: name, serves: serves}
	p.ctx, p.end = context.WithCancel(context.Background())
	parts := functions.Parts{
		Region: r.name, Log: logPort{p, r.log}, Views: viewsPort{p, r.views}, Clock: r.clock, Now: r.now, Logger: slog.New(w.logOf(name)),
		Keys: keys.NewRing(keysPort{p, r.keys}, w.root, r.now), Cursors: w.cursors,
		Connections: connectionsPort{p, r.connections}, Sockets: socketsPort{p, w.planted(r.sockets)},
		Bus: busPort{p, w.plantedBus(r.bus)}, Beats: beatStreams, Grace: time.Second, HealthTimeout: time.Second,
	}
	if serves {
		parts.Auth = auth()
	}
	parts.Passed = func(_ context.Context, e events.Event, outcome stream.Outcome) {
		if outcome == stream.Projected {
			r.mu.Lock()
			r.projected[nameOf(e)] = true
			r.mu.Unlock()
		}
	}
	p.f = functions.New(parts)
	p.f.Rebuilder.Parts = 2 // as many on every machine
	if !serves {
		p.stream = p.f.Stream()
	}
	return p
}

// beatStreams is to how many streams a region appends its heartbeats.
const beatStreams = 2

// crash ends the process: none of its calls does anything any more. Another takes its place in the next step.
func (p *process) crash() {
	if p.dead.Swap(true) {
		return
	}
	p.end()
	p.region.world.trace.note(p.name, "fault", "", "crash")
}

// revive starts other processes in place of those that have crashed.
func (r *region) revive() {
	for _, list := range [][]*process{r.workers, r.servers} {
		for i, p := range list {
			if p.dead.Load() {
				list[i] = r.start(p.name, p.serves)
			}
		}
	}
}

// any returns one of some processes, which is up to the step and what it is for. Like on Lambda a process has one call
// at a time: if all are busy, one more is started.
func (r *region) any(of *[]*process, s Step, what string) *process {
	var idle []*process
	for _, p := range *of {
		if !p.busy {
			idle = append(idle, p)
		}
	}
	if len(idle) == 0 {
		first := (*of)[0]
		p := r.start(first.name+"+"+strconv.Itoa(len(*of)), first.serves)
		*of = append(*of, p)
		return p
	}
	h := hashOf(r.name, what)
	n := r.world.trace.count(h)
	return idle[mix(r.world.schedule.Seed, uint64(s.N), h, uint64(n))%uint64(len(idle))]
}

// begin returns the context of a call of a process, and what ends it. A call may take as long as on Lambda.
func (p *process) begin(s Step, what string) (context.Context, context.CancelFunc) {
	c := call{step: s, what: what, faults: p.region.world.faultsOf(s)}
	ctx, cancel := context.WithTimeout(context.WithValue(p.ctx, callKey{}, c), callTimeout)
	p.busy = true
	return ctx, func() {
		p.busy = false
		cancel()
	}
}

const callTimeout = time.Minute

// accepted is called when the log has stored an event that it did not have: it comes through the change stream,
// and is replicated.
func (r *region) accepted(e events.Event, by *process) {
	r.world.trace.note(by.name, "accept", short(e), "%s by %s in %s", e.Type, e.Actor, e.Stream)
	r.insert(events.Record{Event: e, At: time.Now()})
	for _, other := range r.world.regions {
		if other == r {
			continue
		}
		lots := mix(r.world.schedule.Seed, hashOf(string(e.Stream), e.Ref().String(), r.name, other.name))
		other.send(transit{from: r, event: &e, at: time.Now().Add(lag(lots))})
		if lots>>40%8 == 0 { // twice
			other.send(transit{from: r, event: &e, at: time.Now().Add(lag(lots >> 8))})
		}
	}
}

// lag is how long an item is on its way: mostly less than 2 seconds, sometimes minutes.
func lag(lots uint64) time.Duration {
	switch ms := time.Duration(lots>>16) * time.Millisecond; lots % 16 {
	case 0:
		return ms % (40 * time.Minute)
	case 1, 2:
		return ms % time.Minute
	default:
		return ms % (2 * time.Second)
	}
}

func (r *region) send(t transit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.coming = append(r.coming, t)
}

// sendKeys replicates the keys of a user, which have changed.
func (r *region) sendKeys(user string) {
	for _, other := range r.world.regions {
		if other != r {
			lots := mix(r.world.schedule.Seed, hashOf("keys", user, r.name, other.name), uint64(r.world.trace.count(hashOf("keys", user, r.name))))
			other.send(transit{from: r, user: user, at: time.Now().Add(lag(lots))})
		}
	}
}

// insert puts a record into the change stream.
func (r *region) insert(record events.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records++
	r.number++
	record.Sequence, record.Number = strconv.Itoa(r.records), events.Number(strconv.Itoa(r.number))
	for i, s := range r.shards {
		if (events.Part{Index: i, Of: len(r.shards)}).Holds(record.Event.Stream) { // what has no stream is in the first
			s.waiting = append(s.waiting, record)
		}
	}
}

// receive takes in what has come from other regions by now, or everything. It reports whether anything came.
func (r *region) receive(everything bool) bool {
	ctx, now := context.Background(), time.Now()
	var here, later []transit
	r.mu.Lock()
	for _, t := range r.coming {
		if everything || !t.at.After(now) && !r.world.isCut(t.from, r) {
			here = append(here, t)
		} else {
			later = append(later, t)
		}
	}
	r.coming = later
	r.mu.Unlock()
	slices.SortStableFunc(here, func(a, b transit) int { return a.at.Compare(b.at) })
	for _, t := range here {
		if t.event == nil {
			r.receiveKeys(ctx, t)
			continue
		}
		stored, repeat, err := r.log.Append(ctx, *t.event)
		if err != nil {
			r.world.fail("replication", "%s cannot store a replicated event: %v", r.name, err)
			return true
		}
		if !repeat {
			r.world.trace.note(r.name, "replicate", short(stored), "%s from %s", stored.Type, t.from.name)
			r.insert(events.Record{Event: stored, At: time.Now()})
		}
	}
	return len(here) > 0
}

// receiveKeys takes in the keys of a user from another region.
func (r *region) receiveKeys(ctx context.Context, t transit) {
	from, err := t.from.keys.Load(ctx, t.user)
	switch {
	case err != nil:
	case from.Erased:
		err = r.keys.Erase(ctx, t.user)
	default:
		for _, key := range from.Wrapped {
			if err = r.keys.Add(ctx, t.user, key); err != nil && !errors.Is(err, keys.ErrErased) {
				break
			}
			err = nil
		}
	}
	if err != nil {
		r.world.fail("replication", "%s cannot store replicated keys: %v", r.name, err)
	}
	r.world.trace.note(r.name, "replicate", "", "keys of %s from %s", t.user, t.from.name)
}

// handle lets a process handle a batch of a shard, as Lambda does: at most so many records. It reports whether
// there was one. What is done with a batch that failed is up to the step.
func (r *region) handle(s Step, shard *shard, most int) bool {
	if shard.busy || shard.stuck { // one batch of a shard at a time
		return false
	}
	shard.busy = true
	defer func() { shard.busy = false }()
	if shard.trimmed {
		return r.recover(s, shard)
	}
	r.mu.Lock()
	batch := slices.Clone(shard.waiting[:min(most, len(shard.waiting))])
	r.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	if shard.failures > 0 { // bisected
		batch = batch[:max(1, len(batch)>>min(shard.failures, 10))]
	}
	p := r.any(&r.workers, s, "stream")
	ctx, end := p.begin(s, "stream")
	defer end()
	handler := p.stream.Handle
	if r.world.plant.handle != nil {
		handler = r.world.plant.handle(handler)
	}
	done, err := handler(ctx, batch)
	if p.dead.Load() { // Lambda learns of no result
		done, err = 0, errCrashed
	}
	switch {
	case done < 0 || done > len(batch) || done < len(batch) && err == nil:
		r.world.fail("stream-count", "%s handled %d of %d records, error %v", p.name, done, len(batch), err)
	case err != nil && r.world.settling:
		r.world.fail("stream", "%s cannot handle a batch without any fault: %v", p.name, err)
	}
	what := "handled"
	if err != nil {
		what = "failed: " + err.Error()
		shard.failures++
	} else {
		shard.failures = 0
	}
	r.world.trace.note(p.name, "project", "", "%d of %d records of shard %d %s", done, len(batch), shard.index, what)
	for _, record := range batch[:done] {
		r.world.handled(r, record)
	}
	r.mu.Lock()
	shard.waiting = shard.waiting[done:]
	r.mu.Unlock()
	return true
}

// bus keeps what is published in a region.
type bus struct {
	mu      sync.Mutex
	region  *region
	entries map[eventName]int
	replays int
	wrong   string // what should not have been published
}

func newBus(r *region) *bus { return &bus{region: r, entries: map[eventName]int{}} }

// Publish implements [stream.Bus].
func (b *bus) Publish(ctx context.Context, entries []stream.Entry) ([]error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := callOf(ctx); c.rebuild {
		b.wrong = fmt.Sprintf("a %s published a %s", c.what, entries[0].DetailType)
	}
	for _, e := range entries {
		key, err := keyIn(e.Detail)
		if err != nil {
			b.wrong = err.Error()
		}
		b.region.checkShows(ctx, key, e.Detail, "the bus of "+b.region.name)
		if e.Source != stream.Source {
			b.replays++
			continue
		}
		b.region.checkProjected(key)
		b.entries[key]++
	}
	return make([]error, len(entries)), nil
}

// sockets are the open sockets of the clients in a region.
type sockets struct {
	mu   sync.Mutex
	open map[string]func(frame []byte) // by connection
	shut map[string]func(live.Code)
}

func newSockets() *sockets {
	return &sockets{open: map[string]func([]byte){}, shut: map[string]func(live.Code){}}
}

// Post implements [live.Sockets].
func (s *sockets) Post(_ context.Context, conn string, f live.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[conn] == nil {
		return live.ErrGone
	}
	s.open[conn](f.Bytes())
	return nil
}

// Close implements [live.Sockets].
func (s *sockets) Close(_ context.Context, conn string, code live.Code) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[conn] == nil {
		return live.ErrGone
	}
	s.shut[conn](code)
	delete(s.open, conn)
	delete(s.shut, conn)
	return nil
}
