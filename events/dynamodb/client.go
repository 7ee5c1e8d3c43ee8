// Package dynamodb is what the drivers on DynamoDB share: how often a call is tried and with what
// waits, what becomes of its error, how batches are completed, and how a table is made where no
// template made it.
package dynamodb

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"parley/events"
)

// Backoff is the budget of every call: 6 attempts with waits of 50, 100, 200, 400 and 800 ms, each
// cut at random by up to half. That is 0.8 to 1.6 s in all, since DynamoDB counts its limits by the
// second. The SDK's own waits are made for services that take longer to recover: up to 30 s.
var Backoff = events.Backoff{First: 50 * time.Millisecond, Max: time.Second, Attempts: 6}

// passing are errors that pass by themselves and that the SDK does not know as such: a write met
// one of another region to the same item in a strongly consistent global table, or a transaction.
var passing = map[string]struct{}{"ReplicatedWriteConflictException": {}, "TransactionConflictException": {}}

// NewClient makes a client with the budget of [Backoff], unless cfg has a retryer of its own.
func NewClient(cfg aws.Config, options ...func(*dynamodb.Options)) *dynamodb.Client {
	if cfg.Retryer == nil {
		cfg.Retryer = func() aws.Retryer { return NewRetryer() }
	}
	return dynamodb.NewFromConfig(cfg, options...)
}

// NewRetryer returns the SDK's standard retryer with the budget of [Backoff].
func NewRetryer() *retry.Standard {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = Backoff.Attempts
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: passing})
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return Backoff.Delay(attempt), nil
		})
	})
}

// IsThrottle reports whether a call was refused for load, or by a write conflict that passes.
func IsThrottle(err error) bool {
	throttles := append(retry.IsErrorThrottles(retry.DefaultThrottles), retry.ThrottleErrorCode{Codes: passing})
	return throttles.IsErrorThrottle(err) == aws.TrueTernary
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
func (f Failure) Passing() bool { return NewRetryer().IsErrorRetryable(f.Err) }

// BatchKeys is how many keys a BatchGetItem takes.
const BatchKeys = 100

// BatchGet reads the items of up to [BatchKeys] different primary keys of a table, strongly
// consistent, and hands those that exist to add, an answer at a time. It completes the batch as
// [UntilProcessed] does. An error of add is returned as it is.
func BatchGet(ctx context.Context, client *dynamodb.Client, table string, keys []map[string]types.AttributeValue, add func([]map[string]types.AttributeValue) error) error {
	return UntilProcessed(ctx, len(keys), func() (int, error) {
		out, err := client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{table: {Keys: keys, ConsistentRead: aws.Bool(true)}},
		})
		if err != nil {
			return 0, err
		}
		keys = out.UnprocessedKeys[table].Keys
		return len(keys), add(out.Responses[table])
	})
}

// UntilProcessed repeats a batch call, of left items at first, until it leaves none unprocessed, for
// load or because the answer was full. It backs off between calls, and gives up after as many calls
// as [Backoff] allows in a row that processed nothing; the error is then the one of a throttled call.
func UntilProcessed(ctx context.Context, left int, call func() (left int, err error)) error {
	for idle := 0; ; {
		n, err := call()
		if err != nil || n == 0 {
			return err
		}
		if idle++; n < left {
			idle, left = 0, n
		}
		if idle == Backoff.Attempts {
			return &types.ProvisionedThroughputExceededException{Message: aws.String("items were left unprocessed")}
		}
		if err := Backoff.Wait(ctx, max(idle, 1)); err != nil {
			return err
		}
	}
}
