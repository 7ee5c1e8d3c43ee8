package live

import (
	"context"
	"errors"
	"time"

	"parley/functions/api"
)

// ErrGone: the connection does not exist, or no longer. Test with errors.Is.
var ErrGone = errors.New("connection is gone")

// ErrChanged: rooms were removed from the connection since it was read. Test with errors.Is.
var ErrChanged = errors.New("rooms were removed from the connection since it was read")

// Sockets is how frames reach clients. All methods are safe for concurrent use.
type Sockets interface {
	// Post sends a frame, behind those posted before it. It may return before the client has it. It
	// must not wait for a client that does not read: then it drops the frame and returns an error.
	// The error is [ErrGone] if there is no such socket.
	Post(ctx context.Context, conn string, f Frame) error

	// Close sends the code's bye and closes the socket. Nothing more can be posted to it.
	Close(ctx context.Context, conn string, code Code) error
}

// Connection is the stored state of a connected client.
type Connection struct {
	ID      string
	User    string    // "" until there is a token
	Scopes  []string  // of the token, which is not stored itself
	Expires time.Time // of the token
	Opened  time.Time
	Seen    time.Time // when the last frame came
	All     bool      // listens to all rooms of the user, also those joined later, and to the user's own stream
	// Revision counts how often rooms were removed from the connection.
	Revision uint64
}

// caller is who sends the connection's frames.
func (c Connection) caller() api.Caller { return api.Caller{User: c.User, Scopes: c.Scopes} }

// Listener is a connection that listens to a room.
type Listener struct {
	Conn    string
	User    string
	Expires time.Time
}

// Connections stores which clients are connected and what they listen to, for all processes of a
// region.
// All methods are safe for concurrent use and see every change that returned.
type Connections interface {
	// Put stores a connection that is new, or has just got its user. It listens to nothing.
	Put(ctx context.Context, c Connection) error

	// Get returns a connection, or [ErrGone].
	Get(ctx context.Context, conn string) (Connection, error)

	// Touch stores that a frame came. It does nothing if the connection is gone.
	Touch(ctx context.Context, conn string, at time.Time) error

	// Delete deletes a connection and what it listens to. The connection may be gone already.
	Delete(ctx context.Context, conn string) error

	// Subscribe makes a connection listen to rooms and, with all, to everything of its user. Revision
	// is that of the connection before the memberships were read. If it has changed, a room may have
	// been removed meanwhile: then the error is [ErrChanged], with any of the rooms subscribed or
	// not. It is [ErrGone] if the connection is gone.
	Subscribe(ctx context.Context, conn string, revision uint64, all bool, rooms ...string) error

	// Unsubscribe removes rooms from a connection, and increments its Revision even if it did not
	// listen to them. It does nothing if the connection is gone.
	Unsubscribe(ctx context.Context, conn string, rooms ...string) error

	// UnsubscribeAll removes all rooms and the user's own stream from a connection, and increments
	// its Revision.
	UnsubscribeAll(ctx context.Context, conn string) error

	// Rooms lists the rooms a connection listens to, in any order.
	Rooms(ctx context.Context, conn string) ([]string, error)

	// Listeners lists the connections that listen to a room, in any order.
	Listeners(ctx context.Context, room string) ([]Listener, error)

	// Of lists the connections of a user, in any order.
	Of(ctx context.Context, user string) ([]Connection, error)
}
