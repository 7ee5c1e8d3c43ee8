package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"parley/functions/live"
	"parley/infra/lambda/config"
)

// sockets are those that API Gateway holds for a stage of a WebSocket API. It counts what it posts.
type sockets struct {
	client *apigatewaymanagementapi.Client
	hung   atomic.Int64 // when the gateway left a close without an answer, in Unix nanoseconds
}

var _ live.Sockets = (*sockets)(nil)

const (
	// postAttempts is how often the gateway is asked: it refuses while it has too much to do, or
	// while a client reads too slowly. It is given up within 0.2 s; such a client catches up.
	postAttempts = 4
	// postTimeout is how long it may take to post; some 10 ms are usual.
	postTimeout = 2 * time.Second
	// closeTimeout is how long each of the two steps of closing may take: a second must do for them
	// and for what is to be forgotten then.
	closeTimeout = 300 * time.Millisecond
	// hangs is how long no socket is closed after that. There may be thousands to close, and a frame
	// of a client whose connection is forgotten closes its socket, too.
	hangs = time.Second
)

// newSockets returns the sockets of the stage at a URL,
// https://<api>.execute-api.<region>.amazonaws.com/<stage>.
func newSockets(cloud aws.Config, url string) *sockets {
	return &sockets{client: apigatewaymanagementapi.NewFromConfig(cloud, func(o *apigatewaymanagementapi.Options) {
		o.BaseEndpoint = aws.String(url)
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = postAttempts
			o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
				return rand.N(15 * time.Millisecond << attempt), nil
			})
		})
	})}
}

var (
	errTooLarge = errors.New("post a frame: it is larger than one may be")
	errHangs    = errors.New("close a socket: the gateway has not answered a moment ago")
)

// Post implements [live.Sockets]. It returns once the gateway has the frame. One whose answer was
// lost is sent again, and may come twice.
func (s *sockets) Post(ctx context.Context, conn string, f live.Frame) error {
	data := f.Bytes()
	if len(data) > live.DefaultLimits.FrameBytes {
		tell(ctx, config.Unsent)
		return errTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	_, err := s.client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &conn, Data: data})
	err = socketError("post a frame", err)
	switch {
	case err == nil:
		tell(ctx, config.Pushed)
	case errors.Is(err, live.ErrGone):
		tell(ctx, config.Gone)
	default:
		tell(ctx, config.Unsent)
	}
	return err
}

// Close implements [live.Sockets]. The bye is for those who can still read it.
func (s *sockets) Close(ctx context.Context, conn string, code live.Code) error {
	if time.Since(time.Unix(0, s.hung.Load())) < hangs {
		return errHangs
	}
	saying, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := s.Post(saying, conn, code.Bye()); errors.Is(err, live.ErrGone) {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	_, err := s.client.DeleteConnection(ctx, &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &conn})
	if err = socketError("close a socket", err); errors.Is(err, context.DeadlineExceeded) {
		s.hung.Store(time.Now().UnixNano())
	}
	return err
}

// socketError is the error of a call, without what it was about: the URL has the connection's id.
func socketError(what string, err error) error {
	if err == nil {
		return nil
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusGone {
		return live.ErrGone
	}
	var refused smithy.APIError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("%s: the gateway answers %s", what, refused.ErrorCode())
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, context.DeadlineExceeded)
	default:
		return fmt.Errorf("%s: the gateway does not answer", what)
	}
}
