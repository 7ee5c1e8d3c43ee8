package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/dynamolog"
	"parley/events/keys/dynamokeys"
	"parley/functions/live/dynamoconns"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
	"parley/projections"
	"parley/projections/dynamoview"
)

const (
	inRegion         = awstest.Region
	eventsTable      = "parley-events"
	viewsTable       = "parley-views"
	connectionsTable = "parley-connections"
	keysTable        = "parley-keys"
)

// cloud is a region of Parley on AWS: the tables, all that package awstest plays, and each function in
// a process of the real binary.
type cloud struct {
	t         testing.TB
	aws       aws.Config
	issuer    *awstest.Issuer
	bus       *awstest.Bus
	gateway   *awstest.Gateway
	queues    *awstest.Queues
	kms       *awstest.KMS
	invoker   string // the URL of the API by which functions invoke functions
	functions map[string]*awstest.Function
	stream    *awstest.Stream
	views     projections.Views
	ledger    *ledger
}

// newCloud creates a region. fault decides about each call of a function to DynamoDB; nil lets all
// through. When the test ends, all output of the functions is checked, and that no function did what
// its role does not allow.
func newCloud(t testing.TB, fault func(dynamotest.Call) dynamotest.Fault) *cloud {
	t.Helper()
	place := dynamotest.Open(t)
	c := newServices(t)
	c.aws = place.Config(inRegion)
	for table, create := range map[string]func(context.Context, aws.Config, string) error{
		eventsTable: dynamolog.CreateTable, viewsTable: dynamoview.CreateTable, connectionsTable: dynamoconns.CreateTable, keysTable: dynamokeys.CreateTable,
	} {
		if err := create(t.Context(), c.aws, table); err != nil {
			t.Fatal(err)
		}
	}
	c.stream = awstest.NewStream(t, c.aws, eventsTable)
	c.views = dynamoview.New(c.aws, viewsTable)
	for _, f := range config.Functions {
		noted := dynamotest.Spoil(t, place, func(call dynamotest.Call) dynamotest.Fault {
			c.ledger.note(f, call)
			if fault == nil {
				return dynamotest.None
			}
			return fault(call)
		})
		c.functions[f] = awstest.NewFunction(t, builtBinary(t), c.environment(f, noted))
		c.functions[f].AllowLoops = allowsLoops(t, f)
		if f == config.Live {
			c.gateway.Functions = []*awstest.Function{c.functions[f], awstest.NewFunction(t, builtBinary(t), c.environment(f, noted))}
		}
	}
	t.Cleanup(func() {
		c.checkOutput()
		for _, complaint := range c.ledger.complaints() {
			t.Error(complaint)
		}
		if t.Failed() {
			for name, f := range c.functions {
				t.Logf("%s said\n%s", name, strings.Join(f.Logs.Lines(), "\n"))
			}
		}
	})
	t.Cleanup(c.gateway.Stop)
	return c
}

// newServices starts the services that the functions of a region call beside DynamoDB.
func newServices(t testing.TB) *cloud {
	c := &cloud{
		t: t, issuer: awstest.NewIssuer(t), bus: awstest.NewBus(t), gateway: awstest.NewGateway(t), queues: awstest.NewQueues(t, jobQueue, replayQueue), kms: awstest.NewKMS(t),
		functions: map[string]*awstest.Function{}, ledger: newLedger(),
	}
	c.invoker = awstest.Invoker(t, streamName, func(payload []byte) ([]byte, error) { return c.functions[config.Stream].Invoke(payload) })
	return c
}

// environment returns what Lambda and the template set for a function; users are not rate-limited.
func (c *cloud) environment(function string, place dynamolocal.Endpoint) []string {
	return []string{
		"_HANDLER=" + function, "AWS_LAMBDA_FUNCTION_NAME=parley-" + function, "AWS_REGION=" + inRegion, "AWS_ACCESS_KEY_ID=" + place.Key, "AWS_SECRET_ACCESS_KEY=local",
		"AWS_ENDPOINT_URL_DYNAMODB=" + place.URL, "AWS_ENDPOINT_URL_EVENTBRIDGE=" + c.bus.URL,
		"AWS_ENDPOINT_URL_SQS=" + c.queues.URL, "AWS_ENDPOINT_URL_LAMBDA=" + c.invoker,
		"AWS_ENDPOINT_URL_KMS=" + c.kms.URL, "PARLEY_KEYS_TABLE=" + keysTable, "PARLEY_KMS_KEY=" + awstest.KeyID,
		"PARLEY_EVENTS_TABLE=" + eventsTable, "PARLEY_VIEWS_TABLE=" + viewsTable, "PARLEY_BUS=" + awstest.BusName,
		"PARLEY_CONNECTIONS_TABLE=" + connectionsTable, "PARLEY_SOCKETS=" + c.gateway.URL,
		"PARLEY_JOB_QUEUE=" + c.queues.URL + jobQueue, "PARLEY_REPLAY_QUEUE=" + c.queues.URL + replayQueue,
		"PARLEY_STREAM_FUNCTION=" + streamName, "PARLEY_GRACE=2s", "PARLEY_RATE=0",
		"PARLEY_ISSUER=" + c.issuer.URL, "PARLEY_AUDIENCE=" + awstest.Audience, "PARLEY_JWKS=" + c.issuer.URL, "PARLEY_CURSOR_KEY=" + cursorKey,
	}
}

