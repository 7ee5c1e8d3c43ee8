package api

import (
	"context"
	"iter"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"parley/events"
	"parley/functions/wire"
	"parley/projections"
)

// Rate is how many commands a user may send, or how many frames a socket: PerSecond on average, and
// Burst at once after a pause.
type Rate struct {
	PerSecond int
	Burst     int
}

// DefaultRate is how many commands a second each user may send.
const DefaultRate = 50

const (
	// burstSeconds is for how many seconds' worth of commands a user may send at once after a pause.
	burstSeconds = 4
	// readsPerCommand is how many views and events a user may read in the time of one command, and
	// readBurstSeconds for how many seconds' worth at once.
	readsPerCommand  = 40
	readBurstSeconds = 10
	// requestCost is what a request or a frame counts beside what it reads.
	requestCost = 10
	// maxWaits is how many requests of a user may wait for something to happen at the same time.
	maxWaits = 2
)

// Quota is what each user may do: send commands, read views and events, and wait. Everything that has
// the same Quota counts together: on one machine all regions, on AWS each process for itself.
type Quota struct {
	commands, reads *Limiters // nil: not limited

	mu    sync.Mutex
	waits map[string]int
}

// NewQuota returns a quota of so many commands a second for each user, and four times as many at once
// after a pause; the user may read 40 views or events for each of them. With 0 neither is limited.
func NewQuota(commands int) *Quota {
	q := &Quota{waits: map[string]int{}}
	if commands > 0 {
		q.commands = NewLimiters(Rate{commands, burstSeconds * commands})
		reads := readsPerCommand * commands
		q.reads = NewLimiters(Rate{reads, readBurstSeconds * reads})
	}
	return q
}

// Wait reports whether a request of the user may wait for something to happen; at most two do at the
// same time. If so, done must be called after it.
func (q *Quota) Wait(user string) (done func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waits[user] >= maxWaits {
		return nil, false
	}
	q.waits[user]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.waits[user]--; q.waits[user] == 0 {
			delete(q.waits, user)
		}
	}, true
}

// Meter returns a context in which what is read for the user, see [MeterViews] and [MeterLog], counts
// against the user's quota. If the quota is used up, the error is the [wire.Problem] rate_limited: what
// a request costs is known only afterwards, so the next one waits.
func (q *Quota) Meter(ctx context.Context, user string, now time.Time) (context.Context, error) {
	if q.reads == nil {
		return ctx, nil
	}
	limiter := q.reads.of(user)
	metered := context.WithValue(ctx, meterKey{}, &meter{limiter, now})
	if limiter.AllowN(now, requestCost) {
		return metered, nil
	}
	seconds := (requestCost - limiter.TokensAt(now)) / float64(q.reads.rate.PerSecond)
	return metered, &wire.Problem{
		Status: http.StatusTooManyRequests, Code: "rate_limited", Retryable: true, RetryAfter: int(math.Ceil(seconds)),
		Detail: "your requests read more than " + strconv.Itoa(q.reads.rate.PerSecond) + " stored views and events a second; ask for less at a time, and retry after Retry-After seconds",
	}
}

type meterKey struct{}

// meter is what counts the reads of one request.
type meter struct {
	limiter *rate.Limiter
	began   time.Time
}

// Spend counts n views, events or listeners to the request of ctx.
func Spend(ctx context.Context, n int) {
	if m, ok := ctx.Value(meterKey{}).(*meter); ok && m != nil && n > 0 {
		m.limiter.ReserveN(m.began, min(n, m.limiter.Burst()))
	}
}

// Unmetered returns a context in which reads are not counted any more: those of a request that waits.
func Unmetered(ctx context.Context) context.Context {
	return context.WithValue(ctx, meterKey{}, (*meter)(nil))
}

// MeterViews returns views whose reads count to the request they are made for.
func MeterViews(views projections.Views) projections.Views { return meteredViews{views} }

type meteredViews struct{ projections.Views }

func (v meteredViews) Get(ctx context.Context, keys ...projections.Key) ([]projections.View, error) {
	Spend(ctx, len(keys))
	return v.Views.Get(ctx, keys...)
}

