package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/dynamolog"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/functions"
	"parley/functions/health"
	"parley/functions/operate"
	"parley/infra/lambda/awstest"
	"parley/projections"
	"parley/projections/dynamoview"
)

var update = flag.Bool("update", false, "write infra/template/COSTS.md")

// The units of DynamoDB that COSTS.md counts with. The tests of this file, and those of infra/bench,
// measure them.
const (
	foldFull     = 1.12 // write units of a message in the views, in full batches
	foldSparse   = 2    // and alone: timeline and feed
	headRead     = 0.5  // read units of the head of a feed, for each room of a batch
	rebuildWrite = 1.01 // of a rebuild, a message
	rebuildRead  = 0.90
	logRead      = 0.14 // of reading the log, a message
	foldBeat     = 1    // write units of a heartbeat in the views
	syncIdle     = 13.5 // read units of a sync with nothing new, or of a ping, of a client in 20 rooms
	syncNews     = 53.5 // and of a sync that returns 100 messages
	subscribe    = 16.5 // and of a subscribe to 20 rooms
	looks        = 28   // syncs of a wait of 25 s in which nothing happens
	sealedBytes  = 535  // the longest text that costs one write unit in the log, and one as a view
)

// The prices, in dollars a million.
const (
	request    = 1.00 // of API Gateway
	invocation = 0.20
	gbSecond   = 13.3 // of Lambda on arm64
	writeUnit  = 0.625
	readUnit   = 0.125
	busEvent   = 1.00
	queued     = 0.40
	logKB      = 0.50 // CloudWatch Logs, 0.50 a GB
)

// cost is a line of the table of messages, in dollars a million: in full batches, and at sparse traffic.
type cost struct {
	what, how    string
	full, sparse float64
}

var (
	costsOnce = []cost{
		{"API Gateway", "1.00 a million requests", request, request},
		{"Lambda, `command`", "0.20 a million, and 15 ms of 0.5 GB at 0.0000133 a GB-s", invocation + 0.015*0.5*gbSecond, invocation + 0.015*0.5*gbSecond},
		{"reads, to check that the author may post", "2 read units, 0.125 a million", 2 * readUnit, 2 * readUnit},
		{"reads, of the author's key", "at most 1 read unit: a process reads it once in 30 s for each user", readUnit, readUnit},
		{"logs and metrics", "0.92 KB a request, 0.50 a GB", 0.92 * logKB, 0.92 * logKB},
	}
	costsRegion = []cost{
		{"the log", "1 write unit (a replicated one costs the same), 0.625 a million", writeUnit, writeUnit},
		{"the views", fmt.Sprintf("%.2f or %d write units", foldFull, foldSparse), foldFull * writeUnit, foldSparse * writeUnit},
		{"reads, to fold", "half a read unit for each room of a batch, the head of its feed: a new message has no view", headRead * readUnit / 25, headRead * readUnit},
		{"reads, of subscribers", "a read unit for each room of a batch", readUnit / 25, readUnit},
		{"reads, of authors' keys", "at most 1 read unit, as above", readUnit, readUnit},
		{"Lambda, `stream`", "100 messages or 1 an invocation", 0.04, 0.60},
		{"its logs", "0.50 a GB", 0, 0.5 * logKB},
		{"EventBridge", "1.00 a million events", busEvent, busEvent},
		{"archive", "0.10 a GB", 0.06, 0.06},
	}
	costsFurther = []cost{{"**for each further region**", "1 GB to it, 0.02 a GB", 0.02, 0.02}}
)

// beatsAMonth returns what the heartbeats of so many regions cost in one of them, in dollars a month. It is
// the most: those that arrive in one batch share an invocation.
func beatsAMonth(regions int) float64 {
	const month = 365.0 / 12 * 24 * 60 // minutes
	one := (1+foldBeat)*writeUnit + readUnit + 0.5*logKB + busEvent
	for _, l := range costsRegion {
		if l.what == "Lambda, `stream`" || l.what == "archive" {
			one += l.sparse
		}
	}
	return (month*float64(regions*health.DefaultStreams)*one + month*(invocation+0.1*0.25*gbSecond)) / 1e6
}

// sum adds up lines as they are printed, rounded to cents, so that the table adds up.
func sum(lines []cost) (total cost) {
	for _, l := range lines {
		total.full += cents(l.full)
		total.sparse += cents(l.sparse)
	}
	return total
}

func cents(dollars float64) float64 { return math.Round(dollars*100+1e-6) / 100 }

