package dynamoview

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"parley/projections"
)

// attempts is how often a call is tried. With the waits between them it is given up after 0.6 s
// on average and 1.2 s at most: a client is told to come again after a second, and a stream's
// trigger waits longer by itself.
const attempts = 6

// newRetryer returns the SDK's standard retryer with shorter waits: its own are made for services
// that take longer to recover than DynamoDB does, and add up to 30 s.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return wait(attempt), nil
		})
	})
}

// wait is how long to wait after a failed attempt, counted from 1: a random time below 50 ms,
// 100 ms and so on to 400 ms, so that those who failed together do not come again together.
func wait(attempt int) time.Duration {
	return rand.N(25 * time.Millisecond << min(attempt, 4))
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

// Is reports that a call that the SDK would have repeated was given up, as unavailable.
func (f *failure) Is(target error) bool {
	return target == projections.ErrUnavailable &&
		retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(f.err) == aws.TrueTernary
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, &failure{err})
}