func (v meteredViews) Query(ctx context.Context, partition string, r projections.Range) ([]projections.View, error) {
	got, err := v.Views.Query(ctx, partition, r)
	Spend(ctx, max(1, len(got)))
	return got, err
}

// MeterLog returns a log whose reads count to the request they are made for.
func MeterLog(log events.Log) events.Log { return meteredLog{log} }

type meteredLog struct{ events.Log }

func (l meteredLog) GetMany(ctx context.Context, keys []events.Key) (map[events.Key]events.Event, error) {
	Spend(ctx, len(keys))
	return l.Log.GetMany(ctx, keys)
}

func (l meteredLog) Read(ctx context.Context, stream events.Stream, r events.Range) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		n := 1
		defer func() { Spend(ctx, n) }()
		for e, err := range l.Log.Read(ctx, stream, r) {
			if n++; !yield(e, err) {
				return
			}
		}
	}
}

// Limiters hold one rate for many users or connections, by name.
type Limiters struct {
	rate   Rate
	byName *lru.Cache[string, *rate.Limiter]
}

// NewLimiters returns limiters of a rate, for the 10,000 names that were used last. Another name
// begins with a full burst.
func NewLimiters(r Rate) *Limiters {
	byName, err := lru.New[string, *rate.Limiter](10_000)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Limiters{r, byName}
}

// Allow counts one more and reports whether the name had one left.
func (l *Limiters) Allow(name string, now time.Time) bool {
	_, ok := l.take(name, now)
	return ok
}

// take is Allow, and returns how many are left at once.
func (l *Limiters) take(name string, now time.Time) (left float64, ok bool) {
	limiter := l.of(name)
	ok = limiter.AllowN(now, 1)
	return max(0, limiter.TokensAt(now)), ok
}

func (l *Limiters) of(name string) *rate.Limiter {
	limiter, found := l.byName.Get(name)
	if !found {
		limiter = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
		if first, loaded, _ := l.byName.PeekOrAdd(name, limiter); loaded {
			limiter = first
		}
	}
	return limiter
}

// Forget drops the count of a name that will not be used again.
func (l *Limiters) Forget(name string) { l.byName.Remove(name) }

// Begin starts a command that did not come over HTTP: it counts the command against its caller's
// rate, and returns a context with the caller. The error is the [wire.Problem] rate_limited.
func (a *API) Begin(ctx context.Context, caller Caller) (context.Context, error) {
	if commands := a.options.Quota.commands; commands != nil && !commands.Allow(caller.User, a.options.Now()) {
		return ctx, commands.refused()
	}
	return WithCaller(ctx, caller), nil
}

func (l *Limiters) refused() *wire.Problem {
	return &wire.Problem{
		Status: http.StatusTooManyRequests, Code: "rate_limited", Retryable: true,
		Detail: "at most " + strconv.Itoa(l.rate.PerSecond) + " commands a second are accepted from each user; nothing was stored; retry after Retry-After seconds",
	}
}

// limit is the middleware of every command.
func (a *API) limit(ctx huma.Context, next func(huma.Context)) {
	commands := a.options.Quota.commands
	if commands == nil {
		next(ctx)
		return
	}
	r := commands.rate
	left, ok := commands.take(CallerOf(ctx.Context()).User, a.options.Now())
	full := math.Ceil((float64(r.Burst) - left) / float64(r.PerSecond))
	ctx.SetHeader("X-RateLimit-Limit", strconv.Itoa(r.Burst))
	ctx.SetHeader("X-RateLimit-Remaining", strconv.Itoa(int(left)))
	ctx.SetHeader("X-RateLimit-Reset", strconv.Itoa(int(full)))
	if !ok {
		a.refuse(ctx, commands.refused())
		return
	}
	next(ctx)
}

// meter is the middleware of every operation but the operators'.
func (a *API) meter(ctx huma.Context, next func(huma.Context)) {
	metered, err := a.options.Quota.Meter(ctx.Context(), CallerOf(ctx.Context()).User, a.options.Now())
	if err != nil {
		a.refuse(ctx, ProblemOf(err, a.options.Now()))
		return
	}
	next(huma.WithContext(ctx, metered))
}
