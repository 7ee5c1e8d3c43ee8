package live

import "time"

// Limits bound what one socket may do, and what is done for it.
type Limits struct {
	FrameBytes int           // of a frame, both ways
	Rooms      int           // that a socket listens to
	PerSecond  int           // frames from a client a second
	Burst      int           // frames at once, after a pause
	Auth       time.Duration // until there is a token
	Idle       time.Duration // without a frame from the client
	Life       time.Duration // of a socket

	Push  time.Duration // that telling of one batch may take
	Posts int           // sockets that are told at the same time
}

// DefaultLimits are those of API Gateway, as far as it has them.
var DefaultLimits = Limits{
	FrameBytes: 32 << 10,
	Rooms:      2000,
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

// The codes.
const (
	CodeIdle          Code = "idle"
	CodeLife          Code = "life"
	CodeSlow          Code = "slow"
	CodeFrameTooLarge Code = "frame_too_large"
	CodeTooManyFrames Code = "too_many_frames"
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
	CodeIdle:          {statusGoingAway, "no frame came for 10 minutes; ping now and then, and come back"},
	CodeLife:          {statusGoingAway, "a socket lives for 2 hours; come back"},
	CodeSlow:          {statusTryAgain, "frames are read too slowly or could not be sent; come back and catch up"},
	CodeFrameTooLarge: {statusPolicy, "a frame may have 32768 bytes"},
	CodeTooManyFrames: {statusPolicy, "20 frames a second may be sent, and 100 after a pause"},
	CodeBadFrame:      {statusPolicy, "a frame must be one JSON object in UTF-8, sent as text"},
	CodeUnauthorized:  {statusPolicy, "send a valid bearer token within 10 seconds"},
	CodeExpired:       {statusPolicy, "the token has expired; come back with a new one"},
	CodeGoingAway:     {statusGoingAway, "this region stops serving; come back to another"},
}

// Status is the status code with which a WebSocket is closed.
func (c Code) Status() int { return codes[c].status }

// Detail says to people what the code means.
func (c Code) Detail() string { return codes[c].detail }

// Bye is the frame that comes before the socket is closed.
func (c Code) Bye() Frame {
	return encode(struct {
		Type   string `json:"type"`
		Code   Code   `json:"code"`
		Detail string `json:"detail"`
	}{"bye", c, c.Detail()})
}