// allowsLoops reports whether the template allows a function to invoke itself in a long chain.
func allowsLoops(t testing.TB, function string) bool {
	t.Helper()
	text, err := os.ReadFile("../template/region.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, properties, found := strings.Cut(string(text), "\n  "+strings.ToUpper(function[:1])+function[1:]+":\n    Type: AWS::Lambda::Function\n")
	if !found {
		t.Fatalf("the template has no function %s", function)
	}
	properties, _, _ = strings.Cut(properties, "\n\n")
	return strings.Contains(properties, "\n      RecursiveLoop: Allow\n")
}

// cursorKey is the secret that the functions share.
const cursorKey = "0123456789abcdef0123456789abcdef"

// clock mints ids as clients do, with the marks that the functions want.
func (c *cloud) clock() *events.Clock {
	return events.NewClock(time.Now, config.Config{CursorKey: sha256.Sum256([]byte(cursorKey))}.Marks())
}

// parked returns the parked events, by key.
func (c *cloud) parked() map[string]projections.Parked {
	c.t.Helper()
	list, err := projections.ListParked(c.t.Context(), c.views, "", 1000)
	if err != nil {
		c.t.Fatal(err)
	}
	parked := map[string]projections.Parked{}
	for _, p := range list {
		parked[p.Key] = p
	}
	return parked
}

// The queues of jobs, as the paths of their URLs.
const (
	jobQueue    = "/123456789012/parley-jobs"
	replayQueue = "/123456789012/parley-replays"
)

// streamName is the name by which the stream function is invoked.
const streamName = "parley-stream"

// handle invokes the stream function with a batch and returns the records that come again.
func (c *cloud) handle(batch []awstest.Record) []awstest.Record {
	c.t.Helper()
	text, err := c.functions[config.Stream].Invoke(awstest.Payload(c.t, batch))
	if err != nil {
		c.t.Fatal(err)
	}
	return awstest.Failed(c.t, text, batch, awstest.Record.Sequence)
}

// settle hands all new records to the stream function, each shard's in batches of its own. None may
// fail.
func (c *cloud) settle() {
	c.t.Helper()
	for _, records := range awstest.Shards(c.stream.Read(0), "stream", shards) {
		for batch := range slices.Chunk(records, 100) {
			if failed := c.handle(batch); len(failed) > 0 {
				c.t.Fatalf("%d of %d records failed", len(failed), len(batch))
			}
		}
	}
}

// shards is how many shards a change stream has; DynamoDB starts with at least four.
const shards = 4

// deliver invokes a function with a message and reports whether it comes again.
func (c *cloud) deliver(function string, m awstest.Message) (again bool) {
	c.t.Helper()
	batch := []awstest.Message{m}
	text, err := c.functions[function].Invoke(awstest.Payload(c.t, batch))
	if errors.Is(err, awstest.ErrLoop) {
		c.t.Fatalf("a message for %s goes to the dead letters: %v", function, err)
	}
	return err != nil || len(awstest.Failed(c.t, text, batch, func(m awstest.Message) string { return m.ID })) > 0
}

// work delivers the messages of a queue, one at a time, until none is left. Failed ones come again at
// once.
func (c *cloud) work(function, queue string) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		m, ok := c.queues.Take(queue)
		if !ok {
			return
		}
		for c.deliver(function, m) {
			if time.Now().After(deadline) {
				c.t.Fatalf("%s fails forever: %s", function, c.functions[function].Logs.Lines())
			}
		}
	}
}

// checkBus checks that so many events are on the bus, once each, as they are in the log.
func (c *cloud) checkBus(want int) {
	c.t.Helper()
	entries := c.bus.Entries()
	if len(entries) != want || len(c.bus.Counts()) != want {
		c.t.Errorf("there are %d entries of %d events on the bus, want %d", len(entries), len(c.bus.Counts()), want)
	}
	for _, e := range entries {
		var detail struct {
			ID, Stream, Type, Actor, Region string
			PublishedBy                     string `json:"published_by"`
			Data                            json.RawMessage
		}
		if err := json.Unmarshal([]byte(e.Detail), &detail); err != nil {
			c.t.Fatal(err)
		}
		id, err := events.ParseID("id", detail.ID)
		if err != nil || e.Source != "parley" || e.DetailType != detail.Type || e.EventBusName != "parley" || detail.Region != inRegion ||
			detail.PublishedBy != inRegion || len(detail.Data) == 0 || e.Time != float64(id.Timestamp().UnixMilli())/1000 {
			c.t.Errorf("on the bus is %+v", e)
		}
	}
}