// TestCosts holds infra/template/COSTS.md against the units and prices; -update writes it.
func TestCosts(t *testing.T) {
	var messages, totals strings.Builder
	messages.WriteString("| | how it is counted | full batches | sparse traffic |\n|---|---|---|---|\n")
	part := func(name string, lines []cost) cost {
		s := sum(lines)
		fmt.Fprintf(&messages, "| **%s** | | **%.2f** | **%.2f** |\n", name, s.full, s.sparse)
		for _, l := range lines {
			fmt.Fprintf(&messages, "| %s | %s | %.2f | %.2f |\n", l.what, l.how, cents(l.full), cents(l.sparse))
		}
		return s
	}
	once, region, further := part("once", costsOnce), part("in each region", costsRegion), costsFurther[0]
	fmt.Fprintf(&messages, "| %s | %s | **%.2f** | **%.2f** |\n", further.what, further.how, further.full, further.sparse)
	totals.WriteString("| | full batches | sparse traffic |\n|---|---|---|\n")
	for i, name := range []string{"one region", "two regions", "three regions"} {
		n := float64(i)
		fmt.Fprintf(&totals, "| %s | %.2f | %.2f |\n", name, once.full+(n+1)*region.full+n*further.full, once.sparse+(n+1)*region.sparse+n*further.sparse)
	}
	const rebuild, drop, read = rebuildWrite*writeUnit + rebuildRead*readUnit, writeUnit + 0.045, logRead * readUnit
	var got bytes.Buffer
	page := template.Must(template.New("costs.tmpl").Funcs(template.FuncMap{
		"usd":   func(dollars float64) string { return fmt.Sprintf("%.2f", cents(dollars)) },
		"units": func(n float64) string { return fmt.Sprintf("%.2f", n) },
	}).ParseFiles("testdata/costs.tmpl"))
	if err := page.Execute(&got, map[string]any{
		"Messages": messages.String(), "Totals": totals.String(), "Bus": busEvent, "Queue": queued, "Read": readUnit, "HalfRead": readUnit / 2, "SealedBytes": sealedBytes,
		"RebuildWrite": rebuildWrite, "RebuildRead": rebuildRead, "LogRead": logRead, "Rebuild": rebuild, "Drop": drop,
		"Audit": cents(rebuild) + cents(drop), "Digests": read, "Replay": busEvent + 2*read,
		"SyncIdle": syncIdle, "SyncNews": syncNews, "Subscribe": subscribe, "LooksDay": 24 * 60 * 60 / 25.0 * looks * syncIdle * readUnit / 1e6,
		"BeatStreams": health.DefaultStreams, "BeatsOne": beatsAMonth(1), "BeatsThree": beatsAMonth(3),
		"Alarms": "34 metrics, and one for each other region, at 0.10: 3.50", // a test of infra/template counts them
	}); err != nil {
		t.Fatal(err)
	}
	const file = "../template/COSTS.md"
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s is stale, run this test with -update (-file +is):\n%s", file, diff)
	}
}

// TestRebuildUnits measures what a rebuild of all views costs a message: the whole job, of messages with
// 300 characters, 500 in each room.
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
	region := functions.New(functions.Parts{Region: inRegion, Log: log, Views: views})
	region.Rebuilder.Grace, region.Rebuilder.Confirm = 0, 0
	kind := region.Runner("rebuild").Kinds["rebuild"]
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
	if read > rebuildRead+0.05 || write > rebuildWrite+0.09 {
		t.Errorf("a message takes %.2f read and %.2f write units: more than COSTS.md says", read, write)
	}
}

// conversation returns n messages of one user, each of them to a room.
func conversation(t *testing.T, n, each int) (all []events.Event) {
	t.Helper()
	clock := events.NewClock(time.Now, events.NewMarks(nil))
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

// TestSealedUnits measures up to which length of its text a message costs one write unit in the log and
// one as a view, for long ids of users and regions.
func TestSealedUnits(t *testing.T) {
	const longest = "ap-southeast-2"
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
	ring := keys.NewRing(dynamokeys.New(cfg, keysTable), wrapper(awstest.NewKMS(t), inRegion, awstest.KeyID), nil)
	author := strings.Repeat("x", 64)
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	for _, size := range []int{sealedBytes, sealedBytes + 10} {
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
		if one := inLog == 1 && asView == 1; one != (size == sealedBytes) {
			t.Errorf("%d bytes of text cost %v write units in the log and %v as a view", size, inLog, asView)
		}
	}
}
