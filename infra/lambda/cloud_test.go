package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/dynamolog"
	"parley/events/keys/dynamokeys"
	"parley/functions/api"
	"parley/functions/live/dynamoconns"
	"parley/infra/lambda/config"
	"parley/projections"
	"parley/projections/dynamoview"
)

const (
	eventsTable      = "parley-events"
	viewsTable       = "parley-views"
	connectionsTable = "parley-connections"
	keysTable        = "parley-keys"
	inRegion         = "eu-west-1"
)

// cloud is a region of Parley on AWS: the tables, the bus, the issuer of tokens, and each function
// in a process of the real binary.
type cloud struct {
	t         testing.TB
	aws       aws.Config
	issuer    *issuer
	bus       *eventBridge
	gateway   *gateway
	queues    *queueService
	kms       *keyService
	invoker   *httptest.Server // Lambda, for who invokes a function
	functions map[string]*host
	records   *streamReader
	views     projections.Views
	ledger    *ledger
}

// newCloud makes a region. fault says what goes wrong between the functions and DynamoDB; nil:
// nothing.
func newCloud(t testing.TB, fault func(dynamotest.Call) dynamotest.Fault) *cloud {
	t.Helper()
	place := dynamotest.Open(t)
	c := newServices(t)
	c.aws = place.Config(inRegion)
	if err := dynamolog.CreateTable(t.Context(), c.aws, eventsTable); err != nil {
		t.Fatal(err)
	}
	if err := dynamoview.CreateTable(t.Context(), c.aws, viewsTable); err != nil {
		t.Fatal(err)
	}
	if err := dynamoconns.CreateTable(t.Context(), c.aws, connectionsTable); err != nil {
		t.Fatal(err)
	}
	if err := dynamokeys.CreateTable(t.Context(), c.aws, keysTable); err != nil {
		t.Fatal(err)
	}
	c.records = newStreamReader(t, c.aws)
	c.views = dynamoview.New(c.aws, viewsTable)
	for _, f := range config.Functions {
		noted := dynamotest.Spoil(t, place, func(call dynamotest.Call) dynamotest.Fault {
			c.ledger.note(f, call)
			if fault == nil {
				return dynamotest.None
			}
			return fault(call)
		})
		c.functions[f] = newHost(t, c.environment(f, noted))
		if f == config.Live {
			c.gateway.live = []*host{c.functions[f], newHost(t, c.environment(f, noted))}
		}
	}
	t.Cleanup(func() {
		c.checkOutput()
		for _, complaint := range c.ledger.complaints() {
			t.Error(complaint)
		}
		if t.Failed() {
			for name, f := range c.functions {
				t.Logf("%s said\n%s", name, strings.Join(f.logs.lines(), "\n"))
			}
		}
	})
	t.Cleanup(c.gateway.stop)
	return c
}

// newServices makes what a region has beside tables: who else is called by its functions.
func newServices(t testing.TB) *cloud {
	c := &cloud{
		t: t, issuer: newIssuer(t), bus: newEventBridge(t), gateway: newGateway(t), queues: newQueueService(t), kms: newKeyService(t),
		functions: map[string]*host{}, ledger: newLedger(),
	}
	c.invoker = newInvoker(c)
	return c
}

