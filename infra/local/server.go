package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// server is a cluster with its addresses: the global endpoint first, then the regions.
type server struct {
	cluster   *cluster
	global    *global
	listeners []net.Listener
	servers   []*http.Server
	closing   chan struct{} // closed when long answers must end
	failed    chan error    // holds the error of an address that is no longer served
	stop      context.CancelFunc
	work      sync.WaitGroup
}

// drainFor is how long requests under way may take once the process is told to stop.
const drainFor = 5 * time.Second

// The limits of a connection. The API bounds the bodies.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 2 * time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

// listen takes all addresses before anything is opened.
func (s *server) listen(host string, port int, regions []string) error {
	for i := range 1 + len(regions) {
		at := 0 // any that is free
		if port != 0 {
			at = port + i
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(at)))
		if errors.Is(err, syscall.EADDRINUSE) {
			of := "the global endpoint"
			if i > 0 {
				of = "region " + regions[i-1]
			}
			return fmt.Errorf("port %d, for %s, is in use; stop what listens there or give other ports, e.g. -addr 127.0.0.1:%d", at, of, port+1000)
		}
		if err != nil {
			return fmt.Errorf("listen where -addr says: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// url is where something is served, as seen from this machine: 0 is the global endpoint, then
// come the regions.
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

// serve starts the cluster's work and answers on all addresses. When it returns, requests find a
// healthy region.
func (s *server) serve(c *cluster, tokens *issuer, log *slog.Logger) error {
	s.cluster = c
	for i, r := range c.regions {
		r.url = s.url(1 + i)
	}
	var err error
	if s.global, err = newGlobal(c.regions, log); err != nil {
		return err
	}
	if err := c.start(); err != nil {
		return err
	}
	for i, r := range c.regions {
		s.answer(s.listeners[1+i], s.allowPage(r.handler), log)
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

// close stops accepting, lets the requests under way end, then stops the work in the background
// and closes the cluster.
func (s *server) close() error {
	close(s.closing)
	if s.cluster != nil {
		for _, r := range s.cluster.regions {
			r.sockets.close()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainFor)
	defer cancel()
	for i := len(s.servers) - 1; i >= 0; i-- { // the global endpoint first: it needs the regions
		if s.servers[i].Shutdown(ctx) != nil {
			_ = s.servers[i].Close() // whoever still waits has waited long enough
		}
	}
	s.stop()
	for _, l := range s.listeners {
		_ = l.Close() // those that were served are closed already
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
