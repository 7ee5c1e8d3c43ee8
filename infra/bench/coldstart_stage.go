package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolog"
	"parley/events/keys/dynamokeys"
	"parley/functions/api"
	"parley/functions/live/dynamoconns"
	"parley/projections/dynamoview"
)

// lambdaFunctions are the functions of the Lambda binary.
var lambdaFunctions = []string{"command", "query", "health", "stream", "live", "beat", "operate", "worker", "replayer"}

const lambdaRegion = "us-east-1"

// stage is what the functions meet: tables, an issuer of tokens, a bus, KMS, and an event for each.
type stage struct {
	place  dynamolocal.Endpoint
	others *httptest.Server  // the issuer's keys, the bus, and KMS
	token  string            // ada's
	events map[string]string // by function
}

func newStage(ctx context.Context, url string) (*stage, error) {
	s := &stage{place: dynamolocal.Endpoint{URL: url, Key: dynamolocal.NewKey()}}
	cfg := s.place.Config(lambdaRegion)
	if err := dynamolog.CreateTable(ctx, cfg, "events"); err != nil {
		return nil, err
	}
	if err := errors.Join(dynamoview.CreateTable(ctx, cfg, "views"), dynamoconns.CreateTable(ctx, cfg, "connections"),
		dynamokeys.CreateTable(ctx, cfg, "keys")); err != nil {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s.others = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
		case "DescribeEventBus":
			_, _ = io.WriteString(w, `{"Name":"parley"}`)
		case "PutEvents":
			_, _ = io.WriteString(w, `{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}`)
		case "Encrypt", "Decrypt":
			echoKMS(w, r)
		default:
			_, _ = io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"one","x":"`+
				base64.RawURLEncoding.EncodeToString(public)+`"}]}`)
		}
	}))
	if s.token, err = s.sign(private); err != nil {
		return nil, err
	}
	record, err := streamEvent()
	if err != nil {
		return nil, err
	}
	const scheduled = `{"detail-type":"Scheduled Event"}`
	s.events = map[string]string{
		"command": s.httpEvent("POST", "/v1/rooms", `{\"name\":\"Hello\"}`),
		"health":  s.httpEvent("GET", "/health", ""),
		"stream":  record,
		"live": `{"headers":{"Authorization":"Bearer ` + s.token + `"},"multiValueHeaders":{"Authorization":["Bearer ` + s.token +
			`"]},"requestContext":{"eventType":"CONNECT","connectionId":"one="}}`,
		"beat":     scheduled,
		"operate":  s.httpEvent("GET", "/v1/ops/status", ""),
		"worker":   scheduled,
		"replayer": scheduled,
	}
	return s, nil
}

// echoKMS answers as KMS does, but for the encryption: what is measured is what the function does.
func echoKMS(w http.ResponseWriter, r *http.Request) {
	var in struct{ Plaintext, CiphertextBlob []byte }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	in.Plaintext, in.CiphertextBlob = in.CiphertextBlob, in.Plaintext
	_ = json.NewEncoder(w).Encode(in) // the function may be gone
}

// makeRoom makes the room that messages are posted to and read from.
func (s *stage) makeRoom(path string) error {
	made, err := s.start(path, "command", io.Discard)
	if err != nil {
		return fmt.Errorf("make a room: %w", err)
	}
	var answer struct{ Body string }
	var room struct{ ID string }
	if err := errors.Join(json.Unmarshal(made.body, &answer), json.Unmarshal([]byte(answer.Body), &room)); err != nil {
		return fmt.Errorf("make a room: %w", err)
	}
	messages := "/v1/rooms/" + room.ID + "/messages"
	s.events["command"] = s.httpEvent("POST", messages, `{\"text\":\"Hello\"}`)
	s.events["query"] = s.httpEvent("GET", messages, "")
	return nil
}

func (s *stage) close() { s.others.Close() }

func (s *stage) sign(key ed25519.PrivateKey) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": s.others.URL, "aud": "parley", "sub": "ada", "scope": api.ScopeOperator, "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = "one"
	return token.SignedString(key)
}

