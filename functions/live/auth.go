package live

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"parley/functions/api"
)

const (
	// Protocol is the subprotocol of WebSocket (RFC 6455) that is spoken here.
	Protocol    = "parley.v1"
	tokenPrefix = "bearer." // of the subprotocol that is a token
)

// TokenOf finds the token in the header of a handshake, and the subprotocol to answer with: each ""
// if there is none. The token is taken from Authorization: Bearer, or else from a subprotocol
// bearer.<token>: browsers can set no header.
func TokenOf(header http.Header) (token, protocol string) {
	for _, line := range header.Values("Sec-WebSocket-Protocol") {
		for offered := range strings.SplitSeq(line, ",") {
			offered = strings.TrimSpace(offered)
			if text, ok := strings.CutPrefix(offered, tokenPrefix); ok {
				token = text
			} else if offered == Protocol {
				protocol = Protocol
			}
		}
	}
	if scheme, text, _ := strings.Cut(header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(text)
	}
	return token, protocol
}

// identify gives a connection the user that a token speaks for.
func (h *Handler) identify(c Connection, token string) (Connection, error) {
	caller, expires, err := h.Auth.VerifyUntil(token)
	if err != nil {
		return c, err
	}
	c.User, c.Token, c.Expires = caller.User, token, expires
	return c, nil
}

type authFrame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Token  string          `json:"token"`
}

type helloFrame struct {
	Type   string `json:"type"`
	Ref    ref    `json:"ref,omitempty"`
	Region string `json:"region"`
	User   string `json:"user"`
}

// authenticate takes a token. A socket has one token for all its life.
func (h *Handler) authenticate(ctx context.Context, a asked) error {
	var in authFrame
	if err := api.Unmarshal(a.data, &in); err != nil {
		return err
	}
	switch {
	case a.User == "":
		c, err := h.identify(a.Connection, in.Token)
		if err != nil {
			_ = h.refuse(ctx, a.ID, a.ref, err)
			return errors.Join(errOver, h.close(ctx, a.ID, CodeUnauthorized))
		}
		if err := h.Connections.Put(ctx, c); err != nil {
			return err
		}
		a.Connection = c
	case in.Token != "" && in.Token != a.Token:
		return api.Fail(http.StatusConflict, "has_token", "this socket has its token; open another socket for another")
	}
	return h.post(ctx, a.ID, encode(helloFrame{"hello", a.ref, h.Region, a.User}))
}
