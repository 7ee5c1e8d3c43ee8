package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/live"
	"parley/functions/stream"
	"parley/projections"
)

// A port stands between a process and something outside of it: the log, the views, the keys, the bus, the
// sockets. Each call of a port may be delayed or refused, may be refused after it was done, and may be where
// the process crashes.
//
// A fault is not drawn when it is due: it is looked up by what is called in which step. So the order in
// which goroutines run changes no fault.

// fault is how a call of a port goes.
type fault int

const (
	pass    fault = iota
	refuse        // fails, and nothing was done
	lost          // fails, and it was done
	crash         // the process crashes before
	crashed       // the process crashes behind: it was done
)

var faultNames = map[fault]string{refuse: "refused", lost: "refused but done", crash: "crash before", crashed: "crash after"}

// errCrashed is what a call of a port of a process that has crashed fails with.
var errCrashed = errors.New("the process has crashed")

// errRefused is the error of a refusal where the contract has none of its own.
var errRefused = errors.New("a fault of the simulated network")

// call is what a process does at the moment: a request, a batch, a step of a job. It is in the context.
type call struct {
	step    Step
	faults  int    // of a thousand calls of ports
	rebuild bool   // a rebuild or an audit: it must not publish
	what    string // it is
}

type callKey struct{}

// callOf returns the call that a context belongs to.
func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

// enter is called at the beginning of each call of a port of a process, with the names of the operation and
// of what it is about, and more by which to tell it from others. The fault is not carried out, except that a delay is over and a process that crashes
// before the call is dead: then the error is errCrashed.
func (p *process) enter(ctx context.Context, op, key string, more ...uint64) (fault, error) {
	w, c := p.region.world, callOf(ctx)
	if p.dead.Load() {
		return crash, errCrashed
	}
	h := hashOf(p.name, op, key)
	for _, m := range more {
		h = mix(h, m)
	}
	n := w.trace.count(h)
	w.trace.add(mix(h, uint64(n)))
	if w.trace.ports {
		w.trace.line(p.name, "note", "", fmt.Sprintf("%s %s, call %d", op, key, n))
	}
	if w.scheduler.park(mix(h, uint64(n), uint64(c.step.N))); p.dead.Load() {
		return crash, errCrashed
	}
	if c.faults == 0 {
		return pass, ctx.Err()
	}
	lot := mix(w.schedule.Seed, uint64(c.step.N), h, uint64(n))
	if int(lot%1000) >= c.faults {
		return pass, ctx.Err()
	}
	f := [...]fault{pass, pass, pass, refuse, refuse, refuse, lost, lost, lost, crash, crashed}[lot>>20%11]
	if f == pass { // late
		w.trace.fault(p.name, op, key, "delay")
		if err := events.Sleep(ctx, time.Duration(1+lot>>32%5000)*time.Millisecond); err != nil {
			return refuse, err
		}
		w.scheduler.park(mix(h, uint64(n), uint64(c.step.N), 1))
		return pass, nil
	}
	w.trace.fault(p.name, op, key, faultNames[f])
	if f == crash {
		p.crash()
		return crash, errCrashed
	}
	return f, nil
}

// leave is called at the end of a call that was done, with its fault, and returns its error.
func (p *process) leave(f fault, refused error) error {
	switch {
	case f == crashed:
		p.crash()
		return errCrashed
	case f == lost:
		return refused
	case p.dead.Load(): // another call crashed it
		return errCrashed
	}
	return nil
}

// fault notes a fault.
func (t *trace) fault(actor, op, key, what string) {
	t.mu.Lock()
	t.faults[op+" "+what]++
	t.mu.Unlock()
	if t.keep {
		t.line(actor, "fault", "", op+" "+key+": "+what)
	}
}

// logPort is the log as a process reaches it.
type logPort struct {
	p    *process
	next events.Log
}

