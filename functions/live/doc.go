// Package live is what runs when a client holds a WebSocket: it subscribes to rooms, gets events as
// they arrive, sends messages, and catches up. It knows no transport: API Gateway and infra/local
// both call [Handler] and give it [Sockets] to answer through.
//
// README.md in this folder describes the protocol; the structs of its frames are in package wire.
package live
