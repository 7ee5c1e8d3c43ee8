package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"parley/infra/local/web"
)

// server serves a cluster on its addresses: the global endpoint first, then the regions.
type server struct {
	cluster   *cluster
	global    *global
	listeners []net.Listener
	servers   []*http.Server
	closing   chan struct{} // closed when long answers must end
	failed    chan error    // receives the error of an address that is no longer served
	stop      context.CancelFunc
	work      sync.WaitGroup
}

// drainFor is how long requests under way may take once the process stops.
const drainFor = 5 * time.Second

// The limits of a connection. The API bounds the bodies.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 2 * time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

// listen listens on all addresses, before anything is opened.
func (s *server) listen(host string, port int, regions []string) error {
	for i := range 1 + len(regions) {
		at := 0 // any free port
		if port != 0 {
			at = port + i
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(at)))
		if errors.Is(err, syscall.EADDRINUSE) {
			of := "the global endpoint"
			if i > 0 {
				of = "region " + regions[i-1]
			}
			return fmt.Errorf("port %d, for %s, is in use; stop the process that listens there, or use other ports, e.g. -addr 127.0.0.1:%d", at, of, port+1000)
		}
		if err != nil {
			return fmt.Errorf("listen on -addr: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// url is an address as seen from this machine: 0 is the global endpoint, then come the regions.
func (s *server) url(i int) string {
	addr := s.listeners[i].Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// loopback reports whether only this machine can reach what is served.
func (s *server) loopback() bool { return s.listeners[0].Addr().(*net.TCPAddr).IP.IsLoopback() }

// serve starts the cluster's background work and answers on all addresses. When it returns, the
// regions have passed their first health check.
func (s *server) serve(c *cluster, tokens *issuer, log *slog.Logger) error {
	s.cluster = c
	for i, r := range c.regions {
		r.url = s.url(1 + i)
	}
	var err error
	if s.global, err = newGlobal(c.regions, log); err != nil {
		return err
	}
	c.start()
	for i, r := range c.regions {
		s.answer(s.listeners[1+i], s.allowPage(r), log)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.global.check(ctx)
	s.work.Go(func() { s.global.run(ctx) })

	control := &control{cluster: c, global: s.global, issuer: tokens, loopback: s.loopback(), closing: s.closing}
	mux := http.NewServeMux()
	mux.Handle("/", s.global)
	mux.Handle("/local/", control.handler())
	page := s.pageHandler()
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /page/", page)
	s.answer(s.listeners[0], mux, log)
	return nil
}

// answer serves one address.
func (s *server) answer(l net.Listener, handler http.Handler, log *slog.Logger) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.servers = append(s.servers, server)
	s.work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
	})
}

// close stops accepting, waits for the requests under way, then stops the background work and closes
// the cluster.
func (s *server) close() error {
	close(s.closing)
	if s.cluster != nil {
		for _, r := range s.cluster.regions {
			if in, leave := r.enter(); in != nil {
				in.sockets.close()
				leave()
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainFor)
	defer cancel()
	for i := len(s.servers) - 1; i >= 0; i-- { // the global endpoint first: it needs the regions
		if s.servers[i].Shutdown(ctx) != nil {
			_ = s.servers[i].Close() // requests that still wait are cut off
		}
	}
	s.stop()
	for _, l := range s.listeners {
		_ = l.Close() // those with a server are closed already
	}
	s.work.Wait()
	if s.global != nil {
		s.global.client.CloseIdleConnections()
	}
	if s.cluster == nil {
		return nil
	}
	return s.cluster.close()
}

// The page comes from the global endpoint and could send all its requests there. But to watch two
// people talk in two regions one must be able to choose a region, and a client that knows the
// regions' own addresses survives a failure of the global name. So the page may call these, too. On
// AWS API Gateway answers the preflight requests; here allowPage does, for this one page only.

// pageHandler serves the page to browsers, and the start-up text in plain text to curl and the like.
func (s *server) pageHandler() http.Handler {
	origins := []string{s.url(0), "http://localhost:" + s.port()}
	for i := range s.cluster.regions {
		origins = append(origins, s.url(1+i))
	}
	page := web.Handler(origins...)
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			page.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(s.welcome())) // the client has gone
	})
	return mux
}

// port is where the global endpoint listens.
func (s *server) port() string {
	u, err := url.Parse(s.url(0))
	if err != nil {
		return ""
	}
	return u.Port()
}

// allowPage lets the page call a region at its own address. Pages of other origins get no CORS
// headers, so browsers withhold the answers from them.
func (s *server) allowPage(next http.Handler) http.Handler {
	port := s.port()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		if !isPage(origin, port) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Parley-Region, Retry-After, X-Request-Id")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		r.Header.Del("Origin") // sockets are refused to other origins; this one is allowed
		next.ServeHTTP(w, r)
	})
}

// isPage reports whether an origin is that of the page: a loopback name with the port of the global
// endpoint.
func isPage(origin, port string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && origin == "http://"+u.Host && u.Port() == port && isLoopback(u.Host)
}