// Append implements [events.Log].
func (l logPort) Append(ctx context.Context, e events.Event) (events.Event, bool, error) {
	f, err := l.p.enter(ctx, "log append", string(e.Stream)+e.Ref().String())
	if err != nil {
		return events.Event{}, false, err
	}
	if f == refuse && one(2, e.Ref().String()) { // nothing was stored, but the caller cannot know
		return events.Event{}, false, fmt.Errorf("append event: %w", events.ErrUnknownOutcome)
	}
	if f == refuse {
		return events.Event{}, false, fmt.Errorf("append event: %w", events.ErrThrottled)
	}
	stored, repeat, err := l.next.Append(ctx, e)
	if err != nil {
		return stored, repeat, err
	}
	if !repeat {
		l.p.region.accepted(stored, l.p)
	}
	return stored, repeat, l.p.leave(f, fmt.Errorf("append event: %w", events.ErrUnknownOutcome))
}

// read lets a call that reads go, or not.
func (l logPort) read(ctx context.Context, op, key string, more ...uint64) error {
	f, err := l.p.enter(ctx, op, key, more...)
	if err == nil && f == refuse {
		err = events.ErrThrottled
	}
	if err == nil {
		err = l.p.leave(f, events.ErrThrottled)
	}
	return err
}

// GetMany implements [events.Log].
func (l logPort) GetMany(ctx context.Context, list []events.Key) (map[events.Key]events.Event, error) {
	all := uint64(0)
	for _, key := range list { // they may be in any order
		all += hashOf(string(key.Stream), string(key.ID[:]), string(key.Digest[:]))
	}
	if err := l.read(ctx, "log get", strconv.Itoa(len(list)), all); err != nil {
		return nil, fmt.Errorf("get events: %w", err)
	}
	return l.next.GetMany(ctx, list)
}

// Read implements [events.Log].
func (l logPort) Read(ctx context.Context, s events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := l.read(ctx, "log read", string(s), hashOf(string(r.After[:]), string(r.Before[:]))); err != nil {
			yield(events.Event{}, fmt.Errorf("read stream: %w", err))
			return
		}
		l.next.Read(ctx, s, r)(yield)
	}
}

// Scan implements [events.Log].
func (l logPort) Scan(ctx context.Context, part events.Part, after events.Key) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		if err := l.read(ctx, "log scan", fmt.Sprint(part)); err != nil {
			yield(events.Event{}, fmt.Errorf("scan log: %w", err))
			return
		}
		l.next.Scan(ctx, part, after)(yield)
	}
}

// viewsPort is the views as a process reaches them.
type viewsPort struct {
	p    *process
	next projections.Views
}

// read lets a call that reads go, or not.
func (v viewsPort) read(ctx context.Context, op, key string, more uint64) error {
	f, err := v.p.enter(ctx, op, key, more)
	if err == nil && f == refuse {
		err = projections.ErrUnavailable
	}
	if err == nil {
		err = v.p.leave(f, projections.ErrUnavailable)
	}
	return err
}

// Get implements [projections.Views].
func (v viewsPort) Get(ctx context.Context, list ...projections.Key) ([]projections.View, error) {
	key, all := "nothing", uint64(0)
	for i, k := range list { // they may be in any order
		name := k.Partition + " " + k.Sort
		if all += hashOf(name); i == 0 || name < key {
			key = name
		}
	}
	if err := v.read(ctx, "views get", key, all); err != nil {
		return nil, fmt.Errorf("get views: %w", err)
	}
	return v.next.Get(ctx, list...)
}

// Query implements [projections.Views].
func (v viewsPort) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	more := hashOf(r.From, r.Before) + uint64(r.Limit)
	if r.Reverse {
		more++
	}
	if err := v.read(ctx, "views query", partition, more); err != nil {
		return nil, fmt.Errorf("query views: %w", err)
	}
	return v.next.Query(ctx, partition, r)
}

// Scan implements [projections.Views].
func (v viewsPort) Scan(ctx context.Context, prefixes []string, after projections.Key, limit int) ([]projections.View, projections.Key, error) {
	if err := v.read(ctx, "views scan", fmt.Sprint(slices.Sorted(slices.Values(prefixes))), hashOf(after.Partition, after.Sort)); err != nil {
		return nil, projections.Key{}, fmt.Errorf("scan views: %w", err)
	}
	return v.next.Scan(ctx, prefixes, after, limit)
}

