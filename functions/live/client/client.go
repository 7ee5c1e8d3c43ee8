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
	"parley/functions/wire"
)

// Options are the settings of a client. Endpoints, User and Token are required.
type Options struct {
	// Endpoints are base URLs like https://eu.chat.example.com, the preferred first: the global
	// name, those of regions, or both. If one fails the client falls back to the next, and returns
	// to the preferred one when it is healthy.
	Endpoints []string

	// Sockets are the URLs of the endpoints' sockets, in the same order, if they have host names of
	// their own, as on AWS: wss://live.chat.example.com. The default is /v1/live of each endpoint.
	Sockets []string

	// User is the user's id: the claim sub of the token.
	User string

	// Token returns a bearer token. It is called for the first one, and for another when that has
	// expired or was refused. After an error it is retried.
	Token func(ctx context.Context) (string, error)

	// Cursor is where to resume, from an earlier client; see [Client.Cursor]. Without it the first
	// update is a [Reset].
	Cursor string

	// HTTP sends requests and opens sockets; nil: a client of its own.
	HTTP *http.Client

	// NoSocket uses long polls only.
	NoSocket bool

	Timeout time.Duration // of a request, not counting the time of a long poll: 10 s if 0
	Ping    time.Duration // how often the socket is pinged, to find what is missing: 10 s if 0
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
	mark   events.Mark   // the user's
	marked bool          // mark is known, and no server has refused it
	skew   time.Duration // of this machine's clock: to be added
	timed  bool          // skew is by a server's clock
	last   events.ID     // the greatest seen
	cursor string
	dedup  *dedup // used by Run alone
}

// New returns a client. It connects when it is first used.
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
		cursor: o.Cursor, dedup: newDedup(dedupSize, dedupMost),
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

// Cursor is where to resume, in any region: every event before it was handled. Store it with what
// the handler stores, and pass it to the next client in [Options]; "" while there is none. A client
// that begins with a cursor does not know which events the one before it has delivered. If it begins
// in another region it may deliver the last minutes again: deduplicate by id.
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
// the given causes. If it is stored before the command is sent, the command can be retried after a
// crash. The first call gets the user's mark from any region that answers, until one does or ctx ends.
func (c *Client) Mint(ctx context.Context, causes ...events.ID) (events.ID, error) {
	if err := c.loadMark(ctx); err != nil {
		return events.ID{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cause := range append(causes, c.last) {
		if c.clock.Future(cause) && !c.timed {
			// A server would not have accepted an id so far in the future: this clock is behind.
			c.skew = max(c.skew, time.Until(cause.Timestamp())-c.clock.Ahead)
		}
	}
	if !c.clock.Future(c.last) { // else the clock of a region was ahead for a moment
		causes = append(causes, c.last)
	}
	return c.clock.MintAfter(c.options.User, causes...), nil
}

// loadMark makes sure that the user's mark is known. Calls that begin together may each ask for it.
func (c *Client) loadMark(ctx context.Context) error {
	c.mu.Lock()
	known := c.marked
	c.mu.Unlock()
	if known {
		return nil
	}
	var me wire.Me
	if err := c.Query(ctx, "/v1/me", &me); err != nil {
		return fmt.Errorf("get the user's mark: %w", err)
	}
	mark, err := events.ParseMark("mark", me.Mark)
	if err == nil && me.User != c.options.User {
		err = errors.New("the token is that of another user than Options.User")
	}
	if err != nil {
		return fmt.Errorf("get the user's mark: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark, c.marked = mark, true
	return nil
}

// forgetMark makes the next id ask for the user's mark, after a server refused one for its mark.
func (c *Client) forgetMark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marked = false
}

// newClock makes a clock that is used with the lock held, once the mark is known.
func (c *Client) newClock() *events.Clock {
	return events.NewClock(func() time.Time { return time.Now().Add(c.skew) }, func(string) events.Mark { return c.mark })
}

// setTime sets the clock that ids are minted by, after a server refused one for its time. It makes a
// new clock, because a clock never goes back by a little.
func (c *Client) setTime(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew, c.timed = time.Until(at), true
	c.clock = c.newClock()
}

// see notes an id that the user has seen: the user's next command sorts after it.
func (c *Client) see(id events.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.Compare(c.last) > 0 {
		c.last = id
	}
}

// lastSeen is the greatest id that the user has seen; zero if there is none.
func (c *Client) lastSeen() events.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// tokens caches the user's token until a server refuses it.
type tokens struct {
	ask  func(ctx context.Context) (string, error)
	lock chan struct{} // holds one while the token is read or asked for
	kept string
}

func newTokens(ask func(ctx context.Context) (string, error)) *tokens {
	return &tokens{ask: ask, lock: make(chan struct{}, 1)}
}

// get returns the token, or a new one if it is the one that was refused.
func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	select {
	case t.lock <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-t.lock }()
	if t.kept != "" && t.kept != refused {
		return t.kept, nil
	}
	token, err := t.ask(ctx)
	if err != nil {
		return "", err
	}
	t.kept = token
	return token, nil
}

// forget drops the cached token, which has expired, unless ctx ends while another call asks for one.
func (t *tokens) forget(ctx context.Context) {
	select {
	case t.lock <- struct{}{}:
		t.kept = ""
		<-t.lock
	case <-ctx.Done():
	}
}
