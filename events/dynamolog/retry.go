package dynamolog

import (
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// The budget of one call, see the package's comment.
const (
	maxAttempts = 6
	firstDelay  = 50 * time.Millisecond
	maxDelay    = time.Second
	callTimeout = 3 * time.Second // of one attempt
)

// newClient makes a client that has our budget, and the retryer that keeps it.
func newClient(cfg aws.Config) (*dynamodb.Client, *retry.Standard) {
	retryer := retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) { return delay(attempt), nil })
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: writeConflicts})
	})
	client := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		o.Retryer, o.RetryMaxAttempts = retryer, 0
		if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok && c.GetTimeout() == 0 {
			o.HTTPClient = c.WithTimeout(callTimeout)
		}
	})
	return client, retryer
}

// delay is how long to wait after so many attempts, from 1.
func delay(attempt int) time.Duration {
	d := min(firstDelay<<min(max(attempt, 1)-1, 10), maxDelay)
	return d - rand.N(d/2)
}

// watch is the retryer of one call, which sees what becomes of each attempt. The error of the
// call tells only of the last one.
type watch struct {
	*retry.Standard
	lost bool // an attempt may have happened, but nobody was told
}

// IsErrorRetryable is asked about every attempt that failed.
func (w *watch) IsErrorRetryable(err error) bool {
	w.lost = w.lost || fateOf(err) == lost
	return w.Standard.IsErrorRetryable(err)
}

// use makes it the retryer of a call.
func (w *watch) use(o *dynamodb.Options) { o.Retryer = w }
