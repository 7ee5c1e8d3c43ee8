// Local runs Parley on this machine: several regions, each with its own log, views, bus and
// triggers; replication between them that is as bad as a global table's; and a global endpoint that
// forwards each request to a healthy region. It is the code that runs on AWS, on other drivers.
//
//	go run ./infra/local
//
// Everything is kept in the data folder; the next start resumes where this one ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"parley/functions/api"
	"parley/functions/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if os.Getenv("GOGC") == "" {
		// Most memory is Pebble's and outside of the collector's heap. That heap is small, so at the
		// default of 100 it is collected too often under load. Above 200 there is no further gain.
		debug.SetGCPercent(200)
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// run is the program: it serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help())
		return 0
	}
	if errors.Is(err, errVersion) {
		fmt.Fprintln(stdout, "parley", wire.Version())
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "parley: %v\nTry -help.\n", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: s.level}))
	srv, unlock, err := open(ctx, s, log, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "parley: %v\n", err)
		return exitFailed
	}
	defer unlock()
	fmt.Fprintf(stdout, "%s\nCtrl-C stops it. The data stays in %s; the next start resumes there. Version %s.\n", srv.welcome(), s.data, wire.Version())

	failed := error(nil)
	select {
	case <-ctx.Done():
		fmt.Fprintln(stdout, "\nStopping. Ctrl-C again stops at once.")
	case failed = <-srv.failed:
	}
	if err := errors.Join(failed, srv.close()); err != nil {
		fmt.Fprintf(stderr, "parley: %v\n", err)
		return exitFailed
	}
	return 0
}

// open locks the data folder, listens, opens all regions and serves them. The folder stays locked
// until unlock is called, after the server was closed.
func open(ctx context.Context, s settings, log *slog.Logger, stdout io.Writer) (srv *server, unlock func(), err error) {
	lock, err := lockData(s.data, s.store)
	if errors.Is(err, errDataInUse) {
		return nil, nil, fmt.Errorf("another parley is using %s; stop it, or start this one on other data and other ports, e.g. -data %s-2 -addr 127.0.0.1:9080", s.data, strings.TrimRight(s.data, "/"))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("use %s as -data: %w", s.data, err)
	}
	srv = newServer(len(s.regions))
	if err := srv.open(ctx, s, log, stdout); err != nil {
		return nil, nil, errors.Join(err, srv.close(), lock.Close())
	}
	return srv, func() { _ = lock.Close() }, nil
}

func newServer(regions int) *server {
	return &server{closing: make(chan struct{}), failed: make(chan error, 1+regions), stop: func() {}}
}

func (s *server) open(ctx context.Context, set settings, log *slog.Logger, stdout io.Writer) error {
	if err := s.listen(set.host, set.port, set.regions); err != nil {
		return err
	}
	tokens, err := openIssuer(set.data)
	if err != nil {
		return err
	}
	tokens.url = s.url(0) + "/local"
	storage, err := openStorage(ctx, set, stdout, log)
	if err != nil {
		return err
	}
	cursors, err := api.NewCursors(tokens.cursorKey())
	if err != nil {
		return err
	}
	root, err := openRoot(set.data)
	if err != nil {
		return err
	}
	c, err := openCluster(ctx, options{
		cursors: cursors, marks: tokens.marks(), root: root,
		storage: storage, regions: set.regions, linkFaults: linkFaults{set.lag, defaultFaults.Twice},
		quota: api.NewQuota(set.rate), contacts: set.contacts, beats: set.beats,
		auth:    api.NewAuth(api.AuthConfig{Issuer: tokens.url, Audience: audience, Keys: api.FixedJWKS(tokens.kid, tokens.key.Public()), Leeway: api.DefaultLeeway}),
		trigger: defaultTrigger, shards: set.shards, archive: defaultArchive, closing: s.closing, logger: log,
	})
	if err != nil {
		return err
	}
	return s.serve(c, tokens, log)
}
