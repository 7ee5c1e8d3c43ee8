package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/functions/operate"
	"parley/functions/stream"
	"parley/functions/wire"
)

// replayed are the entries of replays on the bus, by their events' ids; all others are ordinary.
func (o *ops) replayed() (ids []string, ordinary int) {
	o.t.Helper()
	for _, e := range o.bus.entries {
		if e.Source == "parley" && !strings.Contains(e.DetailType, "/") {
			ordinary++
			continue
		}
		var detail struct{ ID, Type, Replay string }
		must(o.t, json.Unmarshal(e.Detail, &detail))
		if e.Source != "parley.replay" || !strings.HasSuffix(e.DetailType, "/"+detail.Type) || detail.Replay == "" {
			o.t.Errorf("an entry of a replay is %s %s %s", e.Source, e.DetailType, e.Detail)
		}
		ids = append(ids, detail.ID)
	}
	return ids, ordinary
}

// history makes some, and returns the rooms and all ids in the log but those of acts and beats.
func (o *ops) history() (rooms []string, ids []string) {
	o.t.Helper()
	for i := range 4 {
		user := fmt.Sprint("user", i)
		room := o.as(user).room(`{"name":"a"}`)
		rooms = append(rooms, room)
		for j := range 30 {
			id := o.as(user).say(room, fmt.Sprint(j))
			if j%10 == 0 {
				o.as(user).put(room+"/read", `{"up_to":"`+id.String()+`"}`).want(200)
			}
		}
		o.as(user).put("/v1/users/"+user, `{"name":"a"}`).want(200)
		must(o.t, o.beat())
	}
	o.Sync()
	for e, err := range o.store.Scan(context.Background(), events.Part{Index: 0, Of: 1}, events.Key{}) {
		must(o.t, err)
		if kind, _ := e.Stream.Split(); kind == events.KindRoom || kind == events.KindUser {
			ids = append(ids, e.ID.String())
		}
	}
	slices.Sort(ids)
	return rooms, ids
}

// beat appends a heartbeat of the region.
func (o *ops) beat() error {
	e, err := events.New(o.mint(o.name), events.RegionStream(o.name), o.name, o.name, events.RegionBeat{})
	if err == nil {
		_, _, err = o.store.Append(context.Background(), e)
	}
	return err
}

// A replay of everything reaches its subscribers only: no ordinary event is on the
// bus, no socket and no sync hears of it.
func TestOpsReplayReachesNobodyElse(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	_, want := o.history()
	socket := o.as("user0").listen()
	cursor := o.as("user0").get("/v1/rooms").text("cursor")
	_, before := o.replayed()

	id := o.start(`{"kind":"replay","to":"warehouse","rate":10000}`)
	a := o.finish(id)
	if a.text("state") != "done" || a.value("done") != float64(len(want)) || a.value("total") != float64(len(want)) || a.value("result", "published") != float64(len(want)) {
		t.Errorf("%s", a.body)
	}
	o.Sync() // of what the job appended
	got, after := o.replayed()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d were replayed, want %d", len(got), len(want))
	}
	acts := o.count(events.OpsStream("eu"))
	if after != before+acts {
		t.Errorf("%d ordinary events were published, %d of them acts", after-before, acts)
	}
	if frames := socket.take(); len(frames) > 0 {
		t.Errorf("a socket received %+v", frames)
	}
	if a := o.as("user0").get("/v1/sync?cursor=" + url.QueryEscape(cursor)).want(200); len(a.value("events").([]any)) != 0 {
		t.Errorf("sync tells %s", a.body)
	}
	for _, e := range o.bus.entries {
		if e.Source == stream.ReplaySource && !strings.HasPrefix(e.DetailType, "warehouse/") {
			t.Errorf("the detail type is %s", e.DetailType)
		}
	}
}

// No entry that ordinary subscribers could get passes the bus for replays.
func TestOpsReplayBus(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	bus := o.runner.Kinds["replay"].(*operate.Replay).Bus
	good := stream.Entry{Source: stream.ReplaySource, DetailType: "x/message.posted", Detail: []byte("{}")}
	for _, bad := range []stream.Entry{
		{Source: "parley", DetailType: good.DetailType},
		{Source: stream.ReplaySource, DetailType: "message.posted"},
		{Source: stream.ReplaySource, DetailType: "/message.posted"},
		{Source: stream.ReplaySource, DetailType: "x/"},
		{Source: stream.ReplaySource, DetailType: "X/message.posted"},
		{},
	} {
		if _, err := bus.Publish(t.Context(), []stream.Entry{good, bad}); err == nil || len(o.bus.entries) > 0 {
			t.Errorf("%+v is taken", bad)
		}
	}
	if _, err := bus.Publish(t.Context(), []stream.Entry{good}); err != nil {
		t.Error(err)
	}
}

// What is asked for is replayed, and nothing more.
func TestOpsReplayFilters(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	rooms, _ := o.history()
	room := strings.TrimPrefix(rooms[1], "/v1/rooms/")
	var all []events.Event
	for e := range o.store.Scan(t.Context(), events.Part{Index: 0, Of: 1}, events.Key{}) {
		if kind, _ := e.Stream.Split(); kind == events.KindRoom || kind == events.KindUser {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b events.Event) int { return a.ID.Compare(b.ID) })
	from, until := all[20].ID, all[80].ID
	at := all[50].ID.Timestamp()
	in := func(e events.Event, from, until events.ID) bool {
		return e.ID.Compare(from) >= 0 && e.ID.Compare(until) < 0
	}
	for params, wants := range map[string]func(e events.Event) bool{
		``:                                  func(events.Event) bool { return true },
		`,"room":"` + room + `"`:            func(e events.Event) bool { return e.Stream == events.RoomStream(room) },
		`,"type":"message.posted"`:          func(e events.Event) bool { return e.Type == "message.posted" },
		`,"type":"room.*"`:                  func(e events.Event) bool { return strings.HasPrefix(e.Type, "room.") },
		`,"type":"*"`:                       func(events.Event) bool { return true },
		`,"from":"` + from.String() + `"`:   func(e events.Event) bool { return e.ID.Compare(from) >= 0 },
		`,"until":"` + until.String() + `"`: func(e events.Event) bool { return e.ID.Compare(until) < 0 },
		`,"from":"` + at.Format(time.RFC3339Nano) + `"`:                    func(e events.Event) bool { return !e.ID.Timestamp().Before(at) },
		`,"until":"` + at.Format(time.RFC3339Nano) + `"`:                   func(e events.Event) bool { return e.ID.Timestamp().Before(at) },
		`,"from":"` + from.String() + `","until":"` + until.String() + `"`: func(e events.Event) bool { return in(e, from, until) },
		`,"room":"` + strings.ToLower(room) + `","from":"` + from.String() + `","until":"` + until.String() + `","type":"message.*"`: func(e events.Event) bool {
			return e.Stream == events.RoomStream(room) && in(e, from, until) && strings.HasPrefix(e.Type, "message.")
		},
		`,"until":"1970-01-01T00:00:01Z"`: func(events.Event) bool { return false },
	} {
		var want []string
		for _, e := range all {
			if wants(e) {
				want = append(want, e.ID.String())
			}
		}
		o.bus.entries = nil
		a := o.finish(o.start(`{"kind":"replay","to":"x","rate":10000` + params + `}`))
		got, _ := o.replayed()
		slices.Sort(got)
		if a.text("state") != "done" || !slices.Equal(got, want) || a.value("result", "events") != float64(len(want)) {
			t.Errorf("%s: %d were replayed, want %d: %s", params, len(got), len(want), a.body)
		}
	}
}

// A dry run says what it would come to, and publishes nothing.
func TestOpsReplayDryRun(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	_, want := o.history()
	_, before := o.replayed()
	a := o.finish(o.start(`{"kind":"replay","to":"x","rate":10,"dry_run":true}`))
	got, after := o.replayed()
	var r struct {
		Result struct {
			Events, Scanned, Published, Seconds int
			ReadUnits                           int `json:"read_units"`
			Dollars                             float64
		}
	}
	a.into(&r)
	n := len(want)
	if len(got) > 0 || after != before || r.Result.Events != n || r.Result.Published != 0 || r.Result.Seconds != (n+9)/10 ||
		r.Result.ReadUnits == 0 || r.Result.Dollars < float64(n)/1e6 || r.Result.Scanned < n {
		t.Errorf("%d were replayed: %s", len(got), a.body)
	}
	o.acted("olga job.done replay")
}

// Killed, paused or refused in the middle, a replay goes on where it was: nothing is left out, and
// what comes twice is what was on its way.
func TestOpsReplayGoesOn(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	_, want := o.history()
	replay := o.runner.Kinds["replay"].(*operate.Replay)
	task := operate.Task{ID: o.mint("olga").String(), Params: wire.Params{To: "x", Rate: 10_000}} // no budget: one call a step
	down, refused := 0, 0
	o.bus.answer = func(call int, entries []stream.Entry) ([]error, error) {
		answers := make([]error, len(entries))
		switch {
		case call%17 == 5:
			down = 5
		case call%7 == 3:
			refused++
			answers[0] = errRefused
		}
		if down > 0 {
			down--
			return nil, errRefused
		}
		return answers, nil
	}
	steps, failures := 0, 0
	for {
		p, err := replay.Step(t.Context(), task)
		if steps++; steps > 1000 {
			t.Fatal("it does not end")
		}
		if err != nil {
			if failures++; !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
		}
		if err == nil && steps%5 == 4 {
			continue // killed before it was saved
		}
		if p.Work != nil {
			task.Work = p.Work
		}
		if p.Finished {
			break
		}
	}
	got, _ := o.replayed()
	slices.Sort(got)
	twice := len(got)
	got = slices.Compact(got)
	if twice -= len(got); !slices.Equal(got, want) || twice == 0 || failures == 0 || refused == 0 {
		t.Errorf("%d of %d were replayed, %d twice, in %d steps, %d failed", len(got), len(want), twice, steps, failures)
	}
	var r struct{ Published, Refused int }
	must(t, json.Unmarshal(task.Work, &r))
	if r.Refused != 0 || r.Published != len(want) {
		t.Errorf("it counts %+v, want %d", r, len(want))
	}
}

// It keeps to its rate, however often it begins a step.
func TestOpsReplayRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOps(t)
		_, want := o.history()
		replay := o.runner.Kinds["replay"].(*operate.Replay)
		const rate = 400
		least := time.Duration(len(want)) * time.Second / rate * 8 / 10
		for _, budget := range []time.Duration{time.Minute, 0} {
			task := operate.Task{ID: o.mint("olga").String(), Params: wire.Params{To: "x", Rate: rate}, Budget: budget}
			began := time.Now()
			for finished := false; !finished; {
				p, err := replay.Step(t.Context(), task)
				must(t, err)
				task.Work, finished = p.Work, p.Finished
			}
			if took := time.Since(began); took < least || took > 20*least {
				t.Errorf("with a budget of %v %d events took %v", budget, len(want), took)
			}
		}
	})
}
