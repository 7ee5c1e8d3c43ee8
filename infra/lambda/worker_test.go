package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events"
	"parley/functions/operate"
)

// fakeRunner answers as its jobs are called: "more", "over", "leased", "fails".
type fakeRunner struct{ err error }

func (fakeRunner) Step(_ context.Context, id string) (more bool, err error) {
	switch {
	case strings.HasPrefix(id, "leased"):
		return false, fmt.Errorf("take a job: %w", operate.ErrLeased)
	case strings.HasPrefix(id, "fails"):
		return true, errors.New("the table is away")
	}
	return strings.HasPrefix(id, "more"), nil
}

func (r fakeRunner) Still(context.Context, time.Duration) ([]operate.Job, error) {
	return []operate.Job{{ID: "still", Kind: "audit"}, {ID: "unsent", Kind: "audit"}}, r.err
}

// newFake returns a worker with a fake runner, and what it sends; what is called unsent cannot be.
func newFake(err error) (*workerFunction, *[]string) {
	var sent []string
	return &workerFunction{
		runner: fakeRunner{err}, does: map[string]bool{"audit": true}, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		send: func(_ context.Context, m jobMessage) error {
			if strings.Contains(m.Job, "unsent") {
				return errors.New("the queue is away")
			}
			sent = append(sent, m.Kind+" "+m.Job)
			return nil
		},
	}, &sent
}

// What must come again is named, and nothing else; and there is one message more for each step
// that is followed by another.
func TestWorkerAnswers(t *testing.T) {
	f, sent := newFake(nil)
	var records []queueMessage
	for i, body := range []string{
		`{"job":"more","kind":"audit"}`, `{"job":"over","kind":"audit"}`, `{"job":"leased","kind":"audit"}`, `{"job":"fails","kind":"audit"}`,
		`{"job":"more unsent","kind":"audit"}`, `{"job":"more","kind":"replay"}`, `{"kind":"audit"}`, `[]`, ``,
	} {
		records = append(records, queueMessage{ID: fmt.Sprint(i), Body: body})
	}
	payload, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.invoke(t.Context(), payload)
	const want = `{"batchItemFailures":[{"itemIdentifier":"3"},{"itemIdentifier":"4"},{"itemIdentifier":"5"},{"itemIdentifier":"6"},{"itemIdentifier":"7"},{"itemIdentifier":"8"}]}`
	if err != nil || string(answer) != want {
		t.Errorf("it answers %s, %v", answer, err)
	}
	if fmt.Sprint(*sent) != "[audit more]" {
		t.Errorf("it sends %q", *sent)
	}
	answer, err = f.invoke(t.Context(), []byte(`{"Records":[{"messageId":"0","body":"{\"job\":\"over\",\"kind\":\"audit\"}"}]}`))
	if err != nil || string(answer) != `{"batchItemFailures":[]}` {
		t.Errorf("if all is well it answers %s, %v", answer, err)
	}
}

// The schedule wakes what lies still, as far as that can be.
func TestWorkerWakes(t *testing.T) {
	f, sent := newFake(nil)
	if _, err := f.invoke(t.Context(), []byte(`{"detail-type":"Scheduled Event"}`)); err == nil || fmt.Sprint(*sent) != "[audit still]" {
		t.Errorf("it sends %q, and fails with %v", *sent, err)
	}
	f, sent = newFake(errors.New("the views are away"))
	if _, err := f.invoke(t.Context(), []byte(`{"detail-type":"Scheduled Event"}`)); err == nil || len(*sent) > 0 {
		t.Errorf("it sends %q, and fails with %v", *sent, err)
	}
	for _, payload := range []string{`{}`, `[]`, `{"Records":[]}`, ``} {
		if _, err := f.invoke(t.Context(), []byte(payload)); !errors.Is(err, errNoMessages) {
			t.Errorf("%q: %v", payload, err)
		}
	}
}

// An event that the stream function does not answer for was not handled.
func TestRetryFails(t *testing.T) {
	id, err := events.ParseID("id", "01J00000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status       int
		failed, body string
		want         string
	}{
		{200, "", `{}`, ""},
		{200, "", `{"error":"parked again"}`, "parked again"},
		{200, "Unhandled", `{"errorMessage":"panic"}`, "it failed"},
		{200, "", `no JSON`, "answer to a retry"},
		{429, "", `{}`, "the answer is 429"},
	} {
		asked := ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked = string(body)
			if tt.failed != "" {
				w.Header().Set("X-Amz-Function-Error", tt.failed)
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		cloud := at(server.URL)
		cloud.HTTPClient = server.Client()
		s := &streamAgain{cloud: cloud, endpoint: server.URL, function: streamName}
		err := s.retry(t.Context(), events.Event{ID: id, Stream: "room/x"})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
		if asked != `{"retry":{"stream":"room/x","id":"01J00000000000000000000000"}}` {
			t.Errorf("it sends %s", asked)
		}
		server.Close()
	}
	for region, want := range map[string]string{"eu-west-1": "https://lambda.eu-west-1.amazonaws.com", "cn-north-1": "https://lambda.cn-north-1.amazonaws.com.cn"} {
		if got := newStreamAgain(aws.Config{Region: region}, streamName).endpoint; got != want {
			t.Errorf("%s: %s", region, got)
		}
	}
}