// environment is what Lambda would set for a function, and what the template sets.
func (c *cloud) environment(function string, place dynamolocal.Endpoint) []string {
	return []string{
		"_HANDLER=" + function, "AWS_REGION=" + inRegion, "AWS_ACCESS_KEY_ID=" + place.Key, "AWS_SECRET_ACCESS_KEY=local",
		"AWS_ENDPOINT_URL_DYNAMODB=" + place.URL, "AWS_ENDPOINT_URL_EVENTBRIDGE=" + c.bus.url,
		"AWS_ENDPOINT_URL_SQS=" + c.queues.url, "AWS_ENDPOINT_URL_LAMBDA=" + c.invoker.URL,
		"AWS_ENDPOINT_URL_KMS=" + c.kms.url, "PARLEY_KEYS_TABLE=" + keysTable, "PARLEY_KMS_KEY=" + kmsKey,
		"PARLEY_EVENTS_TABLE=" + eventsTable, "PARLEY_VIEWS_TABLE=" + viewsTable, "PARLEY_BUS=parley",
		"PARLEY_CONNECTIONS_TABLE=" + connectionsTable, "PARLEY_SOCKETS=" + c.gateway.url,
		"PARLEY_JOB_QUEUE=" + c.queues.url + jobQueue, "PARLEY_REPLAY_QUEUE=" + c.queues.url + replayQueue,
		"PARLEY_STREAM_FUNCTION=" + streamName, "PARLEY_GRACE=2s",
		"PARLEY_ISSUER=" + c.issuer.url, "PARLEY_AUDIENCE=parley", "PARLEY_JWKS=" + c.issuer.url, "PARLEY_CURSOR_KEY=0123456789abcdef0123456789abcdef",
	}
}

// parked are the parked events, by key.
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

// user talks to the region through its gateway.
type user struct {
	c     *cloud
	name  string
	token string
}

func (c *cloud) user(name string) user { return user{c, name, c.issuer.token(name)} }

// operator is one with the scope.
func (c *cloud) operator(name string) user {
	return user{c, name, c.issuer.token(name, api.ScopeOperator)}
}

// reply is what came back.
type reply struct {
	t       testing.TB
	asked   string
	status  int
	headers map[string]string
	body    []byte
}

// do sends a request the way the gateway's routes do: GET /health to the health function, what
// operators ask to theirs, GET to the query function, all else to the command function.
func (u user) do(method, path, body string) reply {
	u.c.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+u.token)
	name := config.Command
	if method == http.MethodGet {
		name = config.Query
	}
	switch {
	case path == "/health":
		name = config.Health
	case strings.HasPrefix(path, "/v1/ops/"):
		name = config.Operate
	}
	text, err := u.c.functions[name].invoke(eventOf(u.c.t, r, true))
	if err != nil {
		u.c.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := readAnswer(u.c.t, text)
	return reply{u.c.t, method + " " + path, a.StatusCode, a.Headers, a.body}
}

func (u user) get(path string) reply { u.c.t.Helper(); return u.do(http.MethodGet, path, "") }

// must sends a command that must be accepted, again if it came too soon: tests are faster than users
// may be.
func (u user) must(method, path, body string) reply {
	u.c.t.Helper()
	r := u.do(method, path, body)
	for r.status == http.StatusTooManyRequests {
		pause, err := strconv.Atoi(r.headers["Retry-After"])
		if err != nil {
			u.c.t.Fatalf("%s: %d, Retry-After: %v", r.asked, r.status, err)
		}
		time.Sleep(time.Duration(pause) * time.Second)
		r = u.do(method, path, body)
	}
	if r.status != http.StatusOK && r.status != http.StatusCreated {
		u.c.t.Fatalf("%s: %d %s", r.asked, r.status, r.body)
	}
	return r
}

// post posts a message and returns its id.
func (u user) post(room, text string) string {
	u.c.t.Helper()
	return u.must("POST", room+"/messages", `{"text":"`+text+`"}`).text("id")
}

// into decodes the body.
func (r reply) into(v any) {
	r.t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		r.t.Fatalf("%s: %s: %v", r.asked, r.body, err)
	}
}

// text is a field of the body.
func (r reply) text(field string) string {
	r.t.Helper()
	var fields map[string]any
	r.into(&fields)
	text, _ := fields[field].(string)
	return text
}

// message is so much of a message as the tests look at.
type message struct {
	ID, Author, Text string
	Deleted, Erased  bool
	Reactions        map[string][]string
}

// messages are those of a room, oldest first.
func (u user) messages(path string) []message {
	u.c.t.Helper()
	var page struct{ Messages []message }
	r := u.get(path)
	if r.status != http.StatusOK {
		u.c.t.Fatalf("%s: %d %s", r.asked, r.status, r.body)
	}
	r.into(&page)
	return page.Messages
}

// texts are the texts of messages, in their order.
func texts(messages []message) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Text)
	}
	return strings.Join(all, " | ")
}
