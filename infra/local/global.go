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

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
)

// global plays the one DNS name of all regions: as Route 53 does, it checks the health of each region,
// and it forwards each request to the first healthy one in order of preference.
type global struct {
	backends []*backend
	client   *http.Client  // of health checks
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
	kickPause    = 20 * time.Millisecond // so that many failing requests lead to one check
)

// newGlobal makes a global endpoint for regions that are served, in order of preference. Before the
// first check none is healthy.
func newGlobal(regions []*region, log *slog.Logger) (*global, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 512,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // answers are passed on unchanged
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

// proxy forwards requests to a region. If the region refuses, all are checked at once, so that the
// client's next try goes to another one.
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
			if body, _ := r.Context().Value(bodyKey{}).(*requestBody); body != nil && body.broken.Load() {
				refuse(w, api.Fail(http.StatusBadRequest, "malformed_body", "the body could not be read: its chunks are malformed, or it ended early; send it again in full"))
				return
			}
			if r.Context().Err() == nil {
				g.checkSoon()
				g.log.WarnContext(r.Context(), "a request to a region failed", "error", err)
			}
			refuse(w, &wire.Problem{
				Status: http.StatusServiceUnavailable, Code: "region_unreachable", Retryable: true,
				Detail: "the region could not be reached or closed the connection; a command may or may not have been accepted: retry under the same id",
			})
		},
	}
}

// ServeHTTP implements [http.Handler].
func (g *global) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b := g.choose(); b != nil {
		body := &requestBody{ReadCloser: r.Body}
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		r.Body = body
		b.proxy.ServeHTTP(w, r)
		return
	}
	g.checkSoon()
	refuse(w, &wire.Problem{
		Status: http.StatusServiceUnavailable, Code: "no_healthy_region", Retryable: true,
		Detail: "no region is healthy; see GET /local/regions, and repair one with PUT /local/regions/{region}",
	})
}

// requestBody is the body of a client's request. It keeps whether reading it failed, which is no fault of
// the region that it goes to.
type requestBody struct {
	io.ReadCloser
	broken atomic.Bool
}

type bodyKey struct{}

// Read implements [io.Reader].
func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.broken.Store(true)
	}
	return n, err
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

// run checks the regions every [checkEvery] and on demand, until ctx ends.
func (g *global) run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		g.check(ctx)
		select {
		case <-ticker.C:
		case <-g.kick:
			_ = events.Sleep(ctx, kickPause)
		case <-ctx.Done():
		}
	}
}

// checkSoon requests a check after the one under way.
func (g *global) checkSoon() {
	select {
	case g.kick <- struct{}{}:
	default: // one is requested already
	}
}

// check checks all regions and returns when all have answered.
func (g *global) check(ctx context.Context) {
	g.checking.Lock()
	defer g.checking.Unlock()
	var checks sync.WaitGroup
	for _, b := range g.backends {
		checks.Go(func() {
			err := g.checkOne(ctx, b)
			if ctx.Err() != nil {
				return
			}
			if was := b.healthy.Swap(err == nil); was != (err == nil) {
				g.log.InfoContext(ctx, "the health of a region has changed", "region", b.region, "healthy", err == nil, "error", err)
			}
		})
	}
	checks.Wait()
}

// checkOne returns nil if the region answers that it is healthy.
func (g *global) checkOne(ctx context.Context, b *backend) error {
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
		return errors.New("health check answers " + response.Status)
	}
	return nil
}

// health says which regions are healthy.
func (g *global) health() map[string]bool {
	healthy := map[string]bool{}
	for _, b := range g.backends {
		healthy[b.region] = b.healthy.Load()
	}
	return healthy
}

// buffers is the pool of the proxy's copy buffers.
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
