package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"parley/functions/operate"
	"parley/infra/lambda/config"
)

// queues are the SQS queues of jobs. A message says that a job is due, and nothing else: all there
// is to know of the job is among the views.
type queues struct {
	client *sqs.Client
	of     map[string]string // URLs by the function that the queue invokes
}

// jobMessage is a message of a queue.
type jobMessage struct {
	Job  string `json:"job"`
	Kind string `json:"kind"`
}

func newQueues(cloud aws.Config, c config.Config) *queues {
	return &queues{sqs.NewFromConfig(cloud), map[string]string{config.Worker: c.JobQueue, config.Replayer: c.ReplayQueue}}
}

// wake says that a job is due to the function that does its kind.
func (q *queues) wake(ctx context.Context, j operate.Job) error {
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
			QueueUrl: aws.String(q.of[function]), MessageBody: aws.String(string(body)),
		}); err != nil {
			return fmt.Errorf("send a message about a job to the queue of %s: %w", function, err)
		}
		return nil
	}
	return fmt.Errorf("no function does jobs of the kind %q", m.Kind)
}
