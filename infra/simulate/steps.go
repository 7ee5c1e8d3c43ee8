package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"parley/events"
)

// kinds are all kinds of steps. A schedule draws them by weight; see [Generate].
var kinds = []kind{
	{"post", 30, byUser, "a user posts a message, to a thread or as a reply at times", (*world).post},
	{"retry", 8, byUser, "a command is sent again under its id, to any region", (*world).retry},
	{"other", 2, byUser, "another message is sent under the id of one that was sent", (*world).other},
	{"edit", 6, byUser, "a message is edited", (*world).edit},
	{"delete", 3, byUser, "a message is deleted", (*world).remove},
	{"react", 4, byUser, "a user reacts to a message", (*world).react},
	{"unreact", 2, byUser, "a user removes a reaction", (*world).unreact},
	{"pin", 1, byUser, "a message is pinned", (*world).pin},
	{"unpin", 1, byUser, "a message is unpinned", (*world).unpin},
	{"read", 3, byUser, "a user moves a read marker", (*world).read},
	{"unread", 1, byUser, "a user marks a room as unread from a message on", (*world).markUnread},
	{"profile", 1, byUser, "a user sets their profile", (*world).profile},
	{"room", 2, byUser, "a user creates a room", (*world).createRoom},
	{"direct", 1, byUser, "a user opens a direct room", (*world).openDirect},
	{"join", 4, byUser, "a user joins a room, or accepts an invitation", (*world).join},
	{"leave", 3, byUser, "a user leaves a room", (*world).leave},
	{"invite", 2, byUser, "a user is invited", (*world).invite},
	{"expel", 1, byUser, "a member is removed", (*world).expel},
	{"ban", 1, byUser, "a user is banned", (*world).ban},
	{"unban", 1, byUser, "a ban is lifted", (*world).unban},
	{"role", 1, byUser, "a member is given another role", (*world).role},
	{"change", 2, byUser, "a room is given another topic, made private or public, archived or reopened", (*world).change},
	{"page", 4, byUser, "a user reads a page of messages", (*world).page},
	{"list", 2, byUser, "a user reads the list of their rooms", (*world).list},
	{"follow", 12, byUser, "a client catches up, in its region or in another", (*world).follow},

	{"listen", 3, byUser, "a client opens a socket", (*world).listen},
	{"ping", 10, byUser, "a client pings over its socket, and catches up on what it misses", (*world).ping},
	{"drop", 2, byUser, "a client loses its socket", (*world).drop},

	{"erase", 1, byOperator, "a user is erased", (*world).erase},
	{"job.start", 2, byOperator, "an operator starts a rebuild, an audit, a replay or a drop", (*world).startJob},
	{"job.step", 8, byOperator, "a process does a step of a job", (*world).stepJob},
	{"job.change", 1, byOperator, "an operator pauses, resumes or cancels a job", (*world).changeJob},
	{"back", 1, byOperator, "a region reads the previous generation of views again", (*world).back},

	{"stream", 30, byFault, "a process handles a batch of a shard", (*world).stream},
	{"redeliver", 4, byFault, "a process handles a batch that comes again later", (*world).redeliver},
	{"stick", 1, byFault, "a shard is no longer handled, or is again", (*world).stick},
	{"trim", 0, byFault, "a shard loses what was not handled for a day", (*world).trim},
	{"receive", 20, byFault, "a region receives what has come from others", (*world).receive},
	{"poison", 1, byFault, "a record comes that no process can read", (*world).poison},
	{"wait", 8, byFault, "seconds or minutes pass, and everything that is due happens", (*world).wait},
	{"renumber", 1, byFault, "the numbers of a change stream begin again, as those of a restored table", (*world).renumber},
	{"beat", 4, byFault, "a region appends its heartbeats", (*world).beats},
	{"skew", 1, byFault, "the clocks of a region change", (*world).skew},
	{"crash", 3, byFault, "a process crashes", (*world).crash},
	{"region.isolate", 1, byFault, "nothing passes to or from a region", (*world).isolate},
	{"region.heal", 1, byFault, "everything passes to and from a region", (*world).heal},
	{"region.fail", 1, byFault, "a region answers no requests, or does again", (*world).failRegion},
	{cutLink, 1, byFault, "nothing passes from one region to another", (*world).cutLink},
	{healLink, 1, byFault, "everything passes from one region to another", (*world).healLink},
}

// shard returns a shard of a step's region.
func (w *world) shard(s Step) (*region, *shard) {
	r := w.region(s.A)
	return r, r.shards[s.B%len(r.shards)]
}

func (w *world) stream(s Step) {
	r, shard := w.shard(s)
	r.handle(s, shard, 1+s.C%30)
}

// redeliver lets a batch be handled, and then comes the same batch again.
func (w *world) redeliver(s Step) {
	r, shard := w.shard(s)
	r.mu.Lock()
	batch := slices.Clone(shard.waiting[:min(1+s.C%30, len(shard.waiting))])
	r.mu.Unlock()
	if r.handle(s, shard, len(batch)) {
		r.mu.Lock()
		shard.waiting = append(batch, shard.waiting...)
		r.mu.Unlock()
	}
}

func (w *world) stick(s Step) {
	_, shard := w.shard(s)
	shard.stuck = s.C%3 == 0
}

func (w *world) receive(s Step) { w.region(s.A).receive(false) }

