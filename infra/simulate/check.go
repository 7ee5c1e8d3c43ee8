package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// The checks of a world that has come to rest.

// check checks every promise.
func (w *world) check() {
	logs := make([][]events.Event, len(w.regions))
	for i, r := range w.regions {
		logs[i] = w.readLog(r)
	}
	for _, check := range []func([][]events.Event){
		w.checkLogs, w.checkCommands, w.checkOracle, w.checkViews, w.checkFeeds, w.checkParked, w.checkBus, w.checkSealed, w.checkFollowers, w.checkListeners, w.checkShown, w.checkUnread, w.checkAudit,
	} {
		if check(logs); w.failed() {
			return
		}
	}
}

// readLog returns the whole log of a region, in the order of streams and events.
func (w *world) readLog(r *region) []events.Event {
	var all []events.Event
	for e, err := range r.log.Scan(context.Background(), events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			w.fail("log", "cannot read the log of %s: %v", r.name, err)
			return nil
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b events.Event) int {
		if c := strings.Compare(string(a.Stream), string(b.Stream)); c != 0 {
			return c
		}
		return a.Ref().Compare(b.Ref())
	})
	return all
}

// checkStored checks that an event which a region has acknowledged is in its log.
func (w *world) checkStored(r *region, c *command) {
	found, err := events.Find(context.Background(), r.log, c.stream, c.id, false)
	if err != nil || len(found) == 0 {
		w.fail("stored", "%s acknowledged %s %s under %s, and does not have it (%v)", r.name, c.method, c.path, c.id, err)
	}
}

// checkLogs checks that every region has the same events, each once.
func (w *world) checkLogs(logs [][]events.Event) {
	for i, r := range w.regions {
		for j := range logs[i] {
			if j > 0 && logs[i][j].Key() == logs[i][j-1].Key() {
				w.fail("stored-once", "%s has %s twice", r.name, logs[i][j].Ref())
			}
		}
		same := slices.EqualFunc(logs[0], logs[i], func(a, b events.Event) bool { return a.Key() == b.Key() })
		if !same {
			w.fail("logs-equal", "%s has %d events, %s has %d, or others", w.regions[0].name, len(logs[0]), r.name, len(logs[i]))
		}
	}
}

// checkCommands checks that what was acknowledged is there, and nothing that was refused or that nobody asked for.
func (w *world) checkCommands(logs [][]events.Event) {
	type key struct {
		stream events.Stream
		id     events.ID
	}
	stored := map[key]int{}
	for _, e := range logs[0] {
		stored[key{e.Stream, e.ID}]++
	}
	asked := map[key]bool{}
	for _, c := range w.commands {
		k := key{c.stream, c.id}
		asked[k] = true
		switch n := stored[k]; {
		case c.acked && n == 0:
			w.fail("acknowledged", "%s %s of %s was acknowledged, and is in no log", c.method, c.path, c.user)
		case n > 1 && !c.shared && !c.read && (c.text == "" || n > w.keysOf(c.user)):
			w.fail("stored-once", "%s %s of %s is in the log %d times", c.method, c.path, c.user, n)
		case n > 0 && !c.acked && !c.unsure && !c.shared:
			w.fail("refused", "%s %s of %s was refused, and is in the log", c.method, c.path, c.user)
		}
	}
	for _, e := range logs[0] {
		kind, _ := e.Stream.Split()
		_, notice := e.Payload.(events.EventLate)
		_, erased := e.Payload.(events.UserErased)
		if (kind == events.KindRoom || kind == events.KindUser) && !notice && !erased && readable(e) && !asked[key{e.Stream, e.ID}] {
			w.fail("invented", "nobody sent the %s %s", e.Type, e.Ref())
		}
	}
}

// keysOf returns how many keys a user has, or may have had: regions that do not know of each other's make one
// each, and what was sealed with another key is another event.
func (w *world) keysOf(user string) int {
	got, err := w.regions[0].keys.Load(context.Background(), user)
	if err != nil || got.Erased {
		return len(w.regions)
	}
	return len(got.Wrapped)
}

