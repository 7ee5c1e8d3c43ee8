package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"parley/events/dynamolog"
	"parley/functions/stream"
	"parley/infra/lambda/config"
)

// streamFunction is invoked with batches of the event table's stream, and by the operate function
// with an event that was parked.
type streamFunction struct {
	handler *stream.Handler
	log     *slog.Logger
}

// streamAnswer names the records that must come again, for ReportBatchItemFailures. Lambda goes on
// from the lowest, so one is enough; an empty list is success, and so would be null.
type streamAnswer struct {
	Failures []streamFailure `json:"batchItemFailures"`
}

type streamFailure struct {
	Sequence string `json:"itemIdentifier"` // the record's SequenceNumber
}

var errNoRecords = errors.New("an invocation without records: is it a DynamoDB stream that invokes this function?")

// invoke handles a batch. It fails only where the payload is not one: what fails in a batch is
// told in the answer.
func (f *streamFunction) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	changes, err := dynamolog.ParseChanges(payload)
	if err != nil || len(changes) == 0 {
		return f.retry(ctx, payload, cmp.Or(err, errNoRecords))
	}
	records := make([]stream.Record, len(changes))
	for i, c := range changes {
		records[i] = stream.Record{Event: c.Event, Replaced: c.Replaced, Err: c.Err, Raw: c.Raw, Sequence: c.Sequence}
	}
	answer := streamAnswer{Failures: []streamFailure{}}
	if done, err := f.handler.Handle(ctx, records); done < len(records) {
		f.log.WarnContext(ctx, "a batch is not handled to its end", "records", len(records), "handled", done, "error", err)
		tell(ctx, config.Unfinished) // Lambda counts no error
		answer.Failures = append(answer.Failures, streamFailure{records[done].Sequence})
	}
	return json.Marshal(answer)
}

// retry handles an event of the log again. It fails with otherwise where it was not asked to, and
// where the event cannot be read: what comes of it is told in the answer.
func (f *streamFunction) retry(ctx context.Context, payload []byte, otherwise error) ([]byte, error) {
	var in retryRequest
	if err := json.Unmarshal(payload, &in); err != nil || in.Retry.Stream == "" {
		return nil, otherwise
	}
	e, err := f.handler.Events.Get(ctx, in.Retry.Stream, in.Retry.ID)
	if err != nil {
		return nil, fmt.Errorf("read an event to handle it again: %w", err)
	}
	var answer retryAnswer
	if err := f.handler.Retry(ctx, e); err != nil {
		answer.Error = err.Error()
	}
	return json.Marshal(answer)
}