// trim takes from a shard what was not handled, as a table does a day later. It takes nothing while the batch at its
// beginning fails, which may be projected and not published: nobody would publish it any more.
func (w *world) trim(s Step) {
	r, shard := w.shard(s)
	raw := func(record events.Record) bool { return record.Err != nil } // it may be parked already
	if shard.busy || shard.failures > 0 || len(shard.waiting) == 0 || slices.ContainsFunc(shard.waiting, raw) {
		return
	}
	for _, record := range shard.waiting {
		if kind, _ := record.Event.Stream.Split(); kind == events.KindRegion || kind == events.KindOps {
			r.gone[nameOf(record.Event)] = true
		}
	}
	shard.waiting, shard.trimmed, shard.failures = nil, true, 0
	r.lost = true
}

// recover puts what a shard has lost behind what it delivers, as the trigger of infra/local does: the events of its
// streams that the feeds lack.
func (r *region) recover(s Step, shard *shard) bool {
	p := r.any(&r.workers, s, "recover")
	ctx, end := p.begin(s, "recovery")
	defer end()
	of := map[events.Stream][]events.Event{}
	part := events.Part{Index: shard.index, Of: len(r.shards)}
	for e, err := range r.log.Scan(ctx, events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			r.world.fail("log", "cannot read the log of %s: %v", r.name, err)
			return false
		}
		if part.Holds(e.Stream) {
			of[e.Stream] = append(of[e.Stream], e)
		}
	}
	var lost []events.Record
	for _, stream := range slices.Sorted(maps.Keys(of)) {
		missing, err := p.stream.Feed.Missing(ctx, stream, of[stream])
		if err != nil {
			return true // again
		}
		for _, e := range missing {
			lost = append(lost, events.Record{Event: e})
		}
	}
	r.world.trace.note(p.name, "note", "", "recovers %d events that shard %d has lost", len(lost), shard.index)
	r.mu.Lock()
	shard.waiting, shard.trimmed = append(lost, shard.waiting...), false
	r.mu.Unlock()
	return true
}

// poison appends an event of a release to come, or puts something that is no event into a change stream.
func (w *world) poison(s Step) {
	r := w.region(s.A)
	if s.C%2 == 0 {
		r.raw++
		r.insert(events.Record{Err: errors.New("not an event"), Raw: json.RawMessage(`{"not":"an event"}`), At: time.Now()})
		return
	}
	user := w.user(s.B)
	e, err := events.New(w.mint(user), w.room(s.B).stream, user, r.name, events.RoomArchived{})
	if err == nil {
		stored := events.Encode(e)
		stored.Type, stored.ID = e.Type+"/99", e.ID.String()
		e, err = events.Decode(stored)
	}
	if err != nil {
		w.fail("poison", "cannot make an event of a release to come: %v", err)
		return
	}
	e = e.WithDigest()
	if _, _, err := r.log.Append(context.Background(), e); err != nil {
		w.fail("poison", "%s cannot store an event of a release to come: %v", r.name, err)
		return
	}
	r.accepted(e, r.workers[0])
}

// readable reports whether this release can read an event.
func readable(e events.Event) bool {
	_, is := e.Payload.(events.Unreadable)
	return !is
}

// wait lets time pass, minute by minute, in which heartbeats are appended and what is due is handled.
func (w *world) wait(s Step) {
	for range 1 + s.A%4 {
		w.sleep(s, []time.Duration{time.Second, 10 * time.Second, time.Minute, 4 * time.Minute}[s.B%4])
		if s.B%4 >= 2 {
			for _, r := range w.regions {
				w.beat(s, r)
			}
		}
		w.progress(s, false)
	}
}

// renumber lets the numbers of a region's change stream go back, which costs its readers time and nothing else.
func (w *world) renumber(s Step) {
	r := w.region(s.A)
	r.mu.Lock()
	r.number = s.B % (r.number + 1)
	r.mu.Unlock()
}

// sleep lets time pass in a step. Of steps that wake at the same moment one goes on at a time.
func (w *world) sleep(s Step, d time.Duration) {
	time.Sleep(d)
	w.scheduler.park(mix(uint64(s.N), uint64(time.Since(w.trace.began))))
}

func (w *world) beats(s Step) { w.beat(s, w.region(s.A)) }

// beat lets a process of a region append its heartbeats.
func (w *world) beat(s Step, r *region) {
	p := r.any(&r.workers, s, "beat")
	ctx, end := p.begin(s, "heartbeat")
	defer end()
	_ = p.f.Beat(ctx) // the next comes in a minute
}

// skew changes the clocks of a region, to at most 4 seconds off.
func (w *world) skew(s Step) {
	w.region(s.A).skew = time.Duration(s.B%8-4) * time.Second
}

func (w *world) crash(s Step) {
	r := w.region(s.A)
	of := r.workers
	if s.C%3 == 0 {
		of = r.servers
	}
	p := of[s.B%len(of)]
	p.crash()
	if !w.together {
		r.revive()
	}
}

func (w *world) isolate(s Step) { w.setLinks(s.A, true) }
func (w *world) heal(s Step)    { w.setLinks(s.A, false) }

func (w *world) setLinks(n int, cut bool) {
	r := w.region(n)
	for i := range w.regions {
		if i != r.index {
			w.cut[[2]int{i, r.index}], w.cut[[2]int{r.index, i}] = cut, cut
		}
	}
}

func (w *world) failRegion(s Step) { w.region(s.A).failing = s.B%2 == 0 }

func (w *world) cutLink(s Step) {
	w.cut[[2]int{s.A % len(w.regions), s.B % len(w.regions)}] = true
}

func (w *world) healLink(s Step) {
	delete(w.cut, [2]int{s.A % len(w.regions), s.B % len(w.regions)})
}