// checkViews checks that the views of every region are what the log adds up to, event by event in their order.
func (w *world) checkViews(logs [][]events.Event) {
	ctx := context.Background()
	views := viewtest.NewModel()
	engine := projections.NewEngine(nil, views, projections.All()...)
	var batch []projections.Arrival
	for _, e := range logs[0] {
		if readable(e) {
			batch = append(batch, projections.Arrival{Event: e})
		}
	}
	if failures, err := engine.Apply(ctx, batch); err != nil || len(failures) > 0 {
		w.fail("fold", "the log cannot be folded: %v, %v", failures, err)
		return
	}
	want, err := projected(ctx, views)
	if err != nil {
		w.fail("views", "cannot read views: %v", err)
		return
	}
	for _, r := range w.regions {
		got, err := projected(ctx, r.views)
		if err != nil {
			w.fail("views", "cannot read the views of %s: %v", r.name, err)
			return
		}
		for _, key := range slices.SortedFunc(maps.Keys(want), compareKeys) {
			if got[key] != want[key] {
				w.fail("views-fold", "%s has %s %s as %s, and the log says %s", r.name, key.Partition, key.Sort, got[key], want[key])
				return
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(got), compareKeys) {
			if _, known := want[key]; !known {
				w.fail("views-fold", "%s has %s %s, which nothing in the log makes", r.name, key.Partition, key.Sort)
				return
			}
		}
	}
}

func compareKeys(a, b projections.Key) int {
	if c := strings.Compare(a.Partition, b.Partition); c != 0 {
		return c
	}
	return strings.Compare(a.Sort, b.Sort)
}

// projected returns the bodies of the views that projections make, of the generations that are read, by their
// keys in the first.
func projected(ctx context.Context, views projections.Views) (map[projections.Key]string, error) {
	list, err := projections.NewGenerations(views).List(ctx)
	if err != nil {
		return nil, err
	}
	live := map[string]int{}
	for _, g := range list {
		live[g.Projection] = g.Live
	}
	bodies := map[projections.Key]string{}
	for after := (projections.Key{}); ; {
		got, next, err := views.Scan(ctx, nil, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, v := range got {
			generation, key := 1, v.Key
			if number, rest, is := strings.Cut(key.Partition, "/"); is && len(number) > 1 && number[0] == 'g' {
				if _, err := fmt.Sscan(number[1:], &generation); err == nil {
					key.Partition = rest
				}
			}
			owner, _, _ := strings.Cut(key.Partition, "/")
			if live[owner] == generation {
				bodies[key] = withoutRegion(v.Body)
			}
		}
		if after = next; next == (projections.Key{}) {
			return bodies, nil
		}
	}
}

// regionField is where views and answers name the region that accepted something. Where two regions accepted the
// same command, each names itself.
var regionField = regexp.MustCompile(`"region":"[a-z]+"`)

func withoutRegion(body []byte) string { return string(regionField.ReplaceAll(body, nil)) }

// checkFeeds checks that the feed of every stream has every event of it, once.
func (w *world) checkFeeds(logs [][]events.Event) {
	ctx := context.Background()
	of := map[events.Stream][]events.Ref{}
	for _, e := range logs[0] {
		if kind, _ := e.Stream.Split(); readable(e) && (kind == events.KindRoom || kind == events.KindUser) {
			of[e.Stream] = append(of[e.Stream], e.Ref())
		}
	}
	for _, r := range w.regions {
		for _, stream := range slices.Sorted(maps.Keys(of)) {
			entries, _, err := projections.ListFeed(ctx, r.views, stream, 0, 1_000_000)
			if err != nil {
				w.fail("feed", "cannot read the feed of %s in %s: %v", stream, r.name, err)
				return
			}
			refs := make([]events.Ref, len(entries))
			for i, e := range entries {
				if refs[i] = e.Ref; e.Position != uint64(i+1) {
					w.fail("feed-dense", "position %d of %s in %s is %d", i+1, stream, r.name, e.Position)
				}
			}
			slices.SortFunc(refs, events.Ref.Compare)
			if !slices.Equal(refs, of[stream]) {
				w.fail("feed-once", "the feed of %s in %s has %d events, the log %d, or others", stream, r.name, len(refs), len(of[stream]))
				return
			}
		}
	}
}

// checkParked checks that what nobody can read is parked in every region, and nothing else.
func (w *world) checkParked(logs [][]events.Event) {
	for i, r := range w.regions {
		want := map[string]bool{}
		for _, e := range logs[i] {
			if !readable(e) {
				want["decode/"+e.Ref().String()+"/"+string(e.Stream)] = true
			}
		}
		list, err := projections.ListParked(context.Background(), r.views, "", 1000)
		if err != nil {
			w.fail("parked", "cannot read what is parked in %s: %v", r.name, err)
		}
		raw := 0
		for _, p := range list {
			switch {
			case p.Stage == "decode" && p.ID == "":
				raw++
			case !want[p.Key]:
				w.fail("parked", "%s has parked %s at stage %s: %s", r.name, p.Key, p.Stage, p.Error)
			}
			delete(want, p.Key)
		}
		if len(want) > 0 || raw != r.raw {
			w.fail("parked", "%s has not parked %v, and %d of %d records that are no events", r.name, want, raw, r.raw)
		}
	}
}

// checkBus checks that every event was published in every region, and nothing else.
func (w *world) checkBus(logs [][]events.Event) {
	for i, r := range w.regions {
		there := map[eventName]bool{}
		for _, e := range logs[i] {
			name := nameOf(e)
			there[name] = true
			if r.bus.entries[name] == 0 && readable(e) && !r.gone[name] {
				w.fail("bus", "%s never published the %s %s", r.name, e.Type, e.Ref())
				return
			}
		}
		for name := range r.bus.entries {
			if !there[name] {
				w.fail("bus-invented", "%s published a %s which is in no log", r.name, name.kind)
			}
		}
		if r.bus.wrong != "" {
			w.fail("bus-rebuild", "%s: %s", r.name, r.bus.wrong)
		}
	}
}

// checkProjected checks that an event which is published can be found in the views.
func (r *region) checkProjected(name eventName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.projected[name] {
		r.world.fail("published-early", "%s publishes a %s before its views and feeds have it", r.name, name.kind)
	}
}

// checkShows checks that what leaves a region has no text of a message that was deleted there.
func (r *region) checkShows(ctx context.Context, name eventName, data []byte, where string) {
	kind, room := name.stream.Split()
	if kind != events.KindRoom || r.world.together || !bytes.Contains(data, []byte(textMark)) {
		return
	}
	found, err := events.Find(ctx, r.log, name.stream, name.id, false)
	if err != nil || len(found) == 0 {
		return // another check says so
	}
	about := found[0].About()
	if about == (events.ID{}) || name.kind == "message.posted" {
		about = name.id
	}
	got, err := projections.LoadMessages(ctx, r.current(), room, about)
	if err == nil && len(got) == 1 && got[0].Deleted {
		r.world.fail("deleted-shown", "%s gets the text of a message that was deleted in %s before: %s", where, r.name, data)
	}
}

// checkSealed checks that no text of a user is stored in the clear.
func (w *world) checkSealed(logs [][]events.Event) {
	mark := []byte(textMark)
	for i, r := range w.regions {
		for _, e := range logs[i] {
			if bytes.Contains(e.Data, mark) {
				w.fail("sealed", "the log of %s has the content of a %s in the clear", r.name, e.Type)
			}
		}
		for after := (projections.Key{}); ; {
			views, next, err := r.views.Scan(context.Background(), nil, after, 1000)
			if err != nil {
				w.fail("views", "cannot read the views of %s: %v", r.name, err)
				return
			}
			for _, v := range views {
				if bytes.Contains(v.Body, mark) {
					w.fail("sealed", "a view of %s has content in the clear: %s", r.name, v.Key.Partition)
				}
			}
			if after = next; next == (projections.Key{}) {
				break
			}
		}
	}
}

// checkFollowers lets every client catch up, anywhere, and checks that nothing is missing.
func (w *world) checkFollowers(logs [][]events.Event) {
	s := Step{N: -100}
	for i, f := range w.followers {
		r := w.region(int(mix(w.schedule.Seed, uint64(i), 5) >> 1))
		if f.follow(w, s, r); w.failed() {
			return
		}
		if e, misses := f.misses(w, r, logs[0]); misses {
			w.fail("missed", "%s, last in %s, never receives the %s %s that %s accepted", f.name, r.name, e.Type, e.Ref(), e.Region)
			return
		}
	}
}
