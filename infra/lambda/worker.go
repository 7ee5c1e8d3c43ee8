package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"parley/functions/operate"
	"parley/infra/lambda/config"
)

// workerFunction does the jobs of some kinds, a step for each message of its queue. After a step
// it sends the message for the next. A schedule invokes it, too, to look for jobs of which the
// message was lost.
//
// A message that comes twice finds the job leased, and ends there; or it finds it free and does
// the next step, which is to be done in any case.
type workerFunction struct {
	runner jobRunner
	send   func(context.Context, jobMessage) error
	does   map[string]bool // kinds
	log    *slog.Logger
}

// jobRunner is what [operate.Runner] does for whoever is told of jobs.
type jobRunner interface {
	Step(ctx context.Context, id string) (more bool, err error)
	Still(ctx context.Context, silent time.Duration) ([]operate.Job, error)
}

var _ jobRunner = (*operate.Runner)(nil)

// worker makes the function worker, or replayer, which alone has a bus.
func (p parts) worker(ctx context.Context) (function, error) {
	var replays operate.Bus
	if p.config.Function == config.Replayer {
		b, err := openBus(ctx, p.cloud, p.config.Bus)
		if err != nil {
			return nil, fmt.Errorf("PARLEY_BUS: %w", err)
		}
		replays = replayBus{b}
	}
	names := kinds[p.config.Function]
	f := &workerFunction{
		runner: p.runner(replays, names...), send: newQueues(p.cloud, p.config).send, does: map[string]bool{}, log: p.logger,
	}
	for _, name := range names {
		f.does[name] = true
	}
	return f.invoke, nil
}

// workerEvent is what SQS invokes the function with, or, if it has no records, the schedule.
type workerEvent struct {
	Records []struct {
		ID   string `json:"messageId"`
		Body string `json:"body"`
	}
	Scheduled string `json:"detail-type"`
}

// workerAnswer names the messages that must come again, for ReportBatchItemFailures.
type workerAnswer struct {
	Failures []workerFailure `json:"batchItemFailures"`
}

type workerFailure struct {
	Message string `json:"itemIdentifier"` // its messageId
}

var errNoMessages = errors.New("an invocation without messages: is it a queue or a schedule that invokes this function?")

// invoke does a step for each message; the template has one come at a time.
func (f *workerFunction) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e workerEvent
	if err := json.Unmarshal(payload, &e); err != nil || len(e.Records) == 0 && e.Scheduled == "" {
		return nil, errNoMessages
	}
	if len(e.Records) == 0 {
		return []byte("{}"), f.wakeStill(ctx)
	}
	answer := workerAnswer{Failures: []workerFailure{}}
	for _, r := range e.Records {
		if err := f.step(ctx, r.Body); err != nil {
			f.log.WarnContext(ctx, "a message is not handled and comes again", "message", r.ID, "error", err)
			answer.Failures = append(answer.Failures, workerFailure{r.ID})
		}
	}
	return json.Marshal(answer)
}

// step does a step of the job in a message. Its error means that the message must come again; one
// about a job that has failed for good ends there, for then there is nothing to do.
func (f *workerFunction) step(ctx context.Context, body string) error {
	var m jobMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Job == "" {
		return errors.New("no message about a job")
	}
	if !f.does[m.Kind] {
		return fmt.Errorf("this function does no jobs of the kind %q", m.Kind)
	}
	more, err := f.runner.Step(ctx, m.Job)
	switch {
	case errors.Is(err, operate.ErrLeased):
		return nil // who has it sends the next message
	case err != nil:
		return err
	case more:
		return f.send(ctx, m)
	}
	return nil
}

// wakeStill sends messages for jobs that wait for one in vain.
func (f *workerFunction) wakeStill(ctx context.Context) error {
	jobs, err := f.runner.Still(ctx, config.Silent)
	if err != nil {
		return fmt.Errorf("look for jobs that lie still: %w", err)
	}
	for _, j := range jobs {
		f.log.WarnContext(ctx, "a job lay still and is woken", "job", j.ID, "kind", j.Kind)
		err = errors.Join(err, f.send(ctx, jobMessage{j.ID, j.Kind}))
	}
	return err
}
