package live

import (
	"context"
	"errors"
	"time"
)

// ErrGone: there is no such connection, or no longer. To be tested with errors.Is.
var ErrGone = errors.New("the connection is gone")

// ErrChanged: rooms were taken from the connection since it was read. To be tested with errors.Is.
var ErrChanged = errors.New("rooms were taken from the connection meanwhile")

// Sockets is how frames reach clients. All methods are safe for concurrent use.
type Sockets interface {
	// Post sends a frame, behind those posted before it. It may return before the client has it,
	// but not wait for a client that does not read: the error then says so, and the frame is lost.
	// The error is [ErrGone] if there is no such socket.
	Post(ctx context.Context, conn string, f Frame) error

	// Close sends the code's bye and closes the socket. Nothing more can be posted to it.
	Close(ctx context.Context, conn string, code Code) error
}

// Connection is what is known of a connected client.
type Connection struct {
	ID      string
	User    string    // "" until there was a token
	Token   string    // what the client may do, it may do with this
	Expires time.Time // of the token
	Opened  time.Time
	Seen    time.Time // when a frame came last
	All     bool      // listens to all rooms of the user, also those to come, and to her own stream
	// Revision counts how often rooms were taken from the connection.
	Revision uint64
}

// Listener is a connection that listens to a room.
type Listener struct {
	Conn    string
	User    string
	Expires time.Time
}

// Connections remembers who is connected and who listens to what, for all processes of a region.
// All methods are safe for concurrent use and see every change that returned.
type Connections interface {
	// Put stores a connection that is new, or has just got its user. It listens to nothing.
	Put(ctx context.Context, c Connection) error

	// Get returns a connection, or [ErrGone].
	Get(ctx context.Context, conn string) (Connection, error)

	// Touch notes that a frame came. Of a connection that is gone it does nothing.
	Touch(ctx context.Context, conn string, at time.Time) error

	// Delete forgets a connection and what it listens to. It may be gone already.
	Delete(ctx context.Context, conn string) error

	// Subscribe makes a connection listen to rooms and, with all, to whatever its user is told. It
	// does so only if the connection's Revision is still the one that was read before it was
	// checked that its user may listen: otherwise a room could be given back that has just been
	// taken. The error is [ErrChanged] then, with any of the rooms subscribed or not, or [ErrGone].
	Subscribe(ctx context.Context, conn string, revision uint64, all bool, rooms ...string) error

	// Unsubscribe takes rooms from a connection, and raises its Revision even if it did not listen
	// to them. Of a connection that is gone it does nothing.
	Unsubscribe(ctx context.Context, conn string, rooms ...string) error

	// UnsubscribeAll takes all rooms, and its user's own stream, from a connection, and raises its
	// Revision.
	UnsubscribeAll(ctx context.Context, conn string) error

	// Rooms lists the rooms a connection listens to, in any order.
	Rooms(ctx context.Context, conn string) ([]string, error)

	// Listeners lists the connections that listen to a room, in any order.
	Listeners(ctx context.Context, room string) ([]Listener, error)

	// Of lists the connections of a user, in any order.
	Of(ctx context.Context, user string) ([]Connection, error)
}
