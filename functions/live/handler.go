package live

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"parley/events"
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
	Connections Connections
	Sockets     Sockets
	Limits      Limits           // [DefaultLimits] if zero
	Now         func() time.Time // time.Now if nil
	Logger      *slog.Logger     // of what clients are not told; nil: nowhere
}

// Connect takes note of a socket that opens. What [TokenOf] finds in the header of the handshake
// is its token; there may be none yet. The error is a [api.Problem] to answer the handshake with.
// Nothing can be posted to the socket before Connect has returned.
func (h *Handler) Connect(ctx context.Context, conn string, header http.Header) error { return nil }

// Frame handles a frame that came from a client. It answers through Sockets. An error means that
// it could not be answered, nor the socket be closed.
func (h *Handler) Frame(ctx context.Context, conn string, data []byte) error { return nil }

// Disconnect takes note that a socket is closed, whoever closed it. It may have been told before.
func (h *Handler) Disconnect(ctx context.Context, conn string) error { return nil }

// Push tells those who listen what has arrived in this region, in the order of arrival; it is the
// third stage of [parley/functions/stream]. It returns when all have been told, or when the time
// for it is up: sockets that could not be told everything are closed.
func (h *Handler) Push(ctx context.Context, what []projections.Happened) {}

// TokenOf finds the token in the header of a handshake, and the subprotocol to answer with: each ""
// if there is none. It is taken from Authorization: Bearer, or else from a subprotocol
// bearer.<token>, which must come beside parley.v1.
func TokenOf(header http.Header) (token, protocol string) { return "", "" }
