package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"parley/events"
)

// fate is what became of a request that failed.
type fate int

const (
	refused   fate = iota // it did not happen, or never left
	throttled             // it did not happen, for load
	lost                  // it may have happened
)

// writeConflicts are what a strongly consistent global table refuses a write with while another
// region writes the same item. It passes.
var writeConflicts = map[string]struct{}{"ReplicatedWriteConflictException": {}}

// fateOf judges the error of one attempt or of a call.
func fateOf(err error) fate {
	throttles := append(retry.IsErrorThrottles(retry.DefaultThrottles), retry.ThrottleErrorCode{Codes: writeConflicts})
	if throttles.IsErrorThrottle(err) == aws.TrueTernary {
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
	default: // no credentials, for one: it was never sent
		return refused
	}
}

// fateByStatus judges an answer that carries no code of its own for load. A success is here
// because it could not be read.
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

// writeError says in the log's words why a write failed.
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

// readError says in the log's words why a read failed.
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

// reason is the part of an error that is fit for a log.
func reason(err error) string {
	var refusal smithy.APIError
	var answer *smithyhttp.ResponseError
	var network *net.OpError
	var unsent *smithyhttp.RequestSendError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &refusal):
		return "DynamoDB says " + refusal.ErrorCode()
	case errors.As(err, &network):
		return network.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "DynamoDB did not answer in time"
	case errors.As(err, &unsent):
		return "the connection to DynamoDB broke"
	case errors.As(err, &answer):
		return "DynamoDB's answer, with status " + strconv.Itoa(answer.HTTPStatusCode()) + ", cannot be read"
	default:
		return err.Error() // of this side: it says what is missing, a setting or the credentials
	}
}
