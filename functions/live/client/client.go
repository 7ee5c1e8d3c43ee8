package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"parley/events"
)

// Options say who the client is and where it finds Parley. Endpoints, User and Token are required.
type Options struct {
	// Endpoints are base URLs like https://eu.chat.example.com, the preferred first: the global
	// name, those of regions, or both. Where one fails the next is used, and the preferred one
	// again when it is well.
	Endpoints []string

	// Sockets are where the endpoints have their sockets, in the same order, if that is elsewhere: on
	// AWS it is, like wss://live.chat.example.com. Without them at /v1/live of each endpoint.
	Sockets []string

	// User is the user's id: the claim sub of the token.
	User string

	// Token returns a bearer token. It is called for the first one, and for another when that has
	// expired or was refused. An error is taken as passing: it is called again.
	Token func(ctx context.Context) (string, error)

	// Cursor is where an earlier client got to, see [Client.Cursor]. Without it the first update
	// is a [Reset].
	Cursor string

	// HTTP sends requests and opens sockets; nil: a client of its own.
	HTTP *http.Client

	// NoSocket says that long polls are to be used from the start.
	NoSocket bool

	Timeout time.Duration // of a request, but for the time it may wait: 10 s if 0
	Ping    time.Duration // how often the server is asked over the socket whether anything is missing: 10 s if 0
	Wait    time.Duration // of a long poll, in whole seconds from 1 to 25: 25 s if 0
}

// Client is one user's connection with Parley. Make one with [New]; it is safe for concurrent use.
type Client struct {
	options   Options
	http      *http.Client
	endpoints *endpoints
	token     *tokens
	running   atomic.Bool
	socket    atomic.Pointer[socket] // nil while there is none

	mu     sync.Mutex
	clock  *events.Clock
	skew   time.Duration // of this machine's clock: to be added
	last   events.ID     // the greatest seen
	cursor string
	memory *memory // of what was told; used by Run alone
}

// New returns a client. It connects to nothing before it is used.
func New(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 || o.Token == nil {
		return nil, errors.New("client: Endpoints and Token must be given")
	}
	if err := events.ValidateUser("User", o.User); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	places, err := places(o.Endpoints, o.Sockets)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	orElse(&o.Timeout, 10*time.Second)
	orElse(&o.Ping, 10*time.Second)
	orElse(&o.Wait, 25*time.Second)
	c := &Client{
		options: o, http: o.HTTP, endpoints: newEndpoints(places), token: newTokens(o.Token),
		cursor: o.Cursor, memory: newMemory(remembered),
	}
	c.clock = c.newClock()
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 4
		transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: o.Timeout, PingTimeout: o.Timeout}
		c.http = &http.Client{Transport: transport}
	}
	return c, nil
}

func orElse(d *time.Duration, standard time.Duration) {
	if *d <= 0 {
		*d = standard
	}
}

// User is the user's id.
func (c *Client) User() string { return c.options.User }

// Cursor is where to go on, in any region: all that happened before it was handled. Keep it with
// what the handler stores, and give it to the next client in [Options]; "" while there is none.
// A client that begins with a cursor does not know what the one before it was told, and if it
// begins in another region may be told the last minutes again: drop them by their ids.
func (c *Client) Cursor() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cursor
}

func (c *Client) setCursor(cursor string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cursor = cursor
}

// Mint returns a new id of the user's that sorts after everything this client has seen, and after
// the given causes. Whoever keeps it before sending can send again after a crash.
func (c *Client) Mint(causes ...events.ID) (events.ID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	causes = append(causes, c.last)
	id, err := c.clock.Mint(c.options.User, causes...)
	if !errors.Is(err, events.ErrIDFuture) {
		return id, err
	}
	// What a server has accepted cannot lie so far ahead: it is this clock that is behind.
	for _, cause := range causes {
		c.skew = max(c.skew, time.Until(cause.Timestamp())-c.clock.Ahead)
	}
	return c.clock.Mint(c.options.User, causes...)
}

// newClock makes a clock that is used with the lock held.
func (c *Client) newClock() *events.Clock {
	return events.NewClock(func() time.Time { return time.Now().Add(c.skew) })
}

// setTime sets the clock that ids are minted by, after a server refused one for its time. It is a
// new one: a clock never goes back.
func (c *Client) setTime(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = time.Until(at)
	c.clock = c.newClock()
}

// see notes an id that the user has seen: what she does next sorts after it.
func (c *Client) see(id events.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.Compare(c.last) > 0 {
		c.last = id
	}
}

// lastSeen is the greatest id the user has seen; zero if there is none.
func (c *Client) lastSeen() events.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
