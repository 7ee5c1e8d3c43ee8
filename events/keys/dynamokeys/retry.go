package dynamokeys

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"

	"parley/events"
)

// attempts is how often a call is tried: it is given up after 0.6 s on average and 1.2 s at most.
const attempts = 6

// writeConflict is what a strongly consistent global table refuses a write with while another
// region writes the same item. It passes.
var writeConflict = map[string]struct{}{"ReplicatedWriteConflictException": {}}

func newClient(cfg aws.Config) *dynamodb.Client {
	if cfg.Retryer == nil {
		cfg.Retryer = newRetryer
	}
	return dynamodb.NewFromConfig(cfg)
}

// newRetryer returns the SDK's standard retryer with shorter waits: a random time below 50 ms,
// 100 ms and so on to 400 ms.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: writeConflict})
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return rand.N(25 * time.Millisecond << min(attempt, 4)), nil
		})
	})
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

// Is says in the log's words what a call was given up for, if it may succeed later.
func (f *failure) Is(target error) bool {
	throttled := retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(f.err) == aws.TrueTernary
	switch target {
	case events.ErrThrottled:
		return throttled
	case events.ErrUnavailable:
		return !throttled && newRetryer().IsErrorRetryable(f.err)
	default:
		return false
	}
}

// failed wraps the error of a call.
func failed(what string, err error) error {
	return fmt.Errorf("%s: %w", what, &failure{err})
}
