package live

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/functions/api"
	"parley/projections"
)

// Handler is the function behind the sockets of one region: what runs when one opens, when a frame
// comes and when it closes, and the push stage of the stream. Every field must be set but Limits,
// Now and Logger. It holds nothing that another process of the region would miss.
type Handler struct {
	Region      string
	Auth        *api.Auth
	API         http.Handler // of the region: a frame that sends or catches up is a request to it
	Log         events.Log
	Views       projections.Views
	Cursors     *api.Cursors
	Keys        *keys.Ring // opens what clients are told
	Connections Connections
	Sockets     Sockets
	Limits      Limits           // [DefaultLimits] if zero
	Now         func() time.Time // time.Now if nil
	Logger      *slog.Logger     // of what clients are not told; nil: nowhere

	once   sync.Once
	rates  *rates
	known  *projections.Known
	passed passed
}

// setUp sets what was left out.
func (h *Handler) setUp() {
	h.once.Do(func() {
		if h.Limits == (Limits{}) {
			h.Limits = DefaultLimits
		}
		if h.Now == nil {
			h.Now = time.Now
		}
		if h.Logger == nil {
			h.Logger = slog.New(slog.DiscardHandler)
		}
		h.rates, h.known = newRates(h.Limits), projections.NewKnown()
	})
}

// Connect takes note of a socket that opens. What [TokenOf] finds in the header of the handshake
// is its token; there may be none yet. The error is a [api.Problem] to answer the handshake with.
// Nothing can be posted to the socket before Connect has returned.
func (h *Handler) Connect(ctx context.Context, conn string, header http.Header) error {
	h.setUp()
	at := h.Now()
	c := Connection{ID: conn, Opened: at, Seen: at}
	if token, _ := TokenOf(header); token != "" {
		var err error
		if c, err = h.identify(c, token); err != nil {
			return api.ProblemOf(err, at).Named()
		}
	}
	if err := h.Connections.Put(ctx, c); err != nil {
		h.Logger.ErrorContext(ctx, "a connection cannot be stored", "error", err)
		return (&api.Problem{
			Status: http.StatusServiceUnavailable, Code: "unavailable", Retryable: true,
			Detail: "this region cannot take connections now; try another",
		}).Named()
	}
	return nil
}

// Disconnect takes note that a socket is closed, whoever closed it. It may have been told before.
func (h *Handler) Disconnect(ctx context.Context, conn string) error {
	h.setUp()
	h.rates.forget(conn)
	return h.Connections.Delete(ctx, conn)
}

// Frame handles a frame that came from a client. It answers through Sockets. An error means that
// it could not be answered, nor the socket be closed.
func (h *Handler) Frame(ctx context.Context, conn string, data []byte) error {
	h.setUp()
	c, err := h.Connections.Get(ctx, conn)
	at := h.Now()
	switch {
	case errors.Is(err, ErrGone): // it was given up
		return h.close(ctx, conn, CodeSlow)
	case err != nil:
		return h.refuse(ctx, conn, nil, err)
	case len(data) > h.Limits.FrameBytes:
		return h.close(ctx, conn, CodeFrameTooLarge)
	case !h.rates.take(conn, at):
		return h.close(ctx, conn, CodeTooManyFrames)
	case at.Sub(c.Opened) > h.Limits.Life:
		return h.close(ctx, conn, CodeLife)
	}
	// Of what cannot be read there may be enough to say what the error belongs to.
	var head struct {
		Action string          `json:"action"`
		Ref    json.RawMessage `json:"ref"`
	}
	if err := json.Unmarshal(data, &head); errors.As(err, new(*json.SyntaxError)) {
		return h.close(ctx, conn, CodeBadFrame)
	}
	ref := ref(head.Ref)
	if !ref.valid() {
		return h.refuse(ctx, conn, nil, &api.FieldError{Field: "ref", Reason: "must be a number, or a string of at most 64 bytes"})
	}
	action, known := actions[head.Action]
	switch {
	case c.User == "" && (head.Action != "auth" || at.Sub(c.Opened) > h.Limits.Auth):
		return h.close(ctx, conn, CodeUnauthorized)
	case c.User != "" && !at.Before(c.Expires):
		return h.close(ctx, conn, CodeExpired)
	case !known:
		return h.refuse(ctx, conn, ref, &api.FieldError{Field: "action", Reason: "must be one of auth, subscribe, unsubscribe, send, typing, catchup and ping"})
	}
	if err := h.Connections.Touch(ctx, conn, at); err != nil {
		h.Logger.WarnContext(ctx, "a frame could not be noted", "error", err)
	}
	switch err := action(h, ctx, asked{c, ref, data}); {
	case errors.Is(err, errOver):
		return nil
	case err != nil:
		return h.refuse(ctx, conn, ref, err)
	default:
		return nil
	}
}

