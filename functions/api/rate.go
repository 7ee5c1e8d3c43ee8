package api

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rate is how many commands a user may send: so many a second, and a burst after a pause.
// PerSecond 0 is no limit. It is kept by each process on its own.
type Rate struct {
	PerSecond int
	Burst     int
}

// DefaultRate is 50 commands a second, and 200 after a pause.
var DefaultRate = Rate{PerSecond: 50, Burst: 200}

// countedUsers bounds how many users' rates are remembered. One that is forgotten starts again
// with a full burst.
const countedUsers = 10_000

type rates struct {
	rate  Rate
	users *lru.Cache[string, *rate.Limiter]
}

func newRates(r Rate) *rates {
	users, err := lru.New[string, *rate.Limiter](countedUsers)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &rates{r, users}
}

// take counts a command of a user and returns how many she has left, and whether she had one.
func (r *rates) take(user string, now time.Time) (left float64, ok bool) {
	limiter, found := r.users.Get(user)
	if !found {
		limiter = rate.NewLimiter(rate.Limit(r.rate.PerSecond), r.rate.Burst)
		if first, loaded, _ := r.users.PeekOrAdd(user, limiter); loaded {
			limiter = first
		}
	}
	ok = limiter.AllowN(now, 1)
	return max(0, limiter.TokensAt(now)), ok
}

// limit is the middleware of every command.
func (a *API) limit(ctx huma.Context, next func(huma.Context)) {
	if a.rates.rate.PerSecond <= 0 {
		next(ctx)
		return
	}
	left, ok := a.rates.take(CallerOf(ctx.Context()).User, a.options.Now())
	perSecond := float64(a.rates.rate.PerSecond)
	full := math.Ceil((float64(a.rates.rate.Burst) - left) / perSecond)
	ctx.SetHeader("X-RateLimit-Limit", strconv.Itoa(a.rates.rate.Burst))
	ctx.SetHeader("X-RateLimit-Remaining", strconv.Itoa(int(left)))
	ctx.SetHeader("X-RateLimit-Reset", strconv.Itoa(int(full)))
	if !ok {
		a.refuse(ctx, &Problem{
			Status: http.StatusTooManyRequests, Code: "rate_limited", Retryable: true,
			Detail: "at most " + strconv.Itoa(a.rates.rate.PerSecond) + " commands a second for each user; nothing was stored; send it again after Retry-After seconds",
		})
		return
	}
	next(ctx)
}
