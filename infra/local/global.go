package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"parley/functions/api"
)

// global plays the name that the world knows: as Route 53 does, it asks each region for its
// health and sends every request to the first healthy one in the order of preference.
type global struct {
	backends []*backend
	client   *http.Client  // asks for health
	kick     chan struct{} // holds one if a check is wanted at once
	checking sync.Mutex
	log      *slog.Logger
}

// backend is a region as the global endpoint sees it.
type backend struct {
	region  string
	url     string
	proxy   http.Handler
	healthy atomic.Bool
}

const (
	checkEvery   = time.Second
	checkTimeout = 2 * time.Second
	kickPause    = 20 * time.Millisecond // so that a crowd of failing requests is one check
)

// newGlobal makes a global endpoint for regions that are served, in order of preference. Nobody
// is healthy before the first check.
func newGlobal(regions []*region, log *slog.Logger) (*global, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // what the region answers is passed on as it is
	}
	g := &global{
		client: &http.Client{Transport: transport, Timeout: checkTimeout},
		kick:   make(chan struct{}, 1),
		log:    log,
	}
	for _, r := range regions {
		target, err := url.Parse(r.url)
		if err != nil {
			return nil, err
		}
		g.backends = append(g.backends, &backend{region: r.name, url: r.url, proxy: g.proxy(target, transport)})
	}
	return g, nil
}

// proxy passes requests on to a region. If the region refuses, the others are asked at once how
// they are, so that the client's next try goes to another.
func (g *global) proxy(target *url.URL, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		Transport:  transport,
		BufferPool: &buffers{},
		ErrorLog:   slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode == http.StatusServiceUnavailable {
				g.checkSoon()
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				g.checkSoon()
				g.log.WarnContext(r.Context(), "a region cannot be reached", "error", err)
			}
			refuse(w, &api.Problem{
				Status: http.StatusServiceUnavailable, Code: "region_unreachable", Retryable: true,
				Detail: "the region could not be reached or broke off; a command may or may not have happened; send it again under the same id",
			})
		},
	}
}

// ServeHTTP implements [http.Handler].
func (g *global) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b := g.choose(); b != nil {
		b.proxy.ServeHTTP(w, r)
		return
	}
	g.checkSoon()
	refuse(w, &api.Problem{
		Status: http.StatusServiceUnavailable, Code: "no_healthy_region", Retryable: true,
		Detail: "no region is healthy; GET /local/regions tells their states",
	})
}

// choose returns the first healthy region, or nil.
func (g *global) choose() *backend {
	for _, b := range g.backends {
		if b.healthy.Load() {
			return b
		}
	}
	return nil
}

// run checks the regions now and then until ctx ends.
func (g *global) run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		g.check(ctx)
		select {
		case <-ticker.C:
		case <-g.kick:
			pause(ctx, kickPause)
		case <-ctx.Done():
		}
	}
}

// checkSoon wants a check as soon as the one under way is over.
func (g *global) checkSoon() {
	select {
	case g.kick <- struct{}{}:
	default: // one is wanted already
	}
}

// check asks every region for its health and returns when all have answered.
func (g *global) check(ctx context.Context) {
	g.checking.Lock()
	defer g.checking.Unlock()
	var asked sync.WaitGroup
	for _, b := range g.backends {
		asked.Go(func() {
			err := g.ask(ctx, b)
			if ctx.Err() != nil {
				return
			}
			if was := b.healthy.Swap(err == nil); was != (err == nil) {
				g.log.InfoContext(ctx, "health of a region has changed", "region", b.region, "healthy", err == nil, "error", err)
			}
		})
	}
	asked.Wait()
}

// ask returns nil if the region says that it is well.
func (g *global) ask(ctx context.Context, b *backend) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/health", nil)
	if err != nil {
		return err
	}
	response, err := g.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New("answers " + response.Status)
	}
	return nil
}

// health lists the healthy regions.
func (g *global) health() map[string]bool {
	healthy := map[string]bool{}
	for _, b := range g.backends {
		healthy[b.region] = b.healthy.Load()
	}
	return healthy
}

// buffers lends the proxy what it copies through.
type buffers struct{ pool sync.Pool }

// Get implements [httputil.BufferPool].
func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 16<<10)
}

// Put implements [httputil.BufferPool].
func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }
