package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/dynamolog"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/functions/operate"
	"parley/projections"
	"parley/projections/dynamoview"
)

// TestRebuildUnits measures what README.md says a rebuild of all views costs a message, in units of
// DynamoDB: the whole job, of messages with 300 characters, 500 in each room.
func TestRebuildUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it counts, for half a minute")
	}
	const messages, each = 4000, 500
	var meter dynamolocal.Meter
	cfg := meter.Watch(dynamotest.Open(t).Config(inRegion))
	if err := dynamolog.CreateTable(t.Context(), cfg, eventsTable); err != nil {
		t.Fatal(err)
	}
	if err := dynamoview.CreateTable(t.Context(), cfg, viewsTable); err != nil {
		t.Fatal(err)
	}
	log, views := dynamolog.New(cfg, eventsTable), dynamoview.New(cfg, viewsTable)
	all := conversation(t, messages, each)
	appendAll(t, log, all)
	for len(all) > 0 {
		n := min(100, len(all))
		batch := make([]projections.Arrival, n)
		for i := range batch {
			batch[i].Event = all[i]
		}
		if failures, err := projections.NewEngine(log, views, projections.All()...).Apply(t.Context(), batch); err != nil || len(failures) > 0 {
			t.Fatal(failures, err)
		}
		all = all[n:]
	}
	meter.Take()
	rebuilder := projections.NewRebuilder(log, views, projections.NewGenerations(views))
	rebuilder.Grace, rebuilder.Settle = 0, 0
	kind := &operate.Rebuild{Log: log, Rebuilder: rebuilder}
	var work json.RawMessage
	for p := (operate.Progress{}); !p.Finished; work = p.Work {
		var err error
		if p, err = kind.Step(t.Context(), operate.Task{ID: "01J", Work: work, Budget: 3 * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	var read, write float64
	for use, u := range meter.Take() {
		t.Logf("%s %s: %+v", use.Table, use.Operation, u)
		read, write = read+u.Read, write+u.Write
	}
	read, write = read/messages, write/messages
	t.Logf("a message takes %.2f read and %.2f write units", read, write)
	if read > 0.95 || write > 1.1 {
		t.Errorf("a message takes %.2f read and %.2f write units: more than README.md says", read, write)
	}
}

// conversation is so many messages of one user, each number of them in a room.
func conversation(t *testing.T, n, each int) (all []events.Event) {
	t.Helper()
	clock := events.NewClock(time.Now)
	sealed := events.Sealed([]byte(strings.Repeat("x", 300+37))) // as long as one of 300 characters is
	var room events.Stream
	add := func(e events.Event, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	for i := range n {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		if i%each == 0 {
			room = events.RoomStream(id.String())
			add(events.New(id, room, "ada", inRegion, events.RoomCreated{Name: "Hello"}))
			if id, err = clock.Mint("ada"); err != nil {
				t.Fatal(err)
			}
		}
		add(events.New(id, room, "ada", inRegion, events.MessagePosted{Text: sealed}))
	}
	return all
}

func appendAll(t *testing.T, log events.Log, all []events.Event) {
	t.Helper()
	group, ctx := errgroup.WithContext(context.WithoutCancel(t.Context()))
	group.SetLimit(16)
	for _, e := range all {
		group.Go(func() error {
			_, _, err := log.Append(ctx, e)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestSealedUnits holds up to which length of its text a message costs one write unit in the log, and
// another as a view, whoever writes it and wherever: what README.md says. Sealing makes a text a
// third longer.
func TestSealedUnits(t *testing.T) {
	const most, longest = 560, "ap-southeast-2"
	var meter dynamolocal.Meter
	cfg := meter.Watch(dynamotest.Open(t).Config(inRegion))
	for table, create := range map[string]func(context.Context, aws.Config, string) error{
		eventsTable: dynamolog.CreateTable, viewsTable: dynamoview.CreateTable, keysTable: dynamokeys.CreateTable,
	} {
		if err := create(t.Context(), cfg, table); err != nil {
			t.Fatal(err)
		}
	}
	log, views := dynamolog.New(cfg, eventsTable), dynamoview.New(cfg, viewsTable)
	ring := keys.NewRing(dynamokeys.New(cfg, keysTable), newKeyService(t).wrapper(inRegion, kmsKey), nil)
	author := strings.Repeat("x", 64)
	clock := events.NewClock(time.Now)
	for _, size := range []int{most, most + 10} {
		id, err := clock.Mint(author)
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.New(id, events.RoomStream(events.DirectRoom(author, "ada")), author, longest, events.MessagePosted{Text: events.Plain(strings.Repeat("x", size))})
		if err != nil {
			t.Fatal(err)
		}
		if e, err = ring.Seal(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		meter.Take()
		appendAll(t, log, []events.Event{e})
		if _, err := projections.NewEngine(log, views, projections.Timeline).Apply(t.Context(), []projections.Arrival{{Event: e}}); err != nil {
			t.Fatal(err)
		}
		used := meter.Take()
		inLog := used[dynamolocal.Use{Table: eventsTable, Operation: "PutItem"}].Write
		asView := used[dynamolocal.Use{Table: viewsTable, Operation: "PutItem"}].Write
		t.Logf("%d bytes: %v and %v write units", size, inLog, asView)
		if one := inLog == 1 && asView == 1; one != (size == most) {
			t.Errorf("%d bytes of text cost %v write units in the log and %v as a view", size, inLog, asView)
		}
	}
}