// checkFeed checks that a room's feed has so many events, with dense positions and without duplicates.
func (c *cloud) checkFeed(room string, want int) {
	c.t.Helper()
	stream := events.RoomStream(strings.TrimPrefix(room, "/v1/rooms/"))
	feed, _, err := projections.ListFeed(c.t.Context(), c.views, stream, 0, 10_000)
	if err != nil {
		c.t.Fatal(err)
	}
	seen := map[events.Ref]bool{}
	for i, entry := range feed {
		if entry.Position != uint64(i+1) || seen[entry.Ref] {
			c.t.Errorf("entry %d of the feed has position %d and id %s", i, entry.Position, entry.Ref)
		}
		seen[entry.Ref] = true
	}
	if len(feed) != want {
		c.t.Errorf("the feed has %d entries, want %d", len(feed), want)
	}
}

// items returns all items of a table.
func (c *cloud) items(table string) []map[string]types.AttributeValue {
	c.t.Helper()
	out, err := dynamodb.NewFromConfig(c.aws).Scan(c.t.Context(), &dynamodb.ScanInput{TableName: aws.String(table), ConsistentRead: aws.Bool(true)})
	if err != nil || out.LastEvaluatedKey != nil {
		c.t.Fatalf("scan %s: %v", table, err)
	}
	return out.Items
}

// holds reports whether any item of a table has a text.
func (c *cloud) holds(table, text string) bool {
	c.t.Helper()
	for _, it := range c.items(table) {
		for _, value := range it {
			switch v := value.(type) {
			case *types.AttributeValueMemberS:
				if strings.Contains(v.Value, text) {
					return true
				}
			case *types.AttributeValueMemberB:
				if strings.Contains(string(v.Value), text) {
					return true
				}
			}
		}
	}
	return false
}

// checkSealed checks that users' content is encrypted in all tables, and plain on the bus.
func (c *cloud) checkSealed(text string) {
	c.t.Helper()
	for _, table := range []string{eventsTable, viewsTable, keysTable} {
		if c.holds(table, text) {
			c.t.Errorf("%s holds %q in plain text", table, text)
		}
	}
	for _, table := range []string{eventsTable, viewsTable} {
		if !c.holds(table, `{"sealed":"`) {
			c.t.Errorf("%s holds nothing that is sealed", table)
		}
	}
	if !slices.ContainsFunc(c.bus.Entries(), func(e awstest.Entry) bool { return strings.Contains(e.Detail, text) }) {
		c.t.Errorf("nothing on the bus says %q", text)
	}
}

// checkOutput checks every line that any process wrote.
func (c *cloud) checkOutput() {
	for name, f := range c.functions {
		c.checkLines(name, f)
	}
	for _, f := range c.gateway.Functions {
		c.checkLines(config.Live, f)
	}
}

func (c *cloud) checkLines(name string, f *awstest.Function) {
	for _, line := range f.Metrics.Lines() {
		if m, err := readMetrics([]byte(line)); err != nil || m.dimensions["Function"] != name || m.dimensions["Region"] != inRegion {
			c.t.Errorf("%s writes the metrics %s: %v", name, line, err)
		}
	}
	for _, line := range f.Logs.Lines() {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["level"] == nil || fields["message"] == nil {
			c.t.Errorf("%s logs the line %s", name, line)
		}
		if strings.Contains(line, secret) {
			c.t.Errorf("%s logs what a user wrote: %s", name, line)
		}
		if strings.Contains(line, "eyJ") || slices.ContainsFunc(c.gateway.Conns(), func(conn string) bool { return strings.Contains(line, conn) }) {
			c.t.Errorf("%s logs a token, or the id of a connection: %s", name, line)
		}
	}
}

// secret is part of texts of users; no log line may have it.
const secret = awstest.Secret

// counted returns the sum of a metric over all invocations of a function.
func (c *cloud) counted(function, metric string) (sum int) {
	c.t.Helper()
	for _, line := range c.functions[function].Metrics.Lines() {
		m, err := readMetrics([]byte(line))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, v := range m.values[metric] {
			sum += int(v)
		}
	}
	return sum
}

// roomWithPosts creates a room, posts to it, and returns its path.
func (c *cloud) roomWithPosts(posts int) string {
	c.t.Helper()
	ada := c.user("ada")
	room := "/v1/rooms/" + ada.must("POST", "/v1/rooms", `{"name":"Hello"}`).text("id")
	for i := range posts {
		ada.post(room, fmt.Sprint(secret, i))
	}
	return room
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(time.Minute); !holds(); {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// binaries is the folder of binaries that the tests build.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "parley-lambda-")
	if err != nil {
		panic(err)
	}
	binaries = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // it is only litter
	os.Exit(code)
}

// binary builds the binary for this machine, once.
var binary = sync.OnceValues(func() (string, error) { return build(runtime.GOARCH) })

// builtBinary returns its path, and skips the test in a short run.
func builtBinary(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it starts processes")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build builds the binary for an architecture, with the flags of a deployment.
func build(arch string) (string, error) {
	name := filepath.Join(binaries, "bootstrap-"+arch)
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", name, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary for %s: %w: %s", arch, err, text)
	}
	return name, nil
}
