package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"parley/functions/wire"
	"parley/infra/lambda/awstest"
	"parley/infra/lambda/config"
)

// callSQS calls moto's SQS through its query API and reads the answer.
func callSQS(t *testing.T, address string, into any, parameters ...string) {
	t.Helper()
	form := url.Values{"Version": {"2012-11-05"}}
	for i := 0; i < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// Moto reads the account from the signature, which it does not check.
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/"+inRegion+"/sqs/aws4_request, SignedHeaders=host, Signature=none")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("SQS answers %d %s, %v", answer.StatusCode, body, err)
	}
	if err := xml.Unmarshal(body, into); err != nil {
		t.Fatalf("SQS answers %s: %v", body, err)
	}
}

// motoQueue creates the bus, a queue, and a rule that sends matching events to it.
func motoQueue(t *testing.T, address, pattern string) (queue string) {
	t.Helper()
	bus := eventbridge.NewFromConfig(awstest.Config(address))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := bus.CreateEventBus(t.Context(), &eventbridge.CreateEventBusInput{Name: aws.String("parley")})
	must(err)
	var made struct {
		URL string `xml:"CreateQueueResult>QueueUrl"`
	}
	callSQS(t, address, &made, "Action", "CreateQueue", "QueueName", "subscriber")
	_, err = bus.PutRule(t.Context(), &eventbridge.PutRuleInput{
		Name: aws.String("messages"), EventBusName: aws.String("parley"), EventPattern: &pattern,
	})
	must(err)
	targets, err := bus.PutTargets(t.Context(), &eventbridge.PutTargetsInput{
		Rule: aws.String("messages"), EventBusName: aws.String("parley"),
		Targets: []types.Target{{Id: aws.String("queue"), Arn: aws.String("arn:aws:sqs:" + inRegion + ":123456789012:subscriber")}},
	})
	must(err)
	if targets.FailedEntryCount != 0 {
		t.Fatalf("the target is refused: %v", targets.FailedEntries)
	}
	return made.URL
}

// TestMoto uses another implementation of EventBridge than awstest: from the real binary over a rule to a
// queue, from which a subscriber reads.
func TestMoto(t *testing.T) {
	t.Parallel()
	address := awstest.Moto(t)
	c := newCloud(t, nil)
	queue := motoQueue(t, address, `{"source":["parley"],"detail-type":["message.posted"]}`)
	c.functions[config.Stream].Env = append(c.functions[config.Stream].Env, "AWS_ENDPOINT_URL_EVENTBRIDGE="+address)
	room := c.roomWithPosts(12)
	c.settle()
	got := map[string]string{}
	for deadline := time.Now().Add(time.Minute); len(got) < 12 && time.Now().Before(deadline); {
		var answer struct {
			Messages []struct {
				Body   string
				Handle string `xml:"ReceiptHandle"`
			} `xml:"ReceiveMessageResult>Message"`
		}
		callSQS(t, address, &answer, "Action", "ReceiveMessage", "QueueUrl", queue, "MaxNumberOfMessages", "10", "WaitTimeSeconds", "1")
		for _, m := range answer.Messages {
			var e struct {
				Source, Region string
				Type           string `json:"detail-type"`
				Detail         struct {
					ID, Stream, Actor string
					PublishedBy       string `json:"published_by"`
					Data              struct{ Text string }
				}
			}
			if err := json.Unmarshal([]byte(m.Body), &e); err != nil || e.Source != "parley" || e.Type != "message.posted" ||
				e.Detail.PublishedBy != inRegion || "/v1/rooms/"+strings.TrimPrefix(e.Detail.Stream, "room/") != room || e.Detail.Actor != "ada" {
				t.Errorf("in the queue is %s: %v", m.Body, err)
			}
			got[e.Detail.ID] = e.Detail.Data.Text
			callSQS(t, address, &struct{}{}, "Action", "DeleteMessage", "QueueUrl", queue, "ReceiptHandle", m.Handle)
		}
	}
	for _, m := range c.user("ada").messages(room + "/messages") {
		if got[m.ID] != m.Text || m.Text == "" {
			t.Errorf("of %s the subscriber got %q", m.ID, got[m.ID])
		}
	}
	if len(got) != 12 {
		t.Errorf("the subscriber got %d messages", len(got))
	}
	// A bus that does not exist is detected with this implementation too.
	env := append(c.functions[config.Stream].Env, "PARLEY_BUS=parlay")
	if said := failStart(t, env...); !strings.Contains(said, fmt.Sprintf("there is no event bus %q", "parlay")) {
		t.Error(said)
	}
	motoSend(t, address, queue)
	motoKeys(t, address)
}

// motoSend sends a message about a job to moto's SQS.
func motoSend(t *testing.T, address, queue string) {
	t.Helper()
	q := newQueues(awstest.Config(address), config.Config{JobQueue: queue, ReplayQueue: queue + "-not-there"})
	if err := q.wake(t.Context(), wire.Job{ID: "01J", Kind: "audit"}); err != nil {
		t.Fatal(err)
	}
	if err := q.wake(t.Context(), wire.Job{ID: "01J", Kind: "replay"}); err == nil {
		t.Error("a queue that is not there takes a message")
	}
	var answer struct {
		Body []string `xml:"ReceiveMessageResult>Message>Body"`
	}
	callSQS(t, address, &answer, "Action", "ReceiveMessage", "QueueUrl", queue, "WaitTimeSeconds", "1")
	if len(answer.Body) != 1 || answer.Body[0] != `{"job":"01J","kind":"audit"}` {
		t.Errorf("in the queue is %q", answer.Body)
	}
}

// motoKeys wraps and unwraps with moto's KMS, which does not decrypt with multi-Region keys.
func motoKeys(t *testing.T, address string) {
	t.Helper()
	made, err := kms.NewFromConfig(awstest.Config(address)).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	checkKMS(t, newKMS(awstest.Config(address), *made.KeyMetadata.Arn), newKMS(awstest.Config(address), *made.KeyMetadata.KeyId))
}