// Save implements [projections.Views].
func (v viewsPort) Save(ctx context.Context, views ...projections.View) error {
	return v.change(ctx, "views save", views, v.next.Save)
}

// Delete implements [projections.Views].
func (v viewsPort) Delete(ctx context.Context, views ...projections.View) error {
	return v.change(ctx, "views delete", views, v.next.Delete)
}

// change does a Save or a Delete. One that fails but was done may have been done in part: each view by itself.
func (v viewsPort) change(ctx context.Context, op string, views []projections.View, do func(context.Context, ...projections.View) error) error {
	key, all := "nothing", uint64(0)
	for i, view := range views {
		name := view.Key.Partition + " " + view.Key.Sort
		all += hashOf(name, string(view.Body))
		if i == 0 || name < key {
			key = name
		}
	}
	f, err := v.p.enter(ctx, op, key, all)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if f == refuse {
		return fmt.Errorf("%s: %w", op, projections.ErrUnavailable)
	}
	if f == lost || f == crashed {
		seed := v.p.region.world.schedule.Seed
		whole := mix(seed, all)%2 == 0
		views = slices.DeleteFunc(slices.Clone(views), func(view projections.View) bool {
			return !whole && mix(seed, hashOf(view.Key.Partition, view.Key.Sort))%2 == 0
		})
		if len(views) > 0 {
			_ = do(ctx, views...) // the caller does not learn of conflicts either
		}
		return fmt.Errorf("%s: %w", op, v.p.leave(f, projections.ErrUnavailable))
	}
	if err := do(ctx, views...); err != nil {
		return err
	}
	return v.p.leave(f, nil)
}

// keysPort is the keys as a process reaches them.
type keysPort struct {
	p    *process
	next keys.Store
}

// Load implements [keys.Store].
func (k keysPort) Load(ctx context.Context, user string) (keys.Keys, error) {
	f, err := k.p.enter(ctx, "keys load", user)
	if err == nil && f == refuse {
		err = errRefused
	}
	if err == nil {
		err = k.p.leave(f, errRefused)
	}
	if err != nil {
		return keys.Keys{}, err
	}
	return k.next.Load(ctx, user)
}

// Add implements [keys.Store].
func (k keysPort) Add(ctx context.Context, user string, key keys.Wrapped) error {
	return k.change(ctx, "keys add", user, func() error { return k.next.Add(ctx, user, key) })
}

// Erase implements [keys.Store].
func (k keysPort) Erase(ctx context.Context, user string) error {
	return k.change(ctx, "keys erase", user, func() error { return k.next.Erase(ctx, user) })
}

func (k keysPort) change(ctx context.Context, op, user string, do func() error) error {
	f, err := k.p.enter(ctx, op, user)
	if err != nil {
		return err
	}
	if f == refuse {
		return errRefused
	}
	if err := do(); err != nil {
		return err
	}
	k.p.region.sendKeys(user)
	return k.p.leave(f, errRefused)
}

// Users implements [keys.Store].
func (k keysPort) Users(ctx context.Context) iter.Seq2[string, error] { return k.next.Users(ctx) }

// busPort is the bus as a process reaches it.
type busPort struct {
	p    *process
	next stream.Bus
}

// Publish implements [stream.Bus]. Some entries of a call may be refused.
func (b busPort) Publish(ctx context.Context, entries []stream.Entry) ([]error, error) {
	f, err := b.p.enter(ctx, "bus publish", entries[0].DetailType+string(entries[0].Detail))
	if err != nil {
		return nil, err
	}
	if f == refuse {
		return nil, errRefused
	}
	refused, err := b.next.Publish(ctx, entries)
	if err != nil {
		return refused, err
	}
	return refused, b.p.leave(f, errRefused)
}

// connectionsPort is the table of connections as a process reaches it.
type connectionsPort struct {
	p *process
	live.Connections
}

