package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"parley/functions/api"
	"parley/functions/live"
)

// liveFunction is invoked by a WebSocket API of API Gateway, for each socket that opens or closes
// and for each frame that comes.
type liveFunction struct {
	handler socketHandler
}

// socketHandler is what [live.Handler] does for those who hold a socket.
type socketHandler interface {
	Connect(ctx context.Context, conn string, header http.Header) error
	Frame(ctx context.Context, conn string, data []byte) error
	Disconnect(ctx context.Context, conn string) error
}

var _ socketHandler = (*live.Handler)(nil)

// socketEvent is what the gateway sends, as far as it is needed. Only that of a handshake has
// headers; it has them twice.
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
	opens  = "CONNECT"
	comes  = "MESSAGE"
	closes = "DISCONNECT"
)

var errNoSocket = errors.New("no event of a WebSocket API")

// invoke handles an event. The gateway looks at the answer to a handshake alone. Where a frame
// makes the invocation fail, it sends the client {"message":"Internal server error",...}.
func (f *liveFunction) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e socketEvent
	if err := json.Unmarshal(payload, &e); err != nil || e.RequestContext.Conn == "" {
		return nil, errNoSocket
	}
	conn := e.RequestContext.Conn
	switch e.RequestContext.Event {
	case opens:
		return f.connect(ctx, conn, e.header())
	case comes:
		frame, err := e.frame()
		if err == nil {
			err = f.handler.Frame(ctx, conn, frame)
		}
		return ok, err
	case closes:
		return ok, f.handler.Disconnect(ctx, conn)
	default:
		return nil, errNoSocket
	}
}

// ok is the answer to what is not answered here.
var ok = []byte(`{"statusCode":200}`)

// connect answers a handshake: with the subprotocol, or with the status of a problem.
func (f *liveFunction) connect(ctx context.Context, conn string, header http.Header) ([]byte, error) {
	err := f.handler.Connect(ctx, conn, header)
	var problem *api.Problem
	if errors.As(err, &problem) { // the gateway hands on the status and nothing else
		return json.Marshal(httpAnswer{StatusCode: problem.Status, Headers: map[string]string{}})
	}
	if err != nil {
		return nil, err
	}
	answer := httpAnswer{StatusCode: http.StatusOK, Headers: map[string]string{}}
	if _, protocol := live.TokenOf(header); protocol != "" {
		answer.Headers["Sec-WebSocket-Protocol"] = protocol // spelled as the gateway's documents do
	}
	return json.Marshal(answer)
}

// header is the header of the handshake.
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

// frame is what the client sent: text, as the gateway refuses all else.
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
