package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"parley/events"
	ddb "parley/events/dynamodb"
)

// fate is the outcome of a request that failed.
type fate int

const (
	refused   fate = iota // it was not executed, or not sent
	throttled             // it was not executed, because of load
	lost                  // it may have been executed
)

// fateOf classifies the error of one attempt or of a call.
func fateOf(err error) fate {
	if ddb.IsThrottle(err) {
		return throttled
	}
	var answer *smithyhttp.ResponseError
	var unsent *smithyhttp.RequestSendError
	var dial *net.OpError
	var canceled *smithy.CanceledError
	switch {
	case errors.As(err, &unsent) && errors.As(err, &dial) && dial.Op == "dial":
		return refused
	case errors.As(err, &unsent), errors.As(err, &canceled):
		return lost
	case errors.As(err, &answer):
		return fateByStatus(answer.HTTPStatusCode())
	default: // never sent: for example, there are no credentials
		return refused
	}
}

// fateByStatus classifies an answer without an error code for load. A success gets here if it could
// not be decoded.
func fateByStatus(status int) fate {
	switch {
	case status == http.StatusTooManyRequests:
		return throttled
	case status == http.StatusRequestTimeout, status >= 500, status < 300:
		return lost
	default:
		return refused
	}
}

// writeError returns the error of package events for a write that failed.
func writeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := events.ErrUnavailable
	switch fateOf(err) {
	case throttled:
		kind = events.ErrThrottled
	case lost:
		kind = events.ErrUnknownOutcome
	}
	return fmt.Errorf("%w: %s", kind, reason(err))
}

// readError returns the error of package events for a read that failed.
func readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := events.ErrUnavailable
	if fateOf(err) == throttled {
		kind = events.ErrThrottled
	}
	return fmt.Errorf("%w: %s", kind, reason(err))
}

// reason returns the part of an error that may be logged: DynamoDB's message may quote user data.
func reason(err error) string {
	var refusal smithy.APIError
	var answer *smithyhttp.ResponseError
	var network *net.OpError
	var unsent *smithyhttp.RequestSendError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &refusal):
		return "DynamoDB answered " + refusal.ErrorCode()
	case errors.As(err, &network):
		return network.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "DynamoDB did not answer in time"
	case errors.As(err, &unsent):
		return "the connection to DynamoDB broke"
	case errors.As(err, &answer):
		return "cannot decode DynamoDB's answer with status " + strconv.Itoa(answer.HTTPStatusCode())
	default:
		return err.Error() // from this side: for example, a missing setting or credentials
	}
}

// callTimeout bounds one attempt of a call, see the package comment.
const callTimeout = 3 * time.Second

// newClient returns a client with the retry budget of all drivers, and its retryer.
func newClient(cfg aws.Config) (*dynamodb.Client, *retry.Standard) {
	retryer := ddb.NewRetryer()
	client := ddb.NewClient(cfg, func(o *dynamodb.Options) {
		o.Retryer, o.RetryMaxAttempts = retryer, 0
		if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok && c.GetTimeout() == 0 {
			o.HTTPClient = c.WithTimeout(callTimeout)
		}
	})
	return client, retryer
}

// watch is the retryer of one call. It sees the error of each attempt; the error of the call is only
// that of the last one.
type watch struct {
	*retry.Standard
	lost bool // an attempt may have been executed without an answer
}

// IsErrorRetryable is called for every attempt that failed.
func (w *watch) IsErrorRetryable(err error) bool {
	w.lost = w.lost || fateOf(err) == lost
	return w.Standard.IsErrorRetryable(err)
}

// use makes w the retryer of a call.
func (w *watch) use(o *dynamodb.Options) { o.Retryer = w }