// httpEvent is what an HTTP API sends. The body is written as JSON has it between its quotes.
func (s *stage) httpEvent(method, path, body string) string {
	return `{"version":"2.0","rawPath":"` + path + `","headers":{"authorization":"Bearer ` + s.token +
		`","content-type":"application/json"},"requestContext":{"http":{"method":"` + method + `"}},"body":"` + body + `"}`
}

// streamEvent is a record of a message that nobody has seen.
func streamEvent() (string, error) {
	id, err := events.NewClock(time.Now).Mint("ada")
	if err != nil {
		return "", err
	}
	e, err := events.New(id, events.RoomStream(id.String()), "ada", lambdaRegion, events.MessagePosted{Text: events.Plain("Hello")})
	if err != nil {
		return "", err
	}
	stored := events.Encode(e)
	type text struct{ S string }
	image, err := json.Marshal(map[string]text{
		"stream": {stored.Stream}, "id": {stored.ID}, "type": {stored.Type},
		"actor": {stored.Actor}, "region": {stored.Region}, "data": {stored.Data},
	})
	return `{"Records":[{"eventName":"INSERT","dynamodb":{"SequenceNumber":"1","NewImage":` + string(image) + `}}]}`, err
}

// environment is what Lambda sets for a function, and what the template sets.
func (s *stage) environment(function, runtime string) []string {
	return []string{
		"AWS_LAMBDA_RUNTIME_API=" + runtime, "_HANDLER=" + function, "AWS_REGION=" + lambdaRegion,
		"AWS_ACCESS_KEY_ID=" + s.place.Key, "AWS_SECRET_ACCESS_KEY=local",
		"AWS_ENDPOINT_URL_DYNAMODB=" + s.place.URL, "AWS_ENDPOINT_URL_EVENTBRIDGE=" + s.others.URL, "AWS_ENDPOINT_URL_KMS=" + s.others.URL,
		"PARLEY_KEYS_TABLE=keys", "PARLEY_KMS_KEY=alias/parley",
		"PARLEY_EVENTS_TABLE=events", "PARLEY_VIEWS_TABLE=views", "PARLEY_BUS=parley",
		"PARLEY_CONNECTIONS_TABLE=connections", "PARLEY_SOCKETS=" + s.others.URL,
		"PARLEY_JOB_QUEUE=" + s.others.URL, "PARLEY_REPLAY_QUEUE=" + s.others.URL, "PARLEY_STREAM_FUNCTION=stream",
		"PARLEY_ISSUER=" + s.others.URL, "PARLEY_AUDIENCE=parley", "PARLEY_JWKS=" + s.others.URL, "PARLEY_CURSOR_KEY=0123456789abcdef0123456789abcdef",
	}
}

// right reports whether a function has done what it was asked.
func (s *stage) right(function string, answer []byte) bool {
	want := `"statusCode":200`
	switch function {
	case "command":
		want = `"statusCode":201`
	case "stream":
		want = `"batchItemFailures":[]`
	case "beat", "worker", "replayer":
		want = `{}`
	}
	return bytes.Contains(answer, []byte(want))
}

// runtimeAPI is Lambda's, for one invocation.
type runtimeAPI struct {
	event string
	done  chan answered

	mu    sync.Mutex
	asked time.Time // for the first time
}

type answered struct {
	started, asked, answered time.Time
	body                     []byte
}

func newRuntimeAPI(event string) *runtimeAPI {
	return &runtimeAPI{event: event, done: make(chan answered, 1)}
}

// ServeHTTP implements [http.Handler].
func (a *runtimeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	if !strings.HasSuffix(r.URL.Path, "/invocation/next") { // the answer, or an error
		body, _ := io.ReadAll(r.Body) // cut short it is not right
		w.WriteHeader(http.StatusAccepted)
		a.done <- answered{asked: a.first(now), answered: now, body: body}
		return
	}
	if a.first(now) != now { // all is done; it waits until it is killed
		<-r.Context().Done()
		return
	}
	h := w.Header()
	h.Set("Lambda-Runtime-Aws-Request-Id", "one")
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(now.Add(time.Minute).UnixMilli(), 10))
	_, _ = io.WriteString(w, a.event) // it may be dead
}

// first is when the process asked for work, which may be now.
func (a *runtimeAPI) first(now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.IsZero() {
		a.asked = now
	}
	return a.asked
}
