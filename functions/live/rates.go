package live

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// countedSockets bounds how many sockets' frames are counted. One that is forgotten starts again
// with a full burst.
const countedSockets = 10_000

// rates counts the frames that come, in this process.
type rates struct {
	limits  Limits
	sockets *lru.Cache[string, *rate.Limiter]
}

func newRates(l Limits) *rates {
	sockets, err := lru.New[string, *rate.Limiter](countedSockets)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &rates{l, sockets}
}

// take counts a frame and reports whether the socket had one left.
func (r *rates) take(conn string, now time.Time) bool {
	limiter, ok := r.sockets.Get(conn)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(r.limits.PerSecond), r.limits.Burst)
		if first, loaded, _ := r.sockets.PeekOrAdd(conn, limiter); loaded {
			limiter = first
		}
	}
	return limiter.AllowN(now, 1)
}

func (r *rates) forget(conn string) { r.sockets.Remove(conn) }