func (c connectionsPort) do(ctx context.Context, op, key string, do func() error) error {
	f, err := c.p.enter(ctx, "connections "+op, key)
	if err != nil {
		return err
	}
	if f == refuse {
		return errRefused
	}
	if err := do(); err != nil {
		return err
	}
	return c.p.leave(f, errRefused)
}

// Put implements [live.Connections].
func (c connectionsPort) Put(ctx context.Context, conn live.Connection) error {
	return c.do(ctx, "put", conn.ID, func() error { return c.Connections.Put(ctx, conn) })
}

// Get implements [live.Connections].
func (c connectionsPort) Get(ctx context.Context, conn string) (got live.Connection, err error) {
	err = c.do(ctx, "get", conn, func() (err error) { got, err = c.Connections.Get(ctx, conn); return err })
	return got, err
}

// Touch implements [live.Connections].
func (c connectionsPort) Touch(ctx context.Context, conn string, at time.Time) error {
	return c.do(ctx, "touch", conn, func() error { return c.Connections.Touch(ctx, conn, at) })
}

// Delete implements [live.Connections].
func (c connectionsPort) Delete(ctx context.Context, conn string) error {
	return c.do(ctx, "delete", conn, func() error { return c.Connections.Delete(ctx, conn) })
}

// Subscribe implements [live.Connections].
func (c connectionsPort) Subscribe(ctx context.Context, conn string, revision uint64, all bool, rooms ...string) error {
	return c.do(ctx, "subscribe", conn, func() error { return c.Connections.Subscribe(ctx, conn, revision, all, rooms...) })
}

// Unsubscribe implements [live.Connections].
func (c connectionsPort) Unsubscribe(ctx context.Context, conn string, rooms ...string) error {
	return c.do(ctx, "unsubscribe", conn, func() error { return c.Connections.Unsubscribe(ctx, conn, rooms...) })
}

// UnsubscribeAll implements [live.Connections].
func (c connectionsPort) UnsubscribeAll(ctx context.Context, conn string) error {
	return c.do(ctx, "unsubscribe all", conn, func() error { return c.Connections.UnsubscribeAll(ctx, conn) })
}

// Rooms implements [live.Connections].
func (c connectionsPort) Rooms(ctx context.Context, conn string) (rooms []string, err error) {
	err = c.do(ctx, "rooms", conn, func() (err error) { rooms, err = c.Connections.Rooms(ctx, conn); return err })
	slices.Sort(rooms) // from one run to the next the same
	return rooms, err
}

// Listeners implements [live.Connections].
func (c connectionsPort) Listeners(ctx context.Context, room string) (all []live.Listener, err error) {
	err = c.do(ctx, "listeners", room, func() (err error) { all, err = c.Connections.Listeners(ctx, room); return err })
	slices.SortFunc(all, func(a, b live.Listener) int { return cmp.Compare(a.Conn, b.Conn) })
	return all, err
}

// Of implements [live.Connections].
func (c connectionsPort) Of(ctx context.Context, user string) (all []live.Connection, err error) {
	err = c.do(ctx, "of", user, func() (err error) { all, err = c.Connections.Of(ctx, user); return err })
	slices.SortFunc(all, func(a, b live.Connection) int { return cmp.Compare(a.ID, b.ID) })
	return all, err
}

// socketsPort is the sockets as a process reaches them.
type socketsPort struct {
	p    *process
	next live.Sockets
}

// Post implements [live.Sockets].
func (s socketsPort) Post(ctx context.Context, conn string, frame live.Frame) error {
	f, err := s.p.enter(ctx, "socket post", conn)
	if err != nil {
		return err
	}
	if f == refuse {
		return errRefused
	}
	if err := s.next.Post(ctx, conn, frame); err != nil {
		return err
	}
	return s.p.leave(f, errRefused)
}

// Close implements [live.Sockets].
func (s socketsPort) Close(ctx context.Context, conn string, code live.Code) error {
	f, err := s.p.enter(ctx, "socket close", conn)
	if err != nil {
		return err
	}
	if f == refuse {
		return errRefused
	}
	if err := s.next.Close(ctx, conn, code); err != nil {
		return err
	}
	return s.p.leave(f, errRefused)
}
