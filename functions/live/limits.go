package live

import (
	"strconv"
	"time"

	"parley/functions/api"
	"parley/functions/wire"
)

// Limits bound what one socket may do, and what is done for it.
type Limits struct {
	FrameBytes int           // of a frame, in both directions
	Rooms      int           // that a socket may subscribe to
	Sockets    int           // of one user, in this region
	PerSecond  int           // frames a second from a client
	Burst      int           // frames at once, after a pause
	Auth       time.Duration // until the token must have come
	Idle       time.Duration // without a frame from the client
	Life       time.Duration // of a socket

	Push  time.Duration // for delivering one batch of events
	Posts int           // sockets that are posted to at the same time
}

// DefaultLimits are those of API Gateway where it has one.
var DefaultLimits = Limits{
	FrameBytes: 32 << 10,
	Rooms:      2000,
	Sockets:    20,
	PerSecond:  20,
	Burst:      100,
	Auth:       10 * time.Second,
	Idle:       10 * time.Minute,
	Life:       2 * time.Hour,
	Push:       5 * time.Second,
	Posts:      64,
}

// Code says why the server closes a socket.
type Code string

// The codes of a bye frame.
const (
	CodeIdle          Code = "idle"
	CodeLife          Code = "life"
	CodeSlow          Code = "slow"
	CodeFrameTooLarge Code = "frame_too_large"
	CodeTooManyFrames Code = "too_many_frames"
	CodeTooMany       Code = "too_many_sockets"
	CodeBadFrame      Code = "bad_frame"
	CodeUnauthorized  Code = "unauthorized"
	CodeExpired       Code = "expired"
	CodeGoingAway     Code = "going_away"
)

// The statuses with which a WebSocket is closed, of RFC 6455 and its registry.
const (
	statusGoingAway = 1001
	statusPolicy    = 1008
	statusTryAgain  = 1013
)

// codes say what each code means, to people and to WebSocket.
var codes = map[Code]struct {
	status int
	detail string
}{
	CodeIdle:          {statusGoingAway, "no frame came for 10 minutes; reconnect, and ping to keep the socket open"},
	CodeLife:          {statusGoingAway, "the socket reached its maximum age of 2 hours; reconnect"},
	CodeSlow:          {statusTryAgain, "frames were read too slowly or could not be delivered; reconnect and catch up"},
	CodeFrameTooLarge: {statusPolicy, "a frame may have at most 32768 bytes"},
	CodeTooManyFrames: {statusPolicy, "at most 20 frames a second are accepted, and 100 after a pause"},
	CodeTooMany:       {statusTryAgain, "the user has 20 sockets open in this region; close one, then reconnect"},
	CodeBadFrame:      {statusPolicy, "a frame must be one JSON object in UTF-8, sent as text"},
	CodeUnauthorized:  {statusPolicy, "send a valid bearer token within 10 seconds"},
	CodeExpired:       {statusPolicy, "the token has expired; reconnect with a new one"},
	CodeGoingAway:     {statusGoingAway, "this region stops serving; reconnect to another region"},
}

// Status is the status code with which a WebSocket is closed.
func (c Code) Status() int { return codes[c].status }

// Detail says what the code means and what to do, for people.
func (c Code) Detail() string { return codes[c].detail }

// Bye is the frame that comes before the socket is closed.
func (c Code) Bye() Frame { return encode(wire.Bye{Type: "bye", Code: string(c), Detail: c.Detail()}) }

// Describe puts GET /v1/live into the API's OpenAPI document.
func Describe(a *api.API) {
	a.DescribeExternal(api.Operation{
		ID: "live", Method: "GET", Path: "/v1/live", Tag: "live",
		Summary: "Events as they arrive: a WebSocket",
		Detail: "Connect with the subprotocol " + Protocol + ". Send the token as Authorization: Bearer, as a second subprotocol bearer.<token>, or in the first frame; " +
			"never in the URL. Frames are JSON objects of at most " + strconv.Itoa(DefaultLimits.FrameBytes) + " bytes. The protocol is described in functions/live/README.md. " +
			"A deployed region may serve it under a host name of its own.",
	}, map[string]string{
		"101": "The socket is open.",
		"401": "The token of the handshake is not valid.",
		"403": "A page of another origin may not connect.",
		"429": "The user has too many sockets open in this region.",
		"426": "The request is not a WebSocket handshake.",
		"503": "The region takes no connections; try another.",
	})
}
