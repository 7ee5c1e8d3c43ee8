package dynamoconns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"parley/projections"
)

// attempts is how often a call is tried: it is given up after 0.6 s on average and 1.2 s at most.
// A client that gets an error comes again by itself.
const attempts = 6

// conflict is what DynamoDB says of a write that meets a transaction with the same item.
const conflict = "TransactionConflict"

// newRetryer returns the SDK's standard retryer with shorter waits, which also tries again what met
// another's transaction.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{conflict + "Exception": {}}})
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return wait(attempt), nil
		})
	})
}

// wait is how long to wait after a failed attempt, counted from 1: a random time below 50 ms,
// 100 ms and so on to 400 ms.
func wait(attempt int) time.Duration {
	return rand.N(25 * time.Millisecond << min(attempt, 4))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// failure is an error of a call. DynamoDB's messages may quote what they are about: the text has
// the code alone.
type failure struct{ err error }

func (f *failure) Error() string {
	var answer smithy.APIError
	if errors.As(f.err, &answer) {
		return answer.ErrorCode()
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// Is reports that a call was given up that may succeed later, as unavailable.
func (f *failure) Is(target error) bool {
	if target != projections.ErrUnavailable {
		return false
	}
	var cancelled *types.TransactionCanceledException
	return errors.As(f.err, &cancelled) || newRetryer().IsErrorRetryable(f.err)
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, &failure{err})
}

// transact writes items in one transaction, and tries again where it was held up. It returns the
// reasons if a condition does not hold.
func (c *Connections) transact(ctx context.Context, writes []types.TransactWriteItem) ([]types.CancellationReason, error) {
	for try := 1; ; try++ {
		_, err := c.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes})
		var cancelled *types.TransactionCanceledException
		if !errors.As(err, &cancelled) {
			return nil, err
		}
		for _, reason := range cancelled.CancellationReasons {
			if aws.ToString(reason.Code) == "ConditionalCheckFailed" {
				return cancelled.CancellationReasons, nil
			}
		}
		if try == attempts {
			return nil, err
		}
		if err := pause(ctx, wait(try)); err != nil {
			return nil, err
		}
	}
}
