package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"parley/events"
	"parley/functions/operate"
	"parley/functions/wire"
	"parley/infra/lambda/config"
)

// workerFunction runs the jobs of some kinds, a step for each message of its queue. After a step it
// sends the message for the next one. A schedule invokes it too, to find jobs whose message was lost.
//
// A duplicate of a message either finds the job leased and does nothing, or runs the next step, which
// is due in any case.
type workerFunction struct {
	runner jobRunner
	send   func(context.Context, jobMessage) error
	kinds  []string // of the jobs that it runs
	log    *slog.Logger
}

// jobRunner is the part of [operate.Runner] that the function uses.
type jobRunner interface {
	Step(ctx context.Context, id string) (more bool, err error)
	StalledJobs(ctx context.Context, silent time.Duration) ([]wire.Job, error)
}

var _ jobRunner = (*operate.Runner)(nil)

// workerEvent is an event of SQS, or, if it has no records, of the schedule.
type workerEvent struct {
	Records []struct {
		ID   string `json:"messageId"`
		Body string `json:"body"`
	}
	Scheduled string `json:"detail-type"`
}

// workerAnswer names the failed messages, for ReportBatchItemFailures.
type workerAnswer struct {
	Failures []workerFailure `json:"batchItemFailures"`
}

type workerFailure struct {
	Message string `json:"itemIdentifier"` // its messageId
}

var errNoMessages = errors.New("the event has neither messages nor a schedule: only a queue or a schedule may invoke this function")

// invoke runs a step for each message; the template sends one at a time.
func (f *workerFunction) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e workerEvent
	if err := json.Unmarshal(payload, &e); err != nil || len(e.Records) == 0 && e.Scheduled == "" {
		return nil, errNoMessages
	}
	if len(e.Records) == 0 {
		return []byte("{}"), f.wakeStalled(ctx)
	}
	answer := workerAnswer{Failures: []workerFailure{}}
	for _, r := range e.Records {
		if err := f.step(ctx, r.Body); err != nil {
			f.log.WarnContext(ctx, "a message failed and comes again", "message", r.ID, "error", err)
			answer.Failures = append(answer.Failures, workerFailure{r.ID})
		}
	}
	return json.Marshal(answer)
}

// step runs a step of the job in a message. On an error the message comes again; a message about a
// job that has failed for good is done.
func (f *workerFunction) step(ctx context.Context, body string) error {
	var m jobMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Job == "" {
		return errors.New("the message does not name a job")
	}
	if !slices.Contains(f.kinds, m.Kind) {
		return fmt.Errorf("this function does not run jobs of the kind %q", m.Kind)
	}
	more, err := f.runner.Step(ctx, m.Job)
	switch {
	case errors.Is(err, operate.ErrLeased):
		return nil // the holder of the lease sends the next message
	case err != nil:
		return err
	case more:
		return f.send(ctx, m)
	}
	return nil
}

// wakeStalled sends messages for jobs whose message was lost.
func (f *workerFunction) wakeStalled(ctx context.Context) error {
	jobs, err := f.runner.StalledJobs(ctx, config.Silent)
	if err != nil {
		return fmt.Errorf("find stalled jobs: %w", err)
	}
	for _, j := range jobs {
		f.log.WarnContext(ctx, "a stalled job is continued", "job", j.ID, "kind", j.Kind)
		err = errors.Join(err, f.send(ctx, jobMessage{j.ID, j.Kind}))
	}
	return err
}

// queues are the SQS queues of jobs. A message says only that a job is due: the state of the job is
// in the views table.
type queues struct {
	client *sqs.Client
	urls   map[string]string // by the function that the queue invokes
}

// jobMessage is the body of a message.
type jobMessage struct {
	Job  string `json:"job"`
	Kind string `json:"kind"`
}

func newQueues(cloud aws.Config, c config.Config) *queues {
	return &queues{sqs.NewFromConfig(cloud), map[string]string{config.Worker: c.JobQueue, config.Replayer: c.ReplayQueue}}
}

// wake sends a message about a job that is due to the function that runs jobs of its kind.
func (q *queues) wake(ctx context.Context, j wire.Job) error {
	return q.send(ctx, jobMessage{j.ID, j.Kind})
}

func (q *queues) send(ctx context.Context, m jobMessage) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a message about a job: %w", err)
	}
	for function, names := range kinds {
		if !slices.Contains(names, m.Kind) {
			continue
		}
		if _, err := q.client.SendMessage(ctx, &sqs.SendMessageInput{
			QueueUrl: aws.String(q.urls[function]), MessageBody: aws.String(string(body)),
		}); err != nil {
			return fmt.Errorf("send a message about a job to the queue of %s: %w", function, err)
		}
		return nil
	}
	return fmt.Errorf("no function runs jobs of the kind %q", m.Kind)
}

// streamInvoker invokes the stream function to handle a parked event again: only that function may
// fold, publish and push. It calls Lambda over plain HTTP, because the SDK's client for one call would
// make the binary a tenth larger.
type streamInvoker struct {
	cloud    aws.Config
	endpoint string // of Lambda
	function string
}

func newStreamInvoker(cloud aws.Config, function string) *streamInvoker {
	suffix := ".amazonaws.com"
	if strings.HasPrefix(cloud.Region, "cn-") {
		suffix += ".cn"
	}
	cloud.HTTPClient = httpClient() // the function may take as long as a batch
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL_LAMBDA"), "https://lambda."+cloud.Region+suffix)
	return &streamInvoker{cloud, endpoint, function}
}

// retryRequest is the event that makes the stream function handle an event of the log again, and
// retryAnswer is its answer.
type retryRequest struct {
	Retry events.Key `json:"retry"`
}

type retryAnswer struct {
	Error string `json:"error,omitempty"` // why it was parked again; "" if it was handled
}

// maxRetryAnswer bounds the answer, in bytes.
const maxRetryAnswer = 1 << 20

func (s *streamInvoker) retry(ctx context.Context, e events.Event) error {
	payload, err := json.Marshal(retryRequest{e.Key()})
	if err != nil {
		return fmt.Errorf("encode a retry: %w", err)
	}
	body, err := s.invoke(ctx, payload)
	if err != nil {
		return fmt.Errorf("invoke the stream function to retry an event: %w", err)
	}
	var answer retryAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("decode the stream function's answer to a retry: %w", err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// invoke invokes the function and returns its answer.
func (s *streamInvoker) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	to := s.endpoint + "/2015-03-31/functions/" + url.PathEscape(s.function) + "/invocations"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	credentials, err := s.cloud.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), "lambda", s.cloud.Region, time.Now()); err != nil {
		return nil, err
	}
	answer, err := s.cloud.HTTPClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxRetryAnswer))
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("call the stream function: status %d", answer.StatusCode)
	case answer.Header.Get("X-Amz-Function-Error") != "":
		return nil, errors.New("the function failed")
	}
	return body, nil
}
