package main

import (
	"crypto/md5" //nolint:gosec // SQS says so, and the SDK compares
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/infra/lambda/config"
)

// The queues of jobs, as the last part of their URLs.
const (
	jobQueue    = "/123456789012/parley-jobs"
	replayQueue = "/123456789012/parley-replays"
)

// queueService speaks so much of SQS's protocol, AWS JSON 1.0, as is used: SendMessage.
type queueService struct {
	url string

	mu      sync.Mutex
	sent    int
	waiting map[string][]queueMessage
	refuses bool // what is sent
}

// queueMessage is a message as the mapping hands it to a function.
type queueMessage struct {
	ID     string `json:"messageId"`
	Body   string `json:"body"`
	Source string `json:"eventSource"`
}

func newQueueService(t testing.TB) *queueService {
	q := &queueService{waiting: map[string][]queueMessage{}}
	server := httptest.NewServer(q)
	t.Cleanup(server.Close)
	q.url = server.URL
	return q
}

// ServeHTTP implements [http.Handler].
func (q *queueService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var in struct{ QueueUrl, MessageBody string } //nolint:revive,staticcheck // as SQS spells it
	err := json.NewDecoder(r.Body).Decode(&in)
	queue := strings.TrimPrefix(in.QueueUrl, q.url)
	switch {
	case err != nil || r.Header.Get("X-Amz-Target") != "AmazonSQS.SendMessage":
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#UnsupportedOperation"})
		return
	case q.refuses || queue != jobQueue && queue != replayQueue:
		answerAWS(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "refused by a test"})
		return
	}
	q.sent++
	m := queueMessage{fmt.Sprint("message-", q.sent), in.MessageBody, "aws:sqs"}
	q.waiting[queue] = append(q.waiting[queue], m)
	sum := md5.Sum([]byte(in.MessageBody)) //nolint:gosec // as above
	answerAWS(w, http.StatusOK, map[string]string{"MessageId": m.ID, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
}

func (q *queueService) set(refuses bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuses = refuses
}

// take takes the oldest message of a queue, if there is one.
func (q *queueService) take(queue string) (m queueMessage, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ok = len(q.waiting[queue]) > 0; ok {
		m, q.waiting[queue] = q.waiting[queue][0], q.waiting[queue][1:]
	}
	return m, ok
}

func (q *queueService) wait(queue string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting[queue])
}

// deliver invokes a function with a message, and reports whether it must come again.
func (c *cloud) deliver(function string, m queueMessage) (again bool) {
	c.t.Helper()
	payload, err := json.Marshal(map[string]any{"Records": []queueMessage{m}})
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := c.functions[function].invoke(payload)
	if err != nil {
		return true
	}
	var answer struct {
		Failures []struct {
			Item string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Failures == nil || len(answer.Failures) > 1 {
		c.t.Fatalf("%s answers %s: %v", function, text, err)
	}
	return len(answer.Failures) == 1 && answer.Failures[0].Item == m.ID
}

// work delivers the messages of a queue, one at a time, until none is left. What must come again
// comes again at once. It returns how many were delivered.
func (c *cloud) work(function, queue string) (delivered int) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		m, ok := c.queues.take(queue)
		if !ok {
			return delivered
		}
		delivered++
		for c.deliver(function, m) {
			delivered++
			if time.Now().After(deadline) {
				c.t.Fatalf("%s fails for ever: %s", function, c.functions[function].logs.lines())
			}
		}
	}
}

// streamName is the name that the stream function is invoked by.
const streamName = "parley-stream"

// newInvoker plays Lambda for those who invoke the stream function.
func newInvoker(c *cloud) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var payload json.RawMessage
		err := json.NewDecoder(r.Body).Decode(&payload)
		signed := strings.Contains(r.Header.Get("Authorization"), "/"+inRegion+"/lambda/aws4_request")
		if err != nil || !signed || r.URL.Path != "/2015-03-31/functions/"+streamName+"/invocations" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		answer, err := c.functions[config.Stream].invoke(payload)
		if err != nil {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
		}
		_, _ = w.Write(answer) // the caller may be gone
	}))
	c.t.Cleanup(server.Close)
	return server
}
