package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"parley/events"
	"parley/events/dynamolog"
	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// streamFunction is invoked with batches of the event table's change stream, and by the operate function
// to retry a parked event.
type streamFunction struct {
	handler *stream.Handler
	log     *slog.Logger
}

// streamAnswer names the failed records, for ReportBatchItemFailures. Lambda continues from the lowest, so
// one is enough. An empty list is success, and so would be null.
type streamAnswer struct {
	Failures []streamFailure `json:"batchItemFailures"`
}

type streamFailure struct {
	Sequence string `json:"itemIdentifier"` // the record's SequenceNumber
}

var errNoRecords = errors.New("the event has no records: only a DynamoDB stream may invoke this function")

// invoke handles a batch. It fails only if the payload is not a batch; the answer names what failed in
// it.
func (f *streamFunction) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	records, err := dynamolog.ParseRecords(payload)
	if err != nil || len(records) == 0 {
		return f.retry(ctx, payload, cmp.Or(err, errNoRecords))
	}
	answer := streamAnswer{Failures: []streamFailure{}}
	if done, err := f.handler.Handle(ctx, records); done < len(records) {
		f.log.WarnContext(ctx, "a batch is unfinished", "records", len(records), "handled", done, "error", err)
		increment(ctx, config.Unfinished) // Lambda counts no error
		answer.Failures = append(answer.Failures, streamFailure{records[done].Sequence})
	}
	return json.Marshal(answer)
}

// retry handles an event of the log again. It fails with otherwise if the payload does not ask for it, and
// if the event cannot be read; the answer has the outcome.
func (f *streamFunction) retry(ctx context.Context, payload []byte, otherwise error) ([]byte, error) {
	var in retryRequest
	if err := json.Unmarshal(payload, &in); err != nil || in.Retry.Stream == "" {
		return nil, otherwise
	}
	found, err := f.handler.Log.GetMany(ctx, []events.Key{in.Retry})
	e, there := found[in.Retry]
	if err == nil && !there {
		err = events.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read an event to retry it: %w", err)
	}
	var answer retryAnswer
	if err := f.handler.Retry(ctx, e); err != nil {
		answer.Error = err.Error()
	}
	return json.Marshal(answer)
}
