package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"parley/functions/live"
	"parley/functions/wire"
	"parley/infra/lambda/config"
)

// liveFunction is invoked by a WebSocket API of API Gateway, for each socket that opens or closes and
// for each frame from a client.
type liveFunction struct {
	handler socketHandler
}

// socketHandler is the part of [live.Handler] that events of sockets need.
type socketHandler interface {
	Connect(ctx context.Context, conn string, header http.Header) error
	Frame(ctx context.Context, conn string, data []byte) error
	Disconnect(ctx context.Context, conn string) error
}

var _ socketHandler = (*live.Handler)(nil)

// socketEvent has the needed fields of the gateway's events. Only the event of a handshake has headers;
// it has them twice.
type socketEvent struct {
	Headers         map[string]string   `json:"headers"`
	MultiHeaders    map[string][]string `json:"multiValueHeaders"`
	Body            string              `json:"body"`
	IsBase64Encoded bool                `json:"isBase64Encoded"`
	RequestContext  struct {
		Event string `json:"eventType"`
		Conn  string `json:"connectionId"`
	} `json:"requestContext"`
}

// The types of events.
const (
	eventConnect    = "CONNECT"
	eventMessage    = "MESSAGE"
	eventDisconnect = "DISCONNECT"
)

var errNoSocket = errors.New("the event is not one of a WebSocket API")

// invoke handles an event. The gateway reads only the answer to a handshake. If the invocation for a
// frame fails, it sends the client {"message":"Internal server error",...}.
func (f *liveFunction) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e socketEvent
	if err := json.Unmarshal(payload, &e); err != nil || e.RequestContext.Conn == "" {
		return nil, errNoSocket
	}
	conn := e.RequestContext.Conn
	switch e.RequestContext.Event {
	case eventConnect:
		return f.connect(ctx, conn, e.header())
	case eventMessage:
		frame, err := e.frame()
		if err == nil {
			err = f.handler.Frame(ctx, conn, frame)
		}
		return ok, err
	case eventDisconnect:
		return ok, f.handler.Disconnect(ctx, conn)
	default:
		return nil, errNoSocket
	}
}

// ok is the answer to events whose answer the gateway does not read.
var ok = []byte(`{"statusCode":200}`)

// connect answers a handshake, with the subprotocol or with the status of a problem.
func (f *liveFunction) connect(ctx context.Context, conn string, header http.Header) ([]byte, error) {
	err := f.handler.Connect(ctx, conn, header)
	var problem *wire.Problem
	if errors.As(err, &problem) { // the gateway passes on only the status
		return json.Marshal(httpAnswer{StatusCode: problem.Status, Headers: map[string]string{}})
	}
	if err != nil {
		return nil, err
	}
	answer := httpAnswer{StatusCode: http.StatusOK, Headers: map[string]string{}}
	if _, protocol := live.TokenOf(header); protocol != "" {
		answer.Headers["Sec-WebSocket-Protocol"] = protocol // the spelling of API Gateway's documentation
	}
	return json.Marshal(answer)
}

// header returns the header of the handshake.
func (e *socketEvent) header() http.Header {
	h := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(e.MultiHeaders)) {
		for _, value := range e.MultiHeaders[name] {
			h.Add(name, value)
		}
	}
	if len(h) == 0 {
		for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
			h.Add(name, e.Headers[name])
		}
	}
	return h
}

// frame returns the frame of the client. It is text: the gateway refuses binary frames.
func (e *socketEvent) frame() ([]byte, error) {
	if !e.IsBase64Encoded {
		return []byte(e.Body), nil
	}
	data, err := base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		return nil, fmt.Errorf("the body of an event of a WebSocket API: %w", err)
	}
	return data, nil
}

// sockets are the sockets of a stage of a WebSocket API. Posts are counted as metrics.
type sockets struct {
	client *apigatewaymanagementapi.Client
	hung   atomic.Int64 // when the gateway last did not answer a close, in Unix nanoseconds
}

var _ live.Sockets = (*sockets)(nil)

const (
	// postAttempts is how often a post is tried: the gateway throttles, and refuses while a client reads
	// too slowly. All retries take less than 0.2 s; a client that misses the frame catches up.
	postAttempts = 4
	// postTimeout bounds a post with its retries; about 10 ms are usual.
	postTimeout = 2 * time.Second
	// closeTimeout bounds each of the two steps of closing: a second must suffice for them and for
	// removing the connection.
	closeTimeout = 300 * time.Millisecond
	// closePause is how long no socket is closed after a close that the gateway did not answer. There
	// may be thousands to close, and the next frame of a client without a connection closes its socket.
	closePause = time.Second
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
	errTooLarge = errors.New("post a frame: it exceeds the size limit")
	errHangs    = errors.New("close a socket: skipped, the gateway did not answer a moment ago")
)

// Post implements [live.Sockets]. It returns when the gateway has the frame. If the gateway's answer is
// lost, the frame is sent again and may arrive twice.
func (s *sockets) Post(ctx context.Context, conn string, f live.Frame) error {
	data := f.Bytes()
	if len(data) > live.DefaultLimits.FrameBytes {
		increment(ctx, config.Unsent)
		return errTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	_, err := s.client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &conn, Data: data})
	err = socketError("post a frame", err)
	switch {
	case err == nil:
		increment(ctx, config.Pushed)
	case errors.Is(err, live.ErrGone):
		increment(ctx, config.Gone)
	default:
		increment(ctx, config.Unsent)
	}
	return err
}

// Close implements [live.Sockets]. It sends a bye first, for clients that can still read it.
func (s *sockets) Close(ctx context.Context, conn string, code live.Code) error {
	if time.Since(time.Unix(0, s.hung.Load())) < closePause {
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

// socketError returns the error of a call without its URL, which has the id of the connection.
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
