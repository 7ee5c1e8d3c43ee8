package dynamotable

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
)

// Attempts is how often a call is tried. With the waits between them it is given up after 0.6 s on
// average and 1.2 s at most: a client is told to come again after a second, and a stream's trigger
// waits longer by itself.
const Attempts = 6

// passing are errors that pass by themselves and that the SDK does not know as such: a write met
// one of another region to the same item in a strongly consistent global table, or a transaction.
var passing = map[string]struct{}{"ReplicatedWriteConflictException": {}, "TransactionConflictException": {}}

// NewClient makes a client that tries each call [Attempts] times, unless cfg has a retryer of its
// own.
func NewClient(cfg aws.Config) *dynamodb.Client {
	if cfg.Retryer == nil {
		cfg.Retryer = newRetryer
	}
	return dynamodb.NewFromConfig(cfg)
}

// newRetryer returns the SDK's standard retryer with shorter waits: its own are made for services
// that take longer to recover than DynamoDB does, and add up to 30 s.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = Attempts
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: passing})
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return delay(attempt), nil
		})
	})
}

// delay is how long to wait after a failed attempt, counted from 1: a random time below 50 ms,
// 100 ms and so on to 400 ms, so that those who failed together do not come again together.
func delay(attempt int) time.Duration {
	return rand.N(25 * time.Millisecond << min(attempt, 4))
}

// Pause waits as long as is waited after a failed attempt, counted from 1. The error is the
// context's.
func Pause(ctx context.Context, attempt int) error { return Sleep(ctx, delay(attempt)) }

// Sleep lets a time pass. The error is the context's.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Failure is the error of a call. DynamoDB's messages may quote what they are about: the text has
// the code alone.
type Failure struct{ Err error }

// Error implements error.
func (f Failure) Error() string {
	var answer smithy.APIError
	if errors.As(f.Err, &answer) {
		return answer.ErrorCode()
	}
	return f.Err.Error()
}

// Unwrap returns the error as the SDK gave it.
func (f Failure) Unwrap() error { return f.Err }

// Throttled reports whether the call was refused for load alone.
func (f Failure) Throttled() bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(f.Err) == aws.TrueTernary
}

// Passing reports whether the call may succeed later.
func (f Failure) Passing() bool { return newRetryer().IsErrorRetryable(f.Err) }
