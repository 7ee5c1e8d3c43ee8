package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/functions/command"
	"parley/functions/query"
	"parley/functions/wire"
	"parley/projections"
)

// Handler is the function behind the sockets of one region: what runs when one opens, when a frame
// comes and when it closes, and the notify stage of the stream. Fields without a comment that says
// otherwise must be set. It keeps no state that another process of the region would need.
type Handler struct {
	Region      string
	Auth        *api.Auth         // Auth, Commands and Queries may be nil in a process that
	Commands    *command.Commands // only notifies clients, and takes no frames
	Queries     *query.Queries
	Log         events.Log
	Views       projections.Views
	Cursors     *api.Cursors
	Keys        *keys.Ring // decrypts events
	Connections Connections
	Sockets     Sockets
	Quota       *api.Quota       // of each user, beside Limits of each socket; nil: no limits
	Limits      Limits           // [DefaultLimits] if zero
	Now         func() time.Time // time.Now if nil
	Logger      *slog.Logger     // nothing is logged if nil

	once   sync.Once
	frames *api.Limiters // of the frames that come, by connection
	typed  *lru.Cache[typist, time.Time]
	known  *projections.AccessCache
	resume resumePoint
}

// setUp fills in the defaults.
func (h *Handler) setUp() {
	h.once.Do(func() {
		if h.Limits == (Limits{}) {
			h.Limits = DefaultLimits
		}
		if h.Quota == nil {
			h.Quota = api.NewQuota(0)
		}
		if h.Now == nil {
			h.Now = time.Now
		}
		if h.Logger == nil {
			h.Logger = slog.New(slog.DiscardHandler)
		}
		h.frames = api.NewLimiters(api.Rate{PerSecond: h.Limits.PerSecond, Burst: h.Limits.Burst})
		h.typed, _ = lru.New[typist, time.Time](cachedTypists) // which fails for a size below 1 only
		h.known = projections.NewAccessCache()
	})
}

// Connect stores the connection of a socket that opens. The token is what [TokenOf] finds in the
// header of the handshake; it may come later. The error is a [wire.Problem] to answer the
// handshake with. Nothing can be posted to the socket before Connect has returned.
func (h *Handler) Connect(ctx context.Context, conn string, header http.Header) error {
	h.setUp()
	at := h.Now()
	c := Connection{ID: conn, Opened: at, Seen: at}
	if token, _ := TokenOf(header); token != "" {
		var err error
		if c, err = h.identify(ctx, c, token); err != nil {
			return api.ProblemOf(err, at).Named("")
		}
		if err = h.mayOpen(ctx, c); err != nil {
			return api.ProblemOf(err, at).Named("")
		}
	}
	if err := h.Connections.Put(ctx, c); err != nil {
		h.Logger.ErrorContext(ctx, "cannot store a connection", "error", err)
		p := &wire.Problem{
			Status: http.StatusServiceUnavailable, Code: "unavailable", Retryable: true,
			Detail: "this region cannot accept connections now; try another region",
		}
		return p.Named("")
	}
	return nil
}

// mayOpen refuses another socket of a user who has too many in this region. Those that have been idle for
// too long are closed, or will be.
func (h *Handler) mayOpen(ctx context.Context, c Connection) error {
	connections, err := h.Connections.Of(ctx, c.User)
	if err != nil {
		return err
	}
	open, since := 0, h.Now().Add(-h.Limits.Idle)
	for _, other := range connections {
		if other.ID != c.ID && other.Seen.After(since) {
			open++
		}
	}
	if open < h.Limits.Sockets {
		return nil
	}
	return &wire.Problem{Status: http.StatusTooManyRequests, Code: string(CodeTooMany), Retryable: true, RetryAfter: 10, Detail: CodeTooMany.Detail()}
}

// Disconnect deletes the connection of a socket that has closed. It may be called again.
func (h *Handler) Disconnect(ctx context.Context, conn string) error {
	h.setUp()
	h.frames.Forget(conn)
	return h.Connections.Delete(ctx, conn)
}

// Frame handles a frame that came from a client. It answers through Sockets. An error means that
// neither could the frame be answered nor the socket be closed.
func (h *Handler) Frame(ctx context.Context, conn string, data []byte) error {
	h.setUp()
	c, err := h.Connections.Get(ctx, conn)
	at := h.Now()
	switch {
	case errors.Is(err, ErrGone): // its frames could not be delivered
		return h.close(ctx, conn, CodeSlow)
	case err != nil:
		return h.refuse(ctx, conn, nil, err)
	case len(data) > h.Limits.FrameBytes:
		return h.close(ctx, conn, CodeFrameTooLarge)
	case !h.frames.Allow(conn, at):
		return h.close(ctx, conn, CodeTooManyFrames)
	case at.Sub(c.Opened) > h.Limits.Life:
		return h.close(ctx, conn, CodeLife)
	}
	// A malformed frame may still have a ref to answer with.
	var head wire.Ping
	if err := json.Unmarshal(data, &head); !utf8.Valid(data) || errors.As(err, new(*json.SyntaxError)) {
		return h.close(ctx, conn, CodeBadFrame)
	}
	ref, err := refOf(head.Ref)
	if err != nil {
		return h.refuse(ctx, conn, nil, err)
	}
	act, known := actions[head.Action]
	switch {
	case c.User == "" && (head.Action != "auth" || at.Sub(c.Opened) > h.Limits.Auth):
		return h.close(ctx, conn, CodeUnauthorized)
	case c.User != "" && !at.Before(c.Expires):
		return h.close(ctx, conn, CodeExpired)
	case !known:
		return h.refuse(ctx, conn, ref, &wire.FieldError{Field: "action", Reason: "must be one of auth, subscribe, unsubscribe, send, typing, catchup and ping"})
	}
	if err := h.Connections.Touch(ctx, conn, at); err != nil {
		h.Logger.WarnContext(ctx, "cannot store when a frame came", "error", err)
	}
	ctx, limited := h.Quota.Meter(ctx, c.User, at)
	if limited != nil && head.Action != "ping" { // a client that is alive can say so
		return h.refuse(ctx, conn, ref, limited)
	}
	switch err := h.act(ctx, act, request{c, ref, data}); {
	case errors.Is(err, errClosed):
		return nil
	case err != nil:
		return h.refuse(ctx, conn, ref, err)
	default:
		return nil
	}
}