// asked is a frame that came from a client.
type asked struct {
	Connection
	ref  ref
	data []byte
}

// actions are what clients may ask for. An error that one returns is told to the client.
var actions = map[string]func(*Handler, context.Context, asked) error{
	"auth":        (*Handler).authenticate,
	"subscribe":   (*Handler).subscribe,
	"unsubscribe": (*Handler).unsubscribe,
	"send":        (*Handler).send,
	"typing":      (*Handler).typing,
	"catchup":     (*Handler).catchUp,
	"ping":        (*Handler).ping,
}

// ref is what a client gave a frame to know the answer by, in JSON; nil if it gave none.
type ref json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (r ref) MarshalJSON() ([]byte, error) { return r, nil }

const maxRef = 64

func (r ref) valid() bool {
	if len(r) == 0 {
		return true
	}
	var text string
	if json.Unmarshal(r, &text) == nil {
		return r[0] == '"' && len(text) <= maxRef
	}
	return len(r) <= maxRef && json.Unmarshal(r, new(json.Number)) == nil
}

// forgetting bounds the time in which a socket that was given up is forgotten.
const forgetting = time.Second

// errOver: there is nobody left to tell.
var errOver = errors.New("the socket is closed")

// post sends a frame, or gives the socket up. The error is errOver then.
func (h *Handler) post(ctx context.Context, conn string, f Frame) error {
	err := h.Sockets.Post(ctx, conn, f)
	if err == nil {
		return nil
	}
	h.giveUp(ctx, conn, CodeSlow, err)
	return errOver
}

// giveUp closes a socket that could not be told something, and forgets it: it may have a hole. It
// is forgotten even if closing it takes all the time there is.
func (h *Handler) giveUp(ctx context.Context, conn string, code Code, cause error) {
	if !errors.Is(cause, ErrGone) {
		if err := h.Sockets.Close(ctx, conn, code); err != nil && !errors.Is(err, ErrGone) {
			h.Logger.WarnContext(ctx, "a socket cannot be closed", "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetting)
	defer cancel()
	if err := h.Disconnect(ctx, conn); err != nil {
		h.Logger.WarnContext(ctx, "a connection cannot be forgotten", "error", err)
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

// refuse tells a client what is wrong.
func (h *Handler) refuse(ctx context.Context, conn string, ref ref, cause error) error {
	p := api.ProblemOf(cause, h.Now()).Named()
	if p.RequestID == "" {
		p.RequestID = strconv.FormatUint(rand.Uint64(), 36)
	}
	if p.Status >= http.StatusInternalServerError {
		h.Logger.ErrorContext(ctx, "a frame failed", "request_id", p.RequestID, "error", cause)
	}
	_ = h.post(ctx, conn, encode(errorFrame{"error", ref, p})) // there may be nobody left to tell
	return nil
}

type errorFrame struct {
	Type    string `json:"type"`
	Ref     ref    `json:"ref,omitempty"`
	Problem any    `json:"problem"`
}