// request is a frame that came from a client.
type request struct {
	Connection
	ref  json.RawMessage // to be repeated in the answer; nil if there is none
	data []byte
}

// action does what a client asks for. The client gets its error as a problem.
type action func(*Handler, context.Context, request) error

var actions = map[string]action{
	"auth":        (*Handler).authenticate,
	"subscribe":   (*Handler).subscribe,
	"unsubscribe": (*Handler).unsubscribe,
	"send":        (*Handler).send,
	"typing":      (*Handler).typing,
	"catchup":     (*Handler).catchUp,
	"ping":        (*Handler).ping,
}

// act does an action. A panic in it becomes an error, as in the API.
func (h *Handler) act(ctx context.Context, do action, r request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a handler of frames: %v\n%s", p, debug.Stack())
		}
	}()
	return do(h, ctx, r)
}

// deleting bounds the time for deleting the connection of a socket that is closed.
const deleting = time.Second

// errClosed: the socket is closed, so nothing more can be answered.
var errClosed = errors.New("the socket is closed")

// post sends a frame. If that fails the socket is closed, and the error is errClosed.
func (h *Handler) post(ctx context.Context, conn string, f Frame) error {
	err := h.Sockets.Post(ctx, conn, f)
	if err == nil {
		return nil
	}
	h.closeUndelivered(ctx, conn, CodeSlow, err)
	return errClosed
}

// closeUndelivered closes a socket to which a frame could not be delivered, and deletes its
// connection: what the client has may lack something. The connection is deleted even if ctx ends
// while the socket is being closed.
func (h *Handler) closeUndelivered(ctx context.Context, conn string, code Code, cause error) {
	if !errors.Is(cause, ErrGone) {
		if err := h.Sockets.Close(ctx, conn, code); err != nil && !errors.Is(err, ErrGone) {
			h.Logger.WarnContext(ctx, "cannot close a socket", "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleting)
	defer cancel()
	if err := h.Disconnect(ctx, conn); err != nil {
		h.Logger.WarnContext(ctx, "cannot delete a connection", "error", err)
	}
}

// close closes a socket with a code.
func (h *Handler) close(ctx context.Context, conn string, code Code) error {
	err := h.Sockets.Close(ctx, conn, code)
	if errors.Is(err, ErrGone) {
		err = nil
	}
	return errors.Join(err, h.Disconnect(ctx, conn))
}

// refuse answers a frame with a problem. It carries a request id, as every problem of the API.
func (h *Handler) refuse(ctx context.Context, conn string, ref json.RawMessage, cause error) error {
	p := api.ProblemOf(cause, h.Now()).Named(strconv.FormatUint(rand.Uint64(), 36))
	if p.Status >= http.StatusInternalServerError {
		h.Logger.ErrorContext(ctx, "frame failed", "request_id", p.RequestID, "error", cause)
	}
	_ = h.post(ctx, conn, encode(wire.Error{Type: "error", Ref: ref, Problem: p})) // it may be closed by now
	return nil
}

// Frame is a frame on its way to a client. What is the same for all clients is held once: only the
// cursor of an event is made for each user, when the frame is sent.
type Frame struct {
	head, tail []byte
	user       string // whose cursor stands between head and tail; "" if there is none
	place      *projections.Cursor
	cursors    *api.Cursors
}

// Append writes the frame behind b, as the text that the client gets.
func (f Frame) Append(b []byte) []byte {
	b = append(b, f.head...)
	if f.user != "" {
		b = append(b, f.cursors.Encode(f.user, *f.place)...)
	}
	return append(b, f.tail...)
}

// Len is how many bytes the frame has; with a cursor in it, at most so many.
func (f Frame) Len() int {
	n := len(f.head) + len(f.tail)
	if f.user != "" {
		n += api.MaxPlainCursor
	}
	return n
}

// Bytes is the frame as the text that the client gets.
func (f Frame) Bytes() []byte { return f.Append(nil) }

// encode makes a frame of one of the structs of package wire.
func encode(v any) Frame {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("live: cannot encode a frame: %v", err)) // made of texts and numbers
	}
	return Frame{head: bytes.TrimRight(b.Bytes(), "\n")}
}

// encodeEvent makes a frame of an event. Of one that is too large only the envelope is sent. There is room
// left for the cursor that [push.put] adds.
func (h *Handler) encodeEvent(f wire.EventFrame) Frame {
	out := encode(f)
	if f.Partial || len(out.head) <= h.Limits.FrameBytes-api.MaxPlainCursor {
		return out
	}
	f.Event.Data, f.Partial = nil, true
	return encode(f)
}
